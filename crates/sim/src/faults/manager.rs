//! The manager: killed at the worst moments, or cut off.

use super::{Begun, FaultKind};
use crate::manager::{CrashBefore, CrashPoint};
use crate::network::{Cut, FaultId, Machine};
use crate::world::World;

impl World {
    pub(super) fn break_manager(&mut self, fault: FaultId, kind: FaultKind) -> Begun {
        if kind == FaultKind::ManagerCut {
            self.network.cut(fault, Cut::Machine(Machine::Vcenter));
            return Begun::Lasts(None);
        }
        if !self.manager.is_up() {
            return Begun::Not;
        }
        let in_command = self.below(2) == 0;
        let before = match self.below(3) {
            0 => {
                self.stop_manager();
                return Begun::Lasts(None);
            }
            1 => CrashBefore::Save,
            _ => CrashBefore::Act,
        };
        self.manager.crash = Some(CrashPoint { before, in_command });
        Begun::Lasts(None)
    }
}
