//! The datastores as the HA agent uses them: beats and looks, which may hang.
//!
//! Each works on a thread of its own, and each datastore has one look and one beat under way at a
//! time: a datastore that hangs holds one thread each, not one per beat. A beat that is due while the
//! last one hangs counts as not written, which is how the agent learns of it; looks that are asked
//! for meanwhile become one.

use std::collections::BTreeMap;

use racknest_cluster::ha::{Event, LeasesWanted};
use racknest_cluster::wire::ha::HostBeat;
use tokio::sync::mpsc;

use crate::lease::Leases;

/// What is under way with the datastores.
#[derive(Debug)]
pub(super) struct Disks {
    leases: Leases,
    lanes: BTreeMap<String, Lane>,
    /// Both ends, so that the channel lives as long as this.
    tell: mpsc::UnboundedSender<Ended>,
    told: mpsc::UnboundedReceiver<Ended>,
}

#[derive(Debug, Default)]
struct Lane {
    is_beating: bool,
    is_looking: bool,
    /// What the next look is for.
    next: Option<LeasesWanted>,
}

/// What a thread has to tell.
#[derive(Debug)]
struct Ended {
    event: Event,
    /// Whether it was begun: one that was not leaves the one under way alone.
    was_begun: bool,
}

impl Disks {
    /// Nothing is under way.
    pub(super) fn new(leases: Leases) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { leases, lanes: BTreeMap::new(), tell, told }
    }

    /// Writes a beat.
    pub(super) fn write(&mut self, datastore: String, beat: HostBeat) {
        let lane = self.lanes.entry(datastore.clone()).or_default();
        let (count, leases) = (beat.count, self.leases.clone());
        if lane.is_beating {
            let event = Event::BeatWritten { datastore, count, reached: false };
            // Both ends of the channel are here.
            let _ = self.tell.send(Ended { event, was_begun: false });
            return;
        }
        lane.is_beating = true;
        self.run(move || {
            let reached = leases.write_beat(&datastore, beat).is_ok();
            Event::BeatWritten { datastore, count, reached }
        });
    }

    /// Looks.
    pub(super) fn look(&mut self, datastore: String, wanted: LeasesWanted) {
        let lane = self.lanes.entry(datastore.clone()).or_default();
        if lane.is_looking {
            lane.next = Some(merged(lane.next.take(), wanted));
            return;
        }
        lane.is_looking = true;
        let leases = self.leases.clone();
        self.run(move || {
            let sight = leases.look(&datastore, &wanted).ok();
            Event::Looked { datastore, leases: wanted, sight }
        });
    }

    /// The next thing that is over. May be dropped and called again without losing any.
    pub(super) async fn ended(&mut self) -> Event {
        let Some(Ended { event, was_begun }) = self.told.recv().await else {
            return std::future::pending().await;
        };
        if was_begun {
            self.handle_ended(&event);
        }
        event
    }

    /// The next of its kind may begin.
    fn handle_ended(&mut self, event: &Event) {
        if let Event::BeatWritten { datastore, .. } = event {
            if let Some(lane) = self.lanes.get_mut(datastore) {
                lane.is_beating = false;
            }
        } else if let Event::Looked { datastore, .. } = event
            && let Some(lane) = self.lanes.get_mut(datastore)
        {
            lane.is_looking = false;
            if let Some(next) = lane.next.take() {
                self.look(datastore.clone(), next);
            }
        }
    }

    /// Work on simulated datastores is done at once: it waits for nothing, and a thousand hosts have
    /// no threads to spare.
    fn run(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let tell = self.tell.clone();
        let work = move || {
            // The agent may have ended meanwhile.
            let _ = tell.send(Ended { event: work(), was_begun: true });
        };
        if self.leases.may_block() {
            tokio::task::spawn_blocking(work);
        } else {
            work();
        }
    }
}

/// One look for both.
fn merged(one: Option<LeasesWanted>, other: LeasesWanted) -> LeasesWanted {
    match (one, other) {
        (Some(LeasesWanted::All), _) | (_, LeasesWanted::All) => LeasesWanted::All,
        (Some(LeasesWanted::Of(mut vms)), LeasesWanted::Of(more)) => {
            let new: Vec<_> = more.into_iter().filter(|vm| !vms.contains(vm)).collect();
            vms.extend(new);
            LeasesWanted::Of(vms)
        }
        (Some(wanted @ LeasesWanted::Of(_)), LeasesWanted::No)
        | (Some(LeasesWanted::No) | None, wanted) => wanted,
    }
}

#[cfg(test)]
mod tests {
    use racknest_types::id::VmId;

    use super::*;
    use crate::lease::SharedDatastores;
    use crate::storage_path::StoragePath;

    #[tokio::test]
    async fn a_beat_behind_one_that_hangs_is_not_written_and_looks_become_one() {
        let leases = Leases::shared(SharedDatastores::new(1), StoragePath::connected());
        let mut disks = Disks::new(leases);
        let lane = Lane { is_beating: true, is_looking: true, next: None };
        disks.lanes.insert("ds1".into(), lane);
        disks.write("ds1".into(), crate::testing::beat(1, 7));
        let ds1 = || "ds1".to_owned();
        let missed = Event::BeatWritten { datastore: ds1(), count: 7, reached: false };
        assert_eq!(disks.ended().await, missed);
        assert!(disks.lanes["ds1"].is_beating, "the one that hangs still does");
        disks.look(ds1(), LeasesWanted::No);
        disks.look(ds1(), LeasesWanted::Of(vec![VmId::from_raw(1)]));
        disks.look(ds1(), LeasesWanted::Of(vec![VmId::from_raw(1), VmId::from_raw(2)]));
        let both = LeasesWanted::Of(vec![VmId::from_raw(1), VmId::from_raw(2)]);
        assert_eq!(disks.lanes["ds1"].next, Some(both.clone()));
        disks.handle_ended(&Event::Looked {
            datastore: ds1(),
            leases: LeasesWanted::No,
            sight: None,
        });
        let Event::Looked { leases, sight, .. } = disks.ended().await else { panic!("no look") };
        assert_eq!((leases, sight.is_some()), (both, true));
    }
}
