//! Sessions of people, tokens of programs.
//!
//! Both are shown as a bearer token in the `Authorization` header. A session ends when it is idle for
//! long; a token lives until it expires or is revoked, so that a pipeline needs no password.

use jiff::Timestamp;
use racknest_types::id::{SessionId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Logs in.
    SessionLogin = "session_login": Post "/api/v1/sessions",
        access Anonymous, body Json(Login), answer Created(LoginTicket);
    /// Ends the session or token that asks.
    SessionLogout = "session_logout": Delete "/api/v1/session",
        access Session, answer Empty(Nothing);
    /// Says who asks, and what they may do everywhere.
    SessionWhoami = "session_whoami": Get "/api/v1/session",
        access Session, answer Json(Whoami);
    /// Lists the sessions; those of others need `Sessions.TerminateSession`.
    SessionList = "session_list": Get "/api/v1/sessions",
        access Session, answer Json(Page<Session>);
    /// Ends a session; that of another needs `Sessions.TerminateSession`.
    SessionEnd = "session_end": Delete "/api/v1/sessions/{session}",
        access Session, answer Empty(Nothing);
    /// Makes a token for a program, with the rights of the user who asks.
    TokenCreate = "token_create": Post "/api/v1/tokens",
        access Session, body Json(NewToken), answer Created(LoginTicket);
    /// Lists the tokens; those of others need `Sessions.TerminateSession`.
    TokenList = "token_list": Get "/api/v1/tokens",
        access Session, answer Json(Page<Session>);
    /// Revokes a token; that of another needs `Sessions.TerminateSession`.
    TokenRevoke = "token_revoke": Delete "/api/v1/tokens/{token}",
        access Session, answer Empty(Nothing);
}

/// Who wants in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    /// Leaves the password out: a log is read by more people than a request.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What opens the door.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginTicket {
    /// Goes into the header `Authorization: Bearer TOKEN`. It is shown this once.
    pub token: String,
    /// The session or token it belongs to.
    pub session: Session,
}

impl std::fmt::Debug for LoginTicket {
    /// Leaves the token out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginTicket").field("session", &self.session).finish_non_exhaustive()
    }
}

/// A session of a person, or a token of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Its id.
    #[schemars(with = "String")]
    pub id: SessionId,
    /// Whose it is.
    pub user: Reference<UserId>,
    /// What it is.
    pub kind: SessionKind,
    /// What the token is for; empty for a session.
    pub name: String,
    /// When it began.
    pub created: Timestamp,
    /// When it was last used; for a token, since the manager started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// When it ends; for a session, if it stays idle until then. Absent for a token without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Where it was last used from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it is the one that asks.
    pub is_current: bool,
}

/// What a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// Somebody logged in with a password.
    Login,
    /// A token for a program.
    Token,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The user.
    pub user: Reference<UserId>,
    /// The session or token that is used.
    pub session: Session,
    /// The privileges held on the whole inventory; `*` is all of them.
    pub privileges: Vec<String>,
}

/// A new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// Days until it ends; absent for one without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}
