//! Health checks of a switch: probes that hosts send each other by their uplinks, and what follows.
//!
//! Nobody tells a virtual switch what the physical one carries. So each host asks by every uplink on
//! every VLAN, once small and once as large as the switch's MTU, and the others answer:
//!
//! ```text
//!  small   large   others heard
//!  answered answered     –        fine
//!  answered    –         –        the MTU on the way is smaller
//!     –        –        yes       one way: they are heard, and do not hear
//!     –        –        no        the VLAN is missing on the way
//! ```
//!
//! A probe is an Ethernet frame of a type that IEEE 802 leaves for local experiments (0x88B5, IEEE
//! Std 802, Local Experimental EtherType 1); it begins with four letters, because the type is
//! anybody's. An answer goes to the card that asked, in the VLAN in which it was asked and as long as
//! the question was.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::frame::MacAddress;

/// The type of probes.
pub const TYPE_PROBE: u16 = 0x88b5;

/// What a probe begins with: racknest, health, version 1.
const MAGIC: [u8; 4] = *b"rnH1";

/// The bytes of a probe without what fills it up: addresses, type, and what it says.
const PROBE_BYTES: usize = 14 + 4 + 1 + 8 + 8 + 4;

/// The smallest frame of Ethernet, without its check sum.
const FRAME_MIN: usize = 60;

/// A group that no protocol of a machine listens to: locally administered.
const EVERYBODY: MacAddress = MacAddress::new([0x03, 0x72, 0x6e, 0x48, 0x00, 0x01]);

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who sends it.
    pub from: MacAddress,
    /// Who is to get it; a group for a question.
    pub to: MacAddress,
    /// Whether it is an answer.
    pub is_answer: bool,
    /// The switch that is looked at. Uplinks of others do not answer.
    pub switch: u64,
    /// Which round of whoever asks it belongs to.
    pub round: u64,
    /// The VLAN in which it was sent; 0 for untagged.
    pub vlan: u16,
    /// How long its payload is, in bytes.
    pub payload: u16,
}

impl Probe {
    /// A question to whoever is on the VLAN, with a payload of so many bytes.
    #[must_use]
    pub const fn question(
        from: MacAddress,
        switch: u64,
        round: u64,
        vlan: u16,
        payload: u16,
    ) -> Self {
        Self { from, to: EVERYBODY, is_answer: false, switch, round, vlan, payload }
    }

    /// The answer of a card.
    #[must_use]
    pub const fn answer(&self, card: MacAddress) -> Self {
        Self { from: card, to: self.from, is_answer: true, ..*self }
    }

    /// The frame, without a tag.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let size = (14 + usize::from(self.payload)).max(FRAME_MIN);
        let mut frame = Vec::with_capacity(size);
        frame.extend(self.to.bytes());
        frame.extend(self.from.bytes());
        frame.extend(TYPE_PROBE.to_be_bytes());
        frame.extend(MAGIC);
        frame.push(u8::from(self.is_answer));
        frame.extend(self.switch.to_be_bytes());
        frame.extend(self.round.to_be_bytes());
        frame.extend(self.vlan.to_be_bytes());
        frame.extend(self.payload.to_be_bytes());
        frame.resize(size, 0);
        frame
    }

    /// The probe that a frame without tag is; `None` if it is none.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let bytes = frame.first_chunk::<PROBE_BYTES>()?;
        let address = |at: usize| bytes[at..].first_chunk::<6>().copied().map(MacAddress::new);
        let long = |at: usize| bytes[at..].first_chunk::<8>().copied().map(u64::from_be_bytes);
        let short = |at: usize| bytes[at..].first_chunk::<2>().copied().map(u16::from_be_bytes);
        let probe = Self {
            to: address(0)?,
            from: address(6)?,
            is_answer: bytes[18] == 1,
            switch: long(19)?,
            round: long(27)?,
            vlan: short(35)?,
            payload: short(37)?,
        };
        let is_it = short(12)? == TYPE_PROBE && bytes[14..18] == MAGIC && bytes[18] <= 1;
        // Whoever says another length than it has was cut on the way.
        let is_whole = frame.len() == (14 + usize::from(probe.payload)).max(FRAME_MIN);
        (is_it && is_whole && !probe.from.is_group()).then_some(probe)
    }
}

/// What an uplink of a host carries on a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Whatever the switch lets pass.
    Ok,
    /// Frames, and not the longest ones.
    MtuMismatch,
    /// What others say, and not what is said to them.
    OneWay,
    /// Nothing.
    VlanMissing,
}

/// An uplink and a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// Which of the host's uplinks.
    pub uplink: usize,
    /// The VLAN; 0 for untagged.
    pub vlan: u16,
}

/// What was heard in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    small: bool,
    large: bool,
    others: bool,
}

/// One round of questions of a host, on one switch.
#[derive(Debug)]
pub struct Round {
    number: u64,
    switch: u64,
    mtu: u16,
    lanes: BTreeMap<Lane, Heard>,
}

/// The payload of a small question: what fills the smallest frame.
const SMALL: u16 = 46;

impl Round {
    /// A round on these lanes of a switch with this MTU.
    #[must_use]
    pub fn new(number: u64, switch: u64, mtu: u16, lanes: impl IntoIterator<Item = Lane>) -> Self {
        let lanes = lanes.into_iter().map(|lane| (lane, Heard::default())).collect();
        Self { number, switch, mtu: mtu.max(SMALL), lanes }
    }

    /// What is to be sent, and where, by the card of each uplink.
    pub fn questions(
        &self,
        card: impl Fn(usize) -> MacAddress,
    ) -> impl Iterator<Item = (Lane, Probe)> {
        self.lanes.keys().flat_map(move |lane| {
            let card = card(lane.uplink);
            [SMALL, self.mtu].map(|payload| {
                let probe = Probe::question(card, self.switch, self.number, lane.vlan, payload);
                (*lane, probe)
            })
        })
    }

    /// A probe has come by an uplink, in a VLAN. Whether it is a question to be answered.
    pub fn handle(&mut self, uplink: usize, vlan: u16, probe: &Probe) -> bool {
        if probe.switch != self.switch || probe.vlan != vlan {
            return false;
        }
        let Some(heard) = self.lanes.get_mut(&Lane { uplink, vlan }) else { return false };
        if !probe.is_answer {
            heard.others = true;
            return true;
        }
        if probe.round == self.number {
            heard.small |= probe.payload == SMALL;
            heard.large |= probe.payload == self.mtu;
        }
        false
    }

    /// What follows, once answers have had their time.
    pub fn findings(&self) -> impl Iterator<Item = (Lane, Finding)> {
        self.lanes.iter().map(|(lane, heard)| {
            let finding = match heard {
                Heard { large: true, .. } => Finding::Ok,
                Heard { small: true, .. } => Finding::MtuMismatch,
                Heard { others: true, .. } => Finding::OneWay,
                Heard { .. } => Finding::VlanMissing,
            };
            (*lane, finding)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
    const THEIRS: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

    fn round() -> Round {
        let lanes = [10, 20, 30, 40].map(|vlan| Lane { uplink: 0, vlan });
        Round::new(7, 3, 9_000, lanes)
    }

    #[test]
    fn a_probe_is_read_as_it_is_written_and_nothing_else_is_one() {
        for payload in [46, 1_500, 9_000] {
            let probe = Probe::question(MINE, 3, 7, 20, payload);
            let frame = probe.frame();
            assert_eq!(frame.len(), 14 + usize::from(payload));
            assert_eq!(Probe::read(&frame), Some(probe));
            let answer = probe.answer(THEIRS);
            assert_eq!(Probe::read(&answer.frame()), Some(answer));
            assert_eq!((answer.to, answer.payload), (MINE, payload));
        }
        let frame = Probe::question(MINE, 3, 7, 20, 100).frame();
        assert_eq!(Probe::read(&frame[..frame.len() - 1]), None, "it was cut");
        for place in [6, 12, 14, 17, 18] {
            let mut other = frame.clone();
            other[place] ^= 0x81;
            assert_eq!(Probe::read(&other), None, "byte {place}");
        }
        for size in 0..frame.len() {
            assert_eq!(Probe::read(&frame[..size]), None);
        }
    }

    #[test]
    fn each_lane_is_asked_small_and_large() {
        let round = round();
        let questions = round.questions(|_| MINE).collect::<Vec<_>>();
        assert_eq!(questions.len(), 8);
        assert!(
            questions.iter().all(|(lane, probe)| probe.vlan == lane.vlan && probe.to.is_group())
        );
        let sizes = questions[..2].iter().map(|(_, probe)| probe.payload).collect::<Vec<_>>();
        assert_eq!(sizes, [46, 9_000]);
    }

    #[test]
    fn what_is_heard_says_what_an_uplink_carries() {
        let mut round = round();
        let questions = round.questions(|_| MINE).collect::<Vec<_>>();
        for (lane, probe) in questions {
            let comes_back = match lane.vlan {
                10 => true,
                20 => probe.payload == 46,
                _ => false,
            };
            if comes_back {
                assert!(!round.handle(lane.uplink, lane.vlan, &probe.answer(THEIRS)));
            }
        }
        let theirs = Probe::question(THEIRS, 3, 1, 30, 46);
        assert!(round.handle(0, 30, &theirs), "it is to be answered");
        let findings = round.findings().map(|(_, finding)| finding).collect::<Vec<_>>();
        let expected = [Finding::Ok, Finding::MtuMismatch, Finding::OneWay, Finding::VlanMissing];
        assert_eq!(findings, expected);
    }

    #[test]
    fn what_is_of_another_switch_round_or_vlan_counts_for_nothing() {
        let mut round = round();
        let question = Probe::question(MINE, 3, 7, 10, 9_000);
        let late = Probe { round: 6, ..question }.answer(THEIRS);
        let foreign = Probe { switch: 4, ..question }.answer(THEIRS);
        assert!(!round.handle(0, 10, &late) && !round.handle(0, 10, &foreign));
        assert!(!round.handle(0, 20, &question.answer(THEIRS)), "it came by a wrong VLAN");
        assert!(!round.handle(0, 10, &Probe::question(THEIRS, 4, 7, 10, 46)));
        assert!(!round.handle(1, 10, &Probe::question(THEIRS, 3, 7, 10, 46)), "no lane of ours");
        assert!(round.findings().all(|(_, finding)| finding == Finding::VlanMissing));
    }
}
