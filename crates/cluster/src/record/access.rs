//! Users, roles and permissions.

use alloc::collections::BTreeSet;
use alloc::string::String;

use racknest_types::id::{PermissionId, RoleId, UserId};
use serde::{Deserialize, Serialize};

use super::entity::EntityRef;

/// A user account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Its id.
    pub id: UserId,
    /// Its login name, unique.
    pub name: String,
    /// The hash of its password, in the PHC string format. Never shown on any face.
    pub password_hash: String,
    /// Whether it may log in.
    pub enabled: bool,
}

/// A named set of privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// Its id.
    pub id: RoleId,
    /// Its name, unique.
    pub name: String,
    /// Built-in roles can be neither changed nor deleted.
    pub built_in: bool,
    /// The privileges, under vSphere's names; `*` is all of them.
    pub privileges: BTreeSet<String>,
}

/// A user's role on one entity, and below it if it propagates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRecord {
    /// Its id.
    pub id: PermissionId,
    /// Where.
    pub entity: EntityRef,
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: RoleId,
    /// Whether it holds for everything below too.
    pub propagate: bool,
}
