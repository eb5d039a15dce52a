//! Who may do what: a reader reads, a stranger gets nothing, a token that is over is over.

use racknest_api::operation::{Access, BodyForm, Method, Nothing, OperationRow, path};
use racknest_api::v1::permission::{NewPermission, PermissionCreate};
use racknest_api::v1::session::{NewToken, SessionLogout, TokenCreate, TokenRevoke};
use racknest_api::v1::user::{NewUser, UserCreate, UserEdit, UserPatch};
use racknest_api::v1::vm::{VmFilter, VmPowerOff};
use racknest_e2e::{Lab, Rest};
use racknest_types::fault::FaultCode;

const PASSWORD: &str = "a long enough password";

/// The administrator, and a user who may look at everything and change nothing.
fn administrator_and_reader(lab: &Lab) -> (Rest, Rest) {
    let administrator = lab.rest();
    let user = NewUser { name: "reader".to_owned(), password: PASSWORD.to_owned() };
    administrator.send::<UserCreate>(&[], &user).expect("an administrator makes users");
    let permission = NewPermission {
        entity: "/".to_owned(),
        user: "reader".to_owned(),
        role: "ReadOnly".to_owned(),
        propagate: true,
    };
    administrator.send::<PermissionCreate>(&[], &permission).expect("and gives them roles");
    let reader = administrator.login("reader", PASSWORD).expect("the password is right");
    (administrator, reader)
}

/// Something of that kind that the lab has.
fn sample(parameter: &str) -> &'static str {
    match parameter {
        "vm" => "vm01",
        "host" => "esx01",
        "cluster" => "lab",
        "datacenter" => "datacenter1",
        "datastore" => "datastore1",
        "network" => "VM Network",
        "nic" => "vmnic0",
        "user" | "entity" => "reader",
        "role" => "ReadOnly",
        "pool" => "Resources",
        "folder" => "/datacenter1/vm",
        _ => "something-1",
    }
}

/// Asks for an operation with whatever fits its path.
fn attempt(rest: &Rest, row: &OperationRow) -> Result<(u16, Vec<u8>), racknest_e2e::rest::Refusal> {
    let names: Vec<&str> = row.parameters().map(sample).collect();
    let body = (row.body == BodyForm::Json).then(|| "{}".to_owned());
    rest.ask(row.method.name(), &path(row.path, &names), body)
}

#[test]
fn a_reader_sees_everything_and_changes_nothing() {
    let lab = Lab::simulated(1, 2);
    let (administrator, reader) = administrator_and_reader(&lab);
    let before = lab.inventory();
    assert_eq!(reader.vms(&VmFilter::default()).expect("a reader reads").len(), 3);
    let fault = reader.get::<VmPowerOff>(&["vm01"]).expect_err("a reader changes nothing");
    assert_eq!(fault.code(), Some(FaultCode::NoPermission), "{fault:?}");
    let privileged = racknest_api::operations()
        .filter(|row| row.method != Method::Get && matches!(row.access, Access::Privilege(_)));
    for row in privileged {
        let answer = attempt(&reader, row);
        assert!(answer.is_err(), "a reader was allowed {}", row.id);
    }
    assert_eq!(lab.inventory(), before);
    let users = administrator.ask("GET", "/api/v1/users", None).expect("an administrator reads");
    let users = String::from_utf8_lossy(&users.1).into_owned();
    assert_eq!(users.matches("\"name\"").count(), 2, "the two that were there: {users}");
}

#[test]
fn without_a_session_there_is_no_answer_but_who_is_here() {
    let lab = Lab::simulated(1, 1);
    let stranger = lab.rest().with_token(None);
    for row in racknest_api::operations().filter(|row| row.access != Access::Anonymous) {
        let refusal = attempt(&stranger, row).expect_err(row.id);
        assert_eq!(refusal.code(), Some(FaultCode::NotAuthenticated), "{}: {refusal:?}", row.id);
    }
    stranger.ask("GET", "/api/v1/about", None).expect("everybody may ask who is here");
}

#[test]
fn a_wrong_password_is_refused_without_saying_which_half_was_wrong() {
    let lab = Lab::simulated(1, 1);
    let rest = lab.rest();
    let refused = |user: &str, password: &str| {
        let refusal = rest.login(user, password).map(drop).expect_err("a wrong password");
        assert_eq!(refusal.code(), Some(FaultCode::InvalidLogin), "{refusal:?}");
        format!("{refusal:?}").replace(user, "NAME")
    };
    let message = refused("administrator", "wrong");
    assert_eq!(refused("nobody-here", "wrong"), message);
    rest.login("administrator", &lab.password()).expect("the right one still opens");
}

#[test]
fn a_session_or_token_that_is_over_opens_nothing() {
    let lab = Lab::simulated(1, 1);
    let (administrator, reader) = administrator_and_reader(&lab);
    let is_out = |rest: &Rest, why: &str| {
        let refusal = rest.vms(&VmFilter::default()).map(drop).expect_err(why);
        assert_eq!(refusal.code(), Some(FaultCode::NotAuthenticated), "{why}: {refusal:?}");
    };
    let another = administrator.login("reader", PASSWORD).expect("the password is right");
    another.get::<SessionLogout>(&[]).expect("one may leave");
    is_out(&another, "a session that was ended");

    let token = NewToken { name: "pipeline".to_owned(), days: Some(1) };
    let ticket = reader.send::<TokenCreate>(&[], &token).expect("a user makes tokens");
    let program = reader.with_token(Some(ticket.token));
    program.vms(&VmFilter::default()).expect("a token opens");
    reader.get::<TokenRevoke>(&[&ticket.session.id.to_string()]).expect("it can be revoked");
    is_out(&program, "a token that was revoked");

    let expired = NewToken { name: "yesterday".to_owned(), days: Some(0) };
    if let Ok(ticket) = reader.send::<TokenCreate>(&[], &expired) {
        is_out(&reader.with_token(Some(ticket.token)), "a token that has expired");
    }

    let patch = UserPatch { enabled: Some(false), ..UserPatch::default() };
    administrator.call::<UserEdit>(&["reader"], &Nothing {}, &patch).expect("users can be locked");
    is_out(&reader, "a session of a user who was locked out");
    is_out(&administrator.with_token(Some("made-up".to_owned())), "a made-up token");
}
