//! Logging in, and being the one who logged in.
//!
//! A login that fails says the same whether the user exists, is disabled or typed a wrong password,
//! takes as long, and is an event.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use racknest_cluster::inventory::NAME_BYTES_MAX;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::event::EventKind;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{SessionId, UserId};
use racknest_types::time::Timestamp;

use super::password::PASSWORD_BYTES_MAX;
use super::throttle::Verdict;
use super::token::Token;
use super::{Session, Sessions, not_logged_in};
use crate::clock;
use crate::core::Core;
use crate::http::fault::Refusal;
use crate::state::State;

/// The cookie that carries a browser's token.
///
/// `__Host-` makes browsers refuse to send or accept it for anything but this host over TLS.
pub const COOKIE_NAME: &str = "__Host-racknest";

/// Where a request comes from that came over no connection: a test.
const UNKNOWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's id.
    pub user: UserId,
    /// The user's name, as the inventory's commands want it.
    pub name: String,
    /// The session or token that was used.
    pub session: SessionId,
}

impl Sessions {
    /// Checks a password and begins a session.
    ///
    /// # Errors
    /// The login is refused, or could not be checked.
    pub async fn login(
        &self,
        core: &Core,
        name: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<(Token, Session), Fault> {
        if name.len() > NAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Err(refused());
        }
        self.wait_for_turn(clock::now(), name, address).await?;
        let user = core.read(|inventory| {
            inventory.users().find(|user| user.name == name && user.enabled).cloned()
        });
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let fits = self.passwords().verify(hash, password).await?;
        let now = clock::now();
        let Some(user) = user.filter(|_| fits) else {
            self.lock().throttle.failed(now, name, address);
            let detail = format!("as '{}' from {address}", name.escape_debug());
            note(core, "", EntityRef::Meta, EventKind::LoginFailed, detail).await?;
            return Err(refused());
        };
        self.lock().throttle.succeeded(name, address);
        note(core, name, user.id.into(), EventKind::UserLoggedIn, format!("from {address}"))
            .await?;
        self.begin(now, user.id, address)
    }

    async fn wait_for_turn(
        &self,
        now: Timestamp,
        name: &str,
        address: IpAddr,
    ) -> Result<(), Fault> {
        let verdict = self.lock().throttle.admit(now, name, address);
        match verdict {
            Verdict::Wait(Duration::ZERO) => {}
            Verdict::Wait(time) => tokio::time::sleep(time).await,
            Verdict::Refuse(time) => {
                return Err(Fault::new(
                    FaultCode::InvalidLogin,
                    format!(
                        "too many failed logins as '{}'; try again in {} s",
                        name.escape_debug(),
                        time.as_secs() + 1
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Who sends this secret, if they may still log in.
    ///
    /// # Errors
    /// Nobody.
    pub fn caller(&self, core: &Core, secret: &str, address: IpAddr) -> Result<Caller, Fault> {
        let (session, user) = self.authenticate(clock::now(), secret, address)?;
        core.read(|inventory| match inventory.user(user) {
            Ok(record) if record.enabled => Ok(Caller { user, name: record.name.clone(), session }),
            Ok(record) => {
                Err(not_logged_in(format!("user '{}' may not log in any more", record.name)))
            }
            Err(_) => Err(not_logged_in("the user of this session was deleted")),
        })
    }
}

async fn note(
    core: &Core,
    by: &str,
    entity: EntityRef,
    kind: EventKind,
    detail: String,
) -> Result<(), Fault> {
    let by = by.to_owned();
    core.run(move |inventory, now| {
        inventory.record_event(now, &by, entity, kind, detail);
        Ok(())
    })
    .await
}

fn refused() -> Fault {
    Fault::new(FaultCode::InvalidLogin, "the user name or the password is wrong")
}

impl FromRequestParts<State> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Refusal> {
        let secret = secret(parts)
            .ok_or_else(|| not_logged_in("log in first: POST /api/v1/session, or send a token"))?;
        Ok(state.sessions.caller(&state.core, secret, address(parts))?)
    }
}

/// The token in the `Authorization` header, or else in the cookie.
fn secret(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(header) = header {
        let (scheme, secret) = header.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim());
    }
    parts
        .headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, secret)| (name == COOKIE_NAME).then_some(secret))
}

/// Where a request comes from.
pub(crate) fn address(parts: &Parts) -> IpAddr {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(UNKNOWN, |ConnectInfo(address)| address.ip().to_canonical())
}

/// The `Set-Cookie` header that gives a browser its token: no script reads it, no other site
/// sends it.
#[must_use]
pub fn set_cookie(token: &Token) -> String {
    format!("{COOKIE_NAME}={}; Path=/; Secure; HttpOnly; SameSite=Strict", token.reveal())
}

/// The `Set-Cookie` header that takes it away again.
#[must_use]
pub fn clear_cookie() -> String {
    format!("{COOKIE_NAME}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests;
