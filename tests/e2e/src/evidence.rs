//! What a box shows to those who look from outside: which process writes to which disk, and the run
//! leases beside the disks.
//!
//! QEMU locks single bytes of the images that it has open, and byte 101 of those that it writes to.
//! A machine that waits for a VM of another host has its disks open and does not write to them, so
//! the lock says more than the file that is open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::Lab;
use crate::processes::{Process, Role};

/// The byte that is locked by who writes to an image.
const WRITE_BYTE: u64 = 101;

/// The guests' processes that write to a disk: the host of each, by VM.
///
/// # Panics
/// Two of them write to one disk, or a VM has two.
#[track_caller]
pub fn guests(lab: &Lab) -> BTreeMap<String, String> {
    let mut writers: BTreeMap<PathBuf, u32> = BTreeMap::new();
    let mut guests = BTreeMap::new();
    for guest in lab.running(Role::Guest) {
        for disk in written(&guest) {
            let other = writers.insert(disk.clone(), guest.pid);
            assert_eq!(other, None, "{} has two writers: {}", disk.display(), guest.pid);
            let vm = disk.parent().map(name_of).unwrap_or_default();
            let host = host_of(&guest);
            let other = guests.insert(vm.clone(), host.clone()).filter(|other| *other != host);
            assert_eq!(other, None, "{vm} runs on {host}, and twice");
        }
    }
    guests
}

/// The disks that a process may write to.
fn written(guest: &Process) -> Vec<PathBuf> {
    let process = PathBuf::from(format!("/proc/{}", guest.pid));
    let is_disk = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "qcow2");
    let is_written = |number: &str| {
        let about = fs_err::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        about.lines().filter(|line| line.starts_with("lock:")).any(locks_writes)
    };
    let open = files(&process.join("fd")).filter(|fd| is_written(&name_of(fd)));
    let mut disks: Vec<_> =
        open.filter_map(|fd| fs_err::read_link(fd).ok()).filter(is_disk).collect();
    disks.sort();
    disks.dedup();
    disks
}

/// Whether a line of `/proc/PID/fdinfo` tells of a lock on the byte; its last two words are the first
/// and the last byte.
fn locks_writes(line: &str) -> bool {
    let mut words = line.split_whitespace().rev();
    let (last, first) = (words.next(), words.next());
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
    number(first).is_some_and(|first| first <= WRITE_BYTE)
        && (last == Some("EOF") || number(last).is_some_and(|last| last >= WRITE_BYTE))
}

/// The host that runs a guest: its sockets are below that host's directory.
#[must_use]
pub fn host_of(guest: &Process) -> String {
    let words = guest.words.iter().flat_map(|word| word.split_once("/hosts/"));
    let mut hosts = words.filter_map(|(_, rest)| Some(rest.split_once('/')?.0.to_owned()));
    hosts.next().unwrap_or_default()
}

/// The newest lease of each VM of a datastore and its epoch, by the VM's name.
///
/// # Panics
/// A lease is torn.
#[must_use]
pub fn leases(lab: &Lab, datastore: &str) -> BTreeMap<String, (u64, Value)> {
    let mut leases = BTreeMap::new();
    for directory in files(&own_directory(lab, datastore).join("leases")) {
        let epochs = files(&directory).filter_map(|path| name_of(&path).parse::<u64>().ok());
        let Some(epoch) = epochs.max() else { continue };
        let Ok(content) = fs_err::read(directory.join(epoch.to_string())) else { continue };
        if content.is_empty() {
            continue;
        }
        let saved: Value = serde_json::from_slice(&content).expect("a lease is never torn");
        let name = saved["lease"]["spec"]["name"].as_str().expect("a VM has a name").to_owned();
        leases.insert(name, (epoch, saved["lease"].clone()));
    }
    leases
}

/// What racknest keeps on a datastore beside the VMs.
#[must_use]
pub fn own_directory(lab: &Lab, datastore: &str) -> PathBuf {
    lab.directory().join("datastores").join(datastore).join(".racknest")
}

/// What is in a directory; nothing if it is not there.
pub fn files(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The last part of a path.
#[must_use]
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
