//! What the hosts' health checks of their uplinks find.
//!
//! A host sees its own uplinks only, and cannot tell a VLAN that is missing from one on which nobody
//! else is. The inventory knows whether another member answers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, SwitchId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::event::EventKind;
use crate::wire::host_network::{UplinkFinding, UplinkHealth};

/// The most findings that one event tells.
const TOLD_MAX: usize = 5;

impl Inventory {
    /// A host has said what its uplinks carry.
    pub(super) fn handle_network_health(
        &mut self,
        now: Timestamp,
        host: HostId,
        health: Vec<UplinkHealth>,
    ) {
        if !self.hosts.contains_key(&host) {
            return;
        }
        let lane = |it: &UplinkHealth| (it.switch, it.nic.clone(), it.vlan);
        let before = self.switch_sync.health.get(&host).into_iter().flatten();
        let before = before.map(|it| (lane(it), it.finding)).collect::<BTreeMap<_, _>>();
        let news = health.iter().filter(|it| self.has_peer(it.switch, host)).filter_map(|it| {
            let last = before.get(&lane(it)).copied().unwrap_or(UplinkFinding::Ok);
            (last != it.finding).then(|| told(it))
        });
        let news = news.collect::<Vec<_>>();
        self.switch_sync.health.insert(host, health);
        if news.is_empty() {
            return;
        }
        let mut detail = news[..news.len().min(TOLD_MAX)].join("; ");
        if news.len() > TOLD_MAX {
            detail += &format!("; and {} more", news.len() - TOLD_MAX);
        }
        self.record_event(now, "", host, EventKind::NetworkHealthChanged, detail);
    }

    /// What the uplinks of a host carry, as it last said; nothing where no health is checked.
    pub fn network_health(&self, host: HostId) -> impl Iterator<Item = &UplinkHealth> {
        let said = self.switch_sync.health.get(&host).into_iter().flatten();
        said.filter(|it| self.switches.get(&it.switch).is_some_and(|switch| switch.health_check))
    }

    /// Whether another host could have answered: one that is a member, too, and is there.
    #[must_use]
    pub fn has_peer(&self, switch: SwitchId, host: HostId) -> bool {
        let Some(switch) = self.switches.get(&switch) else { return false };
        self.members_of(switch).any(|other| other.id != host && self.is_connected(other.id))
    }
}

fn told(health: &UplinkHealth) -> String {
    let UplinkHealth { nic, vlan, mtu, finding, .. } = health;
    let what = match finding {
        UplinkFinding::Ok => "carries what it should again",
        UplinkFinding::MtuMismatch => {
            return format!("{nic}, VLAN {vlan}: frames with {mtu} bytes do not pass");
        }
        UplinkFinding::OneWay => "others are heard and do not hear",
        UplinkFinding::VlanMissing => "nothing passes",
    };
    format!("{nic}, VLAN {vlan}: {what}")
}
