//! Sessions end when idle, tokens outlive the manager, and no secret is kept.

use std::path::Path;

use super::*;
use crate::store::Entry;
use crate::store::records::Records;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const USER: UserId = UserId::from_raw(7);
const MINUTE: Duration = Duration::from_secs(60);

fn sessions(directory: &Path) -> Sessions {
    let mut records = Records::open(&directory.join("store.redb")).unwrap();
    // As the core does before anybody can log in: a store says first what its format is.
    records.save(&[]).unwrap();
    Sessions::open(records.store(), Passwords::cheap()).unwrap()
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = sessions(directory.path());
    let (token, session) = sessions.begin(NOW, USER, HOME).unwrap();
    for minutes in [20, 40, 69] {
        let found = sessions.authenticate(NOW + MINUTE * minutes, token.reveal(), HOME).unwrap();
        assert_eq!(found, (session.id, USER));
    }
    let late = NOW + MINUTE * 100;
    let error = sessions.authenticate(late, token.reveal(), HOME).expect_err("31 minutes idle");
    assert_eq!(error.code, FaultCode::NotAuthenticated);
    assert!(error.message.contains("idle"), "{error}");
    assert_eq!(sessions.list(late), []);
}

#[tokio::test]
async fn an_ended_session_and_a_made_up_secret_are_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = sessions(directory.path());
    let (token, session) = sessions.begin(NOW, USER, HOME).unwrap();
    sessions.end(session.id).await.unwrap();
    for secret in [token.reveal(), "", "rnt_rubbish"] {
        let error = sessions.authenticate(NOW, secret, HOME).expect_err(secret);
        assert_eq!(error.code, FaultCode::NotAuthenticated);
    }
    let error = sessions.end(session.id).await.expect_err("it is gone");
    assert_eq!(error.code, FaultCode::NotFound);
}

#[tokio::test]
async fn a_token_outlives_the_manager_until_it_is_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let (token, made) = {
        let sessions = sessions(directory.path());
        sessions.begin(NOW, USER, HOME).unwrap();
        sessions.create_token(NOW, USER, "nightly build", None).await.unwrap()
    };
    {
        let again = sessions(directory.path());
        assert_eq!(again.list(NOW), std::slice::from_ref(&made), "the session is gone");
        let next_year = NOW + MINUTE * 525_600;
        assert_eq!(again.authenticate(next_year, token.reveal(), HOME).unwrap(), (made.id, USER));
        again.end(made.id).await.unwrap();
        again.authenticate(NOW, token.reveal(), HOME).expect_err("revoked");
    }
    sessions(directory.path()).authenticate(NOW, token.reveal(), HOME).expect_err("still revoked");
}

#[tokio::test]
async fn a_token_with_an_end_ends() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = sessions(directory.path());
    let end = NOW + MINUTE;
    let (token, _) = sessions.create_token(NOW, USER, "trial", Some(end)).await.unwrap();
    sessions.authenticate(NOW, token.reveal(), HOME).unwrap();
    let error = sessions.authenticate(end, token.reveal(), HOME).expect_err("expired");
    assert!(error.message.contains("'trial' has expired"), "{error}");
}

#[tokio::test]
async fn the_store_does_not_hold_the_secret() {
    let directory = tempfile::tempdir().unwrap();
    let records = Records::open(&directory.path().join("store.redb")).unwrap();
    let sessions = Sessions::open(records.store(), Passwords::cheap()).unwrap();
    let (token, _) = sessions.create_token(NOW, USER, "nightly", None).await.unwrap();
    let mut values = 0;
    let mut look = |Entry { value, .. }: Entry<'_>| {
        values += 1;
        let text = String::from_utf8_lossy(value);
        assert!(!text.contains(token.reveal().strip_prefix("rnt_").unwrap()), "{text}");
        Ok(())
    };
    records.store().range(&Span::all(), &mut look).unwrap();
    assert_eq!(values, 1);
    assert_eq!(records.load().unwrap(), [], "a token is no record of the inventory");
}

#[tokio::test]
async fn the_session_that_is_idle_longest_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = sessions(directory.path());
    let (first, _) = sessions.begin(NOW, USER, HOME).unwrap();
    let (second, _) = sessions.begin(NOW, USER, HOME).unwrap();
    let later = NOW + MINUTE;
    sessions.authenticate(later, first.reveal(), HOME).unwrap();
    for _ in 2..=SESSIONS_MAX {
        sessions.begin(later, USER, HOME).unwrap();
    }
    sessions.authenticate(later, second.reveal(), HOME).expect_err("it made room");
    sessions.authenticate(later, first.reveal(), HOME).unwrap();
    assert_eq!(sessions.list(later).len(), SESSIONS_MAX);
}
