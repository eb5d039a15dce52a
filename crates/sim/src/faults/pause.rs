//! Agents that hang: they hold everything, and do nothing, while their guests run on.

use super::Begun;
use crate::world::World;
use crate::world::host::{Breaks, Host};

impl World {
    pub(super) fn pause_agent(&mut self) -> Begun {
        let Some(host) = self.any_host(Host::is_responsive) else { return Begun::Not };
        let steps = self.below(4);
        match self.hosts.get_mut(&host) {
            Some(host) if steps > 0 => host.breaks_after = Some((steps - 1, Breaks::Hangs)),
            Some(_) | None => self.hang_agent(host),
        }
        Begun::Lasts(Some(host))
    }
}
