//! What the store has acknowledged survives SIGKILL at any moment.
//!
//! The test starts itself as a child that writes transactions and prints the number of each when it
//! is acknowledged, and kills it at twenty moments drawn from a seed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use racknest_cluster::record::Record;
use racknest_cluster::record::folder::{FolderKind, FolderRecord};
use racknest_manager::store::records::{Records, Saved};
use racknest_types::id::FolderId;
use racknest_types::rng::Rng;

/// Where the child's store is; without it there is nothing for the child to do.
const STORE: &str = "RACKNEST_TEST_STORE";

/// Records that each transaction writes. They say its number, so a torn one would show.
const RECORDS: u64 = 5;

const ROUNDS: u32 = 20;

/// A child that does not outlive the test.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn transaction(number: u64) -> Vec<Saved> {
    let record = |id| {
        let id = FolderId::from_raw(id);
        let holds = FolderKind::Vms;
        let record = FolderRecord { id, name: number.to_string(), parent: None, holds };
        (id.into(), Some(Record::Folder(record)))
    };
    // One more each time, so that the file grows while it is being killed.
    (1..RECORDS).chain([RECORDS + number]).map(record).collect()
}

/// The number of the last transaction that is in the store; panics if one is there in part.
fn last_transaction(store: &Path) -> u64 {
    let records = Records::open(store).expect("the store opens").load().expect("it can be read");
    let mut last = 0;
    let mut torn = vec![];
    for record in records {
        let Record::Folder(folder) = record else { panic!("nobody wrote {record:?}") };
        let number: u64 = folder.name.parse().expect("a number");
        if folder.id.raw() < RECORDS {
            torn.push(number);
        } else {
            assert_eq!(folder.id.raw(), RECORDS + number);
            assert_eq!(number, last + 1, "a transaction is missing");
            last = number;
        }
    }
    assert!(torn.iter().all(|number| *number == last), "{torn:?} of {last}");
    last
}

/// Not a test of its own: what the child does.
#[test]
fn child() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let store = Path::new(&store);
    let first = last_transaction(store) + 1;
    let mut records = Records::open(store).unwrap();
    for number in first.. {
        records.save(&transaction(number)).unwrap();
        println!("acknowledged {number}");
    }
}

/// Lets a child write until it has acknowledged this many, kills it, and returns the last number
/// that it acknowledged.
fn write_and_be_killed(store: &Path, acknowledgements: u64) -> u64 {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args(["--exact", "child", "--nocapture"]).env(STORE, store).stdout(Stdio::piped());
    let mut writer = Writer(command.spawn().expect("the child starts"));
    let output = BufReader::new(writer.0.stdout.take().expect("it is piped"));
    let (mut last, mut seen) = (0, 0);
    for line in output.lines() {
        let line = line.expect("a line of text");
        if let Some((_, number)) = line.split_once("acknowledged ") {
            last = number.parse().expect("a number");
            seen += 1;
            if seen == acknowledgements {
                writer.0.kill().expect("it can be killed");
            }
        }
    }
    assert!(seen >= acknowledgements, "the child ended by itself after {seen}");
    last
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("inventory.redb");
    let mut rng = Rng::from_seed(20);
    let mut last = 0;
    for round in 0..ROUNDS {
        let acknowledged = write_and_be_killed(&store, 1 + rng.below(40));
        assert!(acknowledged > last, "round {round}: nothing was written");
        last = last_transaction(&store);
        // One more may have reached the disk without its acknowledgement reaching anybody.
        let possible = acknowledged..=acknowledged + 1;
        assert!(possible.contains(&last), "round {round}: {acknowledged}, but {last}");
    }
}
