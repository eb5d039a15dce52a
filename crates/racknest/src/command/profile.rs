//! `racknest profile`: the racks that this user knows.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;

use super::Setting;
use crate::client::Client;
use crate::print;
use crate::profile::Profiles;
use crate::profile::config::Profile;

/// The verbs of `racknest profile`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// List the racks that are known
    List,
    /// Talk to this rack from now on
    Use {
        /// Its name
        name: String,
    },
    /// Make a rack of another machine known; then log in with `racknest session login`
    Add {
        /// The name it gets
        name: String,
        /// https://HOST:PORT
        #[arg(long, value_name = "URL")]
        address: String,
        /// The rack's certificate: manager/tls/ca.pem in its directory
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Forget a rack
    Remove {
        /// Its name
        name: String,
    },
}

/// Carries out a verb of `racknest profile`.
pub(crate) fn run(command: ProfileCommand, setting: &Setting) -> anyhow::Result<()> {
    let mut profiles = Profiles::load()?;
    match command {
        ProfileCommand::List => {
            list(&profiles, setting);
            return Ok(());
        }
        ProfileCommand::Use { name } => {
            profiles.choose(Some(&name))?;
            profiles.file.current = Some(name);
        }
        ProfileCommand::Add { name, address, certificate } => {
            if profiles.file.profiles.contains_key(&name) {
                bail!("there is a profile '{name}' already: remove it first, or take another name");
            }
            if !address.starts_with("https://") {
                bail!("'{address}' is no address of a rack: write https://HOST:PORT");
            }
            let certificate = fs_err::read_to_string(certificate)?;
            let (token, user, directory) = (None, None, None);
            let profile = Profile { address, user, token, directory, certificate };
            Client::new(&name, &profile).context("the certificate cannot be used")?;
            profiles.file.profiles.insert(name.clone(), profile);
            profiles.file.current.get_or_insert(name);
        }
        ProfileCommand::Remove { name } => {
            profiles.choose(Some(&name))?;
            profiles.file.profiles.remove(&name);
            if profiles.file.current.as_ref() == Some(&name) {
                profiles.file.current = None;
            }
        }
    }
    profiles.save()
}

fn list(profiles: &Profiles, setting: &Setting) {
    let items = profiles.file.profiles.iter().map(|(name, profile)| {
        json!({
            "name": name,
            "address": profile.address,
            "user": profile.user,
            "is_logged_in": profile.token.is_some(),
            "is_current": profiles.file.current.as_ref() == Some(name),
            "directory": profile.directory,
        })
    });
    let columns = [
        ("NAME", "name"),
        ("ADDRESS", "address"),
        ("USER", "user"),
        ("LOGGED IN", "is_logged_in"),
        ("CURRENT", "is_current"),
        ("BOX IN", "directory"),
    ];
    print::list(setting.format, &columns, &items.collect::<Vec<_>>());
}
