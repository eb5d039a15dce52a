//! `racknest down`: no process and no socket is left, and the next `racknest up` brings all back.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::boxes::config::BoxFile;
use crate::boxes::{BoxHome, ask, process};
use crate::clock::{Stopwatch, pause};
use crate::command::Setting;
use crate::profile::Profiles;
use crate::{print, up};

/// How long the box may take to end after its machines have ended.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// From one look at the box to the next.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// The arguments of `racknest down`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DownArgs {
    /// The name of the box [default: that of the current profile]
    #[arg(long)]
    name: Option<String>,
    /// The directory of the box
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Delete the box's directory too, with all its VMs
    #[arg(long)]
    destroy: bool,
    /// Do not ask before deleting
    #[arg(long, short)]
    yes: bool,
}

/// Brings a box down.
pub(crate) fn down(args: &DownArgs, setting: &Setting) -> anyhow::Result<()> {
    let home = meant(args, setting)?;
    if !home.directory().exists() {
        bail!("there is no box in {}", home.directory().display());
    }
    let Some(file) = home.load()? else {
        bail!("there is no box in {}: its file box.toml is missing", home.directory().display());
    };
    if args.destroy && !args.yes {
        let what = format!("delete box '{}' and all its VMs", file.name);
        if !print::is_conversation() {
            bail!("{what}: say --yes if that is meant");
        }
        if !print::confirm(&format!("{what} in {}?", home.directory().display())) {
            bail!("nothing was done");
        }
    }
    let change = home.lock_change()?;
    let was_running = end(&home, &file)?;
    if args.destroy {
        destroy(&home, &file.name)?;
        print::note(format!("box '{}' is gone", file.name));
    } else if was_running {
        print::note(format!("box '{}' is down; `racknest up` brings it back", file.name));
    } else {
        print::note(format!("box '{}' was down already", file.name));
    }
    drop(change);
    Ok(())
}

/// Ends every process of a box and removes its sockets; whether anything ran. The caller holds the
/// box's lock for changes.
///
/// # Errors
/// A process does not end.
pub(crate) fn end(home: &BoxHome, file: &BoxFile) -> anyhow::Result<bool> {
    let was_running = home.is_running()?;
    if was_running {
        // The box ends its machines itself, and knows best how.
        if let Err(error) = ask(file.control().stop()) {
            print::note(format!("the box is ended from outside: {error:#}"));
        }
        let clock = Stopwatch::start();
        while home.is_running()? && !clock.has_passed(END_MAX) {
            pause(LOOK);
        }
    }
    // What a box process that was killed has left behind.
    let left = process::find(home.directory(), &file.run)?;
    let still = process::end(&left);
    if still > 0 {
        bail!("{still} processes of box '{}' do not end: see `ps`", file.name);
    }
    if file.run.exists() {
        fs_err::remove_dir_all(&file.run)?;
    }
    Ok(was_running || !left.is_empty())
}

/// The box that is meant: the one named, else that of the profile that is used.
fn meant(args: &DownArgs, setting: &Setting) -> anyhow::Result<BoxHome> {
    if args.dir.is_some() || args.name.is_some() {
        return up::home(args.dir.as_deref(), args.name.as_deref());
    }
    let profiles = Profiles::load()?;
    let Ok((name, profile)) = profiles.choose(setting.profile.as_deref()) else {
        return up::home(None, setting.profile.as_deref());
    };
    match &profile.directory {
        Some(directory) => BoxHome::new(directory),
        None => bail!("rack '{name}' is not a box of this machine"),
    }
}

/// Deletes the directory and the profile. Only what a box makes is deleted: the directory may be one
/// that holds other things.
pub(crate) fn destroy(home: &BoxHome, name: &str) -> anyhow::Result<()> {
    for entry in fs_err::read_dir(home.directory())? {
        let entry = entry?;
        let is_own = entry.file_name().to_str().is_some_and(|name| OWN.contains(&name));
        match is_own {
            true if entry.file_type()?.is_dir() => fs_err::remove_dir_all(entry.path())?,
            true => fs_err::remove_file(entry.path())?,
            false => print::note(format!("{} stays: it is not of the box", entry.path().display())),
        }
    }
    // It stays if something in it does.
    let _ = fs_err::remove_dir(home.directory());
    let mut profiles = Profiles::load()?;
    let is_of_box = |directory: &PathBuf| directory == home.directory();
    profiles.file.profiles.retain(|_, profile| !profile.directory.as_ref().is_some_and(is_of_box));
    if profiles.file.current.as_deref() == Some(name) {
        profiles.file.current = profiles.file.profiles.keys().next().cloned();
    }
    profiles.save()
}

/// What a box makes in its directory.
const OWN: &[&str] = &[
    "accelerator.json",
    "accelerator.lock",
    "agents",
    "box.lock",
    "box.toml",
    "change.lock",
    "datastores",
    "deployed",
    "door.lock",
    "hooks",
    "hosts",
    "links.json",
    "log",
    "manager",
    "power.json",
    "racknest.toml",
    "run",
];
