//! What a network does for its guests: addresses, names, a firewall, and ports that lead to them.

use racknest_types::id::{NetworkId, VmId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists who has which address on the networks that have a subnet.
    NetworkLeases = "network_leases": Get "/api/v1/network-leases",
        access Privilege("System.Read"), query NetworkLeaseFilter, answer Json(Page<NetworkLease>);
    /// Lists the rules of a network's firewall, in order; what no rule fits comes last.
    NetworkFirewall = "network_firewall": Get "/api/v1/networks/{network}/firewall",
        access Privilege("System.Read"), answer Json(Page<NetworkFirewallRule>);
    /// Has a port of the machine lead to a port of a VM's guest.
    NetworkForward = "network_forward": Post "/api/v1/network-forwards",
        access Privilege("DVPortgroup.Modify"), body Json(NewForward), answer Created(Forward);
    /// Lists the ports of the machine that lead to guests.
    NetworkForwards = "network_forwards": Get "/api/v1/network-forwards",
        access Privilege("System.Read"), answer Json(Page<Forward>);
    /// Has a port of the machine lead nowhere any more.
    NetworkUnforward = "network_unforward": Delete "/api/v1/network-forwards/{forward}",
        access Privilege("DVPortgroup.Modify"), answer Empty(Nothing);
}

/// Which leases to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkLeaseFilter {
    /// Those of networks whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A card, and the address that it has on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkLease {
    /// The network.
    pub network: Reference<NetworkId>,
    /// The address.
    pub address: String,
    /// The card.
    pub mac: String,
    /// Its name, with the domain; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The VM; absent for a card that only has an address kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Reference<VmId>>,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirewallAction {
    /// It passes, and so do its answers.
    Allow,
    /// It is dropped.
    Deny,
}

/// A protocol over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkProtocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
    /// Echoes and errors.
    Icmp,
}

/// A rule of a firewall. What is absent fits everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// What becomes of connections that it fits.
    pub action: FirewallAction,
    /// Who begins them: a network, or addresses as in `10.1.0.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whom they are to: a network, or addresses as in `10.1.0.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Their protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<NetworkProtocol>,
    /// The ports that they are to, as in `80` or `8000-8100`; of TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

/// A rule of a firewall, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkFirewallRule {
    /// Its place, from 1; absent for what no rule fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// What becomes of connections that it fits.
    pub action: FirewallAction,
    /// Who begins them; absent for anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whom they are to; absent for anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Their protocol; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<NetworkProtocol>,
    /// The ports that they are to; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

/// An address that is kept for a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// The card.
    pub mac: String,
    /// Its address.
    pub address: String,
    /// Its name, if it is no VM's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A port of the machine that leads to a port of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Its number, by which it is removed.
    pub number: u64,
    /// Where the manager listens: `127.0.0.1:10080`.
    pub listen: String,
    /// TCP or UDP.
    pub protocol: NetworkProtocol,
    /// The VM.
    pub vm: Reference<VmId>,
    /// The network by which it is reached.
    pub network: Reference<NetworkId>,
    /// The port of its guest.
    pub port: u16,
    /// The address of its guest; absent if it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why nobody can connect, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A forward to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewForward {
    /// The VM: id, name or path.
    pub vm: String,
    /// The port of its guest.
    pub port: u16,
    /// Where the manager listens, as in `0.0.0.0:8080`; a free port of 127.0.0.1 if absent, 10000
    /// above the guest's where that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// TCP or UDP; TCP if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<NetworkProtocol>,
    /// The network by which it is reached: id or name; the VM's first that has a subnet if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}
