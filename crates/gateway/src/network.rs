//! What a gateway knows of a network: its services, and who has which address and name.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_switch::MacAddress;
use racknest_types::id::NetworkId;
use racknest_types::subnet::Subnet;

use crate::firewall::Firewall;

/// Cards besides those with a lease that are kept of one network: nested guests, and guests that use
/// another address than theirs. What is more is not routed to.
const HEARD_MAX: usize = 1_024;

/// The name of the gateway in its domain.
pub const GATEWAY_NAME: &str = "gateway";

/// A card, and the address and name that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The card.
    pub card: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name without the domain, in lower case; empty for none.
    pub name: String,
}

/// A network whose guests have a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Which one.
    pub id: NetworkId,
    /// Its addresses.
    pub subnet: Subnet,
    /// The address of the gateway.
    pub gateway: Ipv4Addr,
    /// The card in whose name the gateway of this host sends.
    pub card: MacAddress,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// Whether guests are told their addresses.
    pub dhcp: bool,
    /// Whether guests are told addresses by name.
    pub dns: bool,
    /// What names end with, without a dot at either end, in lower case.
    pub domain: String,
    /// Whether there is a way to the outside.
    pub nat: bool,
    /// Whether there is a way to other networks that are routed.
    pub routed: bool,
    /// What may pass the gateway.
    pub firewall: Firewall,
    /// Who has which address.
    pub leases: Leases,
}

/// Who has which address and name on a network.
///
/// ```
/// use racknest_gateway::Lease;
/// use racknest_gateway::network::Leases;
///
/// let card = "02:00:00:00:00:07".parse().unwrap();
/// let lease = Lease { card, address: [10, 1, 0, 7].into(), name: "web01".into() };
/// let leases = Leases::new(vec![lease]);
/// assert_eq!(leases.named("web01").count(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    all: Vec<Lease>,
    by_card: BTreeMap<MacAddress, usize>,
    by_address: BTreeMap<Ipv4Addr, usize>,
    /// Cards that were heard to use an address that nobody has.
    heard: BTreeMap<Ipv4Addr, MacAddress>,
}

impl Leases {
    /// These, and nobody heard.
    #[must_use]
    pub fn new(all: Vec<Lease>) -> Self {
        let places = || all.iter().enumerate();
        Self {
            by_card: places().map(|(place, lease)| (lease.card, place)).collect(),
            by_address: places().map(|(place, lease)| (lease.address, place)).collect(),
            heard: BTreeMap::new(),
            all,
        }
    }

    /// The lease of a card.
    #[must_use]
    pub fn of(&self, card: MacAddress) -> Option<&Lease> {
        self.all.get(*self.by_card.get(&card)?)
    }

    /// The lease with an address.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.all.get(*self.by_address.get(&address)?)
    }

    /// The leases with a name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Lease> {
        self.all.iter().filter(move |lease| !name.is_empty() && lease.name == name)
    }
}

impl Network {
    /// A network with these leases, of which nothing else is said: no services at all.
    ///
    /// ```
    /// use racknest_gateway::{Lease, Network};
    /// use racknest_types::id::NetworkId;
    ///
    /// let card = "02:00:00:00:00:07".parse().unwrap();
    /// let lease = Lease { card, address: [10, 1, 0, 7].into(), name: "web01".into() };
    /// let subnet = "10.1.0.0/24".parse().unwrap();
    /// let network = Network::new(NetworkId::from_raw(1), subnet, vec![lease]);
    /// assert_eq!(network.card_of([10, 1, 0, 7].into()), Some(card));
    /// ```
    #[must_use]
    pub fn new(id: NetworkId, subnet: Subnet, leases: Vec<Lease>) -> Self {
        Self {
            id,
            subnet,
            gateway: Ipv4Addr::from_bits(subnet.address().to_bits().saturating_add(1)),
            card: MacAddress::new([0x02, 0, 0, 0, 0, 0]),
            mtu: racknest_switch::port::MTU,
            dhcp: false,
            dns: false,
            domain: String::new(),
            nat: false,
            routed: false,
            firewall: Firewall::default(),
            leases: Leases::new(leases),
        }
    }

    /// The card that has an address, by its lease or as it was heard.
    #[must_use]
    pub fn card_of(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let lease = self.leases.at(address).map(|lease| lease.card);
        lease.or_else(|| self.leases.heard.get(&address).copied())
    }

    /// Whether a card may use an address: not the gateway's, and not one that is another card's.
    pub(crate) fn may_use(&self, card: MacAddress, address: Ipv4Addr) -> bool {
        self.subnet.has_host(address)
            && address != self.gateway
            && self.leases.at(address).is_none_or(|lease| lease.card == card)
    }

    /// Keeps that a card uses an address.
    pub(crate) fn hear(&mut self, card: MacAddress, address: Ipv4Addr) {
        let is_news = self.leases.at(address).is_none() && self.may_use(card, address);
        let heard = &mut self.leases.heard;
        if is_news && (heard.contains_key(&address) || heard.len() < HEARD_MAX) {
            heard.insert(address, card);
        }
    }

    /// Takes over what another state of this network has heard.
    pub(crate) fn keep_heard(&mut self, before: Self) {
        for (address, card) in before.leases.heard {
            self.hear(card, address);
        }
    }
}
