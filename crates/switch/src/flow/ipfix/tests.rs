//! Messages read back by a decoder that knows RFC 7011 and nothing of the writer, and one by hand.

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::flow::FlowKey;
use crate::flow::tests::{port, vlan};
use crate::frame::MacAddress;
use crate::vlan::VlanId;

const UNIX_MS_AT_ZERO: u64 = 1_700_000_000_000;
const UNIX_S: u32 = 1_700_000_003;

/// What a record says: the bytes of each information element.
type Record = BTreeMap<u16, Vec<u8>>;

/// A collector: it keeps the templates that it was sent.
#[derive(Default)]
struct Collector {
    templates: BTreeMap<u16, Vec<(u16, usize)>>,
}

/// What a message said.
#[derive(Debug, Default, PartialEq)]
struct Message {
    unix_s: u32,
    sequence: u32,
    domain: u32,
    templates: Vec<u16>,
    records: Vec<(u16, Record)>,
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }
}

impl Collector {
    fn read(&mut self, bytes: &[u8]) -> Message {
        let mut reader = Reader(bytes);
        assert_eq!(reader.u16(), 10, "version");
        assert_eq!(usize::from(reader.u16()), bytes.len(), "length");
        let mut message = Message {
            unix_s: reader.u32(),
            sequence: reader.u32(),
            domain: reader.u32(),
            ..Message::default()
        };
        while !reader.0.is_empty() {
            let id = reader.u16();
            let len = usize::from(reader.u16());
            assert!(len > 4, "an empty set");
            let set = Reader(reader.take(len - 4));
            match id {
                2 => self.read_templates(set, &mut message),
                256.. => self.read_records(id, set, &mut message),
                _ => panic!("set {id}"),
            }
        }
        message
    }

    fn read_templates(&mut self, mut set: Reader<'_>, message: &mut Message) {
        while !set.0.is_empty() {
            let id = set.u16();
            let count = set.u16();
            let elements = (0..count).map(|_| (set.u16(), usize::from(set.u16()))).collect();
            assert_eq!(self.templates.insert(id, elements), None, "template {id} twice");
            message.templates.push(id);
        }
    }

    fn read_records(&self, id: u16, mut set: Reader<'_>, message: &mut Message) {
        let template = &self.templates[&id];
        while !set.0.is_empty() {
            let mut record = Record::new();
            for &(element, len) in template {
                assert_eq!(record.insert(element, set.take(len).to_vec()), None, "{element} twice");
            }
            message.records.push((id, record));
        }
    }
}

/// The record that a flow ought to make, and its template.
fn expected(flow: &Flow, settings: &ExportSettings) -> (u16, Record) {
    let key = &flow.key;
    let mut record = Record::new();
    let mut put =
        |element: u16, bytes: &[u8]| assert!(record.insert(element, bytes.to_vec()).is_none());
    put(56, &key.source_mac.bytes());
    put(80, &key.destination_mac.bytes());
    put(58, &key.vlan.get().to_be_bytes());
    put(256, &key.ether_type.to_be_bytes());
    put(10, &(key.ingress.number() + 1).to_be_bytes());
    put(14, &flow.egress.map_or(0, |port| port.number() + 1).to_be_bytes());
    put(152, &(settings.unix_ms_at_zero + flow.first_ms).to_be_bytes());
    put(153, &(settings.unix_ms_at_zero + flow.last_ms).to_be_bytes());
    put(2, &flow.frames.to_be_bytes());
    put(1, &flow.network_bytes.to_be_bytes());
    put(352, &flow.bytes.to_be_bytes());
    let mut id = match key.network {
        Network::Ipv4 { source, destination } => {
            put(8, &source.octets());
            put(12, &destination.octets());
            256
        }
        Network::Ipv6 { source, destination } => {
            put(27, &source.octets());
            put(28, &destination.octets());
            257
        }
        Network::None => 258,
    };
    if key.network != Network::None {
        put(4, &[key.protocol]);
        put(5, &[key.tos]);
        put(7, &key.source_port.to_be_bytes());
        put(11, &key.destination_port.to_be_bytes());
        put(6, &[flow.tcp_flags]);
    }
    if settings.sampling.get() > 1 {
        put(34, &settings.sampling.get().to_be_bytes());
        id += 3;
    }
    (id, record)
}

fn settings(sampling: u32) -> ExportSettings {
    let sampling = NonZeroU32::new(sampling).unwrap();
    ExportSettings { domain: 7, unix_ms_at_zero: UNIX_MS_AT_ZERO, sampling }
}

fn flow(network: Network) -> Flow {
    Flow {
        key: FlowKey {
            source_port: 40_000,
            destination_port: 443,
            network,
            protocol: 6,
            tos: 0xb8,
            source_mac: MacAddress::new([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddress::new([2, 0, 0, 0, 0, 2]),
            ether_type: 0x0800,
            vlan: vlan(10),
            ingress: port(0),
        },
        frames: 10,
        bytes: 1_640,
        network_bytes: 1_500,
        first_ms: 1_000,
        last_ms: 2_500,
        tcp_flags: 0x1b,
        egress: Some(port(1)),
    }
}

fn ipv4() -> Network {
    Network::Ipv4 { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into() }
}

fn ipv6() -> Network {
    let address = |last: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last].into();
    Network::Ipv6 { source: address(1), destination: address(2) }
}

/// One message as RFC 7011 wants it: 3.1 the header, 3.3.2 the headers of sets, 3.4.1 templates.
/// With two spaces: a field of a header. In brackets: which information element a field is.
const GOLDEN: &[&str] = &[
    "000a 012f 6553f103 00000000 00000007", // version 10, 303 bytes, time, sequence, domain
    "0002 00cc",                            // the templates: 204 bytes
    "0100 0012",                            // template 256: 18 fields
    "0038 0006  0050 0006  003a 0002  0100 0002", // addresses, VLAN, type
    "000a 0004  000e 0004  0098 0008  0099 0008", // ingress, egress, start, end
    "0002 0008  0001 0008  0160 0008",      // packets, octets, octets of layer 2
    "0008 0004  000c 0004",                 // IPv4 source, destination
    "0004 0001  0005 0001  0007 0002  000b 0002  0006 0001", // protocol, class, ports, flags
    "0101 0012",                            // template 257: 18 fields
    "0038 0006  0050 0006  003a 0002  0100 0002",
    "000a 0004  000e 0004  0098 0008  0099 0008",
    "0002 0008  0001 0008  0160 0008",
    "001b 0010  001c 0010", // IPv6 source, destination
    "0004 0001  0005 0001  0007 0002  000b 0002  0006 0001",
    "0102 000b", // template 258: 11 fields
    "0038 0006  0050 0006  003a 0002  0100 0002",
    "000a 0004  000e 0004  0098 0008  0099 0008",
    "0002 0008  0001 0008  0160 0008",
    "0100 0053",                   // records of template 256: 83 bytes
    "020000000001 020000000002",   // from card, to card
    "000a 0800 00000001 00000002", // VLAN 10, IPv4, in by port-0, out by port-1
    "0000018bcfe56be8",            // 1,700,000,001,000 ms
    "0000018bcfe571c4",            // 1,700,000,002,500 ms
    "000000000000000a",            // 10 packets
    "00000000000005dc",            // 1,500 bytes of IP
    "0000000000000668",            // 1,640 bytes of Ethernet
    "0a000001 0a000002",           // 10.0.0.1, 10.0.0.2
    "06 b8 9c40 01bb 1b",          // TCP, expedited, 40,000 to 443; SYN, ACK, PSH, FIN
];

#[test]
fn a_message_has_the_bytes_of_the_rfc() {
    let mut exporter = Exporter::new(settings(1));
    let (message, flows) = exporter.message(UNIX_S, &[flow(ipv4())], true, 1_400);
    let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN.concat().replace(' ', ""));
    assert_eq!(flows, 1);
}

#[test]
fn templates_are_sent_when_asked_for_and_are_no_records() {
    let mut exporter = Exporter::new(settings(1));
    let mut collector = Collector::default();
    let (bytes, _) = exporter.message(UNIX_S, &[], true, 1_400);
    assert_eq!(collector.read(&bytes).templates, [256, 257, 258]);
    let (bytes, flows) = exporter.message(UNIX_S + 1, &[], false, 1_400);
    assert_eq!((bytes.len(), flows), (16, 0));
    let message = collector.read(&bytes);
    let empty = Message { unix_s: UNIX_S + 1, domain: 7, ..Message::default() };
    assert_eq!(message, empty);
}

#[test]
fn sampled_records_have_templates_of_their_own() {
    let (bytes, _) = Exporter::new(settings(64)).message(UNIX_S, &[], true, 1_400);
    let mut collector = Collector::default();
    assert_eq!(collector.read(&bytes).templates, [259, 260, 261]);
    assert_eq!(collector.templates[&261].last(), Some(&(34, 4)));
}

#[test]
fn the_sequence_is_the_records_before_and_starts_again_at_its_end() {
    let mut exporter = Exporter::new(settings(1));
    let mut collector = Collector::default();
    exporter.sequence = u32::MAX - 1;
    let flows = vec![flow(ipv4()); 3];
    for (sequence, with_templates) in [(u32::MAX - 1, true), (1, false), (4, false)] {
        let (bytes, _) = exporter.message(UNIX_S, &flows, with_templates, 1_400);
        assert_eq!(collector.read(&bytes).sequence, sequence);
    }
}

#[test]
fn the_least_message_holds_the_templates_and_the_longest_record() {
    let flows = [flow(ipv6()), flow(ipv6())];
    let (bytes, sent) = Exporter::new(settings(2)).message(UNIX_S, &flows[..1], true, 0);
    assert_eq!((bytes.len(), sent), (343, 1));
    let (bytes, sent) = Exporter::new(settings(2)).message(UNIX_S, &flows, true, 0);
    assert_eq!((bytes.len(), sent), (450, 2));
}

#[test]
fn a_message_is_never_longer_than_its_length_can_say() {
    let flows = vec![flow(Network::None); 1_000];
    let (bytes, sent) = Exporter::new(settings(1)).message(UNIX_S, &flows, false, usize::MAX);
    // 64 bytes each, behind 20 bytes of headers.
    assert_eq!((bytes.len(), sent), (64_020, 1_000));
    let flows = vec![flow(Network::None); 2_000];
    let (bytes, sent) = Exporter::new(settings(1)).message(UNIX_S, &flows, false, usize::MAX);
    assert_eq!((bytes.len(), sent), (20 + 64 * 1_023, 1_023));
}

#[test]
fn a_flow_that_just_fits_is_taken() {
    let flows = vec![flow(Network::None); 20];
    for (size_max, taken) in [(20 + 64 * 8, 8), (20 + 64 * 9 - 1, 8), (20 + 64 * 9, 9)] {
        let mut exporter = Exporter::new(settings(1));
        assert_eq!(exporter.message(UNIX_S, &flows, false, size_max).1, taken, "{size_max}");
    }
}

#[test]
fn times_follow_a_clock_that_was_set() {
    let mut exporter = Exporter::new(settings(1));
    exporter.set_unix_ms_at_zero(5);
    let mut collector = Collector::default();
    let (bytes, _) = exporter.message(UNIX_S, &[flow(ipv4())], true, 1_400);
    let record = &collector.read(&bytes).records[0].1;
    assert_eq!(record[&152], 1_005_u64.to_be_bytes());
    assert_eq!(record[&153], 2_505_u64.to_be_bytes());
    // A time beyond all times stays the last one.
    exporter.set_unix_ms_at_zero(u64::MAX);
    let (bytes, _) = exporter.message(UNIX_S, &[flow(ipv4())], false, 1_400);
    assert_eq!(collector.read(&bytes).records[0].1[&152], u64::MAX.to_be_bytes());
}

fn any_network() -> impl Strategy<Value = Network> {
    prop_oneof![
        Just(Network::None),
        any::<[[u8; 4]; 2]>()
            .prop_map(|[a, b]| Network::Ipv4 { source: a.into(), destination: b.into() }),
        any::<[[u8; 16]; 2]>()
            .prop_map(|[a, b]| Network::Ipv6 { source: a.into(), destination: b.into() }),
    ]
}

prop_compose! {
    fn any_key()(
        network in any_network(),
        [source_port, destination_port, ether_type] in any::<[u16; 3]>(),
        [protocol, tos] in any::<[u8; 2]>(),
        [source_mac, destination_mac] in any::<[[u8; 6]; 2]>(),
        number in 0_u16..=VlanId::MAX,
        ingress in 0_u32..40,
    ) -> FlowKey {
        FlowKey {
            source_port,
            destination_port,
            network,
            protocol,
            tos,
            source_mac: MacAddress::new(source_mac),
            destination_mac: MacAddress::new(destination_mac),
            ether_type,
            vlan: vlan(number),
            ingress: port(ingress),
        }
    }
}

prop_compose! {
    fn any_flow()(
        key in any_key(),
        [frames, bytes, network_bytes] in any::<[u64; 3]>(),
        [first_ms, last_ms] in any::<[u32; 2]>(),
        tcp_flags in any::<u8>(),
        egress in prop::option::of(0_u32..40),
    ) -> Flow {
        Flow {
            key,
            frames,
            bytes,
            network_bytes,
            first_ms: first_ms.into(),
            last_ms: last_ms.into(),
            tcp_flags,
            egress: egress.map(port),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_collector_reads_every_flow_once(
        flows in prop::collection::vec(any_flow(), 0..60),
        sampling in 1_u32..4,
        size_max in 0_usize..2_000,
        templates_again in any::<bool>(),
    ) {
        let settings = settings(sampling);
        let mut exporter = Exporter::new(settings);
        let mut collector = Collector::default();
        let (mut rest, mut is_first) = (&flows[..], true);
        while is_first || !rest.is_empty() {
            let with_templates = is_first || templates_again;
            if with_templates {
                collector.templates.clear();
            }
            let (bytes, sent) = exporter.message(UNIX_S, rest, with_templates, size_max);
            prop_assert!(bytes.len() <= size_max.max(MESSAGE_MIN));
            prop_assert!(sent > 0 || rest.is_empty());
            let message = collector.read(&bytes);
            prop_assert_eq!((message.unix_s, message.domain), (UNIX_S, 7));
            prop_assert_eq!(usize::try_from(message.sequence).unwrap(), flows.len() - rest.len());
            prop_assert_eq!(message.templates.len(), if with_templates { 3 } else { 0 });
            // Records of one layout stand together, in their order.
            let sent_flows = rest[..sent].iter();
            let mut records: Vec<_> = sent_flows.map(|flow| expected(flow, &settings)).collect();
            records.sort_by_key(|&(id, _)| id);
            prop_assert_eq!(message.records, records);
            if let Some(next) = rest.get(sent) {
                let len: usize = expected(next, &settings).1.values().map(Vec::len).sum();
                let with_next = bytes.len() + SET_HEADER_LEN + len;
                prop_assert!(with_next > size_max.max(MESSAGE_MIN), "room for one more");
            }
            (rest, is_first) = (&rest[sent..], false);
        }
    }
}
