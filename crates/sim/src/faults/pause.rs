//! Agents that hang: they hold everything, and do nothing, while their guests run on.

use super::Begun;
use crate::world::World;
use crate::world::host::Host;

impl World {
    pub(super) fn pause_agent(&mut self) -> Begun {
        let Some(host) = self.any_host(Host::is_responsive) else { return Begun::Not };
        self.hang_agent(host);
        Begun::Lasts(Some(host))
    }
}
