//! Addresses and names on networks that have a subnet: who gets which, and what hosts are told.
//!
//! An address is given once, when an adapter comes onto the network, and stays with the adapter until
//! it leaves: a VM keeps it while it is off, and on whichever host it runs. Hosts are told the whole
//! table and only look up, so that they answer their guests also while the manager is away.
//!
//! **Invariant:** on a network, an address is of one adapter at most, and never the gateway's.
//! [`Inventory::assert_invariants`] checks it through the index, which has one holder for each.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, NetworkId, VmId};
use racknest_types::subnet::Subnet;

use super::Inventory;
use super::index::Index;
use super::nic::{Mac, shown};
use crate::record::host::DriverKind;
use crate::record::network::NetworkRecord;
use crate::record::services::{FirewallRule, Party, Protocol, Services};
use crate::record::vm::{Nic, VmRecord};
use crate::wire::switching::{GroupServices, Lease};

/// The shortest and the longest prefix of a network's subnet: 65,534 guests to 2.
const PREFIXES: core::ops::RangeInclusive<u8> = 16..=30;

/// Addresses that are kept for cards, on one network.
const RESERVATIONS_MAX: usize = 1_024;

/// Rules of one firewall: each new connection goes through all of them.
const RULES_MAX: usize = 256;

/// The longest label of a name (RFC 1035).
const LABEL_MAX: usize = 63;

/// The longest domain, so that the longest label still fits before it.
const DOMAIN_MAX: usize = 180;

/// What the card of a host's gateway begins with; three bytes of the host's number follow.
const CARD_HEAD: [u8; 3] = [0x02, 0x72, 0x6e];

impl Inventory {
    /// Refuses services that no host could keep, or that two networks cannot both have.
    pub(super) fn check_services(&self, network: &NetworkRecord) -> Result<(), Fault> {
        let Some(services) = &network.services else { return Ok(()) };
        check_form(services)
            .and_then(|()| self.check_firewall(services))
            .and_then(|()| self.check_neighbours(network, services))
            .map_err(|why| Fault::invalid(format!("network '{}': {why}", network.name)))
    }

    fn check_firewall(&self, services: &Services) -> Result<(), String> {
        for (number, rule) in (1..).zip(&services.firewall.rules) {
            check_rule(rule).map_err(|why| format!("firewall rule {number}: {why}"))?;
            for party in [rule.from, rule.to] {
                if let Party::Network(id) = party
                    && !self.networks.contains_key(&id)
                {
                    return Err(format!("firewall rule {number}: there is no network {id}"));
                }
            }
        }
        Ok(())
    }

    /// One VLAN has one gateway, and an address of the routed networks has one meaning.
    fn check_neighbours(&self, network: &NetworkRecord, services: &Services) -> Result<(), String> {
        for other in self.networks.values().filter(|other| other.id != network.id) {
            let Some(theirs) = &other.services else { continue };
            if other.vlan == network.vlan {
                return Err(format!(
                    "network '{}' has a subnet on VLAN {} already; give this one another VLAN",
                    other.name, network.vlan
                ));
            }
            if services.routed && theirs.routed && services.subnet.overlaps(theirs.subnet) {
                return Err(format!(
                    "its subnet {} overlaps {} of network '{}', and both are routed",
                    services.subnet, theirs.subnet, other.name
                ));
            }
        }
        Ok(())
    }

    /// Refuses to delete a network of which a firewall speaks.
    pub(super) fn check_not_in_rules(&self, id: NetworkId) -> Result<(), Fault> {
        let speaks = |network: &&NetworkRecord| {
            let rules = network.services.iter().flat_map(|it| &it.firewall.rules);
            let mut parties = rules.flat_map(|rule| [rule.from, rule.to]);
            network.id != id && parties.any(|party| party == Party::Network(id))
        };
        match self.networks.values().find(speaks) {
            None => Ok(()),
            Some(holder) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "the firewall of network '{}' speaks of {}; change its rules first",
                    holder.name,
                    self.describe(id.into())
                ),
            )),
        }
    }

    /// Brings the addresses of a network's adapters in line with its services.
    pub(super) fn settle_network(&mut self, id: NetworkId) {
        let attached = self.vms_attached(id).map(|vm| vm.id).collect::<Vec<_>>();
        // Those that lose theirs first: they may be in the place of a card for which it is kept.
        let (kept, others): (Vec<_>, Vec<_>) =
            attached.into_iter().partition(|vm| self.keeps_addresses(*vm, id));
        for vm in others.into_iter().chain(kept) {
            self.update_vm(vm, |_| {});
        }
        self.networks_stale = true;
    }

    fn keeps_addresses(&self, vm: VmId, network: NetworkId) -> bool {
        let Some(services) = self.networks.get(&network).and_then(|it| it.services.as_ref()) else {
            return false;
        };
        let Some(vm) = self.vms.get(&vm) else { return false };
        let mut nics = vm.config.nics.iter().filter(|nic| nic.network == network);
        nics.all(|nic| match services.reserved(nic.mac) {
            Some(_) => true,
            None => nic.address.is_some_and(|address| is_for_guests(services, address)),
        })
    }

    /// Who has which address on a network, as hosts and users see it; cards of which nothing but a
    /// reservation is known come last.
    #[must_use]
    pub fn leases(&self, id: NetworkId) -> Vec<(Lease, Option<VmId>)> {
        let Some(services) = self.networks.get(&id).and_then(|it| it.services.as_ref()) else {
            return Vec::new();
        };
        let holders = self.index.addresses_on(id).map(|(_, vm)| vm).collect::<BTreeSet<_>>();
        let mut leases = Vec::new();
        for vm in holders.into_iter().filter_map(|vm| self.vms.get(&vm)) {
            for nic in vm.config.nics.iter().filter(|nic| nic.network == id) {
                let Some(address) = nic.address else { continue };
                let lease = Lease { mac: nic.mac, address, name: label(&vm.name) };
                leases.push((lease, Some(vm.id)));
            }
        }
        let is_known = |mac: Mac| leases.iter().any(|(lease, _)| lease.mac == mac);
        let reserved = services.reservations.iter().filter(|it| !is_known(it.mac));
        let reserved = reserved.map(|it| {
            let lease = Lease { mac: it.mac, address: it.address, name: it.name.clone() };
            (lease, None)
        });
        let reserved = reserved.collect::<Vec<_>>();
        leases.extend(reserved);
        leases
    }

    /// What a host is told of a network's services. Simulated guests send no frames: their hosts are
    /// spared a table that they would never look into.
    pub(super) fn services_for(&self, host: HostId, id: NetworkId) -> Option<GroupServices> {
        let is_real = self.hosts.get(&host).is_some_and(|it| it.driver != DriverKind::Simulated);
        let services = self.networks.get(&id)?.services.as_ref().filter(|_| is_real)?;
        let leases = self.leases(id).into_iter().map(|(lease, _)| lease).collect();
        Some(GroupServices { services: services.clone(), card: card_of(host), leases })
    }
}

/// The card of a host's gateway, by which routed frames leave it: one for each host, because a card
/// that is behind two ports of a physical switch at once looks like a loop.
fn card_of(host: HostId) -> Mac {
    let [.., high, middle, low] = host.raw().to_be_bytes();
    let [first, second, third] = CARD_HEAD;
    [first, second, third, high, middle, low]
}

/// Gives the adapters of a VM their addresses: what is kept for them, what they have, or the lowest
/// that is free. The VM is not in the index. None if there is no subnet, or no address left.
pub(super) fn settle(
    networks: &BTreeMap<NetworkId, NetworkRecord>,
    index: &Index,
    vm: &mut VmRecord,
) {
    let mut own = BTreeSet::new();
    for nic in &mut vm.config.nics {
        let services = networks.get(&nic.network).and_then(|it| it.services.as_ref());
        nic.address = services.and_then(|services| {
            let is_free = |address: &Ipv4Addr| {
                index.address_holder(nic.network, *address).is_none()
                    && !own.contains(&(nic.network, *address))
            };
            if let Some(address) = services.reserved(nic.mac).filter(is_free) {
                return Some(address);
            }
            let had = nic.address.filter(|address| is_for_guests(services, *address));
            had.filter(is_free).or_else(|| lowest_free(services, is_free))
        });
        own.extend(nic.address.map(|address| (nic.network, address)));
    }
}

/// Whether two states of a VM differ in what its networks say of it.
pub(super) fn leases_of(vm: &VmRecord) -> Vec<(NetworkId, Mac, Ipv4Addr)> {
    let told = |nic: &Nic| Some((nic.network, nic.mac, nic.address?));
    vm.config.nics.iter().filter_map(told).collect()
}

fn lowest_free(services: &Services, is_free: impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let (first, last) = services.range;
    let all = (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits);
    all.filter(|address| is_for_guests(services, *address)).find(is_free)
}

/// Whether an address may be given to a guest for whom none is kept.
fn is_for_guests(services: &Services, address: Ipv4Addr) -> bool {
    let is_kept = || services.reservations.iter().any(|it| it.address == address);
    services.subnet.has_host(address) && address != services.gateway && !is_kept()
}

/// Whether the services are possible by themselves.
fn check_form(services: &Services) -> Result<(), String> {
    let Services { subnet, gateway, range: (first, last), .. } = *services;
    let (shortest, longest) = (PREFIXES.start(), PREFIXES.end());
    if !PREFIXES.contains(&subnet.prefix()) {
        return Err(format!("its subnet {subnet} is not between /{shortest} and /{longest}"));
    }
    if !is_usual(subnet.address()) {
        return Err(format!("{subnet} has a meaning of its own; choose one as 10.1.0.0/24"));
    }
    for (what, address) in [("gateway", gateway), ("first", first), ("last", last)] {
        if !subnet.has_host(address) {
            return Err(format!("its {what} address {address} is no guest's address of {subnet}"));
        }
    }
    if first > last {
        return Err(format!("its range {first}-{last} ends before it begins"));
    }
    if !is_domain(&services.domain) {
        return Err(format!(
            "'{}' is no domain; write letters, digits and dashes between dots, as in lab",
            services.domain
        ));
    }
    if services.firewall.rules.len() > RULES_MAX {
        return Err(format!("a firewall has at most {RULES_MAX} rules"));
    }
    check_reservations(services)
}

fn check_reservations(services: &Services) -> Result<(), String> {
    let all = &services.reservations;
    if all.len() > RESERVATIONS_MAX {
        return Err(format!("it keeps at most {RESERVATIONS_MAX} addresses for cards"));
    }
    let (mut macs, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for it in all {
        let (subnet, address) = (services.subnet, it.address);
        if !subnet.has_host(address) || address == services.gateway {
            return Err(format!("{address} cannot be kept: it is no guest's address of {subnet}"));
        }
        if !macs.insert(it.mac) {
            return Err(format!("two addresses are kept for {}", shown(it.mac)));
        }
        if !addresses.insert(address) {
            return Err(format!("{address} is kept for two cards"));
        }
        if !it.name.is_empty() && !is_label(&it.name) {
            return Err(format!(
                "'{}' is no name of a machine; write letters, digits and dashes",
                it.name
            ));
        }
    }
    Ok(())
}

fn check_rule(rule: &FirewallRule) -> Result<(), String> {
    match (rule.ports, rule.protocol) {
        (None, _) => Ok(()),
        (Some((first, last)), _) if first > last => {
            Err(format!("its ports {first}-{last} end before they begin"))
        }
        (Some(_), Some(Protocol::Tcp | Protocol::Udp)) => Ok(()),
        (Some(_), Some(Protocol::Icmp) | None) => Err("ports are of tcp or udp; name one".into()),
    }
}

/// Whether guests may have addresses of this kind.
fn is_usual(address: Ipv4Addr) -> bool {
    let zero = Subnet::of(Ipv4Addr::UNSPECIFIED, 8);
    !(zero.contains(address)
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.octets()[0] >= 240)
}

fn is_domain(domain: &str) -> bool {
    domain.len() <= DOMAIN_MAX && domain.split('.').all(is_label)
}

/// Lower case only: names are compared without regard to case, and shown in one way.
fn is_label(label: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(is_fine)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A VM's name as a name of a machine (RFC 1123): `Web 01` is `web-01`. Empty if nothing remains.
#[must_use]
pub fn label(name: &str) -> String {
    let usual = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    };
    let label = name.chars().map(usual).take(LABEL_MAX).collect::<String>();
    label.trim_matches('-').into()
}
