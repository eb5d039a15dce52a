//! User accounts.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::user::{
    User, UserCreate, UserDelete, UserEdit, UserList, UserSetPassword, UserShow,
};
use racknest_cluster::inventory::access::EditUser;
use racknest_cluster::record::access::UserRecord;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{SessionId, UserId};

use super::call::Call;
use super::routes::Routes;
use crate::clock;
use crate::state::State;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<UserList, _>(list)
        .on::<UserShow, _>(show_one)
        .on::<UserCreate, _>(create)
        .on::<UserEdit, _>(edit)
        .on::<UserDelete, _>(delete)
        .on::<UserSetPassword, _>(set_password)
}

fn show(user: &UserRecord) -> User {
    User { id: user.id, name: user.name.clone(), enabled: user.enabled }
}

async fn list(call: Call<UserList>) -> Result<Page<User>, Fault> {
    call.look(|view| {
        view.authorize_root()?;
        Ok(Page::whole(view.inventory.users().map(show).collect()))
    })
}

async fn show_one(call: Call<UserShow>) -> Result<User, Fault> {
    call.look(|view| {
        let user = view.find_user(&call.name(0))?;
        view.inventory.user(user).map(show)
    })
}

async fn create(call: Call<UserCreate>) -> Result<User, Fault> {
    // Asked before the password is hashed, which costs time that not everybody may take.
    call.look(|view| view.authorize_root())?;
    let name = call.body.name.clone();
    let hash = call.state.sessions.passwords().hash(&call.body.password).await?;
    call.run(move |desk| {
        desk.view().authorize_root()?;
        let id = desk.inventory.user_create(desk.now, desk.user, &name, hash)?;
        desk.inventory.user(id).map(show)
    })
    .await
}

async fn edit(call: Call<UserEdit>) -> Result<User, Fault> {
    call.look(|view| view.authorize_root())?;
    let hash = match &call.body.password {
        Some(password) => Some(call.state.sessions.passwords().hash(password).await?),
        None => None,
    };
    let (user, name, enabled) = (call.name(0), call.body.name.clone(), call.body.enabled);
    let ends_sessions = hash.is_some() || enabled == Some(false);
    let edit = EditUser { name, password_hash: hash, enabled };
    let user = call
        .run(move |desk| {
            let id = desk.view().find_user(&user)?;
            desk.inventory.user_edit(desk.now, desk.user, id, edit)?;
            desk.inventory.user(id).map(show)
        })
        .await?;
    if ends_sessions {
        end_sessions(&call.state, user.id, call.caller().session).await?;
    }
    Ok(user)
}

/// Ends all sessions and tokens of a user but the one that asks.
async fn end_sessions(state: &State, user: UserId, current: SessionId) -> Result<(), Fault> {
    let held = state.sessions.list(clock::now());
    for session in held.iter().filter(|it| it.user == user && it.id != current) {
        match state.sessions.end(session.id).await {
            // It ended by itself meanwhile.
            Err(fault) if fault.code == FaultCode::NotFound => {}
            ended => ended?,
        }
    }
    Ok(())
}

async fn delete(call: Call<UserDelete>) -> Result<Nothing, Fault> {
    let user = call.name(0);
    let id = call
        .run(move |desk| {
            let id = desk.view().find_user(&user)?;
            desk.inventory.user_delete(desk.now, desk.user, id).map(|()| id)
        })
        .await?;
    end_sessions(&call.state, id, call.caller().session).await?;
    Ok(Nothing {})
}

async fn set_password(call: Call<UserSetPassword>) -> Result<Nothing, Fault> {
    let (caller, passwords) = (call.caller(), call.state.sessions.passwords());
    let user = caller.user;
    let old = call.look(|view| view.inventory.user(user).map(|it| it.password_hash.clone()))?;
    if !passwords.verify(Some(old), &call.body.old).await? {
        return Err(Fault::new(FaultCode::InvalidLogin, "the old password is wrong"));
    }
    let hash = passwords.hash(&call.body.new).await?;
    let edit = EditUser { password_hash: Some(hash), ..EditUser::default() };
    call.run(move |desk| desk.inventory.user_edit(desk.now, desk.user, user, edit)).await?;
    end_sessions(&call.state, user, caller.session).await?;
    Ok(Nothing {})
}
