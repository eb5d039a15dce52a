//! Sessions of people, tokens of programs.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::session::{
    LoginTicket, Session, SessionEnd, SessionKind, SessionList, SessionLogin, SessionLogout,
    SessionWhoami, TokenCreate, TokenList, TokenRevoke, Whoami,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;
use racknest_types::id::SessionId;

use super::call::{Call, caller, not_yours};
use super::convert::{reference, time};
use super::routes::Routes;
use crate::clock;
use crate::session::login::{clear_cookie, set_cookie};
use crate::session::{IDLE_MAX, Session as Held, SessionKind as HeldKind};
use crate::state::State;

/// What lets a user see and end the sessions of others.
const OTHERS: &str = "Sessions.TerminateSession";

/// The longest name of a token, in characters.
const TOKEN_NAME_MAX: usize = 80;

/// The most days of a token: ten years. One without end says so by leaving them out.
const TOKEN_DAYS_MAX: u32 = 3650;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on_request::<SessionLogin, _>(login)
        .on_request::<SessionLogout, _>(logout)
        .on::<SessionWhoami, _>(whoami)
        .on::<SessionList, _>(|call| list(call, SessionKind::Login))
        .on::<SessionEnd, _>(|call| end(call, SessionKind::Login))
        .on::<TokenCreate, _>(create_token)
        .on::<TokenList, _>(|call| list(call, SessionKind::Token))
        .on::<TokenRevoke, _>(|call| end(call, SessionKind::Token))
}

fn show(inventory: &Inventory, session: &Held, current: SessionId) -> Session {
    let (kind, name, expires) = match &session.kind {
        HeldKind::Login => {
            let idle_since = session.last_used.unwrap_or(session.created);
            (SessionKind::Login, String::new(), Some(idle_since + IDLE_MAX))
        }
        HeldKind::Token { name, expires } => (SessionKind::Token, name.clone(), *expires),
    };
    Session {
        id: session.id,
        user: reference(inventory, session.user),
        kind,
        name,
        created: time(session.created),
        last_used: session.last_used.map(time),
        expires: expires.map(time),
        address: session.address.map(|address| address.to_string()),
        is_current: session.id == current,
    }
}

/// A browser gets its token as a cookie too, which no script of another page can read.
async fn login(state: State, request: Request) -> Result<Response, Fault> {
    let call = Call::<SessionLogin>::receive(state, request).await?;
    let (login, core) = (&call.body, &call.state.core);
    let sessions = &call.state.sessions;
    let (token, held) = sessions.login(core, &login.user, &login.password, call.address).await?;
    let session = core.read(|inventory| show(inventory, &held, held.id));
    let ticket = LoginTicket { token: token.reveal().to_owned(), session };
    let cookie = [(header::SET_COOKIE, set_cookie(&token))];
    Ok((StatusCode::CREATED, cookie, Json(ticket)).into_response())
}

async fn logout(state: State, request: Request) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    state.sessions.end(caller.session).await?;
    let cookie = [(header::SET_COOKIE, clear_cookie())];
    Ok((StatusCode::NO_CONTENT, cookie).into_response())
}

async fn whoami(call: Call<SessionWhoami>) -> Result<Whoami, Fault> {
    let caller = call.caller();
    let held = call.state.sessions.find(caller.session)?;
    call.look(|view| {
        let root = EntityRef::Folder(view.inventory.root_folder());
        let at_root = view
            .inventory
            .permissions()
            .find(|permission| permission.user == caller.user && permission.entity == root);
        let role = at_root.and_then(|permission| view.inventory.role(permission.role).ok());
        Ok(Whoami {
            user: reference(view.inventory, caller.user),
            session: show(view.inventory, &held, caller.session),
            privileges: role
                .map(|role| role.privileges.iter().cloned().collect())
                .unwrap_or_default(),
        })
    })
}

async fn list<O: Operation>(call: Call<O>, kind: SessionKind) -> Result<Page<Session>, Fault> {
    let caller = call.caller();
    let held = call.state.sessions.list(clock::now());
    Ok(call.look(|view| {
        let sees_others = sees_others(view.inventory, view.user);
        let shown = held
            .iter()
            .filter(|session| sees_others || session.user == caller.user)
            .map(|session| show(view.inventory, session, caller.session))
            .filter(|session| session.kind == kind);
        Page::whole(shown.collect())
    }))
}

fn sees_others(inventory: &Inventory, user: &str) -> bool {
    inventory.holds_privilege(user, OTHERS, inventory.root_folder().into())
}

async fn end<O: Operation>(call: Call<O>, kind: SessionKind) -> Result<Nothing, Fault> {
    let id: SessionId = call.name(0).parse().map_err(|error| Fault::invalid(format!("{error}")))?;
    let held = call.state.sessions.find(id)?;
    call.look(|view| {
        let session = show(view.inventory, &held, call.caller().session);
        if session.kind != kind {
            return Err(Fault::not_found(format!("{id} as such")));
        }
        if held.user == call.caller().user || sees_others(view.inventory, view.user) {
            return Ok(());
        }
        Err(not_yours(&id.to_string()))
    })?;
    call.state.sessions.end(id).await?;
    Ok(Nothing {})
}

async fn create_token(call: Call<TokenCreate>) -> Result<LoginTicket, Fault> {
    let (new, caller, now) = (&call.body, call.caller(), clock::now());
    if new.name.is_empty() || new.name.chars().count() > TOKEN_NAME_MAX {
        return Err(Fault::invalid(format!(
            "a token has a name of 1 to {TOKEN_NAME_MAX} characters, which says what it is for"
        )));
    }
    if new.days.is_some_and(|days| days == 0 || days > TOKEN_DAYS_MAX) {
        return Err(Fault::invalid(format!(
            "a token lives 1 to {TOKEN_DAYS_MAX} days; leave days out for one without end"
        )));
    }
    let expires = new.days.map(|days| now + Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    let sessions = &call.state.sessions;
    let (token, held) = sessions.create_token(now, caller.user, &new.name, expires).await?;
    Ok(LoginTicket {
        token: token.reveal().to_owned(),
        session: call.look(|view| show(view.inventory, &held, caller.session)),
    })
}
