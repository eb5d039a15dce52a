//! Port groups: what the manager said of them, and what that means for a port of this host.
//!
//! They are kept in a file, because an agent that starts while the manager is away must still hold
//! its guests to them. A guest whose port group is not known has the VLAN of its NIC and the
//! strictest policy.

use std::collections::BTreeMap;
use std::io;

use racknest_cluster::record::network::{
    NetworkPolicy, PrivatePart, Shaping, Teaming, TeamingPolicy,
};
use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::PortGroup;
use racknest_switch::port::{self, Security, StormLimits};
use racknest_switch::team::{self, Team};
use racknest_switch::{MacAddress, PortConfig, PortId, PortMode, PortRole, VlanId, rate};
use racknest_types::id::{NetworkId, SwitchId};
use racknest_underlay::NicName;

use crate::layout::Layout;
use crate::whole_file;

/// The port groups that a host knows.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<NetworkId, PortGroup>);

impl Groups {
    /// Those that were saved; none if there is no file. An unreadable one is set aside: the manager
    /// tells them again.
    pub(super) fn load(layout: &Layout) -> Self {
        let file = layout.networks();
        let saved = fs_err::read(&file).and_then(|content| {
            serde_json::from_slice::<Vec<PortGroup>>(&content).map_err(io::Error::from)
        });
        match saved {
            Ok(saved) => Self::of(saved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                let aside = whole_file::set_aside(&file);
                tracing::warn!(%error, ?aside, "the saved port groups cannot be read and were set aside");
                Self::default()
            }
        }
    }

    /// Saves what the manager says.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(layout: &Layout, groups: &[PortGroup]) -> io::Result<()> {
        let content = serde_json::to_vec_pretty(groups).expect("port groups are plain data");
        whole_file::replace(&layout.networks(), &content)
    }

    pub(super) fn of(groups: Vec<PortGroup>) -> Self {
        Self(groups.into_iter().map(|group| (group.id, group)).collect())
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &PortGroup> + Clone {
        self.0.values()
    }

    /// The VLANs that are parts of a private one, and which, of all groups: guests of a part may be
    /// on other hosts alone.
    pub(super) fn parts(&self) -> impl Iterator<Item = (VlanId, VlanId)> {
        self.0.values().filter_map(|group| {
            let part = match group.policy.private? {
                PrivatePart::Promiscuous => return None,
                PrivatePart::Isolated(own) | PrivatePart::Community(own) => own,
            };
            Some((VlanId::new(part)?, VlanId::new(group.vlan)?))
        })
    }

    /// Which of the host's switches a NIC of its own is an uplink of; 0 for none.
    pub(super) fn domain_of(&self, nic: &NicName) -> u64 {
        let has = |group: &&PortGroup| {
            let uplinks = group.uplinks.as_ref();
            uplinks.is_none_or(|names| names.iter().any(|name| name == nic.as_str()))
        };
        self.0.values().find(has).map_or(0, domain)
    }

    /// Those of the host's uplinks that are the switch's of a group.
    fn own(
        &self,
        group: Option<&PortGroup>,
        uplinks: &[(NicName, PortId)],
    ) -> Vec<(NicName, PortId)> {
        let domain = group.map_or(0, domain);
        let names = group.and_then(|group| group.uplinks.as_ref());
        let is_own = |(nic, _): &&(NicName, PortId)| match names {
            Some(names) => names.iter().any(|name| name == nic.as_str()),
            // A guest whose group is not known keeps away from switches that are.
            None => domain != 0 || self.domain_of(nic) == 0,
        };
        uplinks.iter().filter(is_own).cloned().collect()
    }

    /// What holds for the port of a NIC, of a host with these uplinks.
    ///
    /// # Errors
    /// A VLAN that no frame can carry, in words.
    pub(super) fn config_of(
        &self,
        nic: &Nic,
        uplinks: &[(NicName, PortId)],
    ) -> Result<PortConfig, String> {
        let strict = NetworkPolicy::default();
        let group = self.0.get(&nic.network);
        let (number, policy) = match group {
            Some(group) => (group.vlan, &group.policy),
            None => (nic.vlan, &strict),
        };
        let role = PortRole::Guest(MacAddress::new(nic.mac));
        let config = PortConfig::new(role, mode(number, policy)?);
        Ok(PortConfig {
            security: Security {
                promiscuous: policy.promiscuous,
                mac_changes: policy.mac_changes,
                forged_transmits: policy.forged_transmits,
                mac_learning: policy.mac_learning,
            },
            mtu: policy.mtu,
            storm: StormLimits {
                broadcast: policy.broadcast_limit,
                multicast: policy.multicast_limit,
                unknown: None,
            },
            shaping_in: policy.shaping_in.map(shaping),
            // What is sent to a guest waits until it may go, instead of being dropped by the switch.
            shaping_out: None,
            team: Some(team(&policy.teaming, &self.own(group, uplinks)).into()),
            is_blocked: policy.blocked,
            domain: group.map_or(0, domain),
            ..config
        })
    }
}

impl Groups {
    /// Whether the guest of a NIC is held to its addresses, and whether its questions for addresses
    /// are answered.
    pub(super) fn protection_of(&self, nic: &Nic) -> (bool, bool) {
        let policy = self.0.get(&nic.network).map(|group| &group.policy);
        policy.map_or((false, false), |policy| (policy.spoof_guard, policy.arp_suppression))
    }

    /// What the guest of a NIC may be sent.
    pub(super) fn shaping_of(&self, nic: &Nic) -> Option<rate::Shaping> {
        self.0.get(&nic.network).and_then(|group| group.policy.shaping_out).map(shaping)
    }
}

/// Guests of two switches of a host meet beyond their uplinks only.
fn domain(group: &PortGroup) -> u64 {
    group.switch.map_or(0, SwitchId::raw)
}

fn mode(number: u16, policy: &NetworkPolicy) -> Result<PortMode, String> {
    let vlan = vlan(number)?;
    if let Some(part) = policy.private {
        let part = match part {
            PrivatePart::Promiscuous => port::PrivatePart::Promiscuous,
            PrivatePart::Isolated(own) => port::PrivatePart::Isolated(self::vlan(own)?),
            PrivatePart::Community(own) => port::PrivatePart::Community(self::vlan(own)?),
        };
        return Ok(PortMode::Private { primary: vlan, part });
    }
    if policy.trunk.is_empty() {
        return Ok(PortMode::Access(vlan));
    }
    let tagged = policy.trunk.iter().flat_map(|(first, last)| *first..=*last);
    let allowed = tagged.filter_map(VlanId::new).chain([vlan]).collect();
    Ok(PortMode::Trunk { native: vlan, allowed })
}

fn vlan(number: u16) -> Result<VlanId, String> {
    VlanId::new(number).ok_or_else(|| format!("VLAN {number} is above {}", VlanId::MAX))
}

/// Kilobits and kibibytes as bytes.
const fn shaping(shaping: Shaping) -> rate::Shaping {
    rate::Shaping {
        average: shaping.average_kbps.saturating_mul(125),
        peak: shaping.peak_kbps.saturating_mul(125),
        burst: shaping.burst_kib.saturating_mul(1024),
    }
}

fn team(teaming: &Teaming, uplinks: &[(NicName, PortId)]) -> Team {
    let policy = match teaming.policy {
        TeamingPolicy::OriginatingPort => team::Teaming::OriginatingPort,
        TeamingPolicy::SourceMac => team::Teaming::SourceMac,
        TeamingPolicy::IpHash => team::Teaming::IpHash,
        TeamingPolicy::Explicit => team::Teaming::Explicit,
    };
    let named = |names: &[String]| {
        let find = |name: &String| uplinks.iter().find(|(nic, _)| nic.as_str() == name);
        names.iter().filter_map(find).map(|(_, port)| *port).collect::<Vec<_>>()
    };
    let standby = named(&teaming.standby);
    let active = match &teaming.active[..] {
        [] => uplinks.iter().map(|(_, port)| *port).filter(|it| !standby.contains(it)).collect(),
        names => named(names),
    };
    Team::new(policy, active, standby, teaming.failback)
}

#[cfg(test)]
mod tests {
    use racknest_switch::{Switch, frame::Tag};

    use super::*;

    fn nic() -> Nic {
        let network = NetworkId::from_raw(1);
        let (connected, address, port) = (true, None, None);
        Nic { key: 1, mac: [2, 0, 0, 0, 0, 7], network, vlan: 10, connected, address, port }
    }

    fn config(policy: NetworkPolicy) -> PortConfig {
        let group = PortGroup {
            id: NetworkId::from_raw(1),
            name: "web".into(),
            vlan: 20,
            policy,
            services: None,
            switch: None,
            uplinks: None,
        };
        let mut switch = Switch::default();
        let uplinks = ["vmnic0", "vmnic1", "vmnic2"]
            .map(|nic| (nic.parse().unwrap(), switch.add_port(PortMode::trunk())));
        Groups::of(vec![group]).config_of(&nic(), &uplinks).unwrap()
    }

    #[test]
    fn a_guest_of_an_unknown_group_has_its_vlan_and_the_strictest_policy() {
        let config = Groups::default().config_of(&nic(), &[]).unwrap();
        assert_eq!(config.mode, PortMode::Access(VlanId::new(10).unwrap()));
        assert_eq!(config.security, Security::default());
    }

    #[test]
    fn the_group_says_what_holds() {
        let teaming = Teaming { standby: vec!["vmnic1".into()], ..Teaming::default() };
        let policy = NetworkPolicy {
            promiscuous: true,
            mtu: 9_000,
            shaping_in: Some(Shaping { average_kbps: 8, peak_kbps: 16, burst_kib: 1 }),
            teaming,
            ..NetworkPolicy::default()
        };
        let config = config(policy);
        assert_eq!(config.mode, PortMode::Access(VlanId::new(20).unwrap()));
        assert!(config.security.promiscuous && !config.security.forged_transmits);
        let shaping = rate::Shaping { average: 1_000, peak: 2_000, burst: 1_024 };
        assert_eq!(config.shaping_in, Some(shaping));
        let team = config.team.unwrap();
        let numbers: Vec<u32> = team.active.iter().map(|port| port.number()).collect();
        assert_eq!((numbers, team.standby.len()), (vec![0, 2], 1));
    }

    #[test]
    fn guests_that_tag_their_frames_have_the_vlans_of_their_trunk() {
        let policy = NetworkPolicy { trunk: vec![(30, 31)], ..NetworkPolicy::default() };
        let mode = config(policy).mode;
        let number = |tag| mode.classify(tag).map(VlanId::get);
        assert_eq!(number(Tag::Untagged), Some(20));
        assert_eq!(number(Tag::Vlan(VlanId::new(31).unwrap())), Some(31));
        assert_eq!(number(Tag::Vlan(VlanId::new(32).unwrap())), None);
    }
}
