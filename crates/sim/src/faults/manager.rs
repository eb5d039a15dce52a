//! The manager: killed at the worst moments, or cut off.

use super::{Begun, FaultKind};
use crate::manager::CrashPoint;
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
        match self.below(3) {
            0 => self.stop_manager(),
            1 => self.manager.crash = Some(CrashPoint::BeforeSave),
            _ => self.manager.crash = Some(CrashPoint::BeforeAct),
        }
        Begun::Lasts(None)
    }
}
