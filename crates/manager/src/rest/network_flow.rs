//! Who is at the other end of each cable, and who talks to whom.
//!
//! Each host answers for its own switch, the box for the physical one. A flow between guests of two
//! hosts passes both switches; it is listed once, as the switch counted it where it began.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use futures::future::join_all;
use racknest_api::page::Page;
use racknest_api::v1::network::NetworkPortFilter;
use racknest_api::v1::network_watch::{
    NetworkFlow, NetworkFlows, NetworkNeighbour, NetworkNeighbours,
};
use racknest_cluster::walk::PHYSICAL;
use racknest_cluster::wire::switching::{FlowQuestion, FlowReport, PortEnd, SwitchNeighbour};
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_types::fault::Fault;
use racknest_underlay::SwitchNeighbour as PhysicalNeighbour;

use super::call::{Call, View};
use super::network_watch::{hosts_of, name, reports, unexpected, written};
use super::routes::Routes;
use crate::state::State;

/// The most flows that one host is asked for: those with the most bytes.
const FLOWS_MAX: u32 = 1_000;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_ARP: u16 = 0x0806;
const TYPE_IPV6: u16 = 0x86dd;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<NetworkNeighbours, _>(neighbours).on::<NetworkFlows, _>(flows)
}

async fn neighbours(call: Call<NetworkNeighbours>) -> Result<Page<NetworkNeighbour>, Fault> {
    let host = call.query.host.clone();
    let filter = NetworkPortFilter { host: host.clone(), vm: None };
    let hosts = call.look(|view| hosts_of(view, &filter))?;
    let reports = reports(&call.state, hosts.clone(), host.is_some()).await?;
    // An older box cannot say who its switch hears.
    let heard = call.state.cables.neighbours().await.unwrap_or_default();
    Ok(call.look(|view| {
        let mut rows = Vec::new();
        for (host, report) in &reports {
            let of_host = report.neighbours.iter();
            rows.extend(of_host.map(|it| neighbour(name(view.inventory, host, &it.end), it)));
        }
        let is_seen =
            |it: &&PhysicalNeighbour| hosts.iter().any(|host| *host == it.machine.as_str());
        rows.extend(heard.iter().filter(is_seen).map(physical));
        Page::whole(rows)
    }))
}

fn neighbour(at: String, it: &SwitchNeighbour) -> NetworkNeighbour {
    NetworkNeighbour {
        at,
        protocol: it.protocol.clone(),
        system: it.system.clone(),
        port: it.port.clone(),
        port_description: it.port_description.clone(),
        description: it.description.clone(),
        platform: it.platform.clone(),
        chassis: written(it.chassis),
        management: it.management.map(|address| address.to_string()),
        vlan: it.vlan,
        mtu: it.mtu,
        is_bridge: it.is_bridge,
        is_router: it.is_router,
    }
}

fn physical(it: &PhysicalNeighbour) -> NetworkNeighbour {
    NetworkNeighbour {
        at: format!("{PHYSICAL}/{}", it.switch_port),
        protocol: it.protocol.clone(),
        system: it.system.clone(),
        port: it.port.clone(),
        port_description: String::new(),
        description: String::new(),
        platform: String::new(),
        chassis: it.chassis.clone(),
        management: None,
        vlan: None,
        mtu: None,
        is_bridge: it.is_bridge,
        is_router: false,
    }
}

async fn flows(call: Call<NetworkFlows>) -> Result<Page<NetworkFlow>, Fault> {
    let query = call.query.clone();
    let filter = NetworkPortFilter { host: query.host.clone(), vm: query.vm.clone() };
    let is_strict = filter != NetworkPortFilter::default();
    let (hosts, vm) = call.look(|view| {
        let vm = filter.vm.as_ref().map(|vm| view.find_vm(vm)).transpose()?;
        Ok::<_, Fault>((hosts_of(view, &filter)?, vm))
    })?;
    let question = FlowQuestion { vm, flows_max: FLOWS_MAX };
    let told = ask(&call.state, hosts, question, is_strict).await?;
    Ok(call.look(|view| {
        let mut flows: Vec<NetworkFlow> = once(&told)
            .filter(|(_, flow)| is_seen(view, flow))
            .map(|(host, flow)| show(view, host, flow))
            .collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.bytes));
        Page::whole(flows)
    }))
}

async fn ask(
    state: &State,
    hosts: Vec<String>,
    question: FlowQuestion,
    is_strict: bool,
) -> Result<Vec<(String, Vec<FlowReport>)>, Fault> {
    let asked = hosts.into_iter().map(|host| async move {
        let answer = state.streams.open(&host, &StreamRequest::Flows(question)).await;
        (host, answer)
    });
    let mut told = Vec::new();
    for (host, answer) in join_all(asked).await {
        match answer {
            Ok((StreamReply::Flows(flows), _)) => told.push((host, flows)),
            Ok(_) => return Err(unexpected(&host)),
            Err(fault) if is_strict => return Err(fault),
            Err(_) => {}
        }
    }
    Ok(told)
}

/// What makes a flow the same at two switches.
fn key(flow: &FlowReport) -> impl Ord + use<> {
    let FlowReport { vlan, source_mac, destination_mac, ether_type, addresses, .. } = *flow;
    let ports = (flow.protocol, flow.source_port, flow.destination_port);
    (vlan, source_mac, destination_mac, ether_type, addresses, ports)
}

/// Each flow once: what came by an uplink is left out where another host counted it at its guest.
fn once(told: &[(String, Vec<FlowReport>)]) -> impl Iterator<Item = (&str, &FlowReport)> {
    let all = told.iter().flat_map(|(host, flows)| flows.iter().map(move |it| (&**host, it)));
    let is_of_guest = |flow: &FlowReport| matches!(flow.entry, PortEnd::Guest { .. });
    let begun: BTreeSet<_> =
        all.clone().filter(|(_, it)| is_of_guest(it)).map(|(_, it)| key(it)).collect();
    all.filter(move |(_, flow)| is_of_guest(flow) || !begun.contains(&key(flow)))
}

/// Whether the user sees a guest that it is of; one between others is for who sees everything.
fn is_seen(view: &View<'_>, flow: &FlowReport) -> bool {
    let sight = view.sight();
    let guests = [Some(&flow.entry), flow.exit.as_ref()].into_iter().flatten();
    let mut guests = guests
        .filter_map(|end| match end {
            PortEnd::Guest { vm, .. } => Some(*vm),
            PortEnd::Uplink(_) => None,
        })
        .peekable();
    match guests.peek() {
        None => sight.sees(view.inventory.root_folder()),
        Some(_) => guests.any(|vm| sight.sees(vm)),
    }
}

fn show(view: &View<'_>, host: &str, flow: &FlowReport) -> NetworkFlow {
    let all = u64::from(flow.sampling);
    let bytes = flow.bytes.saturating_mul(all);
    let counted_ms = flow.age_ms.saturating_sub(flow.silent_ms).max(1_000);
    let end = |address: Option<IpAddr>, port: u16, card: [u8; 6]| match address {
        None => written(card),
        Some(address) if port == 0 || !has_ports(flow) => address.to_string(),
        Some(address) => SocketAddr::new(address, port).to_string(),
    };
    let source = flow.addresses.map(|addresses| addresses.0);
    let destination = flow.addresses.map(|addresses| addresses.1);
    NetworkFlow {
        host: host.to_owned(),
        entry: name(view.inventory, host, &flow.entry),
        exit: flow.exit.as_ref().map(|end| name(view.inventory, host, end)),
        protocol: protocol(flow),
        source: end(source, flow.source_port, flow.source_mac),
        destination: end(destination, flow.destination_port, flow.destination_mac),
        vlan: flow.vlan,
        frames: flow.frames.saturating_mul(all),
        bytes,
        rate_bps: bytes.saturating_mul(8_000) / counted_ms,
        age_seconds: flow.age_ms / 1_000,
        silent_seconds: flow.silent_ms / 1_000,
    }
}

/// Whether its numbers are ports; of ICMP they are type and code.
const fn has_ports(flow: &FlowReport) -> bool {
    !matches!(flow.protocol, 1 | 58)
}

/// The name that people know, by the numbers of IANA.
fn protocol(flow: &FlowReport) -> String {
    match (flow.ether_type, flow.protocol) {
        (TYPE_IPV4 | TYPE_IPV6, 6) => "tcp".into(),
        (TYPE_IPV4 | TYPE_IPV6, 17) => "udp".into(),
        (TYPE_IPV4, 1) => "icmp".into(),
        (TYPE_IPV4, 2) => "igmp".into(),
        (TYPE_IPV6, 58) => "icmpv6".into(),
        (TYPE_IPV4 | TYPE_IPV6, 132) => "sctp".into(),
        (TYPE_IPV4 | TYPE_IPV6, other) => format!("ip-{other}"),
        (TYPE_ARP, _) => "arp".into(),
        (other, _) => format!("0x{other:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use racknest_types::id::VmId;

    use super::*;

    fn flow(entry: PortEnd) -> FlowReport {
        FlowReport {
            entry,
            exit: None,
            vlan: 0,
            source_mac: [2; 6],
            destination_mac: [4; 6],
            ether_type: TYPE_IPV4,
            addresses: Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into())),
            protocol: 6,
            source_port: 40_000,
            destination_port: 80,
            frames: 1,
            bytes: 60,
            age_ms: 0,
            silent_ms: 0,
            sampling: 1,
        }
    }

    #[test]
    fn a_flow_that_passes_two_switches_is_listed_once_and_one_from_outside_too() {
        let guest = PortEnd::Guest { vm: VmId::from_raw(1), nic: 0 };
        let uplink = PortEnd::Uplink("vmnic0".into());
        let outside = FlowReport { source_mac: [6; 6], ..flow(uplink.clone()) };
        let told = [
            ("esx01".to_owned(), vec![flow(guest.clone())]),
            ("esx02".to_owned(), vec![flow(uplink.clone()), outside]),
        ];
        let listed: Vec<_> = once(&told).map(|(host, it)| (host, it.source_mac)).collect();
        assert_eq!(listed, [("esx01", [2; 6]), ("esx02", [6; 6])]);
    }

    #[test]
    fn a_protocol_has_the_name_that_people_know() {
        let named = |ether_type, number| {
            let end = PortEnd::Uplink(String::new());
            protocol(&FlowReport { ether_type, protocol: number, ..flow(end) })
        };
        assert_eq!(named(TYPE_IPV6, 6), "tcp");
        assert_eq!(named(TYPE_IPV4, 50), "ip-50");
        assert_eq!(named(TYPE_ARP, 0), "arp");
        assert_eq!(named(0x88b5, 0), "0x88b5");
    }
}
