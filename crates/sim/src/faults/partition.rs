//! A network in two halves, and a network that is bad everywhere.

use std::collections::BTreeSet;

use super::{Begun, FaultKind};
use crate::network::{Cut, FaultId, Machine, Quality};
use crate::world::World;

impl World {
    pub(super) fn split_network(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        if kind == FaultKind::WorseNetwork {
            let quality = Quality {
                delay_ms: self.below(100),
                jitter_ms: self.below(300),
                lost_permille: self.below(600),
                doubled_permille: self.below(200),
                late_permille: self.below(200),
            };
            self.network.worsen(fault, quality);
            return Begun::Lasts(None);
        }
        let mut side = BTreeSet::new();
        let hosts = self.hosts.keys().map(|id| Machine::Host(*id)).collect::<Vec<_>>();
        for machine in hosts.into_iter().chain([Machine::Vcenter, Machine::Gateway]) {
            if self.below(2) == 0 {
                side.insert(machine);
            }
        }
        self.network.cut(fault, Cut::Side(side));
        Begun::Lasts(None)
    }
}
