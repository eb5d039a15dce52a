//! Roles: named sets of privileges; and the privileges there are.

use std::collections::BTreeSet;

use racknest_types::id::RoleId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;

operations! {
    /// Lists the roles.
    RoleList = "role_list": Get "/api/v1/roles",
        access Session, answer Json(Page<Role>);
    /// Shows a role.
    RoleShow = "role_show": Get "/api/v1/roles/{role}",
        access Session, answer Json(Role);
    /// Makes a role.
    RoleCreate = "role_create": Post "/api/v1/roles",
        access Privilege("Authorization.ModifyRoles"), body Json(NewRole), answer Created(Role);
    /// Changes a role's name or privileges; who has it keeps it.
    RoleEdit = "role_edit": Patch "/api/v1/roles/{role}",
        access Privilege("Authorization.ModifyRoles"), body Json(RolePatch), answer Json(Role);
    /// Deletes a role that no permission uses.
    RoleDelete = "role_delete": Delete "/api/v1/roles/{role}",
        access Privilege("Authorization.ModifyRoles"), answer Empty(Nothing);
    /// Lists the privileges that operations ask for, with the operations.
    PrivilegeList = "privilege_list": Get "/api/v1/privileges",
        access Session, answer Json(Page<Privilege>);
}

/// A named set of privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Role {
    /// Its id.
    #[schemars(with = "String")]
    pub id: RoleId,
    /// Its name.
    pub name: String,
    /// Whether it came with racknest: then it can be neither changed nor deleted.
    pub is_built_in: bool,
    /// The privileges, under vSphere's names; `*` is all of them.
    pub privileges: BTreeSet<String>,
}

/// A new role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// Its name.
    pub name: String,
    /// The privileges, under vSphere's names.
    pub privileges: BTreeSet<String>,
}

/// What to change of a role; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolePatch {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All its privileges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileges: Option<BTreeSet<String>>,
}

/// A privilege.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Privilege {
    /// Its name.
    pub name: String,
    /// The operations that ask for it.
    pub operations: Vec<String>,
}
