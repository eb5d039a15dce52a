//! Everything that reads what guests send, and what must hold of it whatever they send.

use std::num::NonZeroU32;

use racknest_switch::flow::{ExportSettings, Exporter, Flow, FlowCache, FlowKey, FlowLimits};
use racknest_switch::frame::Tag;
use racknest_switch::guard::{ArpPacket, Guard};
use racknest_switch::neighbour::{self, Neighbours};
use racknest_switch::offload::{
    HEADERS_MAX, Offload, SEGMENTS_MAX, check, complete_checksum, segment, wire_frames, wire_size,
};
use racknest_switch::port::{PrivatePart, Security, StormLimits};
use racknest_switch::rate::Shaping;
use racknest_switch::snooping::message::Message;
use racknest_switch::snooping::{GROUPS_MAX, Snooper};
use racknest_switch::team::{Team, Teaming};
use racknest_switch::{
    Egress, Frame, MacAddress, PortConfig, PortId, PortMode, PortRole, Switch, VlanId, VlanSet,
};
use racknest_types::rng::Rng;

use crate::corpus::CARDS;

const ADDRESSES_MAX: usize = 500;
const FLOWS_MAX: usize = 300;

/// A short word for what came of an input: who answered how.
pub(crate) type Answer = Vec<String>;

pub(crate) struct Targets {
    now_ms: u64,
    switch: Switch,
    ports: Vec<PortId>,
    flows: FlowCache,
    exporter: Exporter,
    neighbours: Neighbours,
    scratch: Vec<u8>,
}

fn vlan(number: u16) -> VlanId {
    VlanId::new(number).expect("small")
}

/// A port of each kind, with every policy that looks into frames.
fn switch(seed: u64) -> (Switch, Vec<PortId>) {
    let mut switch = Switch::new(ADDRESSES_MAX, seed);
    switch.snoop(Some(Snooper::default()));
    switch.divide([(vlan(11), vlan(10)), (vlan(12), vlan(10))]);
    let uplink = PortConfig::new(PortRole::Uplink, PortMode::trunk());
    let uplinks = vec![switch.plug(0, uplink.clone()), switch.plug(0, uplink)];
    let private = |part| PortMode::Private { primary: vlan(10), part };
    let modes = [
        PortMode::Access(vlan(0)),
        PortMode::Access(vlan(10)),
        PortMode::Access(vlan(20)),
        PortMode::trunk(),
        PortMode::Trunk { native: vlan(20), allowed: VlanSet::from_iter([vlan(10), vlan(20)]) },
        private(PrivatePart::Promiscuous),
        private(PrivatePart::Isolated(vlan(11))),
        private(PrivatePart::Community(vlan(12))),
    ];
    let mut ports = uplinks.clone();
    for (number, mode) in (0_u8..).zip(modes) {
        let card = MacAddress::new(CARDS[usize::from(number % 2)]);
        let teaming = [Teaming::IpHash, Teaming::SourceMac][usize::from(number % 2)];
        let shaping = Shaping { average: 100_000, peak: 200_000, burst: 5_000 };
        ports.push(switch.plug(
            0,
            PortConfig {
                security: Security {
                    promiscuous: number % 3 == 0,
                    mac_changes: number % 3 == 1,
                    forged_transmits: number % 2 == 0,
                    mac_learning: number % 4 == 0,
                },
                mtu: if number % 2 == 0 { 9_000 } else { 1_500 },
                storm: StormLimits { broadcast: Some(100), multicast: Some(100), unknown: None },
                shaping_out: (number == 4).then_some(shaping),
                team: Some(Team::new(teaming, uplinks.clone(), vec![], true).into()),
                guard: Guard { is_on: number == 1, v4: vec![[10, 0, 0, 1].into()], v6: vec![] },
                ..PortConfig::new(PortRole::Guest(card), mode)
            },
        ));
    }
    ports.push(switch.add_port(PortMode::trunk()));
    (switch, ports)
}

impl Targets {
    pub(crate) fn new(seed: u64) -> Self {
        let (switch, ports) = switch(seed);
        let limits = FlowLimits { entries_max: FLOWS_MAX, ..FlowLimits::default() };
        let sampling = NonZeroU32::MIN;
        let settings = ExportSettings { domain: 1, unix_ms_at_zero: 0, sampling };
        Self {
            now_ms: 0,
            switch,
            ports,
            flows: FlowCache::new(limits),
            exporter: Exporter::new(settings),
            neighbours: Neighbours::default(),
            scratch: Vec::new(),
        }
    }

    /// Tries an input, which is an offload header and a frame. What came of it, in short.
    pub(crate) fn try_all(&mut self, rng: &mut Rng, bytes: &[u8]) -> Answer {
        self.now_ms += rng.below(50);
        let mut answer = Answer::new();
        let (header, bytes) = bytes.split_at(bytes.len().min(Offload::LEN));
        let offload = Offload::read(header);
        answer.push(word(&offload.as_ref().err()));
        if let Ok(offload) = offload {
            answer.push(self.try_offload(&offload, bytes));
        }
        let place = usize::try_from(rng.below(u64::try_from(self.ports.len()).expect("small")));
        let port = self.ports[place.expect("small")];
        answer.push(self.try_switch(port, bytes));
        match Frame::parse(bytes) {
            Ok(frame) => self.try_readers(port, &frame, &mut answer),
            Err(error) => answer.push(word(&error)),
        }
        answer
    }

    fn try_switch(&mut self, port: PortId, bytes: &[u8]) -> String {
        let mut out: Vec<Egress> = Vec::new();
        let said = self.switch.trace(self.now_ms, port, bytes);
        let verdict = self.switch.forward(self.now_ms, port, bytes, &mut out);
        assert_eq!((said.verdict, &said.egress), (verdict, &out));
        let mode = |port| self.switch.config(port).expect("it is there").mode.clone();
        let own = Frame::parse(bytes).ok().and_then(|frame| mode(port).classify(frame.tag()));
        for egress in &out {
            assert_ne!(egress.port, port);
            let mut room = [0; 4];
            let sent = egress.tag.pieces(bytes, &mut room).concat();
            assert_eq!(sent.len(), egress.tag.size_after(bytes.len()));
            let read = Frame::parse(&sent).expect("what comes out is a frame");
            // A part of a private VLAN is heard in it, and answers from its own.
            match mode(egress.port) {
                PortMode::Private { .. } => assert!(!matches!(read.tag(), Tag::Vlan(_))),
                mode @ (PortMode::Access(_) | PortMode::Trunk { .. }) => {
                    assert_eq!(mode.classify(read.tag()), own);
                }
            }
        }
        format!("{verdict:?} {}", out.len())
    }

    fn try_readers(&mut self, port: PortId, frame: &Frame<'_>, answer: &mut Answer) {
        let message = Message::parse(frame);
        answer.push(match &message {
            Ok(None) => String::new(),
            Ok(Some(Message::Records(records))) => {
                format!("records {}", records.clone().count().min(3))
            }
            Ok(Some(Message::Query { .. })) => "query".to_owned(),
            Ok(Some(Message::Join(_))) => "join".to_owned(),
            Ok(Some(Message::Leave(_))) => "leave".to_owned(),
            Err(error) => word(error),
        });
        let key = FlowKey::of(vlan(1), port, frame);
        assert_eq!(key, FlowKey::of(vlan(1), port, frame));
        self.flows.observe(self.now_ms, vlan(1), port, frame, frame.size(), None);
        answer.push(word(&key.network));
        let heard = neighbour::parse(frame);
        answer.push(word(&heard.as_ref().map(|heard| heard.as_ref().err())));
        if let Some(Ok(heard)) = heard {
            self.neighbours.hear(self.now_ms, port, heard);
        }
        let guard = Guard { is_on: true, v4: vec![[10, 0, 0, 1].into()], v6: vec![] };
        answer.push(word(&guard.permits(frame, frame.source())));
        answer.push(word(&ArpPacket::read(frame.payload()).is_some()));
    }

    fn try_offload(&mut self, offload: &Offload, bytes: &[u8]) -> String {
        let (mut count, mut longest, mut total) = (0, 0, 0);
        let result = segment(offload, bytes, &mut self.scratch, |sent| {
            count += 1;
            longest = longest.max(sent.len());
            total += sent.len();
        });
        assert_eq!(check(offload, bytes), result.map(|_| ()));
        if let Ok(frames) = result {
            assert_eq!((frames, count), (count, wire_frames(offload, bytes)));
            assert_eq!(longest, wire_size(offload, bytes));
            assert!(count <= SEGMENTS_MAX && total <= bytes.len() + count * HEADERS_MAX);
        } else {
            assert_eq!(count, 0);
        }
        let mut completed = bytes.to_vec();
        let completion = complete_checksum(offload, &mut completed);
        assert!(completion.is_ok() || completed == bytes);
        let back = Offload::read(&offload.write()).expect("what is written can be read");
        assert_eq!(back, *offload);
        format!("{} {}", word(&result.err()), count.min(3))
    }

    /// Nothing has grown beyond its limit, and what was counted can be told.
    pub(crate) fn assert_bounded(&mut self) {
        let known = self.switch.table().size();
        assert!(known <= ADDRESSES_MAX + self.ports.len(), "{known} cards");
        assert!(self.switch.snooper().is_some_and(|snooper| snooper.size() <= GROUPS_MAX));
        assert!(self.flows.size() <= FLOWS_MAX);
        let mut ended: Vec<Flow> = Vec::new();
        self.flows.due(u64::MAX, &mut ended);
        let (message, told) = self.exporter.message(1, &ended, true, 1_400);
        assert!(message.len() <= 1_400 && told <= ended.len());
        self.neighbours.expire(self.now_ms);
        self.switch.handle_timeout(self.now_ms);
    }
}

/// How a value begins: which of several it is, without what is in it.
fn word(value: &impl core::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let digits = |c: char| c.is_ascii_digit();
    text.split(digits).next().unwrap_or_default().chars().take(60).collect()
}
