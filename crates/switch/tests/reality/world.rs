//! A network: switches, the cables between them, and whoever is plugged in.
//!
//! Switch 0 is the physical one; each other is a host's. A cable joins an uplink of a host to a wire
//! of the physical switch. Whatever is not at a cable is at a station, which only sends and receives.

use std::collections::VecDeque;

use racknest_switch::{
    DropReason, Egress, MacAddress, PortConfig, PortId, PortRole, Switch, Verdict,
};

/// No way is longer: out of a host, over the physical switch, into the others by all their uplinks.
const HOPS_MAX: usize = 64;

/// A port of one of the switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) switch: usize,
    pub(crate) port: PortId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cable {
    pub(crate) host: Place,
    pub(crate) wire: Place,
    pub(crate) is_cut: bool,
}

/// A guest, or a machine at the physical switch.
#[derive(Clone, Debug)]
pub(crate) struct Station {
    pub(crate) place: Place,
    pub(crate) card: MacAddress,
    pub(crate) config: PortConfig,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) switches: Vec<Switch>,
    pub(crate) cables: Vec<Cable>,
    pub(crate) stations: Vec<Station>,
}

/// A frame that has come somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Place,
    pub(crate) bytes: Vec<u8>,
}

/// What became of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passage {
    /// What each switch on the way did with it, and where it had come in.
    pub(crate) hops: Vec<(Place, Verdict)>,
    /// What was on cables, named by the end that it came to.
    pub(crate) crossings: Vec<Arrival>,
    /// What stations got.
    pub(crate) arrivals: Vec<Arrival>,
}

impl World {
    pub(crate) fn new(switches: Vec<Switch>) -> Self {
        Self { now_ms: 0, switches, cables: vec![], stations: vec![] }
    }

    /// Plugs something in at a switch.
    pub(crate) fn plug(&mut self, switch: usize, config: PortConfig) -> Place {
        let port = self.switches[switch].plug(self.now_ms, config);
        Place { switch, port }
    }

    /// Joins a host to the physical switch.
    pub(crate) fn connect(&mut self, host: usize, uplink: PortConfig, wire: PortConfig) -> Place {
        let (host, wire) = (self.plug(host, uplink), self.plug(0, wire));
        self.cables.push(Cable { host, wire, is_cut: false });
        host
    }

    pub(crate) fn add_station(&mut self, switch: usize, card: MacAddress, config: PortConfig) {
        let place = self.plug(switch, config.clone());
        self.stations.push(Station { place, card, config });
    }

    pub(crate) fn uplinks(&self, host: usize) -> Vec<PortId> {
        let ours = self.cables.iter().filter(|cable| cable.host.switch == host);
        ours.map(|cable| cable.host.port).collect()
    }

    pub(crate) fn set_cable(&mut self, number: usize, is_up: bool) {
        let Cable { host, wire, is_cut } = &mut self.cables[number];
        *is_cut = !is_up;
        for end in [host, wire] {
            self.switches[end.switch].set_link(end.port, is_up);
        }
    }

    /// Changes what holds for a station.
    pub(crate) fn configure(&mut self, number: usize, config: PortConfig) {
        let station = &mut self.stations[number];
        let Place { switch, port } = station.place;
        self.switches[switch].configure(self.now_ms, port, config.clone());
        station.config = config;
    }

    /// Takes a guest to another host, as live migration does.
    pub(crate) fn migrate(&mut self, number: usize, to: usize, config: PortConfig) {
        let Place { switch, port } = self.stations[number].place;
        self.switches[switch].remove_port(port);
        let place = self.plug(to, config.clone());
        let station = &mut self.stations[number];
        (station.place, station.config) = (place, config);
    }

    pub(crate) fn station_at(&self, place: Place) -> &Station {
        let found = self.stations.iter().find(|station| station.place == place);
        found.expect("whatever is not at a cable is at a station")
    }

    pub(crate) fn guests(&self) -> impl Iterator<Item = (usize, &Station)> {
        let is_guest = |station: &Station| matches!(station.config.role, PortRole::Guest(_));
        self.stations.iter().enumerate().filter(move |(_, station)| is_guest(station))
    }

    /// What would become of a frame, as the switches say without moving anything.
    pub(crate) fn trace(&self, from: Place, bytes: &[u8]) -> Passage {
        follow(&self.cables, from, bytes, |at, bytes| {
            let trace = self.switches[at.switch].trace(self.now_ms, at.port, bytes);
            (trace.verdict, trace.egress)
        })
    }

    /// Lets a frame pass. Each switch is asked for a trace just before: what it says, it must do.
    pub(crate) fn send(&mut self, from: Place, bytes: &[u8]) -> Passage {
        let (now_ms, switches) = (self.now_ms, &mut self.switches);
        follow(&self.cables, from, bytes, |at, bytes| {
            let switch = &mut switches[at.switch];
            let said = switch.trace(now_ms, at.port, bytes);
            let mut out = Vec::new();
            let before = switch.counters(at.port).copied().unwrap_or_default();
            let verdict = switch.forward(now_ms, at.port, bytes, &mut out);
            assert_eq!((said.verdict, &said.egress), (verdict, &out), "at {at:?} of {bytes:02x?}");
            // What may not be sent to a port is counted there.
            if let Verdict::Dropped(reason) = verdict
                && reason != DropReason::ShapedOut
            {
                let after = switch.counters(at.port).copied().unwrap_or_default();
                let counted = after.dropped(reason) - before.dropped(reason);
                assert_eq!(counted, 1, "{reason:?} at {at:?} is counted");
            }
            (verdict, out)
        })
    }
}

/// Follows a frame from hop to hop; `decide` says what a switch does with it.
fn follow(
    cables: &[Cable],
    from: Place,
    bytes: &[u8],
    mut decide: impl FnMut(Place, &[u8]) -> (Verdict, Vec<Egress>),
) -> Passage {
    let mut passage = Passage::default();
    let mut under_way = VecDeque::from([Arrival { at: from, bytes: bytes.to_vec() }]);
    while let Some(Arrival { at, bytes }) = under_way.pop_front() {
        let (verdict, egresses) = decide(at, &bytes);
        passage.hops.push((at, verdict));
        assert!(passage.hops.len() < HOPS_MAX, "a frame circles: {bytes:02x?}");
        for Egress { port, tag } in egresses {
            let mut room = [0; 4];
            let bytes = tag.pieces(&bytes, &mut room).concat();
            let place = Place { switch: at.switch, port };
            let cable = cables.iter().find(|cable| cable.host == place || cable.wire == place);
            let Some(cable) = cable else {
                passage.arrivals.push(Arrival { at: place, bytes });
                continue;
            };
            if !cable.is_cut {
                let at = if cable.host == place { cable.wire } else { cable.host };
                passage.crossings.push(Arrival { at, bytes: bytes.clone() });
                under_way.push_back(Arrival { at, bytes });
            }
        }
    }
    passage
}
