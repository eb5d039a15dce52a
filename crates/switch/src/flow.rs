//! Flow records: who talked to whom, how much and when, for the view of live flows and for IPFIX.
//!
//! A flow is every frame with the same [`FlowKey`]. The cache counts frames into flows, and once a
//! second or so the caller asks for those that are due: flows that fell silent or whose connection
//! was closed leave the cache; flows that last longer than `active_ms` are reported in pieces and
//! stay. What is due goes to an [`Exporter`], which writes the messages for a collector.
//!
//! The cache is bounded, so that a guest that scans ports cannot eat the memory: a new flow that
//! does not fit is not recorded, and its frames are counted in [`FlowCache::frames_missed`]. Nothing
//! is searched for a victim, so a frame costs at most two lookups. Nor can that guest hide what
//! others do: a port gets a new flow only while it has fewer flows than there are free places. One
//! greedy port thus has half of the cache at most, and each further one half of what is left, until
//! flows end and the shares level (Choudhury and Hahne's dynamic thresholds, by which hardware
//! switches share their buffers).
//!
//! **Invariant:** a sampled frame is reported exactly once, or counted as missed.
//! **Invariant:** counting a frame of a known flow allocates nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::flow::key::Sighting;
use crate::frame::Frame;
use crate::port::PortId;
use crate::vlan::VlanId;

mod ipfix;
mod key;

pub use ipfix::{ExportSettings, Exporter, MESSAGE_MIN, interface_index};
pub use key::{FlowKey, Network};

/// How many flows are kept, by default. Flows of 15 s of traffic of some hundred VMs, at about 200
/// bytes an entry: 2 MB.
pub const FLOWS_MAX: usize = 8_192;

/// How long a flow lasts before a piece of it is reported, by default.
pub const ACTIVE_MS: u64 = 60_000;

/// How long a flow may be silent before it has ended, by default.
pub const INACTIVE_MS: u64 = 15_000;

/// How long a closed TCP connection may be silent before it has ended: time for the last
/// acknowledgements, which would otherwise make a flow of their own.
pub const CLOSED_MS: u64 = 2_000;

/// The bits of a TCP header that say that a side sends no more: FIN and RST.
const TCP_CLOSING: u8 = 0x01 | 0x04;

/// How much a [`FlowCache`] keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// How many flows are kept at most.
    pub entries_max: usize,
    /// How long a flow lasts before a piece of it is reported.
    pub active_ms: u64,
    /// How long a flow may be silent before it has ended.
    pub inactive_ms: u64,
    /// One of how many frames is looked at; 1 is each of them.
    pub sampling: NonZeroU32,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            entries_max: FLOWS_MAX,
            active_ms: ACTIVE_MS,
            inactive_ms: INACTIVE_MS,
            sampling: NonZeroU32::MIN,
        }
    }
}

/// What passed of one flow since it began, or since it was last reported.
///
/// Counters are of the frames that were looked at: a collector multiplies them by the sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who talks to whom.
    pub key: FlowKey,
    /// Frames; none when the flow was just reported and goes on.
    pub frames: u64,
    /// Their bytes, with the Ethernet header, as the counters of ports have them.
    pub bytes: u64,
    /// Their bytes without the Ethernet header, and without the padding of short IP packets.
    pub network_bytes: u64,
    /// When the first of them passed, on the clock of the switch.
    pub first_ms: u64,
    /// When the last of them passed.
    pub last_ms: u64,
    /// Which TCP flags were set in any of them: the last byte of the flags, FIN lowest.
    pub tcp_flags: u8,
    /// The port that the last of them left by for which there was just one.
    pub egress: Option<PortId>,
}

/// The flows that pass a switch, as they are now.
///
/// ```
/// use racknest_switch::flow::{FlowCache, FlowLimits};
/// use racknest_switch::{Frame, PortMode, Switch, VlanId};
///
/// let port = Switch::default().add_port(PortMode::trunk());
/// let mut flows = FlowCache::new(FlowLimits::default());
/// let frame = Frame::parse(&[0; 60]).unwrap();
/// flows.observe(5, VlanId::UNTAGGED, port, &frame, 60, None);
///
/// let mut ended = Vec::new();
/// flows.due(20_000, &mut ended);
/// assert_eq!((ended[0].frames, ended[0].bytes, ended[0].last_ms), (1, 60, 5));
/// ```
#[derive(Clone, Debug)]
pub struct FlowCache {
    flows: BTreeMap<FlowKey, Flow>,
    // How many of `flows` entered by each port; a port that has none is not in it.
    flows_of_port: BTreeMap<PortId, usize>,
    limits: FlowLimits,
    frames_to_skip: u32,
    frames_missed: u64,
}

impl FlowCache {
    /// A cache without flows.
    #[must_use]
    pub const fn new(limits: FlowLimits) -> Self {
        Self {
            flows: BTreeMap::new(),
            flows_of_port: BTreeMap::new(),
            limits,
            frames_to_skip: 0,
            frames_missed: 0,
        }
    }

    /// Counts a frame that entered by `ingress` and belongs to `vlan`, unless sampling skips it.
    ///
    /// `size` is the bytes of the whole frame, which may be more than `frame` holds where only its
    /// headers were read. `egress` is the port it left by, if that is just one.
    pub fn observe(
        &mut self,
        now_ms: u64,
        vlan: VlanId,
        ingress: PortId,
        frame: &Frame<'_>,
        size: usize,
        egress: Option<PortId>,
    ) {
        if self.skips() {
            return;
        }
        let sighting = Sighting::of(vlan, ingress, frame, size);
        if let Some(flow) = self.flows.get_mut(&sighting.key) {
            flow.count(now_ms, &sighting, egress);
        } else if self.takes_from(ingress) {
            let mut flow = Flow::new(sighting.key);
            flow.count(now_ms, &sighting, egress);
            self.flows.insert(sighting.key, flow);
            *self.flows_of_port.entry(ingress).or_default() += 1;
        } else {
            self.frames_missed += 1;
        }
    }

    /// Reports what ended and what was active for too long. `out` is cleared, then filled.
    ///
    /// It looks at all flows, so it is for once a second rather than for each frame. At the end of
    /// time (`u64::MAX`) everything is due, which empties the cache when recording is switched off.
    pub fn due(&mut self, now_ms: u64, out: &mut Vec<Flow>) {
        out.clear();
        let Self { flows, flows_of_port, limits, .. } = self;
        flows.retain(|_, flow| {
            let has_ended = flow.has_ended(now_ms, limits);
            if has_ended || flow.is_overdue(now_ms, limits) {
                // A flow that was silent since its last piece has nothing to report.
                if flow.frames > 0 {
                    out.push(*flow);
                }
                flow.start_again();
            }
            if has_ended {
                release(flows_of_port, flow.key.ingress);
            }
            !has_ended
        });
    }

    /// The flows that have not ended, in order of their keys, with what passed since each was last
    /// reported.
    pub fn live(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// How many flows are kept.
    #[must_use]
    pub fn size(&self) -> usize {
        self.flows.len()
    }

    /// How many frames were not counted as there was no place for their flow, of those that sampling
    /// did not skip.
    #[must_use]
    pub const fn frames_missed(&self) -> u64 {
        self.frames_missed
    }

    /// Whether the next frame is not the one of so many that is looked at.
    ///
    /// Counting is enough: nothing here may draw lots, and frames of many guests are mixed anyway.
    const fn skips(&mut self) -> bool {
        if self.frames_to_skip > 0 {
            self.frames_to_skip -= 1;
            return true;
        }
        self.frames_to_skip = self.limits.sampling.get() - 1;
        false
    }

    /// Whether a port may have one more flow: while it has fewer than there are free places.
    fn takes_from(&self, ingress: PortId) -> bool {
        let free = self.limits.entries_max.saturating_sub(self.flows.len());
        let own = self.flows_of_port.get(&ingress).copied().unwrap_or_default();
        own < free
    }
}

impl Default for FlowCache {
    fn default() -> Self {
        Self::new(FlowLimits::default())
    }
}

impl Flow {
    const fn new(key: FlowKey) -> Self {
        Self {
            key,
            frames: 0,
            bytes: 0,
            network_bytes: 0,
            first_ms: 0,
            last_ms: 0,
            tcp_flags: 0,
            egress: None,
        }
    }

    fn count(&mut self, now_ms: u64, sighting: &Sighting, egress: Option<PortId>) {
        if self.frames == 0 {
            self.first_ms = now_ms;
        }
        // A clock that went back must not make a flow that ends before it begins.
        self.last_ms = now_ms.max(self.first_ms);
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(sighting.bytes);
        self.network_bytes = self.network_bytes.saturating_add(sighting.network_bytes);
        self.tcp_flags |= sighting.tcp_flags;
        // A frame that was flooded does not unsay where the flow leaves.
        self.egress = egress.or(self.egress);
    }

    /// Begins the next piece. `last_ms` stays, as it tells how long the flow is silent.
    const fn start_again(&mut self) {
        self.frames = 0;
        self.bytes = 0;
        self.network_bytes = 0;
        self.tcp_flags = 0;
    }

    const fn has_ended(&self, now_ms: u64, limits: &FlowLimits) -> bool {
        let silent_ms = now_ms.saturating_sub(self.last_ms);
        let is_closed = self.tcp_flags & TCP_CLOSING != 0;
        silent_ms >= limits.inactive_ms || (is_closed && silent_ms >= CLOSED_MS)
    }

    const fn is_overdue(&self, now_ms: u64, limits: &FlowLimits) -> bool {
        now_ms.saturating_sub(self.first_ms) >= limits.active_ms
    }
}

/// Takes note that a flow of this port is gone.
fn release(flows_of_port: &mut BTreeMap<PortId, usize>, port: PortId) {
    let Some(own) = flows_of_port.get_mut(&port) else { return };
    *own = own.saturating_sub(1);
    // Numbers of removed ports are not used again: without this, each would stay for good.
    if *own == 0 {
        flows_of_port.remove(&port);
    }
}

#[cfg(test)]
mod tests;
