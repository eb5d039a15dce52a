//! Watching networks: the ports and cards of the hosts' switches, the way that a frame would take,
//! and copies of what passes.
//!
//! Each host answers for its own switch, by the code that carries the frames. Which way a frame takes
//! is put together in [`racknest_cluster::walk`].

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures::future::join_all;
use racknest_api::page::Page;
use racknest_api::v1::network::{
    NetworkHop, NetworkMac, NetworkMacs, NetworkPort, NetworkPortFilter, NetworkPorts,
    NetworkTcpdump, NetworkTrace,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::vm::{Nic, VmRecord};
use racknest_cluster::walk::{Hop, Station, Walk};
use racknest_cluster::wire::switching::{CaptureRequest, PortEnd, SwitchReport};
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::HostId;
use tokio_util::io::ReaderStream;

use super::call::{Call, View, caller};
use super::routes::Routes;
use crate::state::State;

/// Read from a host at once.
const CHUNK_BYTES: usize = 64 << 10;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkPorts, _>(ports)
        .on::<NetworkMacs, _>(macs)
        .on::<NetworkTrace, _>(trace)
        .on_request::<NetworkTcpdump, _>(tcpdump)
}

/// `VM` or `VM/NIC`: the NIC named, or the first. A name may have slashes of its own, as a path.
fn guest(view: &View<'_>, text: &str) -> Result<Station, Fault> {
    let (id, key) = match view.find_vm(text) {
        Ok(id) => (id, None),
        Err(fault) => {
            let (vm, key) = text.rsplit_once('/').ok_or_else(|| fault.clone())?;
            let key = key.parse::<u32>().map_err(|_| fault)?;
            (view.find_vm(vm)?, Some(key))
        }
    };
    let vm: &VmRecord = view.inventory.vm(id)?;
    let is_it = |nic: &&Nic| key.is_none_or(|key| nic.key == key);
    let nic = vm.config.nics.iter().find(is_it).ok_or_else(|| match key {
        Some(key) => Fault::not_found(format!("NIC {key} of VM '{}'", vm.name)),
        None => Fault::state(format!("VM '{}' has no NIC", vm.name)),
    })?;
    Ok(Station {
        host: answering(view.inventory, vm.host)?,
        end: PortEnd::Guest { vm: id, nic: nic.key },
        name: format!("{}/{}", vm.name, nic.key),
        mac: nic.mac,
    })
}

/// The name of a host, which must answer.
fn answering(inventory: &Inventory, host: HostId) -> Result<String, Fault> {
    let name = inventory.host(host)?.name.clone();
    if inventory.is_connected(host) {
        Ok(name)
    } else {
        Err(Fault::new(FaultCode::HostNotConnected, format!("host '{name}' does not answer")))
    }
}

/// The ends that a port may be: a guest's NIC, or `HOST/NIC`.
fn port(view: &View<'_>, text: &str) -> Result<(String, PortEnd), Fault> {
    match guest(view, text) {
        Ok(guest) => Ok((guest.host, guest.end)),
        Err(fault) => {
            let (host, nic) = text.rsplit_once('/').ok_or_else(|| fault.clone())?;
            let host = view.find_host(host).map_err(|_| fault)?;
            Ok((answering(view.inventory, host)?, PortEnd::Uplink(nic.to_owned())))
        }
    }
}

/// How an end is called.
pub(super) fn name(inventory: &Inventory, host: &str, end: &PortEnd) -> String {
    match end {
        PortEnd::Guest { vm, nic } => format!("{}/{nic}", inventory.name((*vm).into())),
        PortEnd::Uplink(nic) => format!("{host}/{nic}"),
    }
}

/// The switches of the hosts that a filter names and that have one.
pub(super) async fn reports(
    state: &State,
    hosts: Vec<String>,
    is_strict: bool,
) -> Result<Vec<(String, SwitchReport)>, Fault> {
    let asked = hosts.into_iter().map(|host| async move {
        let answer = state.streams.open(&host, &StreamRequest::Switch).await;
        (host, answer)
    });
    let mut reports = Vec::new();
    for (host, answer) in join_all(asked).await {
        match answer {
            Ok((StreamReply::Switch(report), _)) => reports.push((host, report)),
            Ok(_) => return Err(unexpected(&host)),
            // Of all hosts, those without a switch or an answer are left out.
            Err(fault) if is_strict => return Err(fault),
            Err(_) => {}
        }
    }
    Ok(reports)
}

pub(super) fn hosts_of(view: &View<'_>, filter: &NetworkPortFilter) -> Result<Vec<String>, Fault> {
    if let Some(vm) = &filter.vm {
        let vm = view.find_vm(vm)?;
        return Ok(vec![answering(view.inventory, view.inventory.vm(vm)?.host)?]);
    }
    if let Some(host) = &filter.host {
        return Ok(vec![answering(view.inventory, view.find_host(host)?)?]);
    }
    let sight = view.sight();
    let is_asked = |host: HostId| view.inventory.is_connected(host) && sight.sees(host);
    let all = view.inventory.hosts().filter(|host| is_asked(host.id));
    Ok(all.map(|host| host.name.clone()).collect())
}

fn is_of(view: &View<'_>, filter: &NetworkPortFilter, end: &PortEnd) -> bool {
    let sight = view.sight();
    match end {
        PortEnd::Guest { vm, .. } => {
            let wanted = filter.vm.as_ref().map(|wanted| view.find_vm(wanted));
            sight.sees(*vm) && wanted.is_none_or(|wanted| wanted == Ok(*vm))
        }
        PortEnd::Uplink(_) => filter.vm.is_none(),
    }
}

async fn ports(call: Call<NetworkPorts>) -> Result<Page<NetworkPort>, Fault> {
    let filter = call.query.clone();
    let is_strict = filter != NetworkPortFilter::default();
    let hosts = call.look(|view| hosts_of(view, &filter))?;
    let reports = reports(&call.state, hosts, is_strict).await?;
    Ok(call.look(|view| {
        let mut rows = Vec::new();
        for (host, report) in &reports {
            for it in report.ports.iter().filter(|it| is_of(view, &filter, &it.end)) {
                let network = it.network.map(|network| view.inventory.name(network.into()));
                rows.push(NetworkPort {
                    port: name(view.inventory, host, &it.end),
                    host: host.clone(),
                    network,
                    is_up: it.is_up,
                    uplink: it.uplink.clone(),
                    frames_in: it.frames_in,
                    bytes_in: it.bytes_in,
                    frames_out: it.frames_out,
                    bytes_out: it.bytes_out,
                    drops: it.drops.iter().cloned().collect(),
                    faults: it.faults.clone(),
                });
            }
        }
        Page::whole(rows)
    }))
}

async fn macs(call: Call<NetworkMacs>) -> Result<Page<NetworkMac>, Fault> {
    let filter = call.query.clone();
    let is_strict = filter != NetworkPortFilter::default();
    let hosts = call.look(|view| hosts_of(view, &filter))?;
    let reports = reports(&call.state, hosts, is_strict).await?;
    Ok(call.look(|view| {
        let mut rows = Vec::new();
        for (host, report) in &reports {
            for it in report.cards.iter().filter(|it| is_of(view, &filter, &it.end)) {
                rows.push(NetworkMac {
                    mac: written(it.mac),
                    vlan: it.vlan,
                    port: name(view.inventory, host, &it.end),
                    host: host.clone(),
                    age_seconds: it.age_ms.map(|age| age / 1_000),
                });
            }
        }
        Page::whole(rows)
    }))
}

pub(super) fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

async fn trace(call: Call<NetworkTrace>) -> Result<Page<NetworkHop>, Fault> {
    let query = call.query.clone();
    let (from, to) =
        call.look(|view| Ok::<_, Fault>((guest(view, &query.from)?, guest(view, &query.to)?)))?;
    let mut walk = Walk::new(from, to);
    while let Some((host, request)) = walk.question() {
        let (reply, _) = call.state.streams.open(&host, &request).await?;
        if !walk.handle_reply(reply) {
            return Err(unexpected(&host));
        }
    }
    Ok(Page::whole(walk.into_hops().into_iter().map(row).collect()))
}

fn row(hop: Hop) -> NetworkHop {
    let Hop { place, entry, exit, tag, dropped } = hop;
    NetworkHop { place, entry, exit, tag, dropped }
}

async fn tcpdump(state: State, request: Request) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    let call = Call::<NetworkTcpdump>::receive_head(state, &mut parts, caller).await?;
    let query = call.query.clone();
    let (host, end) = call.look(|view| port(view, &query.port))?;
    let request = StreamRequest::Capture(CaptureRequest {
        end,
        frames_max: query.frames,
        duration_ms: query.seconds.map(|seconds| seconds.saturating_mul(1_000)),
        bytes_max: query.bytes,
    });
    let (_, stream) = call.state.streams.open(&host, &request).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(stream, CHUNK_BYTES));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

pub(super) fn unexpected(host: &str) -> Fault {
    Fault::system(format!("host '{host}' answered something else"))
}
