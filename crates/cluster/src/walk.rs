//! The way that a frame takes from one guest to another, asked from switch to switch.
//!
//! Each host answers for its own switch, by the code that carries the frames; between hosts is the
//! physical switch, which carries every VLAN between cables that are in. It is not asked: where it
//! believes for a while that a guest is where it was, a walk does not tell. A [`Walk`] says whom to
//! ask next and what, and puts the answers together:
//!
//! ```text
//! sender's host: a trace ──► receiver's host: its uplinks ──► a trace by each that is up ──► hops
//!       └── stays, or goes nowhere ─────────────────────────────────────────────────────────┘
//! ```

use alloc::borrow::ToOwned as _;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::wire::switching::{PortEnd, SwitchReport, TraceAnswer, TraceQuestion};
use crate::wire::{StreamReply, StreamRequest};

/// How the physical switch is called among the places of hops.
pub const PHYSICAL: &str = "physical switch";

/// A NIC of a guest, and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// The name of its host.
    pub host: String,
    /// What its host calls it.
    pub end: PortEnd,
    /// What people call it.
    pub name: String,
    /// Its address, six bytes.
    pub mac: [u8; 6],
}

/// One switch on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The switch: its host's name, or the physical one.
    pub place: String,
    /// Where the frame comes in.
    pub entry: String,
    /// Where it goes out; `None` if it does not.
    pub exit: Option<String>,
    /// The VLAN in the tag with which it goes out.
    pub tag: Option<u16>,
    /// Why it does not go out.
    pub dropped: Option<String>,
}

/// A question after the way of a frame.
#[derive(Debug)]
pub struct Walk {
    from: Station,
    to: Station,
    state: State,
    hops: Vec<Hop>,
}

#[derive(Debug)]
enum State {
    /// What the sender's host does with the frame.
    Leaving(Vec<u8>),
    /// By which of its NICs the frame can come to the receiver's host.
    Crossing {
        exit: String,
        frame: Vec<u8>,
    },
    /// What the receiver's host does with it, NIC by NIC.
    Entering(Entering),
    Done,
}

#[derive(Debug)]
struct Entering {
    exit: String,
    frame: Vec<u8>,
    nics: VecDeque<String>,
    /// The best answer so far, and by which NIC.
    answer: Option<(TraceAnswer, String)>,
}

impl Walk {
    /// Follows an ordinary frame from one NIC to another: IPv4 without anything in it.
    #[must_use]
    pub fn new(from: Station, to: Station) -> Self {
        let mut frame = [&to.mac[..], &from.mac, &[0x08, 0x00]].concat();
        frame.resize(60, 0);
        Self { from, to, state: State::Leaving(frame), hops: Vec::new() }
    }

    /// Which host is to be asked next, and what; `None` when the way is known.
    #[must_use]
    pub fn question(&self) -> Option<(String, StreamRequest)> {
        let trace = |end: &PortEnd, frame: &[u8]| {
            StreamRequest::Trace(TraceQuestion { from: end.clone(), frame: frame.to_vec() })
        };
        match &self.state {
            State::Leaving(frame) => Some((self.from.host.clone(), trace(&self.from.end, frame))),
            State::Crossing { .. } => Some((self.to.host.clone(), StreamRequest::Switch)),
            State::Entering(Entering { frame, nics, .. }) => {
                let nic = PortEnd::Uplink(nics.front()?.clone());
                Some((self.to.host.clone(), trace(&nic, frame)))
            }
            State::Done => None,
        }
    }

    /// Takes the answer to the last question; false if it answers something else.
    pub fn handle_reply(&mut self, reply: StreamReply) -> bool {
        match (core::mem::replace(&mut self.state, State::Done), reply) {
            (State::Leaving(_), StreamReply::Trace(answer)) => self.leave(&answer),
            (State::Crossing { exit, frame }, StreamReply::Switch(report)) => {
                let nics = nics_up(&report);
                self.enter(Entering { exit, frame, nics, answer: None });
            }
            (State::Entering(mut entering), StreamReply::Trace(answer)) => {
                entering.take(answer, &self.to.end);
                self.enter(entering);
            }
            (State::Leaving(_) | State::Crossing { .. } | State::Entering(_) | State::Done, _) => {
                return false;
            }
        }
        true
    }

    /// The way, as far as it is known.
    #[must_use]
    pub fn into_hops(self) -> Vec<Hop> {
        self.hops
    }

    fn leave(&mut self, answer: &TraceAnswer) {
        let (place, entry) = (self.from.host.clone(), self.from.name.clone());
        if self.from.host == self.to.host {
            self.hops.push(self.last_hop(entry, answer));
            return;
        }
        let way_out = answer.sent.iter().find_map(|(end, frame)| match end {
            PortEnd::Uplink(nic) => Some((nic, frame)),
            PortEnd::Guest { .. } => None,
        });
        let Some((nic, frame)) = way_out else {
            let dropped = Some(way_out_refusal(answer));
            self.hops.push(Hop { place, entry, exit: None, tag: None, dropped });
            return;
        };
        let exit = format!("{place}/{nic}");
        let (tag, dropped) = (tag(frame), None);
        self.hops.push(Hop { place, entry, exit: Some(exit.clone()), tag, dropped });
        self.state = State::Crossing { exit, frame: frame.clone() };
    }

    /// Goes on to the next NIC of the receiver's host, or ends.
    fn enter(&mut self, entering: Entering) {
        if !entering.nics.is_empty() {
            self.state = State::Entering(entering);
            return;
        }
        let Entering { exit, frame, answer, .. } = entering;
        let host = self.to.host.clone();
        let (answer, entry) = match answer {
            Some((answer, nic)) => (answer, format!("{host}/{nic}")),
            None => {
                let dropped = Some("link_down".to_owned());
                (TraceAnswer { dropped, sent: vec![], refused: vec![] }, host)
            }
        };
        self.hops.push(Hop {
            place: PHYSICAL.to_owned(),
            entry: exit,
            exit: Some(entry.clone()),
            tag: tag(&frame),
            dropped: None,
        });
        self.hops.push(self.last_hop(entry, &answer));
    }

    /// The receiver's host.
    fn last_hop(&self, entry: String, answer: &TraceAnswer) -> Hop {
        let sent = answer.sent.iter().find(|(end, _)| *end == self.to.end);
        Hop {
            place: self.to.host.clone(),
            entry,
            exit: sent.map(|_| self.to.name.clone()),
            tag: sent.and_then(|(_, frame)| tag(frame)),
            dropped: sent.is_none().then(|| refusal(answer, &self.to.end)),
        }
    }
}

impl Entering {
    /// Takes the answer for the first of the NICs that were not asked for yet.
    fn take(&mut self, answer: TraceAnswer, receiver: &PortEnd) {
        let Some(nic) = self.nics.pop_front() else { return };
        if answer.sent.iter().any(|(end, _)| end == receiver) {
            self.nics.clear();
            self.answer = Some((answer, nic));
            return;
        }
        // The NIC that its team does not use says nothing of the receiver.
        let is_other = refusal(&answer, receiver) == "other_uplink";
        if !is_other || self.answer.is_none() {
            self.answer = Some((answer, nic));
        }
    }
}

fn nics_up(report: &SwitchReport) -> VecDeque<String> {
    let up = report.ports.iter().filter(|port| port.is_up);
    up.filter_map(|port| match &port.end {
        PortEnd::Uplink(nic) => Some(nic.clone()),
        PortEnd::Guest { .. } => None,
    })
    .collect()
}

/// Why an end does not get a frame.
fn refusal(answer: &TraceAnswer, end: &PortEnd) -> String {
    let refused = answer.refused.iter().find(|(other, _)| other == end).map(|(_, why)| why.clone());
    let refused = refused.or_else(|| answer.dropped.clone());
    refused.unwrap_or_else(|| "no_receiver".to_owned())
}

/// Why a frame does not leave its host.
fn way_out_refusal(answer: &TraceAnswer) -> String {
    let uplink = answer.refused.iter().find(|(end, _)| matches!(end, PortEnd::Uplink(_)));
    let uplink = uplink.map(|(_, why)| why.clone());
    answer.dropped.clone().or(uplink).unwrap_or_else(|| "no_receiver".to_owned())
}

/// The VLAN in a frame's tag.
fn tag(frame: &[u8]) -> Option<u16> {
    let tag = frame.get(12..16)?;
    (tag.starts_with(&[0x81, 0])).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff)
}
