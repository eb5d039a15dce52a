//! All wires of the network, with what passed and what is wrong with them.

use std::collections::BTreeMap;

use racknest_api::page::Page;
use racknest_api::v1::network::NetworkPortFilter;
use racknest_api::v1::network_watch::{NetworkTopology, NetworkWire};
use racknest_cluster::walk::PHYSICAL;
use racknest_cluster::wire::switching::{PortEnd, SwitchPort};
use racknest_types::fault::Fault;
use racknest_underlay::{LinkState, SwitchNeighbour};

use super::call::{Call, View};
use super::host::words;
use super::network_watch::{hosts_of, name, reports};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<NetworkTopology, _>(topology)
}

async fn topology(call: Call<NetworkTopology>) -> Result<Page<NetworkWire>, Fault> {
    let host = call.query.host.clone();
    let filter = NetworkPortFilter { host: host.clone(), vm: None };
    let hosts = call.look(|view| hosts_of(view, &filter))?;
    let reports = reports(&call.state, hosts.clone(), host.is_some()).await?;
    let cables = call.state.cables.links().await?;
    // An older box cannot say which port of its switch a cable is in.
    let heard = call.state.cables.neighbours().await.unwrap_or_default();
    let ports: BTreeMap<(&str, &str), &str> = heard.iter().map(place).collect();
    Ok(call.look(|view| {
        let sight = view.sight();
        let mut wires = Vec::new();
        for (host, report) in &reports {
            let guests = report.ports.iter().filter(|port| match port.end {
                PortEnd::Guest { vm, .. } => sight.sees(vm),
                PortEnd::Uplink(_) => false,
            });
            wires.extend(guests.map(|port| guest(view, host, port)));
        }
        let is_asked = |cable: &&LinkState| hosts.iter().any(|it| *it == cable.machine.as_str());
        wires.extend(cables.iter().filter(is_asked).map(|it| cable(it, &ports)));
        Page::whole(wires)
    }))
}

fn place(heard: &SwitchNeighbour) -> ((&str, &str), &str) {
    ((heard.machine.as_str(), heard.nic.as_str()), &heard.switch_port)
}

fn guest(view: &View<'_>, host: &str, port: &SwitchPort) -> NetworkWire {
    NetworkWire {
        from: name(view.inventory, host, &port.end),
        to: host.to_owned(),
        network: port.network.map(|network| view.inventory.name(network.into())),
        is_up: port.is_up,
        faults: port.faults.clone(),
        // "In" is towards the switch.
        sent_frames: port.frames_in,
        sent_bytes: port.bytes_in,
        received_frames: port.frames_out,
        received_bytes: port.bytes_out,
        dropped_frames: port.drops.iter().map(|(_, count)| count).sum(),
    }
}

fn cable(link: &LinkState, ports: &BTreeMap<(&str, &str), &str>) -> NetworkWire {
    let port = ports.get(&(link.machine.as_str(), link.nic.as_str()));
    NetworkWire {
        from: format!("{}/{}", link.machine, link.nic),
        to: port.map_or_else(|| PHYSICAL.to_owned(), |port| format!("{PHYSICAL}/{port}")),
        network: None,
        is_up: link.is_up,
        faults: words(&link.faults, link.is_waiting),
        sent_frames: link.sent.frames,
        sent_bytes: link.sent.bytes,
        received_frames: link.received.frames,
        received_bytes: link.received.bytes,
        dropped_frames: link.dropped_frames,
    }
}
