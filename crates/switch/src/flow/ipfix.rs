//! Writes flows as IPFIX messages (RFC 7011), with the information elements of IANA.
//!
//! A message is a header and sets: one that says how records are laid out (the templates), and one
//! for each layout that has records. There is a layout for IPv4, one for IPv6 and one for frames
//! that are neither; each is listed once, in [`Layout::elements`], and written in that order by
//! [`Exporter`].
//!
//! ```text
//! message: version 10, length, export time, sequence, domain | set | set ...
//! set:     2 (templates) or the id of a template, length     | record | record ...
//! ```
//!
//! Over UDP a collector that missed the templates can read nothing, and may forget them, so the
//! caller sends them at the start and again every few minutes (RFC 7011, 8.4).
//!
//! **Invariant:** an id stands for one layout for ever, so that a collector that still has the
//! templates of an earlier exporter reads nothing wrong. Sampled records have ids of their own.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::flow::{Flow, Network};
use crate::port::PortId;

/// The least that a message may be limited to: where the way to the collector is not known, RFC
/// 7011, 10.3.3 wants packets of 512 bytes, and 48 are for the headers of IPv6 and UDP. Header,
/// templates and the longest record take 343.
pub const MESSAGE_MIN: usize = 464;

/// The most that the 16 bits of a length can say.
const MESSAGE_MAX: usize = 65_535;

/// The version of IPFIX; NetFlow was 9.
const VERSION: u16 = 10;
/// Bytes of the header of a message.
const HEADER_LEN: usize = 16;
/// Bytes of the header of a set.
const SET_HEADER_LEN: usize = 4;
/// The id of a set of templates.
const TEMPLATE_SET: u16 = 2;
/// The lowest id that a template may have.
const TEMPLATE_ID_MIN: u16 = 256;

/// An information element: its number at IANA, and the bytes that it has here.
type Element = (u16, u16);

/// What all records have.
const ELEMENTS: [Element; 11] = [
    (56, 6),  // sourceMacAddress
    (80, 6),  // destinationMacAddress
    (58, 2),  // vlanId
    (256, 2), // ethernetType
    (10, 4),  // ingressInterface
    (14, 4),  // egressInterface
    (152, 8), // flowStartMilliseconds
    (153, 8), // flowEndMilliseconds
    (2, 8),   // packetDeltaCount
    (1, 8),   // octetDeltaCount
    (352, 8), // layer2OctetDeltaCount
];
/// The addresses of IPv4.
const ELEMENTS_IPV4: [Element; 2] = [
    (8, 4),  // sourceIPv4Address
    (12, 4), // destinationIPv4Address
];
/// The addresses of IPv6.
const ELEMENTS_IPV6: [Element; 2] = [
    (27, 16), // sourceIPv6Address
    (28, 16), // destinationIPv6Address
];
/// What IPv4 and IPv6 have in common. The flags are 16 bits, of which we see the low 8: IANA wants
/// them in one byte then.
const ELEMENTS_IP: [Element; 5] = [
    (4, 1),  // protocolIdentifier
    (5, 1),  // ipClassOfService
    (7, 2),  // sourceTransportPort
    (11, 2), // destinationTransportPort
    (6, 1),  // tcpControlBits
];
/// What sampled records have last.
const ELEMENTS_SAMPLED: [Element; 1] = [
    (34, 4), // samplingInterval
];

/// What an [`Exporter`] says of its switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// The observation domain: a number that tells this switch from the others of its host.
    pub domain: u32,
    /// What the clock on the wall showed when the clock of the switch showed 0, in ms since 1970.
    pub unix_ms_at_zero: u64,
    /// One of how many frames was looked at, as in [`crate::flow::FlowLimits`].
    pub sampling: NonZeroU32,
}

/// Writes the messages of one switch to one collector.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use racknest_switch::flow::{ExportSettings, Exporter};
///
/// let sampling = NonZeroU32::MIN;
/// let settings = ExportSettings { domain: 1, unix_ms_at_zero: 1_700_000_000_000, sampling };
/// let mut exporter = Exporter::new(settings);
/// let (message, flows) = exporter.message(1_700_000_060, &[], true, 1_400);
/// assert_eq!((message[1], flows), (10, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Exporter {
    settings: ExportSettings,
    sequence: u32,
}

impl Exporter {
    /// An exporter that has sent nothing.
    #[must_use]
    pub const fn new(settings: ExportSettings) -> Self {
        Self { settings, sequence: 0 }
    }

    /// Tells what the clock on the wall showed at 0 ms, as after it was set.
    pub const fn set_unix_ms_at_zero(&mut self, unix_ms_at_zero: u64) {
        self.settings.unix_ms_at_zero = unix_ms_at_zero;
    }

    /// The next message and how many of `flows` are in it: as many of the first ones as fit.
    ///
    /// The message has at most `size_max` bytes (what UDP carries, without its header), but a
    /// `size_max` below [`MESSAGE_MIN`] counts as that, so that at least one flow always fits.
    /// `unix_s` is when it is sent, in seconds since 1970. The records count as sent: if the message
    /// is lost, the gap in the sequence tells.
    pub fn message(
        &mut self,
        unix_s: u32,
        flows: &[Flow],
        with_templates: bool,
        size_max: usize,
    ) -> (Vec<u8>, usize) {
        let room = size_max.clamp(MESSAGE_MIN, MESSAGE_MAX) - HEADER_LEN;
        let mut sets = Vec::with_capacity(room);
        if with_templates {
            self.write_templates(&mut sets);
        }
        let flows = self.fitting(flows, room.saturating_sub(sets.len()));
        for layout in Layout::ALL {
            self.write_records(layout, flows, &mut sets);
        }
        let mut message = self.header(unix_s, sets.len());
        message.append(&mut sets);
        self.sequence = self.sequence.wrapping_add(u32::from(length(flows.len())));
        (message, flows.len())
    }

    /// The header of a message whose sets have `len` bytes.
    ///
    /// The sequence is how many records were sent before it; templates are not records.
    fn header(&self, unix_s: u32, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + len);
        out.extend(VERSION.to_be_bytes());
        out.extend(length(HEADER_LEN + len).to_be_bytes());
        out.extend(unix_s.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.settings.domain.to_be_bytes());
        out
    }

    fn write_templates(&self, out: &mut Vec<u8>) {
        let is_sampled = self.is_sampled();
        let len = |layout: Layout| 4 + 4 * layout.elements(is_sampled).count();
        write_set_header(TEMPLATE_SET, Layout::ALL.map(len).iter().sum(), out);
        for layout in Layout::ALL {
            out.extend(layout.template_id(is_sampled).to_be_bytes());
            out.extend(length(layout.elements(is_sampled).count()).to_be_bytes());
            for (id, size) in layout.elements(is_sampled) {
                out.extend(id.to_be_bytes());
                out.extend(size.to_be_bytes());
            }
        }
    }

    /// As many of the first flows as fit into `room` bytes of sets.
    fn fitting<'a>(&self, flows: &'a [Flow], room: usize) -> &'a [Flow] {
        let mut used = 0;
        let mut layouts_used = BTreeSet::new();
        let fits = |flow: &&Flow| {
            let layout = Layout::of(flow);
            if layouts_used.insert(layout) {
                used += SET_HEADER_LEN;
            }
            used += layout.record_len(self.is_sampled());
            used <= room
        };
        let count = flows.iter().take_while(fits).count();
        flows.get(..count).unwrap_or_default()
    }

    /// Writes the set of one layout's records, if there are any.
    fn write_records(&self, layout: Layout, flows: &[Flow], out: &mut Vec<u8>) {
        let records = || flows.iter().filter(|flow| Layout::of(flow) == layout);
        let len = records().count() * layout.record_len(self.is_sampled());
        if len == 0 {
            return;
        }
        write_set_header(layout.template_id(self.is_sampled()), len, out);
        for flow in records() {
            self.write_record(flow, out);
        }
    }

    /// Writes one record, in the order of [`Layout::elements`].
    fn write_record(&self, flow: &Flow, out: &mut Vec<u8>) {
        let key = &flow.key;
        out.extend(key.source_mac.bytes());
        out.extend(key.destination_mac.bytes());
        out.extend(key.vlan.get().to_be_bytes());
        out.extend(key.ether_type.to_be_bytes());
        out.extend(interface_index(Some(key.ingress)).to_be_bytes());
        out.extend(interface_index(flow.egress).to_be_bytes());
        out.extend(self.unix_ms(flow.first_ms).to_be_bytes());
        out.extend(self.unix_ms(flow.last_ms).to_be_bytes());
        out.extend(flow.frames.to_be_bytes());
        out.extend(flow.network_bytes.to_be_bytes());
        out.extend(flow.bytes.to_be_bytes());
        match key.network {
            Network::None => {}
            Network::Ipv4 { source, destination } => {
                out.extend(source.octets());
                out.extend(destination.octets());
                write_ip(flow, out);
            }
            Network::Ipv6 { source, destination } => {
                out.extend(source.octets());
                out.extend(destination.octets());
                write_ip(flow, out);
            }
        }
        if self.is_sampled() {
            out.extend(self.settings.sampling.get().to_be_bytes());
        }
    }

    const fn unix_ms(&self, ms: u64) -> u64 {
        self.settings.unix_ms_at_zero.saturating_add(ms)
    }

    const fn is_sampled(&self) -> bool {
        self.settings.sampling.get() > 1
    }
}

/// How a record is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    Ipv4,
    Ipv6,
    Ethernet,
}

impl Layout {
    const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Ethernet];

    const fn of(flow: &Flow) -> Self {
        match flow.key.network {
            Network::None => Self::Ethernet,
            Network::Ipv4 { .. } => Self::Ipv4,
            Network::Ipv6 { .. } => Self::Ipv6,
        }
    }

    const fn template_id(self, is_sampled: bool) -> u16 {
        let place = match self {
            Self::Ipv4 => 0,
            Self::Ipv6 => 1,
            Self::Ethernet => 2,
        };
        TEMPLATE_ID_MIN + place + if is_sampled { 3 } else { 0 }
    }

    fn elements(self, is_sampled: bool) -> impl Iterator<Item = Element> {
        let (addresses, ip): (&[Element], &[Element]) = match self {
            Self::Ipv4 => (&ELEMENTS_IPV4, &ELEMENTS_IP),
            Self::Ipv6 => (&ELEMENTS_IPV6, &ELEMENTS_IP),
            Self::Ethernet => (&[], &[]),
        };
        let sampled: &[Element] = if is_sampled { &ELEMENTS_SAMPLED } else { &[] };
        [&ELEMENTS, addresses, ip, sampled].into_iter().flatten().copied()
    }

    fn record_len(self, is_sampled: bool) -> usize {
        self.elements(is_sampled).map(|(_, size)| usize::from(size)).sum()
    }
}

/// The number of a port in messages: the `ifIndex` of SNMP, where ports are counted from 1 and 0 is
/// none at all.
#[must_use]
pub const fn interface_index(port: Option<PortId>) -> u32 {
    match port {
        Some(port) => port.number().saturating_add(1),
        None => 0,
    }
}

/// Writes the header of a set whose records have `len` bytes.
fn write_set_header(id: u16, len: usize, out: &mut Vec<u8>) {
    out.extend(id.to_be_bytes());
    out.extend(length(SET_HEADER_LEN + len).to_be_bytes());
}

fn write_ip(flow: &Flow, out: &mut Vec<u8>) {
    out.extend([flow.key.protocol, flow.key.tos]);
    out.extend(flow.key.source_port.to_be_bytes());
    out.extend(flow.key.destination_port.to_be_bytes());
    out.push(flow.tcp_flags);
}

/// A length or a count as messages have it.
fn length(length: usize) -> u16 {
    u16::try_from(length).expect("a message is cut off at MESSAGE_MAX bytes")
}

#[cfg(test)]
mod tests;
