//! In the end there is one primary, and everybody follows it.

use racknest_cluster::ha::Role;

use super::Invariant;
use crate::world::World;

#[derive(Debug)]
pub(super) struct OnePrimary;

impl Invariant for OnePrimary {
    fn name(&self) -> &'static str {
        "one_primary"
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let roles = world.hosts.values().filter_map(|host| {
            let agent = host.agent.as_ref()?;
            Some((host.id, agent.ha.role()))
        });
        let roles = roles.collect::<Vec<_>>();
        let primaries = roles.iter().filter(|(_, role)| matches!(role, Role::Primary));
        let primaries = primaries.map(|(host, _)| *host).collect::<Vec<_>>();
        let [primary] = primaries[..] else {
            return Err(format!("there are {} primaries: {roles:?}", primaries.len()));
        };
        if world.swarm.quality.lost_permille > 10 {
            // Where one datagram in ten is lost, four beats in a row are now and then, and a host
            // looks for a primary for a moment.
            return Ok(());
        }
        let lost = roles.iter().find(|(host, role)| {
            *host != primary && !matches!(role, Role::Secondary(other) if *other == primary)
        });
        match lost {
            Some((host, role)) => Err(format!("{host} is {role:?}, and {primary} primary")),
            None => Ok(()),
        }
    }
}
