//! Leases under race and `kill -9`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Barrier};

use racknest_cluster::wire::Mount;

use super::*;
use crate::storage_path::StorageState;
use crate::testing::{beat, spec};

/// The environment variable that makes [`child_takes_leases`] do its work.
const CHILD: &str = "RACKNEST_TEST_LEASE_DIRECTORY";

fn lease(holder: u64, epoch: u64) -> SavedLease {
    let (holder, spec) = (HostId::from_raw(holder), spec(7));
    RunLease { epoch, holder, cluster: None, state: LeaseState::Running, spec }.into()
}

fn on(mounts: Vec<Mount>) -> Leases {
    Leases::on(Mounts::in_memory(mounts), StoragePath::connected())
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs_err::read_dir(directory.join(".racknest/leases/vm-7")).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_epoch_is_had_once_and_older_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let leases = Directory::below(directory.path());
    let vm = VmId::from_raw(7);
    assert_eq!(leases.newest(vm).unwrap(), None);
    assert_eq!(leases.take(&lease(1, 1), 0), Ok(()));
    assert_eq!(leases.take(&lease(2, 1), 0), Err(StartFailure::LeaseTaken));
    assert_eq!(leases.newest(vm).unwrap(), Some(lease(1, 1)));
    assert_eq!(leases.take(&lease(2, 2), 1), Ok(()));
    assert_eq!(leases.take(&lease(1, 2), 1), Err(StartFailure::LeaseTaken));
    assert_eq!(leases.all().unwrap(), [lease(2, 2)]);
    assert_eq!(names(directory.path()), ["2"]);
    leases.remove(vm, HostId::from_raw(1)).unwrap();
    leases.remove(vm, HostId::from_raw(1)).unwrap();
    assert_eq!(leases.all().unwrap(), []);
}

#[test]
fn whoever_slept_while_others_went_on_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let leases = Directory::below(directory.path());
    for epoch in 1..=3 {
        leases.take(&lease(1, epoch), epoch - 1).unwrap();
    }
    // A taker that found epoch 1 the newest links the next one now: the file 2 is gone.
    let sleeper = directory.path().join(".racknest/leases/vm-7");
    directory::link(&sleeper, &lease(2, 2)).unwrap();
    assert!(!sleeper.join("1").exists(), "which tells it that it lost");
    assert_eq!(leases.newest(VmId::from_raw(7)).unwrap(), Some(lease(1, 3)));
    leases.take(&lease(1, 4), 3).unwrap();
    assert_eq!(names(directory.path()), ["4"]);
}

#[test]
fn of_many_that_race_for_each_epoch_exactly_one_wins() {
    const THREADS: u64 = 32;
    const EPOCHS: u64 = 40;
    let directory = tempfile::tempdir().unwrap();
    let leases = Arc::new(Directory::below(directory.path()));
    let start = Arc::new(Barrier::new(usize::try_from(THREADS).unwrap()));
    let racers: Vec<_> = (1..=THREADS)
        .map(|holder| {
            let (leases, start) = (Arc::clone(&leases), Arc::clone(&start));
            std::thread::spawn(move || {
                let mut won = Vec::new();
                for after in 0..EPOCHS {
                    start.wait();
                    match leases.take(&lease(holder, after + 1), after) {
                        Ok(()) => won.push(after + 1),
                        Err(failure) => assert_eq!(failure, StartFailure::LeaseTaken),
                    }
                }
                won
            })
        })
        .collect();
    let mut won: Vec<u64> = racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect();
    won.sort_unstable();
    assert_eq!(won, (1..=EPOCHS).collect::<Vec<_>>());
    assert_eq!(names(directory.path()), [EPOCHS.to_string()]);
}

/// Everyone takes what he finds newest, as fast as he can, without waiting for the others: who reads
/// and links late meets epochs that are removed already.
#[test]
fn of_many_that_run_past_each_other_no_two_get_an_epoch() {
    const THREADS: u64 = 32;
    let directory = tempfile::tempdir().unwrap();
    let leases = Arc::new(Directory::below(directory.path()));
    let runners: Vec<_> = (1..=THREADS)
        .map(|holder| {
            let leases = Arc::clone(&leases);
            std::thread::spawn(move || {
                let newest = |leases: &Directory| {
                    let newest = leases.newest(VmId::from_raw(7)).unwrap();
                    newest.map_or(0, |saved| saved.lease.epoch)
                };
                let mut won = Vec::new();
                for _ in 0..30 {
                    let after = newest(&leases);
                    if leases.take(&lease(holder, after + 1), after).is_ok() {
                        won.push((after + 1, holder));
                    }
                }
                won
            })
        })
        .collect();
    let won = runners.into_iter().flat_map(|runner| runner.join().unwrap());
    let mut holders = BTreeMap::new();
    for (epoch, holder) in won {
        assert_eq!(holders.insert(epoch, holder), None, "epoch {epoch} was had twice");
    }
    let epochs: Vec<u64> = holders.into_keys().collect();
    assert_eq!(epochs, (1..=u64::try_from(epochs.len()).unwrap()).collect::<Vec<_>>());
}

/// What [`killed_anywhere_a_valid_lease_stays`] kills: takes lease after lease and says each.
#[test]
fn child_takes_leases() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let leases = Directory::below(Path::new(&directory));
    loop {
        let newest = leases.newest(VmId::from_raw(7)).unwrap();
        let after = newest.map_or(0, |saved| saved.lease.epoch);
        leases.take(&lease(1, after + 1), after).unwrap();
        println!("\ntook {}", after + 1);
    }
}

#[test]
fn killed_anywhere_a_valid_lease_stays() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let directory = tempfile::tempdir().unwrap();
    let leases = Directory::below(directory.path());
    let mut last = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lease::tests::child_takes_leases", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.filter_map(|line| line.unwrap().strip_prefix("took ")?.parse().ok());
        // Another number of leases each round, so that it is killed at many places.
        let told: u64 = said.take(round % 7 + 1).last().expect("the child takes leases");
        child.kill().unwrap();
        child.wait().unwrap();
        let newest = leases.newest(VmId::from_raw(7)).unwrap().expect("a lease").lease;
        assert!(newest.epoch >= told && told > last, "{told} was told, {} is left", newest.epoch);
        last = newest.epoch;
    }
    leases.take(&lease(2, last + 1), last).unwrap();
    assert_eq!(names(directory.path()), [(last + 1).to_string()], "the rest was cleaned");
}

#[tokio::test]
async fn a_host_takes_leases_only_under_its_id_and_where_it_mounts() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap().to_owned();
    let on_disk = on(vec![Mount { name: "ds1".into(), directory: root }]);
    let (cable, storage) = StoragePath::new(StorageState::Connected);
    let in_memory = Leases::shared(SharedDatastores::new(100), storage);
    for (leases, first) in [(on_disk, 1), (in_memory.clone(), 100)] {
        let wanted =
            |after| Wanted { spec: spec(7), state: LeaseState::Running, unfinished: None, after };
        assert!(matches!(leases.take(wanted(0)).await, Err(StartFailure::Failed(_))));
        leases.set_holder(HostId::from_raw(3));
        let (_, before) = leases.standing(&spec(7)).await.unwrap();
        assert_eq!(leases.take(wanted(before)).await, Ok(first));
        assert_eq!(leases.take(wanted(before)).await, Err(StartFailure::LeaseTaken));
        let unfinished = Some(Box::new(Request::PowerOff));
        let next = Wanted { unfinished: unfinished.clone(), ..wanted(first) };
        assert_eq!(leases.take(next).await, Ok(first + 1));
        let newest = leases.newest(&spec(7)).await.unwrap().unwrap();
        assert_eq!((newest.lease.holder, newest.unfinished), (HostId::from_raw(3), unfinished));
        let beat = beat(3, 9);
        leases.write_beat("ds1", beat.clone()).unwrap();
        let sight = leases.look("ds1", &LeasesWanted::All).unwrap();
        assert_eq!((sight.beats, &sight.leases), (vec![beat], &vec![newest.lease]));
        let wanted = LeasesWanted::Of(vec![VmId::from_raw(6), VmId::from_raw(7)]);
        assert_eq!(leases.look("ds1", &wanted).unwrap().leases, sight.leases);
        leases.remove("ds1", VmId::from_raw(7)).await.unwrap();
        assert_eq!(leases.newest(&spec(7)).await, Ok(None));
        // Leases that come from another datastore go on counting, and count only once one is taken.
        leases.prepare("ds1", VmId::from_raw(7), 200).await.unwrap();
        leases.prepare("ds1", VmId::from_raw(7), 300).await.unwrap();
        assert_eq!(leases.standing(&spec(7)).await, Ok((None, 300)));
        assert_eq!(leases.look("ds1", &LeasesWanted::All).unwrap().leases, []);
        let wanted =
            |after| Wanted { spec: spec(7), state: LeaseState::Running, unfinished: None, after };
        assert_eq!(leases.take(wanted(300)).await, Ok(301));
        assert_eq!(leases.take(wanted(300)).await, Err(StartFailure::LeaseTaken));
    }
    cable.send_replace(StorageState::AllPathsDown);
    assert_eq!(in_memory.newest(&spec(7)).await, Err(StartFailure::NoDatastore));
    let file = directory.path().join("host-id");
    let load = || Leases::load(Mounts::default(), StoragePath::connected(), &file);
    load().set_holder(HostId::from_raw(3));
    assert_eq!(load().holder(), Some(HostId::from_raw(3)));
    let nowhere = on(vec![]);
    assert_eq!(nowhere.newest(&spec(7)).await, Err(StartFailure::NoDatastore));
    assert_eq!(nowhere.look("ds1", &LeasesWanted::No), Err(StartFailure::NoDatastore));
}

#[test]
fn what_a_killed_agent_left_is_swept_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap().to_owned();
    let leases = on(vec![Mount { name: "ds1".into(), directory: root }]);
    leases.set_holder(HostId::from_raw(3));
    let place = directory.path().join(".racknest/leases");
    for name in [".host-3.vm-7.99.0", ".host-4.vm-7.99.0", "vm-8"] {
        fs_err::create_dir_all(place.join(name)).unwrap();
    }
    leases.sweep("ds1");
    let left = |name: &str| place.join(name).exists();
    assert!(!left(".host-3.vm-7.99.0") && left(".host-4.vm-7.99.0") && left("vm-8"));
}

#[test]
fn a_full_disk_is_told_by_name_and_no_file_of_the_host_is() {
    let StartFailure::Failed(words) = failure(&io::ErrorKind::StorageFull.into()) else {
        panic!("no lease was written");
    };
    assert_eq!(words, "cannot use its run lease: the disk is full; make room and try again");
}
