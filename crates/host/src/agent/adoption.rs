//! What an agent does about the VMs of its registry when it starts.
//!
//! While it was gone, others may have taken over: the leases say so. Guests that still run are
//! adopted as they are, whatever the leases say; what follows from the leases is a job, and so in
//! line with everything else that happens to the VM.
//!
//! | the newest lease | runs | should run | then |
//! |---|---|---|---|
//! | another host's, newer | yes or no | | its copy here is killed, the VM forgotten |
//! | ours, `Running`, or not read | no | yes | HA says where it runs again, and when |
//! | the same, of a VM that is not HA's; or none | no | yes | started again, under a new one |
//! | ours, `Running`, of a guest that HA has shut down | yes or no | yes | its end is awaited, and it is abandoned |
//! | ours, `Running` | no | no | given back |
//! | ours, not `Running`, or none | yes | yes | taken again |
//! | ours, `Running`, of a VM that the registry does not have | no | | started: killed between lease and registry |

use std::sync::Arc;

use futures::StreamExt;
use racknest_cluster::ha::StopKind;
use racknest_cluster::record::lease::{LeaseState, RunLease};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::ha::HaCluster;
use racknest_cluster::wire::{Registration, VmReport, VmSpec};
use racknest_types::id::VmId;

use super::lanes::Job;
use crate::lease::Leases;
use crate::mounts::Mounts;
use crate::registry::record::RegistryRecord;
use crate::vm::Driver;

/// Leases that are read at once.
const READS_MAX: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// How each VM of the registry is.
    pub(super) reports: Vec<VmReport>,
    /// The epochs of leases that are newer than the registry knows.
    pub(super) epochs: Vec<(VmId, u64)>,
    /// What is to be done about it.
    pub(super) jobs: Vec<(VmId, Job)>,
}

/// Takes over the VMs of the registry. Those that are `expected` from other hosts are not in it.
pub(super) async fn adopt<D: Driver>(
    driver: Arc<D>,
    leases: Leases,
    mounts: Mounts,
    ha: Option<Arc<HaCluster>>,
    records: Vec<RegistryRecord>,
    expected: Vec<VmId>,
) -> Adopted {
    let registrations = records.iter().map(adoptable).collect();
    let reports = driver.adopt(registrations).await;
    let mut adopted = Adopted { reports, ..Adopted::default() };
    let specs: Vec<VmSpec> =
        records.iter().map(|record| record.registration.spec.clone()).collect();
    let newest = futures::stream::iter(specs)
        .map(|spec| {
            let leases = leases.clone();
            async move { leases.newest(&spec).await }
        })
        .buffered(READS_MAX)
        .collect::<Vec<_>>()
        .await;
    for (record, newest) in records.iter().zip(newest) {
        let vm = record.registration.spec.id;
        let report = adopted.reports.iter().find(|report| report.vm == vm);
        let power = report.map_or(PowerState::Off, |report| report.power);
        let is_read = newest.is_ok();
        let newest = newest.ok().flatten().map(|saved| saved.lease);
        let is_own = newest.as_ref().is_some_and(|lease| Some(lease.holder) == leases.holder());
        if let Some(lease) = newest.as_ref().filter(|lease| is_own && lease.epoch > record.epoch) {
            adopted.epochs.push((vm, lease.epoch));
        }
        let is_for_ha = ha.as_ref().is_some_and(|cluster| cluster.restarts(vm));
        let sight = Sight { newest, is_read, is_own, is_for_ha };
        if let Some(job) = job(record, power, &sight) {
            adopted.jobs.push((vm, job));
        }
    }
    adopted.jobs.extend(strays(leases, mounts, &records, expected).await);
    adopted
}

/// A VM whose disks were being changed may not go on before that is ended; if it runs, it runs.
fn adoptable(record: &RegistryRecord) -> Registration {
    let mut registration = record.registration.clone();
    if record.unfinished.is_some() {
        registration.power = PowerState::Off;
    }
    registration
}

/// What else says how a VM should be.
#[derive(Debug)]
struct Sight {
    /// Its newest lease.
    newest: Option<RunLease>,
    /// Whether leases could be read at all. Without that nothing is given up, and a start looks again.
    is_read: bool,
    /// Whether it is this host's.
    is_own: bool,
    /// Whether HA restarts it.
    is_for_ha: bool,
}

/// What is to be done about a VM; see the table at the top.
fn job(record: &RegistryRecord, power: PowerState, sight: &Sight) -> Option<Job> {
    let Sight { is_own, is_read, is_for_ha, .. } = *sight;
    let wanted = record.registration.power;
    let state = sight.newest.as_ref().map(|lease| lease.state);
    if let Some(lease) = sight.newest.as_ref().filter(|_| !is_own) {
        let concerns =
            [wanted, power].contains(&PowerState::On) || lease.state == LeaseState::Running;
        if lease.epoch > record.epoch && concerns {
            return Some(Job::Stop(StopKind::Kill));
        }
    }
    if record.unfinished.is_some() {
        return Some(Job::Resume(record.clone()));
    }
    let is_running = power == PowerState::On;
    if wanted == PowerState::On && state == Some(LeaseState::Abandoned) {
        // Any host may start it, and HA says which.
        return is_running.then_some(Job::Stop(StopKind::Abandon));
    }
    let is_held = is_own && state == Some(LeaseState::Running);
    if record.is_leaving && wanted == PowerState::On && is_held {
        let how = if is_running { StopKind::ShutDownThenAbandon } else { StopKind::Abandon };
        return Some(Job::Stop(how));
    }
    match wanted {
        PowerState::On if !is_running && is_for_ha && (is_held || !is_read) => None,
        PowerState::On if !is_running || state != Some(LeaseState::Running) => {
            Some(Job::StartAgain)
        }
        PowerState::Off | PowerState::Suspended if !is_running && is_held => Some(Job::StayOff),
        PowerState::On | PowerState::Off | PowerState::Suspended => None,
    }
}

/// The VMs that this host has the lease of and does not know.
async fn strays(
    leases: Leases,
    mounts: Mounts,
    records: &[RegistryRecord],
    expected: Vec<VmId>,
) -> Vec<(VmId, Job)> {
    let Some(holder) = leases.holder() else { return Vec::new() };
    let own = records.iter().map(|record| record.registration.spec.id);
    // What becomes of a VM that was on its way here is its own job.
    let known: Vec<VmId> = own.chain(expected).collect();
    let look = move || {
        let mut jobs = Vec::new();
        for datastore in mounts.names() {
            leases.sweep(&datastore);
            let all = leases.all(&datastore).unwrap_or_default();
            let strays = all.into_iter().map(|saved| saved.lease).filter(|lease| {
                let is_own = lease.holder == holder && lease.state == LeaseState::Running;
                is_own && !known.contains(&lease.spec.id)
            });
            jobs.extend(strays.map(|lease| {
                let RunLease { epoch, spec, .. } = lease;
                (spec.id, Job::Start { spec: Box::new(spec), after: epoch })
            }));
        }
        jobs
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use racknest_types::id::HostId;

    use super::*;
    use crate::testing::spec;

    fn sight(lease: Option<(u64, u64, LeaseState)>) -> Sight {
        let newest = lease.map(|(holder, epoch, state)| {
            let holder = HostId::from_raw(holder);
            RunLease { epoch, holder, cluster: None, state, spec: spec(7) }
        });
        let is_own = newest.as_ref().is_some_and(|lease| lease.holder == HostId::from_raw(1));
        Sight { newest, is_read: true, is_own, is_for_ha: false }
    }

    fn record(wanted: PowerState) -> RegistryRecord {
        RegistryRecord::new(Registration { spec: spec(7), power: wanted }, 5)
    }

    fn fate(
        wanted: PowerState,
        power: PowerState,
        lease: Option<(u64, u64, LeaseState)>,
    ) -> Option<Job> {
        job(&record(wanted), power, &sight(lease))
    }

    #[test]
    fn the_lease_says_what_becomes_of_a_vm() {
        use LeaseState::{Abandoned, Running, Stopped};
        use PowerState::{Off, On};

        let kill = Some(Job::Stop(StopKind::Kill));
        assert_eq!(fate(On, On, Some((2, 6, Running))), kill);
        assert_eq!(fate(On, Off, Some((2, 6, Stopped))), kill, "it was moved and stopped");
        assert_eq!(fate(Off, Off, Some((2, 6, Stopped))), None, "it came here without a lease");
        assert_eq!(fate(On, On, Some((1, 5, Running))), None);
        assert_eq!(fate(On, Off, Some((1, 5, Running))), Some(Job::StartAgain));
        assert_eq!(fate(On, On, None), Some(Job::StartAgain), "it runs without a lease");
        assert_eq!(fate(On, On, Some((1, 6, Stopped))), Some(Job::StartAgain));
        assert_eq!(fate(Off, Off, Some((1, 5, Running))), Some(Job::StayOff));
        assert_eq!(fate(Off, On, Some((1, 5, Running))), None, "the repeated request stops it");
        assert_eq!(fate(On, Off, Some((1, 6, Abandoned))), None);
    }
    #[test]
    fn what_died_is_started_by_ha_where_there_is_ha() {
        use LeaseState::Running;
        use PowerState::{Off, On};

        let for_ha = |lease| Sight { is_for_ha: true, ..sight(lease) };
        assert_eq!(job(&record(On), Off, &for_ha(Some((1, 5, Running)))), None);
        let unread = Sight { is_read: false, ..for_ha(None) };
        assert_eq!(job(&record(On), Off, &unread), None);
        let unleased = job(&record(On), Off, &for_ha(None));
        assert_eq!(unleased, Some(Job::StartAgain), "HA knows a VM by its lease");
        assert_eq!(job(&record(On), On, &for_ha(Some((1, 5, Running)))), None);
    }

    #[test]
    fn a_guest_that_ha_has_asked_to_shut_down_is_given_away() {
        use LeaseState::{Running, Stopped};
        use PowerState::{Off, On};

        let leaving = |wanted| RegistryRecord { is_leaving: true, ..record(wanted) };
        let own = sight(Some((1, 5, Running)));
        let asked = Some(Job::Stop(StopKind::ShutDownThenAbandon));
        assert_eq!(job(&leaving(On), On, &own), asked);
        assert_eq!(job(&leaving(On), Off, &own), Some(Job::Stop(StopKind::Abandon)));
        assert_eq!(job(&leaving(Off), Off, &own), Some(Job::StayOff), "a user stopped it since");
        let stopped = sight(Some((1, 6, Stopped)));
        assert_eq!(job(&leaving(Off), Off, &stopped), None);
    }
}
