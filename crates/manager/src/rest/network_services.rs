//! What networks do for their guests: addresses, names, firewalls, and ports that lead to guests.

use std::net::{Ipv4Addr, SocketAddrV4};

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::network::{Network, NetworkPatch};
use racknest_api::v1::network_services::{
    FirewallAction, FirewallRule, Forward, NetworkFirewall, NetworkFirewallRule, NetworkForward,
    NetworkForwards, NetworkLease, NetworkLeases, NetworkProtocol, NetworkUnforward, Reservation,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::forward::NewForward;
use racknest_cluster::record::services::{self as record, Party, Services, Verdict};
use racknest_types::fault::Fault;
use racknest_types::id::NetworkId;
use racknest_types::subnet::Subnet;

use super::call::{Call, View};
use super::convert::{fits, reference};
use super::routes::Routes;
use super::vm_spec::mac;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkLeases, _>(leases)
        .on::<NetworkFirewall, _>(firewall)
        .on::<NetworkForward, _>(forward)
        .on::<NetworkForwards, _>(forwards)
        .on::<NetworkUnforward, _>(unforward)
}

/// What a network does, written into what is shown of it.
pub(super) fn shown(
    inventory: &Inventory,
    services: Option<&Services>,
    network: Network,
) -> Network {
    let Some(services) = services else { return network };
    let (first, last) = services.range;
    let reservation = |it: &record::Reservation| Reservation {
        mac: written(it.mac),
        address: it.address.to_string(),
        name: Some(it.name.clone()).filter(|name| !name.is_empty()),
    };
    Network {
        subnet: Some(services.subnet.to_string()),
        gateway: Some(services.gateway.to_string()),
        dhcp: Some(services.dhcp),
        dhcp_range: Some(format!("{first}-{last}")),
        dns: Some(services.dns),
        dns_domain: Some(services.domain.clone()),
        nat: Some(services.nat),
        routed: Some(services.routed),
        firewall: services.firewall.rules.iter().map(|it| rule(inventory, it)).collect(),
        firewall_default: Some(action(services.firewall.otherwise)),
        reservations: services.reservations.iter().map(reservation).collect(),
        ..network
    }
}

/// The services after a change; the outer `None` if they stay as they are.
pub(super) fn changed(
    view: &View<'_>,
    known: Option<&Services>,
    patch: &NetworkPatch,
) -> Result<Option<Option<Services>>, Fault> {
    let mut services = match (patch.subnet.as_deref(), known) {
        (None, None) if is_touched(patch) => {
            return Err(Fault::invalid(
                "the network does nothing for its guests yet; give it a subnet, as in 10.1.0.0/24",
            ));
        }
        (None, None) => return Ok(None),
        (Some(""), _) => return Ok(Some(None)),
        (None, Some(known)) => known.clone(),
        (Some(text), known) => moved(known, subnet(text)?),
    };
    let set = |to: &mut bool, wanted: Option<bool>| *to = wanted.unwrap_or(*to);
    set(&mut services.dhcp, patch.dhcp);
    set(&mut services.dns, patch.dns);
    set(&mut services.nat, patch.nat);
    set(&mut services.routed, patch.routed);
    if let Some(gateway) = &patch.gateway {
        services.gateway = address(gateway)?;
    }
    if let Some(range) = &patch.dhcp_range {
        let ends = range.split_once('-').ok_or_else(|| {
            Fault::invalid(format!("'{range}' is no range; write 10.1.0.100-10.1.0.200"))
        })?;
        services.range = (address(ends.0.trim())?, address(ends.1.trim())?);
    }
    if let Some(domain) = &patch.dns_domain {
        services.domain = domain.trim_end_matches('.').to_ascii_lowercase();
    }
    change_firewall(view, &mut services.firewall, patch)?;
    change_reservations(&mut services, patch)?;
    Ok(Some(Some(services)))
}

/// Whether a patch speaks of services besides the subnet.
fn is_touched(patch: &NetworkPatch) -> bool {
    let switches = [patch.dhcp, patch.dns, patch.nat, patch.routed, patch.firewall_clear];
    let words = [&patch.gateway, &patch.dhcp_range, &patch.dns_domain];
    switches.iter().any(Option::is_some)
        || words.iter().any(|word| word.is_some())
        || patch.firewall.is_some()
        || patch.firewall_default.is_some()
        || patch.reservations.is_some()
        || patch.remove_reservations.is_some()
}

/// The same services for other addresses: what was said of the old addresses is not kept.
fn moved(known: Option<&Services>, subnet: Subnet) -> Services {
    let fresh = Services::new(subnet);
    match known {
        None => fresh,
        Some(known) if known.subnet == subnet => known.clone(),
        Some(known) => Services {
            gateway: fresh.gateway,
            range: fresh.range,
            reservations: Vec::new(),
            subnet,
            ..known.clone()
        },
    }
}

fn change_firewall(
    view: &View<'_>,
    firewall: &mut record::Firewall,
    patch: &NetworkPatch,
) -> Result<(), Fault> {
    if patch.firewall_clear == Some(true) {
        firewall.rules.clear();
    }
    if let Some(rules) = &patch.firewall {
        firewall.rules = rules.iter().map(|it| read_rule(view, it)).collect::<Result<_, _>>()?;
    }
    if let Some(action) = patch.firewall_default {
        firewall.otherwise = verdict(action);
    }
    Ok(())
}

fn change_reservations(services: &mut Services, patch: &NetworkPatch) -> Result<(), Fault> {
    for text in patch.remove_reservations.iter().flatten() {
        let gone = mac(text)?;
        let before = services.reservations.len();
        services.reservations.retain(|it| it.mac != gone);
        if services.reservations.len() == before {
            return Err(Fault::not_found(format!("an address that is kept for {text}")));
        }
    }
    for new in patch.reservations.iter().flatten() {
        let kept = record::Reservation {
            mac: mac(&new.mac)?,
            address: address(&new.address)?,
            name: new.name.clone().unwrap_or_default().to_ascii_lowercase(),
        };
        services.reservations.retain(|it| it.mac != kept.mac);
        services.reservations.push(kept);
    }
    Ok(())
}

fn subnet(text: &str) -> Result<Subnet, Fault> {
    text.parse().map_err(|error| Fault::invalid(format!("{error}")))
}

fn address(text: &str) -> Result<Ipv4Addr, Fault> {
    let bad = |_| Fault::invalid(format!("'{text}' is no address; write four numbers: 10.1.0.1"));
    text.parse().map_err(bad)
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

const fn verdict(action: FirewallAction) -> Verdict {
    match action {
        FirewallAction::Allow => Verdict::Allow,
        FirewallAction::Deny => Verdict::Deny,
    }
}

const fn action(verdict: Verdict) -> FirewallAction {
    match verdict {
        Verdict::Allow => FirewallAction::Allow,
        Verdict::Deny => FirewallAction::Deny,
    }
}

const fn protocol(protocol: NetworkProtocol) -> record::Protocol {
    match protocol {
        NetworkProtocol::Tcp => record::Protocol::Tcp,
        NetworkProtocol::Udp => record::Protocol::Udp,
        NetworkProtocol::Icmp => record::Protocol::Icmp,
    }
}

const fn shown_protocol(protocol: record::Protocol) -> NetworkProtocol {
    match protocol {
        record::Protocol::Tcp => NetworkProtocol::Tcp,
        record::Protocol::Udp => NetworkProtocol::Udp,
        record::Protocol::Icmp => NetworkProtocol::Icmp,
    }
}

fn read_rule(view: &View<'_>, rule: &FirewallRule) -> Result<record::FirewallRule, Fault> {
    let party = |text: &Option<String>| match text.as_deref() {
        None | Some("any") => Ok(Party::Any),
        Some(text) if text.contains('/') => subnet(text).map(Party::Addresses),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Party::Addresses(Subnet::of(address, 32))),
            Err(_) => view.inventory.find_network(text).map(Party::Network),
        },
    };
    Ok(record::FirewallRule {
        verdict: verdict(rule.action),
        from: party(&rule.from)?,
        to: party(&rule.to)?,
        protocol: rule.protocol.map(protocol),
        ports: rule.ports.as_deref().map(read_ports).transpose()?,
    })
}

/// `80` or `8000-8100`.
fn read_ports(text: &str) -> Result<(u16, u16), Fault> {
    let bad = |_| Fault::invalid(format!("'{text}' are no ports; write 80 or 8000-8100"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((first.trim().parse().map_err(bad)?, last.trim().parse().map_err(bad)?))
}

fn rule(inventory: &Inventory, rule: &record::FirewallRule) -> FirewallRule {
    let party = |party: Party| match party {
        Party::Any => None,
        Party::Network(id) => Some(inventory.name(id.into())),
        Party::Addresses(subnet) => Some(subnet.to_string()),
    };
    FirewallRule {
        action: action(rule.verdict),
        from: party(rule.from),
        to: party(rule.to),
        protocol: rule.protocol.map(shown_protocol),
        ports: rule.ports.map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }),
    }
}

async fn leases(call: Call<NetworkLeases>) -> Result<Page<NetworkLease>, Fault> {
    let name = call.query.name.as_deref();
    Ok(call.look(|view| {
        let sight = view.sight();
        let networks = view.inventory.networks();
        let seen = networks.filter(|it| fits(name, &it.name) && sight.sees(it.id));
        let all = seen.flat_map(|it| leases_on(view.inventory, it.id));
        Page::whole(all.collect())
    }))
}

fn leases_on(inventory: &Inventory, network: NetworkId) -> Vec<NetworkLease> {
    let record = inventory.network(network).ok();
    let domain = record.and_then(|it| Some(it.services.as_ref()?.domain.as_str()));
    let mut leases = inventory.leases(network);
    leases.sort_by_key(|(lease, _)| lease.address);
    let shown = leases.into_iter().map(|(lease, vm)| NetworkLease {
        network: reference(inventory, network),
        address: lease.address.to_string(),
        mac: written(lease.mac),
        name: (!lease.name.is_empty())
            .then(|| format!("{}.{}", lease.name, domain.unwrap_or_default())),
        vm: vm.map(|vm| reference(inventory, vm)),
    });
    shown.collect()
}

async fn firewall(call: Call<NetworkFirewall>) -> Result<Page<NetworkFirewallRule>, Fault> {
    call.look(|view| {
        let network = view.inventory.network(view.find_network(&call.name(0))?)?;
        let Some(services) = &network.services else { return Ok(Page::whole(Vec::new())) };
        let rules = services.firewall.rules.iter().map(|it| rule(view.inventory, it));
        let rules = (1..).zip(rules).map(|(number, it)| NetworkFirewallRule {
            number: Some(number),
            action: it.action,
            from: it.from,
            to: it.to,
            protocol: it.protocol,
            ports: it.ports,
        });
        let last = NetworkFirewallRule {
            number: None,
            action: action(services.firewall.otherwise),
            from: None,
            to: None,
            protocol: None,
            ports: None,
        };
        Ok(Page::whole(rules.chain([last]).collect()))
    })
}

async fn forward(call: Call<NetworkForward>) -> Result<Forward, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let view = desk.view();
        let network = new.network.as_deref().map(|name| view.find_network(name)).transpose()?;
        let listen = new.listen.as_deref().map(listener).transpose()?;
        let new = NewForward {
            vm: view.find_vm(&new.vm)?,
            network,
            port: new.port,
            listen,
            protocol: protocol(new.protocol.unwrap_or(NetworkProtocol::Tcp)),
        };
        let made = desk.inventory.network_forward(desk.now, desk.user, new)?;
        let network = desk.inventory.forwards().find(|(_, it)| it.number == made.number);
        let network = network.map(|(network, _)| network);
        let network = network.ok_or_else(|| Fault::not_found("the forward that was made"))?;
        Ok(shown_forward(desk.inventory, network, &made))
    })
    .await
}

fn listener(text: &str) -> Result<SocketAddrV4, Fault> {
    let bad = |_| {
        Fault::invalid(format!("'{text}' is no place to listen; write address:port: 0.0.0.0:8080"))
    };
    text.parse().map_err(bad)
}

fn shown_forward(inventory: &Inventory, network: NetworkId, forward: &record::Forward) -> Forward {
    let target = inventory.forward_target(network, forward);
    Forward {
        number: forward.number,
        listen: forward.listen.to_string(),
        protocol: shown_protocol(forward.protocol),
        vm: reference(inventory, forward.vm),
        network: reference(inventory, network),
        port: forward.port,
        address: target.as_ref().ok().map(|target| target.address.to_string()),
        trouble: target.err().map(|fault| fault.message),
    }
}

async fn forwards(call: Call<NetworkForwards>) -> Result<Page<Forward>, Fault> {
    let troubles = call.state.forward_troubles.clone();
    Ok(call.look(|view| {
        let sight = view.sight();
        let seen = view.inventory.forwards().filter(|(_, it)| sight.sees(it.vm));
        let shown = seen.map(|(network, it)| {
            let shown = shown_forward(view.inventory, network, it);
            // That nobody listens is worse than that nobody would be reached.
            Forward { trouble: troubles.of(it.number).or_else(|| shown.trouble.clone()), ..shown }
        });
        Page::whole(shown.collect())
    }))
}

async fn unforward(call: Call<NetworkUnforward>) -> Result<Nothing, Fault> {
    let text = call.name(0);
    call.run(move |desk| {
        let number = text.parse::<u64>().ok();
        let found = desk.inventory.forwards().find(|(_, it)| Some(it.number) == number);
        let Some((network, number)) = found.map(|(network, it)| (network, it.number)) else {
            // Who may not on the whole inventory does not hear whether there is one.
            desk.view().authorize_root()?;
            return Err(Fault::not_found(format!("forward {text}")));
        };
        desk.view().authorize(network)?;
        desk.inventory.network_unforward(desk.now, desk.user, number).map(|()| Nothing {})
    })
    .await
}
