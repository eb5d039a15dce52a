//! A trace from guest to guest says what really passes: ten thousand racks with random port groups.
//!
//! A rack is what its processes are without their sockets: the panel of each host, which holds its
//! guests to what the manager says of port groups, and the box's physical switch between them.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Weak;

use racknest_cluster::record::network::{
    NetworkPolicy, PrivatePart, Shaping, Teaming, TeamingPolicy,
};
use racknest_cluster::walk::{Hop, Station, Walk};
use racknest_cluster::wire::switching::PortEnd;
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_switch::{Packet, PortMode, Switch};
use racknest_types::id::NetworkId;
use racknest_types::rng::Rng;

use super::super::panel::{Exit, Panel};
use super::super::watching::Watch;
use super::*;

const CASES: u64 = 10_000;
const FRAMES: usize = 8;
/// Port groups; the first three are parts of a private VLAN.
const GROUPS: u64 = 7;
const NICS: [&str; 2] = ["vmnic0", "vmnic1"];

struct Cable {
    host: usize,
    nic: usize,
    wire: PortId,
    is_up: bool,
}

struct Guest {
    host: usize,
    vm: VmId,
    nic: Nic,
}

struct Rack {
    rng: Rng,
    now_ms: u64,
    hosts: Vec<Panel>,
    physical: Switch,
    cables: Vec<Cable>,
    guests: Vec<Guest>,
    groups: Vec<PortGroup>,
    layouts: Vec<Layout>,
}

/// Where a frame comes out of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    Nic(usize),
    Guest(PathBuf),
}

/// Frames that came out, and a way to collect them.
#[derive(Default)]
struct Outs(Vec<(Out, Vec<u8>)>);

impl Outs {
    fn take(&mut self, exit: Exit<'_>, pieces: [&[u8]; 3]) -> Sent {
        let out = match exit {
            Exit::Uplink(place) => Out::Nic(place),
            Exit::Guest(socket) => {
                let path = socket.path().expect("guests are at a path");
                Out::Guest(PathBuf::from(path.to_str().expect("it is text")))
            }
            Exit::Gateway(network) => panic!("{network} has no gateway here"),
        };
        self.0.push((out, pieces.concat()));
        Sent::Done
    }
}

/// What became of a frame: which guests got it, and by which NIC of their host if by one.
#[derive(Debug, Default)]
struct Passage(Vec<(PathBuf, Option<usize>)>);

impl Rack {
    fn new(seed: u64) -> Self {
        let mut rack = Self {
            rng: Rng::from_seed(seed),
            now_ms: 1,
            hosts: vec![],
            physical: Switch::default(),
            cables: vec![],
            guests: vec![],
            groups: vec![],
            layouts: vec![],
        };
        for number in 1..=GROUPS {
            let group = rack.group(number);
            rack.groups.push(group);
        }
        for host in 0..2 + rack.below(2) {
            // Nothing can be there, so that nothing is read or made: guests have no cards in memory.
            let root = PathBuf::from(format!("/dev/null/esx{host}"));
            let layout = Layout::new(&root, root.clone());
            let nics = NICS.into_iter().map(|nic| nic.parse().unwrap());
            let watch = Watch::load(&format!("esx{host}"), &layout);
            rack.hosts.push(Panel::new(layout.clone(), nics, watch, Weak::new()));
            rack.layouts.push(layout);
            for nic in 0..NICS.len() {
                let wire = rack.physical.add_port(PortMode::trunk());
                rack.cables.push(Cable { host, nic, wire, is_up: true });
            }
            rack.follow_links(host);
            rack.tell_groups(host);
            for _ in 0..=rack.below(2) {
                rack.add_guest(host);
            }
        }
        rack
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.below(u64::try_from(end).unwrap())).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn add_guest(&mut self, host: usize) {
        let number = u8::try_from(self.guests.len() + 1).unwrap();
        let network = NetworkId::from_raw(1 + self.rng.below(GROUPS));
        let nic = Nic { network, ..nic(number, 1) };
        let vm = VmId::from_raw(number.into());
        self.guests.push(Guest { host, vm, nic });
        self.plug(self.guests.len() - 1);
    }

    fn plug(&mut self, guest: usize) {
        let Guest { host, vm, nic } = &self.guests[guest];
        let (host, vm, nics) = (*host, *vm, vec![nic.clone()]);
        let mut outs = Outs::default();
        self.hosts[host].plug(self.now_ms, vm, &nics, |exit, _, pieces| outs.take(exit, pieces));
        self.pass_on(host, outs, None);
    }

    fn follow_links(&mut self, host: usize) {
        let mut outs = Outs::default();
        let cables = self.cables.iter().filter(|cable| cable.host == host && cable.is_up);
        let up: Vec<&str> = cables.map(|cable| NICS[cable.nic]).collect();
        let is_up = |nic: &NicName| up.contains(&nic.as_str());
        self.hosts[host].set_links(is_up, |exit, _, pieces| outs.take(exit, pieces));
        self.pass_on(host, outs, None);
    }

    fn tell_groups(&mut self, host: usize) {
        let mut outs = Outs::default();
        let groups = self.groups.clone();
        self.hosts[host].set_groups(self.now_ms, groups, |exit, _, pieces| outs.take(exit, pieces));
        self.pass_on(host, outs, None);
    }

    /// A port group like any that a user can make.
    fn group(&mut self, number: u64) -> PortGroup {
        let shaping = Shaping { average_kbps: 8, peak_kbps: 16, burst_kib: 1 };
        // What is of a private VLAN stays it. The physical switch, which knows no parts and is not
        // asked, would believe for minutes what a guest said on the whole before.
        let private = match number {
            1 => Some(PrivatePart::Promiscuous),
            2 => Some(PrivatePart::Isolated(11)),
            3 => Some(PrivatePart::Community(12)),
            _ => None,
        };
        let plain = [0, 1, 1, 2][self.below(4)];
        let has_trunk = private.is_none() && self.one_in(5);
        let policy = NetworkPolicy {
            private,
            trunk: if has_trunk { vec![(1, 2)] } else { vec![] },
            promiscuous: self.one_in(6),
            mac_changes: self.one_in(6),
            forged_transmits: self.one_in(6),
            mac_learning: self.one_in(6),
            mtu: if self.one_in(8) { 40 } else { 1_500 },
            broadcast_limit: self.one_in(10).then_some(5),
            multicast_limit: None,
            shaping_in: self.one_in(10).then_some(shaping),
            // What is sent to a guest above its rate waits, and comes later.
            shaping_out: None,
            teaming: self.teaming(),
            blocked: self.one_in(12),
            ..NetworkPolicy::default()
        };
        let vlan = if policy.private.is_some() { 10 } else { plain };
        PortGroup {
            id: NetworkId::from_raw(number),
            name: format!("group {number}"),
            vlan,
            policy,
            services: None,
            switch: None,
            uplinks: None,
        }
    }

    fn teaming(&mut self) -> Teaming {
        let names = |numbers: &[usize]| numbers.iter().map(|nic| NICS[*nic].to_owned()).collect();
        let (active, standby) = match self.below(4) {
            0 => (names(&[0]), names(&[1])),
            1 => (names(&[1]), vec![]),
            _ => (vec![], vec![]),
        };
        let policy = [
            TeamingPolicy::OriginatingPort,
            TeamingPolicy::SourceMac,
            TeamingPolicy::IpHash,
            TeamingPolicy::Explicit,
        ][self.below(4)];
        Teaming { policy, active, standby, failback: self.one_in(2) }
    }

    /// A cable goes out or in, a port group changes, a guest moves, or time passes.
    fn change(&mut self) {
        match self.below(4) {
            0 => {
                let number = self.below(self.cables.len());
                let is_up = self.one_in(2);
                let cable = &mut self.cables[number];
                cable.is_up = is_up;
                let (host, wire) = (cable.host, cable.wire);
                self.physical.set_link(wire, is_up);
                self.follow_links(host);
            }
            1 => {
                let number = self.below(self.groups.len());
                self.groups[number] = self.group(u64::try_from(number + 1).unwrap());
                (0..self.hosts.len()).for_each(|host| self.tell_groups(host));
            }
            2 => {
                let guest = self.below(self.guests.len());
                let to = self.below(self.hosts.len());
                let from = std::mem::replace(&mut self.guests[guest].host, to);
                self.hosts[from].unplug(self.guests[guest].vm);
                self.plug(guest);
            }
            _ => self.now_ms += [20, 1_500, 301_000][self.below(3)],
        }
    }

    /// Lets frames that came out of a host go on, until all are where they go.
    fn pass_on(&mut self, host: usize, outs: Outs, by: Option<usize>) -> Passage {
        let mut passage = Passage::default();
        let mut under_way = VecDeque::from([(host, by, outs)]);
        while let Some((host, by, Outs(outs))) = under_way.pop_front() {
            for (out, bytes) in outs {
                match out {
                    Out::Guest(path) => passage.0.push((path, by)),
                    Out::Nic(nic) => under_way.extend(self.cross(host, nic, &bytes)),
                }
            }
        }
        passage
    }

    /// Takes a frame from a NIC over the physical switch to the NICs of others; what comes of it.
    fn cross(
        &mut self,
        host: usize,
        nic: usize,
        bytes: &[u8],
    ) -> Vec<(usize, Option<usize>, Outs)> {
        let mut cables = self.cables.iter();
        let cable = cables.find(|cable| cable.host == host && cable.nic == nic).unwrap();
        let mut egresses = Vec::new();
        if cable.is_up {
            self.physical.forward(self.now_ms, cable.wire, bytes, &mut egresses);
        }
        let mut came = Vec::new();
        for egress in egresses {
            let cable = self.cables.iter().find(|cable| cable.wire == egress.port).unwrap();
            let mut room = [0; 4];
            let bytes = egress.tag.pieces(bytes, &mut room).concat();
            let (panel, mut outs) = (&mut self.hosts[cable.host], Outs::default());
            let port = panel.uplink(cable.nic).unwrap();
            panel.carry(self.now_ms, port, &Packet::plain(&bytes), |exit, _, pieces| {
                outs.take(exit, pieces)
            });
            came.push((cable.host, Some(cable.nic), outs));
        }
        came
    }

    fn path(&self, guest: &Guest) -> PathBuf {
        self.layouts[guest.host].nic_socket(guest.vm, guest.nic.key)
    }

    /// Sends an ordinary frame from one guest to another.
    fn send(&mut self, from: usize, to: usize) -> Passage {
        let (to, from) = (self.guests[to].nic.mac, &self.guests[from]);
        let mut frame = [&to[..], &from.nic.mac, &[0x08, 0x00]].concat();
        frame.resize(60, 0);
        let (host, path) = (from.host, self.path(from));
        let (panel, mut outs) = (&mut self.hosts[host], Outs::default());
        let port = panel.port_of(&path).expect("every guest is plugged in");
        panel.carry(self.now_ms, port, &Packet::plain(&frame), |exit, _, pieces| {
            outs.take(exit, pieces)
        });
        self.pass_on(host, outs, None)
    }

    fn is_bundled(&self, guest: usize) -> bool {
        let network = self.guests[guest].nic.network;
        let group = self.groups.iter().find(|group| group.id == network).unwrap();
        group.policy.teaming.policy == TeamingPolicy::IpHash
    }

    /// What the manager finds when it asks the hosts.
    fn trace(&self, from: usize, to: usize) -> Vec<Hop> {
        let station = |guest: &Guest| Station {
            host: guest.host.to_string(),
            end: PortEnd::Guest { vm: guest.vm, nic: guest.nic.key },
            name: guest.vm.to_string(),
            mac: guest.nic.mac,
        };
        let mut walk = Walk::new(station(&self.guests[from]), station(&self.guests[to]));
        while let Some((host, request)) = walk.question() {
            let panel = &self.hosts[host.parse::<usize>().unwrap()];
            let reply = if let StreamRequest::Trace(question) = request {
                StreamReply::Trace(panel.trace(self.now_ms, &question).unwrap())
            } else {
                assert!(matches!(request, StreamRequest::Switch), "a walk asks for {request:?}");
                StreamReply::Switch(panel.report(self.now_ms))
            };
            assert!(walk.handle_reply(reply));
        }
        walk.into_hops()
    }
}

#[test]
fn a_trace_between_guests_says_what_passes_in_ten_thousand_racks() {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..CASES {
        let mut rack = Rack::new(seed);
        for turn in 0..FRAMES {
            // A card that moved too often in a second would look like a loop to the physical switch.
            rack.now_ms += 1_000;
            if rack.one_in(2) {
                rack.change();
            }
            let (from, to) = (rack.below(rack.guests.len()), rack.below(rack.guests.len()));
            if from == to {
                continue;
            }
            let hops = rack.trace(from, to);
            let passage = rack.send(from, to);
            let path = rack.path(&rack.guests[to]);
            let copies = passage.0.iter().filter(|(at, _)| *at == path);
            let came_by: Vec<_> = copies.map(|(_, nic)| nic.map(|nic| NICS[nic])).collect();
            let last = hops.last().expect("a way has a hop");
            let what = format!("seed {seed}, frame {turn}: {hops:?} but {passage:?}");
            match &last.dropped {
                None => {
                    // The other end of a link bundle would send by one of its NICs only.
                    assert!(came_by.len() == 1 || rack.is_bundled(to), "{what}");
                    assert!(last.exit.is_some(), "{what}");
                    let is_so =
                        |nic: &Option<&str>| nic.is_none_or(|nic| last.entry.ends_with(nic));
                    assert!(came_by.iter().any(is_so), "{what}");
                }
                Some(_) => assert!(came_by.is_empty() && last.exit.is_none(), "{what}"),
            }
            let end = last.dropped.clone().unwrap_or_else(|| format!("{} hops", hops.len()));
            *ends.entry(end).or_default() += 1;
        }
    }
    for end in ["1 hops", "3 hops", "blocked", "too_long", "no_receiver"] {
        assert!(ends.get(end).is_some_and(|count| *count > 20), "too few ended so: {ends:#?}");
    }
}
