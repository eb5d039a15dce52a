//! Probing what the uplinks carry, for the switches whose health is checked.
//!
//! Every so often the host asks by each uplink on each VLAN of such a switch, and looks a moment later
//! what has come back ([`racknest_switch::health`]). Probes of other hosts are answered by the uplink
//! that they came by. No guest sees a probe, and none can send one: they are taken out and put in
//! between the switch and its uplinks.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use racknest_cluster::record::network::PrivatePart;
use racknest_cluster::wire::PortGroup;
use racknest_cluster::wire::host_network::{HostNetwork, UplinkFinding, UplinkHealth};
use racknest_switch::frame::Tag;
use racknest_switch::health::{Finding, Lane, Probe, Round, TYPE_PROBE};
use racknest_switch::{Frame, MacAddress, TagAction, VlanId};
use racknest_types::id::SwitchId;
use racknest_underlay::NicName;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Shared;

/// The most VLANs that are probed on one switch: a trunk of all of them would be a storm.
const VLANS_MAX: usize = 64;

/// A switch whose health is checked.
#[derive(Debug)]
struct Checked {
    id: SwitchId,
    mtu: u16,
    lanes: Vec<Lane>,
    /// The round that is under way, or was last.
    round: Round,
}

impl Checked {
    fn what(&self) -> (SwitchId, u16, &[Lane]) {
        (self.id, self.mtu, &self.lanes)
    }
}

/// What is probed, and what has come back.
#[derive(Debug)]
pub(super) struct Probes {
    uplinks: Vec<NicName>,
    /// Cards of the uplinks, as probes name them: of this machine alone, and new at each start.
    cards: Vec<MacAddress>,
    // Held for one probe.
    checked: Mutex<Vec<Checked>>,
}

/// From one round to the next.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });

/// How long answers may take. They come within a millisecond where no cable is slow.
const ANSWER_TIME: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });

impl Shared {
    /// Asks, waits and looks, for as long as there is something to check.
    pub(super) async fn probe(self: Arc<Self>, found: watch::Sender<Vec<UplinkHealth>>) {
        let (mut number, mut before) = (0, Vec::new());
        loop {
            if self.probes.is_idle() {
                before.clear();
                tell(&found, Vec::new());
                self.checks.notified().await;
            }
            number += 1;
            self.probes.begin(number).iter().for_each(|probe| self.send_probe(probe));
            tokio::time::sleep(ANSWER_TIME).await;
            let now = self.probes.findings();
            tell(&found, settled(&before, &now));
            before = now;
            // Others begin at other times: what one misses at first the next round finds.
            drop(timeout(PAUSE, self.checks.notified()).await);
        }
    }
}

fn tell(found: &watch::Sender<Vec<UplinkHealth>>, health: Vec<UplinkHealth>) {
    found.send_if_modified(|known| {
        let is_news = *known != health;
        *known = health;
        is_news
    });
}

/// What two rounds say together: what is not well must have been so twice, because a probe may be
/// lost like any frame, and because other hosts begin later.
fn settled(before: &[UplinkHealth], now: &[UplinkHealth]) -> Vec<UplinkHealth> {
    let lane = |it: &UplinkHealth| (it.switch, it.nic.clone(), it.vlan);
    let of_lane = before.iter().map(|it| (lane(it), it.finding)).collect::<BTreeMap<_, _>>();
    let both = now.iter().filter_map(|it| {
        let last = of_lane.get(&lane(it)).copied();
        match (last, it.finding) {
            (_, UplinkFinding::Ok) => Some(it.clone()),
            (None, _) => None,
            (Some(UplinkFinding::Ok), _) => {
                Some(UplinkHealth { finding: UplinkFinding::Ok, ..it.clone() })
            }
            (Some(_), _) => Some(it.clone()),
        }
    });
    both.collect()
}

/// A probe to send, with its tag, by one of the uplinks.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) uplink: usize,
    pub(super) tag: TagAction,
    pub(super) frame: Vec<u8>,
}

impl Probes {
    pub(super) fn new(uplinks: impl Iterator<Item = NicName>) -> Self {
        let uplinks: Vec<NicName> = uplinks.collect();
        let chance = RandomState::new();
        let card = |place: usize| {
            let [a, b, c, d, e, ..] = chance.hash_one(place).to_be_bytes();
            // Locally administered, and of one card.
            MacAddress::new([0x02, a, b, c, d, e])
        };
        let cards = (0..uplinks.len()).map(card).collect();
        Self { uplinks, cards, checked: Mutex::default() }
    }

    /// Takes in which switches are to be checked; says whether that is news.
    pub(super) fn set(&self, network: &HostNetwork) -> bool {
        let wanted = network.switches.iter().filter(|switch| switch.health_check);
        let checked = wanted.map(|switch| {
            let own = |group: &&PortGroup| group.switch == Some(switch.id);
            let vlans: BTreeSet<u16> =
                network.groups.iter().filter(own).flat_map(vlans_of).take(VLANS_MAX).collect();
            let is_own = |(_, nic): &(usize, &NicName)| {
                switch.uplinks.iter().any(|name| name == nic.as_str())
            };
            let uplinks = self.uplinks.iter().enumerate().filter(is_own);
            let lanes: Vec<Lane> = uplinks
                .flat_map(|(uplink, _)| vlans.iter().map(move |vlan| Lane { uplink, vlan: *vlan }))
                .collect();
            let round = Round::new(0, switch.id.raw(), switch.mtu, lanes.clone());
            Checked { id: switch.id, mtu: switch.mtu, lanes, round }
        });
        let next = checked.collect::<Vec<_>>();
        let mut checked = self.checked();
        let is_same = checked.iter().map(Checked::what).eq(next.iter().map(Checked::what));
        if !is_same {
            *checked = next;
        }
        !is_same
    }

    /// Whether anything is probed.
    pub(super) fn is_idle(&self) -> bool {
        self.checked().is_empty()
    }

    /// Begins a round: what is to be sent.
    pub(super) fn begin(&self, number: u64) -> Vec<Outgoing> {
        let mut out = Vec::new();
        for checked in &mut *self.checked() {
            let lanes = checked.lanes.iter().copied();
            checked.round = Round::new(number, checked.id.raw(), checked.mtu, lanes);
            let card = |uplink: usize| self.cards[uplink];
            let questions = checked.round.questions(card);
            out.extend(questions.map(|(lane, probe)| outgoing(lane.uplink, &probe)));
        }
        out
    }

    /// Looks at a frame that came by an uplink: `None` if it is no probe, else what is to be answered.
    pub(super) fn take(&self, uplink: usize, bytes: &[u8]) -> Option<Option<Outgoing>> {
        let is_typed = |at: usize| {
            bytes.get(at..).and_then(<[u8]>::first_chunk) == Some(&TYPE_PROBE.to_be_bytes())
        };
        // For each frame that comes, so the type alone is looked at first.
        if !is_typed(12) && !is_typed(16) {
            return None;
        }
        let frame = Frame::parse(bytes).ok()?;
        let (vlan, untagged) = match frame.tag() {
            Tag::Vlan(vlan) => (vlan.get(), [&bytes[..12], &bytes[16..]].concat()),
            Tag::PriorityOnly => (0, [&bytes[..12], &bytes[16..]].concat()),
            Tag::Untagged => (0, bytes.to_vec()),
        };
        let probe = Probe::read(&untagged)?;
        if self.cards.contains(&probe.from) {
            // Flooded back by another of this host's cables.
            return Some(None);
        }
        let mut checked = self.checked();
        let is_asked = checked.iter_mut().any(|it| it.round.handle(uplink, vlan, &probe));
        let card = self.cards.get(uplink)?;
        Some(is_asked.then(|| outgoing(uplink, &probe.answer(*card))))
    }

    /// What has come of the round.
    pub(super) fn findings(&self) -> Vec<UplinkHealth> {
        let checked = self.checked();
        let of = |it: &Checked| {
            let (switch, mtu) = (it.id, it.mtu);
            let health = it.round.findings().map(|(lane, finding)| UplinkHealth {
                switch,
                nic: self.uplinks[lane.uplink].to_string(),
                vlan: lane.vlan,
                mtu,
                finding: match finding {
                    Finding::Ok => UplinkFinding::Ok,
                    Finding::MtuMismatch => UplinkFinding::MtuMismatch,
                    Finding::OneWay => UplinkFinding::OneWay,
                    Finding::VlanMissing => UplinkFinding::VlanMissing,
                },
            });
            health.collect::<Vec<_>>()
        };
        checked.iter().flat_map(of).collect()
    }

    fn checked(&self) -> MutexGuard<'_, Vec<Checked>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The VLANs that the frames of a port group have between hosts.
fn vlans_of(group: &PortGroup) -> BTreeSet<u16> {
    let part = match group.policy.private {
        Some(PrivatePart::Isolated(vlan) | PrivatePart::Community(vlan)) => Some(vlan),
        Some(PrivatePart::Promiscuous) | None => None,
    };
    let trunk = group.policy.trunk.iter().flat_map(|(first, last)| *first..=*last);
    std::iter::once(group.vlan).chain(part).chain(trunk).collect()
}

fn outgoing(uplink: usize, probe: &Probe) -> Outgoing {
    let tag = match VlanId::new(probe.vlan) {
        Some(vlan) if vlan != VlanId::UNTAGGED => TagAction::Push(vlan),
        Some(_) | None => TagAction::Keep,
    };
    Outgoing { uplink, tag, frame: probe.frame() }
}
