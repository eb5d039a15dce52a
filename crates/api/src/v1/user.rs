//! User accounts.

use racknest_types::id::UserId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;

operations! {
    /// Lists the users.
    UserList = "user_list": Get "/api/v1/users",
        access Privilege("Authorization.ModifyUsers"), answer Json(Page<User>);
    /// Shows a user.
    UserShow = "user_show": Get "/api/v1/users/{user}",
        access Privilege("Authorization.ModifyUsers"), answer Json(User);
    /// Makes a user, who may do nothing before a permission says so.
    UserCreate = "user_create": Post "/api/v1/users",
        access Privilege("Authorization.ModifyUsers"), body Json(NewUser), answer Created(User);
    /// Changes a user's name or password, or whether they may log in.
    UserEdit = "user_edit": Patch "/api/v1/users/{user}",
        access Privilege("Authorization.ModifyUsers"), body Json(UserPatch), answer Json(User);
    /// Deletes a user with their permissions, sessions and tokens.
    UserDelete = "user_delete": Delete "/api/v1/users/{user}",
        access Privilege("Authorization.ModifyUsers"), answer Empty(Nothing);
    /// Changes the password of the user who asks.
    UserSetPassword = "user_set_password": Post "/api/v1/session/password",
        access Session, body Json(PasswordChange), answer Empty(Nothing);
}

/// A user account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Its id.
    #[schemars(with = "String")]
    pub id: UserId,
    /// Its login name.
    pub name: String,
    /// Whether it may log in.
    pub enabled: bool,
}

/// A new user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The login name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for NewUser {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What to change of a user; what is absent stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserPatch {
    /// The login name; permissions, sessions and tokens stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The password; all sessions of the user end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it may log in; `false` ends its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl std::fmt::Debug for UserPatch {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("UserPatch");
        fields.field("name", &self.name).field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// One's own new password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password until this moment.
    pub old: String,
    /// The password from then on.
    pub new: String,
}

impl std::fmt::Debug for PasswordChange {
    /// Leaves both passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordChange").finish_non_exhaustive()
    }
}
