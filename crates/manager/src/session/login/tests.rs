//! Who gets in, who does not, and what the others learn from it.

use axum::http::Request;
use racknest_cluster::inventory::access::{ADMIN_ROLE, EditUser};

use super::*;
use crate::session::password::Passwords;
use crate::testing::{USER, records};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn may_log_in(enabled: bool) -> EditUser {
    EditUser { enabled: Some(enabled), ..EditUser::default() }
}

struct Rig {
    core: Core,
    sessions: Sessions,
    _directory: tempfile::TempDir,
}

impl Rig {
    /// An administrator `root` and a user `bob`, both with the password `correct horse`.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (records, _) = records(directory.path());
        let store = records.store();
        let core = Core::start(records, 7).unwrap();
        let sessions = Sessions::open(store, Passwords::cheap()).unwrap();
        let hash = sessions.passwords().hash("correct horse").await.unwrap();
        core.run(move |inventory, now| {
            let admin = inventory.user_create(now, USER, "root", hash.clone())?;
            let role = inventory.find_role(ADMIN_ROLE)?;
            let top = inventory.root_folder().into();
            inventory.permission_set(now, USER, top, admin, role, true)?;
            inventory.user_create(now, USER, "bob", hash)
        })
        .await
        .unwrap();
        Self { core, sessions, _directory: directory }
    }

    async fn login(&self, name: &str, password: &str) -> Result<Token, Fault> {
        let login = self.sessions.login(&self.core, name, password, HOME).await;
        login.map(|(token, _)| token)
    }

    fn caller(&self, token: &Token) -> Result<Caller, Fault> {
        self.sessions.caller(&self.core, token.reveal(), HOME)
    }

    /// Kind, user and detail of the newest event.
    fn last_event(&self) -> (EventKind, String, String) {
        self.core.read(|inventory| {
            let event = inventory.events().next_back().unwrap();
            (event.kind, event.user.clone(), event.detail.clone())
        })
    }
}

#[tokio::test]
async fn the_right_password_opens_and_is_an_event() {
    let rig = Rig::new().await;
    let token = rig.login("bob", "correct horse").await.unwrap();
    assert_eq!(rig.caller(&token).unwrap().name, "bob");
    let event = (EventKind::UserLoggedIn, "bob".to_owned(), "from 127.0.0.1".to_owned());
    assert_eq!(rig.last_event(), event);
}

#[tokio::test]
async fn a_wrong_password_an_unknown_and_a_disabled_user_look_the_same() {
    let rig = Rig::new().await;
    let bob = rig.core.read(|inventory| inventory.find_user("bob")).unwrap();
    let wrong = rig.login("bob", "battery staple").await.unwrap_err();
    assert_eq!(wrong.code, FaultCode::InvalidLogin);
    let event = (EventKind::LoginFailed, String::new(), "as 'bob' from 127.0.0.1".to_owned());
    assert_eq!(rig.last_event(), event);
    assert_eq!(rig.login("eve", "correct horse").await.unwrap_err(), wrong);
    assert_eq!(rig.login(&"x".repeat(1000), "correct horse").await.unwrap_err(), wrong);
    let disable = |enabled| {
        rig.core.run(move |inventory, now| inventory.user_edit(now, USER, bob, may_log_in(enabled)))
    };
    disable(false).await.unwrap();
    assert_eq!(rig.login("bob", "correct horse").await.unwrap_err(), wrong);
    disable(true).await.unwrap();
    rig.login("bob", "correct horse").await.unwrap();
}

#[tokio::test]
async fn a_user_who_is_disabled_or_deleted_is_out_at_once() {
    let rig = Rig::new().await;
    let token = rig.login("bob", "correct horse").await.unwrap();
    let bob = rig.caller(&token).unwrap().user;
    rig.core
        .run(move |inventory, now| inventory.user_edit(now, USER, bob, may_log_in(false)))
        .await
        .unwrap();
    assert_eq!(rig.caller(&token).unwrap_err().code, FaultCode::NotAuthenticated);
    rig.core.run(move |inventory, now| inventory.user_delete(now, USER, bob)).await.unwrap();
    assert_eq!(rig.caller(&token).unwrap_err().code, FaultCode::NotAuthenticated);
}

#[tokio::test]
async fn who_keeps_guessing_is_told_to_wait_and_others_are_not() {
    let rig = Rig::new().await;
    for _ in 0..10 {
        rig.sessions.lock().throttle.failed(clock::now(), "bob", HOME);
    }
    let error = rig.login("bob", "correct horse").await.unwrap_err();
    assert!(error.message.contains("too many failed logins as 'bob'"), "{error}");
    rig.login("root", "correct horse").await.unwrap();
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    rig.sessions.login(&rig.core, "bob", "correct horse", elsewhere).await.unwrap();
}

#[test]
fn the_secret_is_found_in_the_header_or_in_the_cookie() {
    let found = |name: &str, value: &str| {
        let request = Request::builder().header(name, value).body(()).unwrap();
        secret(&request.into_parts().0).map(str::to_owned)
    };
    assert_eq!(found("authorization", "Bearer abc").as_deref(), Some("abc"));
    assert_eq!(found("authorization", "bearer  abc ").as_deref(), Some("abc"));
    assert_eq!(found("authorization", "Basic abc"), None);
    let cookies = format!("theme=dark; {COOKIE_NAME}=abc; x=y");
    assert_eq!(found("cookie", &cookies).as_deref(), Some("abc"));
    assert_eq!(found("cookie", "theme=dark"), None);
}
