//! Power cuts of hosts, one or many at once, and agents that are killed.

use racknest_types::id::HostId;

use super::Begun;
use crate::world::host::{Breaks, Host};
use crate::world::{Happening, World};

/// How long the box takes to start an agent that died.
const RESPAWN_MS: u64 = 200;

impl World {
    pub(super) fn lose_power(&mut self) -> Begun {
        let Some(host) = self.any_host(|host| host.has_power) else { return Begun::Not };
        self.power_off_host(host);
        Begun::Lasts(Some(host))
    }

    /// Half of the hosts at least, never all: somebody has to be left to do something.
    pub(super) fn lose_group(&mut self) -> Begun {
        let on = self.hosts.values().filter(|host| host.has_power).map(|host| host.id);
        let mut on = on.collect::<Vec<_>>();
        if on.len() < 2 || on.len() < self.hosts.len() {
            return Begun::Not;
        }
        let least = self.hosts.len().div_ceil(2).min(on.len() - 1);
        let more = crate::swarm::pick(&mut self.rng, on.len() - least);
        for _ in 0..least + more {
            let place = crate::swarm::pick(&mut self.rng, on.len());
            let host = on.swap_remove(place);
            self.power_off_host(host);
        }
        Begun::Lasts(None)
    }

    pub(super) fn kill_agent(&mut self) -> Begun {
        let Some(id) = self.any_host(Host::is_responsive) else { return Begun::Not };
        let steps = self.below(4);
        match self.hosts.get_mut(&id) {
            // One in four at once, the others in the middle of what they do next.
            Some(host) if steps > 0 => host.breaks_after = Some((steps - 1, Breaks::Dies)),
            Some(_) | None => self.kill_agent_of(id),
        }
        Begun::Over
    }

    /// Kills a host's agent; the box starts it again.
    pub(crate) fn kill_agent_of(&mut self, id: HostId) {
        self.stop_agent(id);
        let wait = RESPAWN_MS + self.below(2_000);
        let boots = self.hosts[&id].boots;
        self.plan(wait, Happening::AgentStarts { host: id, boots });
    }

    pub(crate) fn power_on_all(&mut self) {
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.power_on_host(id);
        }
    }
}
