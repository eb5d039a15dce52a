//! What may be taken, line by line.

use racknest_types::bytes::Bytes;
use racknest_types::id::VmId;

use super::*;
use crate::record::datastore::DatastorePath;
use crate::record::vm::{Boot, VmConfig, Workload};

const ONE: HostId = HostId::from_raw(1);
const TWO: HostId = HostId::from_raw(2);

fn spec() -> VmSpec {
    let (disks, nics) = (Default::default(), Default::default());
    let (boot, annotation, workload) = (Boot::Bios, Default::default(), Workload::default());
    let memory = Bytes::from_mib(64);
    let home = DatastorePath { datastore: "ds".into(), path: "a".into() };
    let config = VmConfig {
        vcpus: 1,
        memory,
        disks,
        nics,
        boot,
        annotation,
        workload,
        allocation: Default::default(),
    };
    VmSpec { id: VmId::from_raw(7), uuid: 7, name: "a".into(), home, config }
}

fn lease(epoch: u64, holder: HostId, state: LeaseState) -> RunLease {
    RunLease { epoch, holder, cluster: None, state, spec: spec() }
}

fn try_take(
    current: Option<&RunLease>,
    purpose: Purpose,
    old_copy_gone: bool,
) -> Result<u64, StartFailure> {
    let taker = Taker { host: TWO, cluster: None, purpose, old_copy_gone };
    take(current, taker, spec()).map(|lease| {
        assert_eq!((lease.holder, lease.state), (TWO, LeaseState::Running));
        lease.epoch
    })
}

#[test]
fn the_first_lease_has_epoch_1() {
    assert_eq!(try_take(None, Purpose::Start, false), Ok(1));
    assert_eq!(try_take(None, Purpose::Restart { after_epoch: 0 }, false), Ok(1));
}

#[test]
fn ha_takes_only_what_it_has_seen() {
    let running = lease(4, ONE, LeaseState::Running);
    let restart = |after_epoch| Purpose::Restart { after_epoch };
    assert_eq!(try_take(Some(&running), restart(4), true), Ok(5));
    assert_eq!(try_take(Some(&running), restart(3), true), Err(StartFailure::LeaseTaken));
    assert_eq!(try_take(Some(&running), restart(5), true), Err(StartFailure::LeaseTaken));
    assert_eq!(try_take(None, restart(4), true), Err(StartFailure::LeaseTaken));
}

#[test]
fn ha_never_takes_what_was_stopped_cleanly_and_a_user_does() {
    let stopped = lease(4, ONE, LeaseState::Stopped);
    let restart = Purpose::Restart { after_epoch: 4 };
    assert_eq!(try_take(Some(&stopped), restart, true), Err(StartFailure::LeaseTaken));
    assert_eq!(try_take(Some(&stopped), Purpose::Start, false), Ok(5));
}

#[test]
fn another_hosts_copy_must_be_gone_before_its_lease_is_taken() {
    for state in [LeaseState::Running, LeaseState::Abandoned] {
        let theirs = lease(4, ONE, state);
        for purpose in [Purpose::Start, Purpose::Restart { after_epoch: 4 }] {
            assert_eq!(try_take(Some(&theirs), purpose, false), Err(StartFailure::DiskInUse));
            assert_eq!(try_take(Some(&theirs), purpose, true), Ok(5));
        }
        let hand_over = Purpose::HandOver { after_epoch: 4 };
        assert_eq!(try_take(Some(&theirs), hand_over, false), Ok(5));
    }
    let mine = lease(4, TWO, LeaseState::Running);
    assert_eq!(try_take(Some(&mine), Purpose::Start, false), Ok(5));
}

#[test]
fn only_the_newest_holder_writes() {
    let current = lease(4, ONE, LeaseState::Running);
    assert!(may_write(Some(&current), ONE, 4));
    assert!(!may_write(Some(&current), ONE, 3));
    assert!(!may_write(Some(&current), TWO, 4));
    assert!(!may_write(None, ONE, 4));
    let stopped = changed(Some(&current), ONE, 4, LeaseState::Stopped, None);
    assert_eq!(stopped, Some(lease(4, ONE, LeaseState::Stopped)));
    assert_eq!(changed(Some(&current), ONE, 3, LeaseState::Stopped, None), None);
}
