//! Logging in to a box of this machine: with its own password file, so that nobody is asked.

use std::net::SocketAddr;

use anyhow::Context as _;
use racknest_api::v1::session::{
    Login, NewToken, SessionLogin, SessionLogout, SessionWhoami, TokenCreate,
};

use crate::boxes::BoxHome;
use crate::client::Client;
use crate::command::session::ADMINISTRATOR;
use crate::print;
use crate::profile::Profiles;
use crate::profile::config::Profile;

/// The profile of a box of this machine, without a token.
pub(crate) fn profile(home: &BoxHome, address: SocketAddr, certificate: String) -> Profile {
    // A manager that listens everywhere is reached here by the machine's own address.
    let host = match (address.ip().is_unspecified(), address.is_ipv4()) {
        (true, true) => "127.0.0.1".to_owned(),
        (true, false) => "[::1]".to_owned(),
        (false, true) => address.ip().to_string(),
        (false, false) => format!("[{}]", address.ip()),
    };
    Profile {
        address: format!("https://{host}:{}", address.port()),
        user: Some(ADMINISTRATOR.to_owned()),
        token: None,
        directory: Some(home.directory().to_owned()),
        certificate,
    }
}

/// Logs in, keeps the token in the profile of the box, and makes that the current one.
pub(crate) fn log_in(home: &BoxHome, client: &Client) -> anyhow::Result<Client> {
    let mut profiles = Profiles::load()?;
    let known = profiles.file.profiles.get(&client.name);
    let is_new = known.is_none();
    let token = known.and_then(|profile| profile.token.clone());
    let mut profile = Profile { token, ..client.profile.clone() };
    let kept = Client::new(&client.name, &profile)?;
    if profile.token.is_none() || kept.get::<SessionWhoami>(&[]).is_err() {
        profile.token = Some(new_token(home, client)?);
    }
    profiles.file.profiles.insert(client.name.clone(), profile.clone());
    profiles.file.current = Some(client.name.clone());
    profiles.save()?;
    if is_new {
        let password = fs_err::read_to_string(home.password()).unwrap_or_default();
        print::note(format!(
            "user {ADMINISTRATOR}, password {} (it is in {})",
            password.trim(),
            home.password().display()
        ));
    }
    Client::new(&client.name, &profile)
}

fn new_token(home: &BoxHome, client: &Client) -> anyhow::Result<String> {
    let password = fs_err::read_to_string(home.password())?.trim().to_owned();
    let login = Login { user: ADMINISTRATOR.to_owned(), password };
    let ticket = client.send::<SessionLogin>(&[], &login).with_context(|| {
        format!(
            "the password in {} does not open the box: write the right one there",
            home.password().display()
        )
    })?;
    let profile = Profile { token: Some(ticket.token), ..client.profile.clone() };
    let session = Client::new(&client.name, &profile)?;
    let new = NewToken { name: "racknest command line".to_owned(), days: None };
    let token = session.send::<TokenCreate>(&[], &new)?.token;
    session.get::<SessionLogout>(&[])?;
    Ok(token)
}
