//! The live guest: the small Linux system that `guest/build.sh` makes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use racknest_api::operation::Nothing;
use racknest_api::v1::datastore::{BrowseQuery, DatastoreBrowse, DatastoreMkdir, NewDirectory};
use racknest_api::v1::vm_config::Boot;

use crate::client::Client;
use crate::command::file;

/// The directory on a datastore that the guest's files are in.
const DIRECTORY: &str = "guest";

/// The kernel, under the name that `guest/build.sh` gives it.
const KERNEL: &str = "vmlinuz";

/// The initial file system.
const INITRAMFS: &str = "initramfs.cpio";

/// The kernel's arguments.
const ARGUMENTS: &str = "cmdline";

/// The guest's files on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    directory: PathBuf,
}

impl Guest {
    /// Finds them: where `RACKNEST_GUEST` says, installed beside the program, or in the source tree
    /// that the program was built in.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn find() -> anyhow::Result<Self> {
        if let Some(directory) = std::env::var_os("RACKNEST_GUEST") {
            let directory = PathBuf::from(directory);
            if !is_complete(&directory) {
                bail!("RACKNEST_GUEST: there is no live guest in {}", directory.display());
            }
            return Ok(Self { directory });
        }
        let program = std::env::current_exe().context("this program's file cannot be told")?;
        let places = ["../share/racknest/guest", "../../guest/build", "../../../guest/build"];
        let beside = program.parent().unwrap_or_else(|| Path::new("/"));
        let found = places.iter().map(|place| beside.join(place)).find(|place| is_complete(place));
        let directory = found
            .context("there is no live guest: build it with guest/build.sh (`make up` does)")?;
        Ok(Self { directory })
    }

    /// Puts the files on a datastore, unless they are there, and says how to boot them.
    pub(crate) fn bring(&self, client: &Client, datastore: &str) -> anyhow::Result<Boot> {
        let query = BrowseQuery { path: String::new() };
        let top = client.call::<DatastoreBrowse>(&[datastore], &query, &Nothing {})?;
        if !top.items.iter().any(|entry| entry.name == DIRECTORY) {
            let path = DIRECTORY.to_owned();
            client.send::<DatastoreMkdir>(&[datastore], &NewDirectory { path })?;
        }
        let query = BrowseQuery { path: DIRECTORY.to_owned() };
        let there = client.call::<DatastoreBrowse>(&[datastore], &query, &Nothing {})?.items;
        for name in [KERNEL, INITRAMFS] {
            let source = self.directory.join(name);
            let size = fs_err::metadata(&source)?.len();
            if !there.iter().any(|entry| entry.name == name && entry.size_bytes == size) {
                file::send(client, datastore, &source, &format!("{DIRECTORY}/{name}"), true)?;
            }
        }
        let arguments = fs_err::read_to_string(self.directory.join(ARGUMENTS))?;
        Ok(Boot::Kernel {
            kernel: format!("[{datastore}] {DIRECTORY}/{KERNEL}"),
            initramfs: format!("[{datastore}] {DIRECTORY}/{INITRAMFS}"),
            arguments: arguments.trim().to_owned(),
        })
    }
}

fn is_complete(directory: &Path) -> bool {
    [KERNEL, INITRAMFS, ARGUMENTS].iter().all(|name| directory.join(name).is_file())
}
