//! Teaming: by which of several uplinks a guest's frames leave.
//!
//! Every policy picks one of the uplinks in use for a frame. In use are those of the active list
//! that work; for each that does not, the next standby that works takes its place. Whether a link
//! works is what its port says (link state), nothing is sent to find out.
//!
//! Without failback an uplink that comes back waits behind those that took over, so that a link that
//! flaps moves its guests once.

use alloc::vec::Vec;

use crate::frame::{Frame, MacAddress};
use crate::port::PortId;

/// The type of IPv4, of which addresses are part of the hash.
const TYPE_IPV4: u16 = 0x0800;
/// The type of IPv6.
const TYPE_IPV6: u16 = 0x86dd;

/// How an uplink is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Teaming {
    /// By the port that the frame comes from: a guest stays on one uplink.
    #[default]
    OriginatingPort,
    /// By the card that sends the frame.
    SourceMac,
    /// By the network addresses of the frame: one guest can use several uplinks. The other end must
    /// treat the uplinks as one link.
    IpHash,
    /// The first of the list that works.
    Explicit,
}

/// The uplinks of a port group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// How one is picked.
    pub teaming: Teaming,
    /// Those that are used.
    pub active: Vec<PortId>,
    /// Those that take over, in this order.
    pub standby: Vec<PortId>,
    /// Whether one that works again takes its place back at once.
    pub failback: bool,
    in_use: Vec<PortId>,
}

impl Team {
    /// A team of which nothing is known to be down.
    #[must_use]
    pub fn new(
        teaming: Teaming,
        active: Vec<PortId>,
        standby: Vec<PortId>,
        failback: bool,
    ) -> Self {
        let in_use = active.clone();
        Self { teaming, active, standby, failback, in_use }
    }

    /// The uplinks in use, in order.
    #[must_use]
    pub fn in_use(&self) -> &[PortId] {
        &self.in_use
    }

    /// Takes in which uplinks work; true if others are in use now.
    pub fn update(&mut self, is_up: impl Fn(PortId) -> bool) -> bool {
        let places = self.active.len();
        let is_member = |port: &PortId| self.active.contains(port) || self.standby.contains(port);
        let mut in_use = Vec::with_capacity(places);
        if !self.failback {
            // Who is in use and works stays.
            let kept = self.in_use.iter().filter(|port| is_member(port) && is_up(**port));
            in_use.extend(kept.take(places));
        }
        for port in self.active.iter().chain(&self.standby) {
            if in_use.len() < places && is_up(*port) && !in_use.contains(port) {
                in_use.push(*port);
            }
        }
        if self.failback || self.teaming != Teaming::Explicit {
            // One order for all, so that the same hash means the same uplink.
            let rank = |port: &PortId| {
                self.active.iter().chain(&self.standby).position(|other| other == port)
            };
            in_use.sort_by_key(rank);
        }
        let is_other = in_use != self.in_use;
        self.in_use = in_use;
        is_other
    }

    /// The uplink for frames of this card, which come from this port.
    #[must_use]
    pub fn pick(
        &self,
        port: PortId,
        card: MacAddress,
        frame: Option<&Frame<'_>>,
    ) -> Option<PortId> {
        let number = match self.teaming {
            Teaming::Explicit => 0,
            Teaming::OriginatingPort => u64::from(port.number()),
            Teaming::SourceMac => sum(&card.bytes()),
            Teaming::IpHash => frame.map_or(0, network_sum),
        };
        let count = u64::try_from(self.in_use.len()).ok().filter(|count| *count > 0)?;
        let place = usize::try_from(number % count).ok()?;
        self.in_use.get(place).copied()
    }

    /// Whether frames may come to a card behind this port by this uplink. Each card has one, so that
    /// what was flooded to several uplinks comes once; with [`Teaming::IpHash`] the other end sends
    /// by one only.
    #[must_use]
    pub fn takes(&self, uplink: PortId, port: PortId, card: MacAddress, is_group: bool) -> bool {
        match (self.teaming, is_group) {
            (Teaming::IpHash, false) => self.in_use.contains(&uplink),
            (Teaming::IpHash, true) => self.in_use.first() == Some(&uplink),
            (Teaming::OriginatingPort | Teaming::SourceMac | Teaming::Explicit, _) => {
                self.pick(port, card, None) == Some(uplink)
            }
        }
    }
}

/// A number from the addresses of an IP packet; from its cards if it is none.
fn network_sum(frame: &Frame<'_>) -> u64 {
    let payload = frame.payload();
    let addresses = match frame.ether_type() {
        TYPE_IPV4 => payload.get(12..20),
        TYPE_IPV6 => payload.get(8..40),
        _ => None,
    };
    match addresses {
        Some(addresses) => sum(addresses),
        None => sum(&frame.source().bytes()) ^ sum(&frame.destination().bytes()),
    }
}

/// The same for both directions, as the bytes are mixed without regard to their order by half.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum ^ u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u32) -> PortId {
        PortId::from_number(number)
    }

    fn team(teaming: Teaming, failback: bool) -> Team {
        Team::new(teaming, [port(1), port(2)].into(), [port(3)].into(), failback)
    }

    fn up(down: &[u32]) -> impl Fn(PortId) -> bool {
        move |it| !down.contains(&it.number())
    }

    fn numbers(team: &Team) -> Vec<u32> {
        team.in_use().iter().map(|port| port.number()).collect()
    }

    #[test]
    fn a_standby_takes_over_and_gives_back() {
        let mut team = team(Teaming::OriginatingPort, true);
        assert!(!team.update(up(&[])), "nothing is down");
        assert!(team.update(up(&[1])));
        assert_eq!(numbers(&team), [2, 3]);
        assert!(team.update(up(&[1, 2, 3])));
        assert_eq!(team.pick(port(9), MacAddress::BROADCAST, None), None);
        team.update(up(&[]));
        assert_eq!(numbers(&team), [1, 2]);
    }

    #[test]
    fn without_failback_who_took_over_stays() {
        let mut team = Team::new(Teaming::Explicit, [port(1)].into(), [port(2)].into(), false);
        team.update(up(&[1]));
        team.update(up(&[]));
        assert_eq!(numbers(&team), [2]);
        team.update(up(&[2]));
        assert_eq!(numbers(&team), [1]);
    }

    #[test]
    fn each_policy_spreads_by_its_own_mark() {
        let card = |number| MacAddress::new([2, 0, 0, 0, 0, number]);
        let by_port = team(Teaming::OriginatingPort, true);
        assert_ne!(by_port.pick(port(10), card(1), None), by_port.pick(port(11), card(1), None));
        assert_eq!(by_port.pick(port(10), card(1), None), by_port.pick(port(10), card(2), None));
        let by_mac = team(Teaming::SourceMac, true);
        assert_ne!(by_mac.pick(port(10), card(1), None), by_mac.pick(port(10), card(2), None));
        let packet = |last: u8| {
            let mut bytes = [0_u8; 60];
            bytes[12] = 8;
            bytes[14] = 0x45;
            bytes[33] = last;
            bytes
        };
        let by_hash = team(Teaming::IpHash, true);
        let pick = |bytes: &[u8]| {
            let frame = Frame::parse(bytes).unwrap();
            by_hash.pick(port(10), card(1), Some(&frame))
        };
        assert_ne!(pick(&packet(1)), pick(&packet(2)));
    }

    #[test]
    fn what_is_flooded_to_all_uplinks_comes_by_one() {
        let card = MacAddress::new([2, 0, 0, 0, 0, 7]);
        for teaming in
            [Teaming::OriginatingPort, Teaming::SourceMac, Teaming::IpHash, Teaming::Explicit]
        {
            let team = team(teaming, true);
            let takes = (1..=3).filter(|it| team.takes(port(*it), port(10), card, true)).count();
            assert_eq!(takes, 1, "{teaming:?}");
        }
    }
}
