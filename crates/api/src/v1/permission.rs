//! Permissions: a user's role on one object, and below it.

use racknest_types::id::{PermissionId, RoleId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the permissions.
    PermissionList = "permission_list": Get "/api/v1/permissions",
        access Privilege("Authorization.ModifyPermissions"),
        query PermissionFilter, answer Json(Page<Permission>);
    /// Gives a user a role on an object.
    PermissionCreate = "permission_create": Post "/api/v1/permissions",
        access Privilege("Authorization.ModifyPermissions"),
        body Json(NewPermission), answer Created(Permission);
    /// Changes the role of a permission, or whether it holds below.
    PermissionEdit = "permission_edit": Patch "/api/v1/permissions/{permission}",
        access Privilege("Authorization.ModifyPermissions"),
        body Json(PermissionPatch), answer Json(Permission);
    /// Takes a permission back.
    PermissionDelete = "permission_delete": Delete "/api/v1/permissions/{permission}",
        access Privilege("Authorization.ModifyPermissions"), answer Empty(Nothing);
}

/// A user's role on one object, and below it if it propagates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Permission {
    /// Its id.
    #[schemars(with = "String")]
    pub id: PermissionId,
    /// Where.
    pub entity: Reference<String>,
    /// Who.
    pub user: Reference<UserId>,
    /// What they may do.
    pub role: Reference<RoleId>,
    /// Whether it holds for everything below too.
    pub propagate: bool,
}

/// Which permissions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionFilter {
    /// Those on this object: its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Those of this user: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A new permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPermission {
    /// The object's id, or its path (`/datacenter1/vm/web`); `/` is the whole inventory.
    pub entity: String,
    /// The user: id or name.
    pub user: String,
    /// The role: id or name.
    pub role: String,
    /// Whether it holds for everything below too.
    #[serde(default = "yes")]
    pub propagate: bool,
}

/// What to change of a permission; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionPatch {
    /// The role: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether it holds for everything below too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagate: Option<bool>,
}

const fn yes() -> bool {
    true
}
