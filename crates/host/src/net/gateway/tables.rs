//! What the manager says of networks, in the gateway's words.

use std::collections::BTreeMap;

use racknest_cluster::record::services::{FirewallRule, Party, Protocol, Verdict};
use racknest_cluster::wire::PortGroup;
use racknest_gateway::firewall::{self, Firewall, Rule};
use racknest_gateway::{Lease, Network, packet};
use racknest_switch::MacAddress;
use racknest_types::id::NetworkId;
use racknest_types::subnet::Subnet;

/// The networks that have a gateway.
pub(in super::super) fn networks<'a>(
    groups: impl Iterator<Item = &'a PortGroup> + Clone,
) -> Vec<Network> {
    let subnet = |group: &PortGroup| Some((group.id, group.services.as_ref()?.services.subnet));
    let subnets = groups.clone().filter_map(subnet).collect();
    groups.filter_map(|group| network(group, &subnets)).collect()
}

fn network(group: &PortGroup, subnets: &BTreeMap<NetworkId, Subnet>) -> Option<Network> {
    let told = group.services.as_ref()?;
    let services = &told.services;
    let lease = |lease: &racknest_cluster::wire::switching::Lease| Lease {
        card: MacAddress::new(lease.mac),
        address: lease.address,
        name: lease.name.clone(),
    };
    let leases = told.leases.iter().map(lease).collect();
    let rules = services.firewall.rules.iter().map(|it| rule(it, subnets)).collect();
    Some(Network {
        gateway: services.gateway,
        card: MacAddress::new(told.card),
        mtu: group.policy.mtu,
        dhcp: services.dhcp,
        dns: services.dns,
        domain: services.domain.clone(),
        nat: services.nat,
        routed: services.routed,
        firewall: Firewall {
            rules,
            is_allowed_else: services.firewall.otherwise == Verdict::Allow,
        },
        ..Network::new(group.id, services.subnet, leases)
    })
}

fn rule(rule: &FirewallRule, subnets: &BTreeMap<NetworkId, Subnet>) -> Rule {
    let party = |party: Party| match party {
        Party::Any => firewall::Party::Any,
        Party::Addresses(subnet) => firewall::Party::Within(subnet),
        Party::Network(id) => match subnets.get(&id) {
            Some(subnet) => firewall::Party::Within(*subnet),
            None => firewall::Party::Nobody,
        },
    };
    Rule {
        is_allowed: rule.verdict == Verdict::Allow,
        from: party(rule.from),
        to: party(rule.to),
        protocol: rule.protocol.map(|protocol| match protocol {
            Protocol::Icmp => packet::ICMP,
            Protocol::Tcp => packet::TCP,
            Protocol::Udp => packet::UDP,
        }),
        ports: rule.ports,
    }
}
