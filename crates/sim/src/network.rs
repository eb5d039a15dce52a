//! The network between machines: datagrams that may be lost, late, doubled or out of order, and
//! ways that are cut in one direction or both.
//!
//! Streams (the manager's connections to hosts) use [`Network::is_open`] alone: what a transport
//! repeats until it arrives is late, and late is what cuts make it.

use std::collections::{BTreeMap, BTreeSet};

use racknest_types::id::HostId;
use racknest_types::rng::Rng;

/// A machine with a name on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A host.
    Host(HostId),
    /// The manager's.
    Vcenter,
    /// The one that isolated hosts ask; nothing runs there.
    Gateway,
}

/// Names a fault, from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(pub u32);

/// How well datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// The least a datagram takes, in milliseconds.
    pub delay_ms: u64,
    /// How much more it may take.
    pub jitter_ms: u64,
    /// How many of a thousand are lost.
    pub lost_permille: u64,
    /// How many of a thousand arrive twice.
    pub doubled_permille: u64,
    /// How many of a thousand are held up, so that later ones overtake them.
    pub late_permille: u64,
}

impl Quality {
    /// A network without faults.
    pub const GOOD: Self =
        Self { delay_ms: 1, jitter_ms: 1, lost_permille: 0, doubled_permille: 0, late_permille: 0 };
}

/// A way that carries nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A machine's cable is out.
    Machine(Machine),
    /// A machine hears and is not heard.
    From(Machine),
    /// A machine is heard and does not hear.
    To(Machine),
    /// One machine does not hear one other.
    Between {
        /// Who is not heard.
        from: Machine,
        /// Who does not hear.
        to: Machine,
    },
    /// These machines are cut off from all others, not from each other.
    Side(BTreeSet<Machine>),
}

impl Cut {
    fn covers(&self, from: Machine, to: Machine) -> bool {
        match self {
            Self::Machine(machine) => *machine == from || *machine == to,
            Self::From(machine) => *machine == from,
            Self::To(machine) => *machine == to,
            Self::Between { from: one, to: other } => *one == from && *other == to,
            Self::Side(side) => side.contains(&from) != side.contains(&to),
        }
    }
}

/// All ways between all machines.
#[derive(Debug)]
pub struct Network {
    quality: Quality,
    worse: BTreeMap<FaultId, Quality>,
    cuts: BTreeMap<FaultId, Cut>,
    rng: Rng,
}

impl Network {
    /// A network of this quality, whole.
    #[must_use]
    pub const fn new(quality: Quality, rng: Rng) -> Self {
        Self { quality, worse: BTreeMap::new(), cuts: BTreeMap::new(), rng }
    }

    /// Cuts a way until the fault ends.
    pub fn cut(&mut self, fault: FaultId, cut: Cut) {
        self.cuts.insert(fault, cut);
    }

    /// Makes every way worse until the fault ends.
    pub fn worsen(&mut self, fault: FaultId, quality: Quality) {
        self.worse.insert(fault, quality);
    }

    /// Ends a fault.
    pub fn mend(&mut self, fault: FaultId) {
        self.cuts.remove(&fault);
        self.worse.remove(&fault);
    }

    /// Whether anything gets from one machine to the other.
    #[must_use]
    pub fn is_open(&self, from: Machine, to: Machine) -> bool {
        from == to || !self.cuts.values().any(|cut| cut.covers(from, to))
    }

    /// How long a datagram that is sent now will take, for each time that it arrives.
    pub fn send(&mut self, from: Machine, to: Machine) -> [Option<u64>; 2] {
        if !self.is_open(from, to) {
            return [None, None];
        }
        let quality = self.worse.values().next().copied().unwrap_or(self.quality);
        if self.rng.below(1000) < quality.lost_permille {
            return [None, None];
        }
        let mut delay = || {
            let delay = quality.delay_ms + self.rng.below(quality.jitter_ms + 1);
            if self.rng.below(1000) < quality.late_permille {
                delay * 10 + self.rng.below(400)
            } else {
                delay
            }
        };
        let first = delay();
        let second = delay();
        let is_doubled = self.rng.below(1000) < quality.doubled_permille;
        [Some(first), is_doubled.then_some(second)]
    }

    /// How long a message of a stream takes.
    pub fn stream_delay(&mut self) -> u64 {
        self.quality.delay_ms + self.rng.below(self.quality.jitter_ms + 1)
    }
}
