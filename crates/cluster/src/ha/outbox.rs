//! What an agent wants done, in order.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use racknest_types::id::HostId;

use super::{Action, LeasesWanted};
use crate::wire::ha::HaNews;
use crate::wire::ha_message::{HaBody, HaMessage};

/// Actions that wait to be polled, and what the agent says to itself.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) actions: VecDeque<Action>,
    /// Looks asked for while one event is handled: each datastore is looked at once.
    looks: BTreeMap<String, LeasesWanted>,
    /// Messages to the agent itself: a primary gives orders to its own host as to any other.
    pub(super) to_self: VecDeque<HaBody>,
    me: HostId,
    boot: u64,
    pub(super) generation: u64,
    next_order: u64,
}

impl Outbox {
    pub(super) fn new(me: HostId, boot: u64) -> Self {
        Self {
            actions: VecDeque::new(),
            looks: BTreeMap::new(),
            to_self: VecDeque::new(),
            me,
            boot,
            generation: 0,
            next_order: boot << 32,
        }
    }

    /// The number of a new order. A host answers an order that it has done by what it remembers, so
    /// no number may come twice, not even from an agent that was primary before.
    pub(super) fn number_order(&mut self) -> u64 {
        let number = self.next_order;
        self.next_order += 1;
        number
    }

    pub(super) fn send(&mut self, to: HostId, body: HaBody) {
        if to == self.me {
            self.to_self.push_back(body);
            return;
        }
        let message = HaMessage { generation: self.generation, boot: self.boot, body };
        self.actions.push_back(Action::Send { to, message });
    }

    pub(super) fn report(&mut self, what: HaNews, why: String) {
        self.actions.push_back(Action::Report { what, why });
    }

    /// Asks for a look, together with what was asked for that datastore before.
    pub(super) fn look(&mut self, datastore: &str, leases: LeasesWanted) {
        let Some(asked) = self.looks.get_mut(datastore) else {
            self.looks.insert(datastore.into(), leases);
            return;
        };
        let before = core::mem::replace(asked, LeasesWanted::No);
        *asked = match (before, leases) {
            (LeasesWanted::All, _) | (_, LeasesWanted::All) => LeasesWanted::All,
            (LeasesWanted::Of(mut some), LeasesWanted::Of(more)) => {
                some.extend(more);
                some.sort_unstable();
                some.dedup();
                LeasesWanted::Of(some)
            }
            (other, LeasesWanted::No) | (LeasesWanted::No, other) => other,
        };
    }

    /// Turns the looks asked for into actions.
    pub(super) fn flush(&mut self) {
        for (datastore, leases) in core::mem::take(&mut self.looks) {
            self.actions.push_back(Action::Look { datastore, leases });
        }
    }
}

pub(super) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A duration for people: `3.0 s`.
pub(super) fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    alloc::format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Names for people: `a, b and 3 more`.
pub(super) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        rest => alloc::format!("{shown} and {rest} more"),
    }
}
