//! Links: the cables between the cards of machines and the physical switch.
//!
//! Everything that a machine says or hears passes one of its links, so this is the one place for
//! what a cable does to traffic. It carries or it does not; what else a cable can do (latency,
//! loss, bandwidth, one way only) belongs here too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::wire::{LinkState, MachineName, NicName, Traffic};

/// A cable, and what passed over it.
#[derive(Debug)]
pub(crate) struct Link {
    machine: MachineName,
    nic: NicName,
    is_up: AtomicBool,
    sent: Counter,
    received: Counter,
    dropped: AtomicU64,
}

/// Counts independent of everything else, so relaxed ordering is enough.
#[derive(Debug, Default)]
struct Counter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Link {
    /// A cable that nothing has passed.
    pub(crate) fn new(machine: MachineName, nic: NicName, is_up: bool) -> Self {
        Self {
            machine,
            nic,
            is_up: AtomicBool::new(is_up),
            sent: Counter::default(),
            received: Counter::default(),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) const fn machine(&self) -> &MachineName {
        &self.machine
    }

    pub(crate) const fn nic(&self) -> &NicName {
        &self.nic
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Release);
    }

    /// The machine sent this many bytes in one frame.
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.count(bytes);
    }

    /// The machine received this many bytes in one frame.
    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.count(bytes);
    }

    /// A frame was lost at this end.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What the user sees.
    pub(crate) fn state(&self, is_machine_on: bool) -> LinkState {
        LinkState {
            machine: self.machine.clone(),
            nic: self.nic.clone(),
            is_up: self.is_up(),
            is_machine_on,
            sent: self.sent.read(),
            received: self.received.read(),
            dropped_frames: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Counter {
    fn count(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
