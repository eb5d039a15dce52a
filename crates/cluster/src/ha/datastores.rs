//! What a host knows of its datastores: whether it reaches them, and who else beats there.
//!
//! A beat says that its host lives only if it *changes* between two looks that are not far apart: a
//! file that is merely there may be years old, and one that changed since an hour ago may be of a
//! host that died a minute ago.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use racknest_types::id::HostId;
use racknest_types::time::Timestamp;

use super::StoragePath;
use super::outbox::millis;
use crate::record::ha::HaTimings;
use crate::wire::ha::{DatastoreSight, HaMember, HostBeat};

/// The datastores of a host.
#[derive(Debug, Default)]
pub(super) struct Datastores {
    each: BTreeMap<String, Reach>,
    signs: BTreeMap<HostId, Sign>,
}

/// How one datastore is reached.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) path: StoragePath,
    /// When the path was last lost; for [`StoragePath::Up`] meaningless.
    pub(super) since: Timestamp,
    /// When a beat was last written there.
    written: Option<Timestamp>,
    /// When a beat was first tried after that.
    tried: Option<Timestamp>,
    /// When it was first looked at, of a row of looks without a long gap.
    watched_since: Option<Timestamp>,
    /// When it was last looked at.
    looked: Option<Timestamp>,
}

/// A host's signs of life on datastores.
#[derive(Debug, Default)]
pub(super) struct Sign {
    /// The last beat seen on each datastore: its boot and count.
    on: BTreeMap<String, (u64, u64)>,
    /// When a beat was last seen to have changed.
    changed: Option<Timestamp>,
    /// A beat was written after this: it was seen to have changed since a look at that time.
    written_after: Option<Timestamp>,
    /// Whether the last beat said that its host is isolated.
    pub(super) isolated: bool,
    /// Whether the last beat said that its host is a primary in company.
    pub(super) leads: bool,
}

/// How well a host's datastores have been watched for its beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// Long enough to have seen it, did it live.
    Enough,
    /// Not long enough.
    NotYet,
    /// There is no datastore on which it could be seen.
    Nowhere,
}

impl Datastores {
    pub(super) fn reach(&mut self, now: Timestamp, datastore: &str) -> &mut Reach {
        if !self.each.contains_key(datastore) {
            let path = StoragePath::Up;
            let reach = Reach {
                path,
                since: now,
                written: None,
                tried: None,
                watched_since: None,
                looked: None,
            };
            self.each.insert(datastore.into(), reach);
        }
        self.each.get_mut(datastore).expect("it was inserted above")
    }

    /// Takes in whether a beat was written; true if that works again after it did not.
    pub(super) fn beat_written(&mut self, now: Timestamp, datastore: &str, reached: bool) -> bool {
        let reach = self.reach(now, datastore);
        if !reached {
            return false;
        }
        let was_failing = reach.tried.take().is_some_and(|since| now.since(since) > millis(0));
        reach.written = Some(now);
        was_failing
    }

    /// Notes that a beat is about to be written.
    pub(super) fn beat_tried(&mut self, now: Timestamp, datastore: &str) {
        self.reach(now, datastore).tried.get_or_insert(now);
    }

    /// For how long no beat has reached a datastore though it was tried.
    pub(super) fn unwritten_for(&self, now: Timestamp, datastore: &str) -> Duration {
        let Some(reach) = self.each.get(datastore) else { return Duration::ZERO };
        match (reach.tried, reach.written) {
            (Some(_), Some(written)) => now.since(written),
            (Some(tried), None) => now.since(tried),
            (None, _) => Duration::ZERO,
        }
    }

    /// Whether a datastore is reached, as far as is known.
    pub(super) fn reaches(&self, now: Timestamp, datastore: &str, timings: &HaTimings) -> bool {
        let up = self.each.get(datastore).is_none_or(|it| it.path == StoragePath::Up);
        up && self.unwritten_for(now, datastore) < millis(timings.suspect_ms)
    }

    /// How a datastore is reached, and since when.
    pub(super) fn path(&self, datastore: &str) -> (StoragePath, Timestamp) {
        self.each
            .get(datastore)
            .map_or((StoragePath::Up, Timestamp::EPOCH), |it| (it.path, it.since))
    }

    /// How many of its datastores a host reaches.
    pub(super) fn count(&self, now: Timestamp, member: &HaMember, timings: &HaTimings) -> u16 {
        let reached = member.datastores.iter().filter(|it| self.reaches(now, it, timings)).count();
        u16::try_from(reached).unwrap_or(u16::MAX)
    }

    /// Takes in what was seen on a datastore.
    pub(super) fn looked(
        &mut self,
        now: Timestamp,
        datastore: &str,
        sight: &DatastoreSight,
        timings: &HaTimings,
    ) {
        let near = millis(timings.dead_ms / 2);
        let reach = self.reach(now, datastore);
        let before = reach.looked.replace(now).filter(|before| now.since(*before) <= near);
        if before.is_none() {
            reach.watched_since = Some(now);
        }
        for beat in &sight.beats {
            self.saw_beat(now, datastore, beat, before);
        }
    }

    /// Takes in a beat, and when this datastore was looked at before, if that was not long ago.
    fn saw_beat(
        &mut self,
        now: Timestamp,
        datastore: &str,
        beat: &HostBeat,
        looked: Option<Timestamp>,
    ) {
        let sign = self.signs.entry(beat.host).or_default();
        let (before, mark) = (sign.on.get_mut(datastore), (beat.boot, beat.count));
        match before {
            Some(before) if *before == mark => {}
            Some(before) => {
                *before = mark;
                if looked.is_some() {
                    sign.changed = Some(now);
                    sign.written_after = sign.written_after.max(looked);
                    sign.isolated = beat.isolated;
                    sign.leads = beat.leads;
                }
            }
            None => {
                sign.on.insert(datastore.into(), mark);
            }
        }
    }

    pub(super) fn sign(&self, host: HostId) -> Option<&Sign> {
        self.signs.get(&host)
    }

    /// Whether a host has been seen to beat on a datastore within this time.
    pub(super) fn beats_within(&self, now: Timestamp, host: HostId, time: Duration) -> bool {
        self.signs.get(&host).and_then(|it| it.changed).is_some_and(|at| now.since(at) < time)
    }

    /// How well the datastores that two hosts share have been watched for the beats of one.
    pub(super) fn watched(
        &self,
        now: Timestamp,
        me: &HaMember,
        other: &HaMember,
        timings: &HaTimings,
    ) -> Watched {
        let mut shared = other.heartbeat_datastores().filter(|it| me.has(it)).peekable();
        if shared.peek().is_none() {
            return Watched::Nowhere;
        }
        let long = millis(timings.dead_ms.saturating_sub(timings.suspect_ms) / 2);
        let fresh = millis(timings.suspect_ms.max(2 * timings.beat_ms));
        let is_watched = |name: &String| {
            self.each.get(name).is_some_and(|it| {
                it.watched_since.is_some_and(|since| now.since(since) >= long)
                    && it.looked.is_some_and(|at| now.since(at) <= fresh)
            })
        };
        if shared.any(is_watched) { Watched::Enough } else { Watched::NotYet }
    }

    /// Moves what was seen by a time in which this host did not run: it cannot blame others for
    /// what it has not looked at.
    pub(super) fn excuse(&mut self, gap: Duration, now: Timestamp) {
        for sign in self.signs.values_mut() {
            sign.changed = sign.changed.map(|at| now.min(at + gap));
            sign.written_after = sign.written_after.map(|at| now.min(at + gap));
        }
        for reach in self.each.values_mut() {
            reach.watched_since = None;
            reach.looked = None;
        }
    }
}

impl Sign {
    /// When the host was last seen to beat on a datastore, if it did so after this time: a change
    /// since a look before it may be of a beat before it.
    pub(super) fn beat_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.changed.filter(|_| self.written_after.is_some_and(|at| at >= time))
    }
}
