//! What a host does that loses a datastore and is on the network still (APD and PDL).
//!
//! Its VMs there hang. It stops them so that a host with a path can run them: at once if the
//! datastore is lost for good, after `all_paths_down_ms` if the path may come back. It cannot say
//! so in their leases, which are where it cannot write, so it tells the primary
//! ([`crate::wire::ha_message::VmBeat::given_up`]), which in turn tells how many hosts have a path:
//! *conservative* stops a VM only if some host is known to, *aggressive* unless none is.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::VmId;
use racknest_types::time::Timestamp;

use super::outbox::millis;
use super::{Agent, Stage, StoragePath};
use crate::record::ha::{RestartPriority, StorageResponse};
use crate::wire::ha::{HaCluster, HaNews};

impl Agent {
    pub(super) fn storage_changed(&mut self, now: Timestamp, datastore: String, path: StoragePath) {
        let reach = self.datastores.reach(now, &datastore);
        if core::mem::replace(&mut reach.path, path) == path {
            return;
        }
        reach.since = now;
        let (what, why) = match path {
            StoragePath::Up => {
                self.look_at_own_leases();
                (HaNews::DatastoreBack(datastore), "it is reached again")
            }
            StoragePath::AllPathsDown => (
                HaNews::DatastoreLost { datastore, for_good: false },
                "all paths are down, and may come back",
            ),
            StoragePath::PermanentLoss => {
                (HaNews::DatastoreLost { datastore, for_good: true }, "it is lost for good")
            }
        };
        self.out.report(what, why.into());
        self.wake = self.wake.map(|wake| wake.min(now));
    }

    /// Stops VMs whose datastore is lost; gives the time when the next are due.
    pub(super) fn respond_to_storage(
        &mut self,
        now: Timestamp,
        cluster: &HaCluster,
    ) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let settings = &cluster.settings;
        let lost = |vm: VmId| {
            let datastore = self.local.datastore(vm)?;
            let (path, since) = self.datastores.path(datastore);
            match path {
                StoragePath::Up => None,
                StoragePath::PermanentLoss => {
                    Some((vm, datastore.clone(), since, settings.permanent_device_loss))
                }
                StoragePath::AllPathsDown => {
                    let due = since + millis(settings.timings.all_paths_down_ms);
                    Some((vm, datastore.clone(), due, settings.all_paths_down))
                }
            }
        };
        let hit = self.local.running().filter_map(lost).collect::<Vec<_>>();
        for (vm, datastore, due, response) in hit {
            if self.local.has_given_up(vm) || cluster.priority(vm) == RestartPriority::Disabled {
                continue;
            }
            if now < due {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            let takers = self.takers(&datastore);
            let stops = match response {
                StorageResponse::Event => false,
                StorageResponse::Conservative => takers.is_some_and(|count| count > 0),
                StorageResponse::Aggressive => takers != Some(0),
            };
            if stops {
                let who = takers
                    .map_or_else(|| "perhaps others".into(), |count| format!("{count} hosts"));
                let why = format!("datastore '{datastore}' is lost here and reached by {who}");
                self.give_up(vm, why);
            }
        }
        next
    }

    /// How many hosts can run the VMs of a datastore that this host has lost, if that is known.
    fn takers(&self, datastore: &str) -> Option<u16> {
        match &self.stage {
            Stage::Primary(primary) => primary.takers_of(datastore),
            Stage::Secondary(following) => {
                following.takers.iter().find(|it| it.0 == datastore).map(|it| it.1)
            }
            Stage::Idle | Stage::Electing(_) | Stage::Isolated(_) => None,
        }
    }
}
