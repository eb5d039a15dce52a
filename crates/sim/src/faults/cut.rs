//! Network cables of hosts: out, or carrying one way only.

use super::{Begun, FaultKind};
use crate::network::{Cut, FaultId, Machine};
use crate::world::World;

impl World {
    pub(super) fn cut_host(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        let Some(host) = self.any_host(|_| true) else { return Begun::Not };
        let machine = Machine::Host(host);
        let cut = if kind == FaultKind::Isolation {
            Cut::Machine(machine)
        } else if kind == FaultKind::OneWay {
            [Cut::From(machine), Cut::To(machine)][crate::swarm::pick(&mut self.rng, 2)].clone()
        } else {
            let Some(other) = self.any_host(|other| other.id != host) else { return Begun::Not };
            Cut::Between { from: machine, to: Machine::Host(other) }
        };
        self.network.cut(fault, cut);
        Begun::Lasts(Some(host))
    }
}
