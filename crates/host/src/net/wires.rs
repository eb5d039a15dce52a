//! What lies between the switch and its guests: wires that are not whole, and queues of ports that
//! are shaped.
//!
//! Both hold a frame back until its time. When that is decides pure code ([`Way`], [`Pacer`]); the
//! frames wait in one delay line, as those on slow cables of the box do. A wire that is whole, of a
//! port that is not shaped, costs one look into two empty maps.
//!
//! ```text
//! guest ── outward way ──────────────► switch ── pacer ── inward way ──► guest
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use racknest_cluster::record::switching::GuestWire;
use racknest_switch::cable::Way;
use racknest_switch::offload::{self, Offload};
use racknest_switch::rate::{Pacer, Shaping};
use racknest_switch::{DropReason, Packet, PortId};
use racknest_types::id::VmId;
use racknest_types::impairment::LinkFaults;
use racknest_types::rng::Rng;
use racknest_types::time::Timestamp;
use racknest_underlay::DelayLine;

use super::panel::{Exit, Panel};
use super::{Sent, Shared};
use crate::clock;

/// How long a frame may wait until its port may be sent it; what would wait for longer is dropped.
const WAIT_MAX_MS: u64 = 500;

/// How often the wall clock is looked at while no schedule turns: it may have been set.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// The wires and queues of the ports that have any.
#[derive(Debug, Default)]
pub(super) struct Wires {
    pub(super) line: Arc<DelayLine>,
    /// What the manager says of wires, of whichever host.
    wanted: Vec<GuestWire>,
    faulty: BTreeMap<PortId, Wire>,
    queues: BTreeMap<PortId, Queue>,
}

/// A wire that is not whole.
#[derive(Debug)]
struct Wire {
    faults: LinkFaults,
    /// Whether the faults are there, by their schedule.
    is_on: bool,
    inward: Way,
    outward: Way,
    lost: u64,
}

/// The queue of a port that is shaped.
#[derive(Debug)]
struct Queue {
    shaping: Shaping,
    pacer: Pacer,
    /// Frames that wait.
    waiting: usize,
}

/// What becomes of a frame on its way to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Passage {
    /// It goes on at once.
    Now,
    /// It arrives then, in microseconds of the delay line; it may arrive twice, or never.
    At(Vec<u64>),
    /// Its port was sent more than it may be.
    Dropped,
}

impl Wires {
    /// A NIC is plugged in at a port, which is shaped or not, or what holds for it has changed.
    pub(super) fn plug(
        &mut self,
        now: Timestamp,
        (id, vm, nic): (PortId, VmId, u32),
        shaping: Option<Shaping>,
    ) {
        let wanted = self.wanted.iter().find(|it| it.vm == vm && it.nic == nic);
        match wanted.map(|it| it.faults) {
            None => drop(self.faulty.remove(&id)),
            Some(faults) if self.faulty.get(&id).is_some_and(|it| it.faults == faults) => {}
            Some(faults) => drop(self.faulty.insert(id, Wire::new(now, faults, vm, nic))),
        }
        match shaping {
            None => drop(self.queues.remove(&id)),
            Some(shaping) if self.queues.get(&id).is_some_and(|it| it.shaping == shaping) => {}
            Some(shaping) => {
                let now_ms = self.line.now() / 1_000;
                let pacer = Pacer::new(now_ms, shaping, WAIT_MAX_MS);
                self.queues.insert(id, Queue { shaping, pacer, waiting: 0 });
            }
        }
    }

    pub(super) fn unplug(&mut self, id: PortId) {
        self.faulty.remove(&id);
        self.queues.remove(&id);
    }

    /// Whether frames may be held back on their way to a guest: then they go as they are on a wire.
    pub(super) fn holds(&self, id: PortId) -> bool {
        self.queues.contains_key(&id) || self.is_faulty(id)
    }

    /// Whether a wire does anything now.
    fn is_faulty(&self, id: PortId) -> bool {
        self.faulty.get(&id).is_some_and(|wire| wire.is_on && !wire.faults.is_carrying_all())
    }

    /// Whether the plug is in.
    fn is_up(&self, id: PortId) -> bool {
        !self.faulty.get(&id).is_some_and(|wire| wire.is_on && wire.faults.is_unplugged)
    }

    /// What is wrong with a wire now, in words, and how many frames it has lost.
    pub(super) fn faults(&self, id: PortId) -> (String, u64) {
        match self.faulty.get(&id) {
            None => (String::new(), 0),
            Some(wire) if wire.is_on => (wire.faults.to_string(), wire.lost),
            Some(wire) => (format!("{} (not now)", wire.faults), wire.lost),
        }
    }

    /// When a frame that a guest sends now arrives at the switch.
    fn pass_outward(&mut self, id: PortId, size: usize) -> Vec<u64> {
        let now = self.line.now();
        let Some(wire) = self.faulty.get_mut(&id) else { return vec![now] };
        let arrivals: Vec<u64> = wire.outward.pass(now, size).iter().collect();
        wire.lost += u64::from(arrivals.is_empty());
        arrivals
    }

    /// What becomes of a frame that the switch sends to a guest now.
    fn pass_inward(&mut self, id: PortId, size: usize) -> Passage {
        let now = self.line.now();
        let is_faulty = self.is_faulty(id);
        let mut leaves = now;
        if let Some(queue) = self.queues.get_mut(&id) {
            let bytes = u64::try_from(size).unwrap_or(u64::MAX);
            let Some(at_ms) = queue.pacer.reserve(now / 1_000, bytes) else {
                return Passage::Dropped;
            };
            leaves = leaves.max(at_ms.saturating_mul(1_000));
            // Behind those that wait: frames keep their order.
            if leaves == now && queue.waiting == 0 && !is_faulty {
                return Passage::Now;
            }
            queue.waiting += 1;
        }
        match self.faulty.get_mut(&id).filter(|_| is_faulty) {
            None => Passage::At(vec![leaves]),
            Some(wire) => {
                let arrivals: Vec<u64> = wire.inward.pass(leaves, size).iter().collect();
                wire.lost += u64::from(arrivals.is_empty());
                Passage::At(arrivals)
            }
        }
    }

    /// A frame has left a queue.
    fn handle_left(&mut self, id: PortId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.waiting = queue.waiting.saturating_sub(1);
        }
    }
}

impl Wire {
    fn new(now: Timestamp, faults: LinkFaults, vm: VmId, nic: u32) -> Self {
        // So that two wires with one seed do not lose the same frames.
        let own = vm.raw().rotate_left(32) ^ u64::from(nic);
        let mut rng = Rng::from_seed(faults.seed ^ own);
        Self {
            faults,
            is_on: faults.phase(now).is_on,
            inward: Way::new(faults.inward, rng.split()),
            outward: Way::new(faults.outward, rng.split()),
            lost: 0,
        }
    }
}

impl Panel {
    /// Makes wires as the manager says.
    pub(super) fn set_wires(&mut self, wanted: Vec<GuestWire>) {
        self.wires.wanted = wanted;
        for id in self.ports.keys().copied().collect::<Vec<_>>() {
            self.connect_wire(id);
        }
    }

    /// Puts the wire and the queue of a port in place.
    pub(super) fn connect_wire(&mut self, id: PortId) {
        if let Some(port) = self.ports.get(&id) {
            let shaping = self.groups.shaping_of(&port.nic);
            let was_up = self.wires.is_up(id);
            self.wires.plug(clock::now(), (id, port.vm, port.nic.key), shaping);
            if self.wires.is_up(id) != was_up {
                self.switch.set_link(id, !was_up);
            }
        }
    }

    /// Has the faults of wires come and go by their schedules; when the next of them turns.
    fn follow_schedules(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut turns = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (id, wire) in &mut self.wires.faulty {
            let phase = wire.faults.phase(now);
            if phase.is_on != wire.is_on {
                wire.is_on = phase.is_on;
                turns.push(*id);
            }
            next = next.into_iter().chain(phase.until).min();
        }
        for id in turns {
            self.switch.set_link(id, self.wires.is_up(id));
        }
        next
    }

    /// Puts a frame on the way to a guest that it does not reach at once, if that is so. False if it
    /// goes on as usual.
    pub(super) fn hold(&mut self, id: PortId, pieces: [&[u8]; 3]) -> bool {
        if !self.wires.holds(id) {
            return false;
        }
        let size = pieces.iter().map(|piece| piece.len()).sum();
        match self.wires.pass_inward(id, size) {
            Passage::Now => false,
            Passage::Dropped => {
                self.switch.handle_dropped(id, size, DropReason::ShapedOut);
                true
            }
            Passage::At(arrivals) => {
                // Of a frame that comes twice one has waited.
                let is_lost = arrivals.is_empty();
                for (place, at) in arrivals.into_iter().enumerate() {
                    let (shared, frame) = (self.shared.clone(), pieces.concat());
                    let is_put = self.wires.line.put(at, move || {
                        if let Some(shared) = shared.upgrade() {
                            shared.hand_held(id, &frame, place == 0);
                        }
                    });
                    if !is_put {
                        self.switch.handle_unsent(id, size);
                        self.wires.handle_left(id);
                    }
                }
                if is_lost {
                    self.wires.handle_left(id);
                }
                true
            }
        }
    }

    /// Gives a frame to a guest that was on the way to it.
    fn hand_held(
        &mut self,
        id: PortId,
        frame: &[u8],
        has_waited: bool,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        if has_waited {
            self.wires.handle_left(id);
        }
        // What was on the way when the plug was pulled does not arrive.
        if !self.switch.is_open(id) {
            return;
        }
        let Some(port) = self.ports.get_mut(&id) else { return };
        let pieces: [&[u8]; 3] = [frame, &[], &[]];
        let sent = port.hand(id, &Offload::NONE, pieces, &mut self.waiting, &mut send);
        if !matches!(sent, Sent::Done) {
            self.switch.handle_unsent(id, frame.len());
        }
    }
}

impl Shared {
    /// Delivers what is on its way.
    pub(super) async fn deliver_held(self: Arc<Self>) {
        let line = Arc::clone(&self.panel().wires.line);
        line.run().await;
    }

    /// Has the faults of wires come and go.
    pub(super) async fn follow_wires(self: Arc<Self>) {
        loop {
            let next = self.panel().follow_schedules(clock::now());
            let pause = next.map_or(IDLE_PAUSE, |at| at.since(clock::now()).min(IDLE_PAUSE));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.rewired.notified() => {}
            }
        }
    }

    /// Puts what a guest sends on its wire, if that is not whole. False if it goes on as usual.
    pub(super) fn delay(
        &self,
        panel: &mut MutexGuard<'_, Panel>,
        port: PortId,
        packet: &Packet<'_>,
    ) -> bool {
        if !panel.wires.is_faulty(port) {
            return false;
        }
        let mut scratch = Vec::new();
        // It was looked at when it came.
        let _ = offload::segment(packet.offload(), packet.frame(), &mut scratch, |frame| {
            for at in panel.wires.pass_outward(port, frame.len()) {
                let (shared, frame) = (panel.shared.clone(), frame.to_vec());
                panel.wires.line.put(at, move || {
                    if let Some(shared) = shared.upgrade() {
                        let mut panel = shared.panel();
                        shared.carry_whole(&mut panel, port, &Packet::plain(&frame), true);
                    }
                });
            }
        });
        true
    }

    fn hand_held(&self, port: PortId, frame: &[u8], has_waited: bool) {
        let mut panel = self.panel();
        panel.hand_held(port, frame, has_waited, |exit, offload, pieces| {
            self.send(exit, offload, pieces)
        });
        if panel.has_waiting() {
            self.backlog.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use racknest_types::impairment::{Impairment, Schedule};

    use super::*;

    fn port() -> PortId {
        racknest_switch::Switch::default().add_port(racknest_switch::PortMode::trunk())
    }

    fn wire(faults: LinkFaults) -> (Wires, PortId) {
        let (vm, id) = (VmId::from_raw(1), port());
        let mut wires =
            Wires { wanted: vec![GuestWire { vm, nic: 0, faults }], ..Wires::default() };
        wires.plug(Timestamp::from_millis(1_000), (id, vm, 0), None);
        (wires, id)
    }

    #[test]
    fn a_wire_is_of_its_nic_alone_and_goes_with_it() {
        let outward = Impairment { loss_ppm: 1_000_000, ..Impairment::default() };
        let faults = LinkFaults { outward, ..LinkFaults::default() };
        let (mut wires, id) = wire(faults);
        assert!(wires.holds(id) && wires.is_up(id));
        assert_eq!(wires.pass_outward(id, 60), Vec::<u64>::new());
        assert_eq!(wires.faults(id), ("out: loss 100%".to_owned(), 1));
        let Passage::At(arrivals) = wires.pass_inward(id, 60) else { panic!("it is on the wire") };
        assert_eq!(arrivals.len(), 1, "the other way is whole");
        wires.plug(Timestamp::EPOCH, (id, VmId::from_raw(2), 0), None);
        assert!(!wires.holds(id), "another guest has a wire of its own");
    }

    #[test]
    fn what_is_above_the_rate_waits_and_keeps_its_order() {
        let mut wires = Wires::default();
        // 100 bytes a millisecond, and one frame at once.
        let shaping = Shaping { average: 100_000, peak: 100_000, burst: 1_000 };
        let id = port();
        wires.plug(Timestamp::EPOCH, (id, VmId::from_raw(1), 0), Some(shaping));
        assert_eq!(wires.pass_inward(id, 1_000), Passage::Now);
        let mut last = 0;
        let mut waiting = 0;
        loop {
            match wires.pass_inward(id, 1_000) {
                Passage::At(arrivals) => {
                    assert!(arrivals[0] >= last + 9_000, "{arrivals:?} after {last}");
                    last = arrivals[0];
                    waiting += 1;
                }
                Passage::Dropped => break,
                Passage::Now => panic!("nothing overtakes what waits"),
            }
        }
        // Half a second at ten milliseconds each.
        assert!((48..=52).contains(&waiting), "{waiting}");
    }

    #[test]
    fn a_plug_is_out_while_its_schedule_says_so() {
        let schedule = Schedule {
            start: Timestamp::from_millis(2_000),
            on_ms: Some(1_000),
            every_ms: None,
            times: None,
        };
        let faults =
            LinkFaults { is_unplugged: true, schedule: Some(schedule), ..LinkFaults::default() };
        let (mut wires, id) = wire(faults);
        assert!(wires.is_up(id) && !wires.holds(id));
        wires.faulty.get_mut(&id).unwrap().is_on = true;
        assert!(!wires.is_up(id));
    }
}
