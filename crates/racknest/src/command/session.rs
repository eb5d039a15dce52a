//! Logging in and out: what the manager gives is kept in the profile.

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command};
use racknest_api::operation::Nothing;
use racknest_api::v1::session::{Login, SessionLogin, SessionLogout};

use super::{Setting, secret};
use crate::client::Client;
use crate::print;
use crate::profile::Profiles;

/// The user that every rack has.
pub(crate) const ADMINISTRATOR: &str = "administrator";

/// The arguments of `racknest session login`.
pub(crate) fn login_arguments(command: Command) -> Command {
    command.mut_arg("user", |user| {
        Arg::new("user")
            .index(1)
            .value_name("USER")
            .default_value(ADMINISTRATOR)
            .help(user.get_help().map(ToString::to_string).unwrap_or_default())
    })
}

/// Logs in and keeps the session in the profile.
pub(crate) fn login(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let mut profiles = Profiles::load()?;
    let (name, profile) = profiles.choose(setting.profile.as_deref())?;
    let (name, mut profile) = (name.to_owned(), profile.clone());
    let user = matches.get_one::<String>("user").context("a user is named")?.clone();
    let password = secret::ask(&format!("password of {user} on {name}"))?;
    // An old session must not be asked for its rights on the way to a new one.
    profile.token = None;
    let client = Client::new(&name, &profile)?;
    let ticket = client.send::<SessionLogin>(&[], &Login { user: user.clone(), password })?;
    profile.token = Some(ticket.token);
    profile.user = Some(user.clone());
    profiles.file.profiles.insert(name.clone(), profile);
    profiles.save()?;
    print::note(format!("logged in to {name} as {user}"));
    Ok(())
}

/// Ends the session and forgets it.
pub(crate) fn logout(setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let Nothing {} = client.get::<SessionLogout>(&[])?;
    let mut profiles = Profiles::load()?;
    if let Some(profile) = profiles.file.profiles.get_mut(&client.name) {
        profile.token = None;
    }
    profiles.save()?;
    print::note(format!("logged out of {}", client.name));
    Ok(())
}
