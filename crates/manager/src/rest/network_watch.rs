//! Watching networks: the ports and cards of the hosts' switches, the way that a frame would take,
//! and copies of what passes.
//!
//! Each host answers for its own switch, by the code that carries the frames. Between hosts is the
//! physical switch, which carries every VLAN between cables that are in.

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
use racknest_cluster::wire::switching::{
    CaptureRequest, PortEnd, SwitchReport, TraceAnswer, TraceQuestion,
};
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::HostId;
use tokio_util::io::ReaderStream;

use super::call::{Call, View, caller};
use super::routes::Routes;
use crate::state::State;

/// Read from a host at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The physical switch, in a way.
pub(super) const PHYSICAL: &str = "physical switch";

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkPorts, _>(ports)
        .on::<NetworkMacs, _>(macs)
        .on::<NetworkTrace, _>(trace)
        .on_request::<NetworkTcpdump, _>(tcpdump)
}

/// A NIC of a VM that runs, and its host.
struct Guest {
    host: String,
    end: PortEnd,
    name: String,
    mac: [u8; 6],
}

/// `VM` or `VM/NIC`: the NIC named, or the first. A name may have slashes of its own, as a path.
fn guest(view: &View<'_>, text: &str) -> Result<Guest, Fault> {
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
    Ok(Guest {
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
    let frame = frame(&from, &to);
    let mut hops = Vec::new();
    let first = ask(&call.state, &from.host, from.end.clone(), frame).await?;
    let entry = from.name.clone();
    if from.host == to.host {
        hops.push(hop(&from.host, entry, &to.name, &to.end, &first));
        return Ok(Page::whole(hops));
    }
    let way_out = first.sent.iter().find(|(end, _)| matches!(end, PortEnd::Uplink(_)));
    let Some((PortEnd::Uplink(nic), sent)) = way_out else {
        hops.push(NetworkHop {
            place: from.host,
            entry,
            exit: None,
            tag: None,
            dropped: Some(way_out_refusal(&first)),
        });
        return Ok(Page::whole(hops));
    };
    let exit = format!("{}/{nic}", from.host);
    let tag = tag(sent);
    hops.push(NetworkHop {
        place: from.host.clone(),
        entry,
        exit: Some(exit.clone()),
        tag,
        dropped: None,
    });
    let (last, arrived) = arrive(&call.state, &to, sent).await?;
    let entry = arrived.unwrap_or_else(|| to.host.clone());
    let physical = NetworkHop {
        place: PHYSICAL.into(),
        entry: exit,
        exit: Some(entry.clone()),
        tag,
        dropped: None,
    };
    hops.push(physical);
    hops.push(hop(&to.host, entry, &to.name, &to.end, &last));
    Ok(Page::whole(hops))
}

/// What the receiver's host does with a frame that the physical switch brings to each of its NICs:
/// the answer for the one by which the receiver gets it, else for the first.
async fn arrive(
    state: &State,
    to: &Guest,
    frame: &[u8],
) -> Result<(TraceAnswer, Option<String>), Fault> {
    let (reply, _) = state.streams.open(&to.host, &StreamRequest::Switch).await?;
    let StreamReply::Switch(report) = reply else { return Err(unexpected(&to.host)) };
    let uplinks = report.ports.iter().filter(|port| port.is_up).map(|port| &port.end);
    let uplinks = uplinks.filter(|end| matches!(end, PortEnd::Uplink(_)));
    let mut first = None;
    for end in uplinks {
        let answer = ask(state, &to.host, end.clone(), frame.to_vec()).await?;
        let PortEnd::Uplink(nic) = end else { continue };
        let entry = Some(format!("{}/{nic}", to.host));
        if answer.sent.iter().any(|(end, _)| *end == to.end) {
            return Ok((answer, entry));
        }
        // The uplink that its team does not use says nothing of the receiver.
        let is_other = refusal(&answer, &to.end) == "other_uplink";
        if !is_other || first.is_none() {
            first = Some((answer, entry));
        }
    }
    Ok(first.unwrap_or_else(|| {
        let dropped = Some("link_down".to_owned());
        (TraceAnswer { dropped, sent: vec![], refused: vec![] }, None)
    }))
}

async fn ask(
    state: &State,
    host: &str,
    from: PortEnd,
    frame: Vec<u8>,
) -> Result<TraceAnswer, Fault> {
    let request = StreamRequest::Trace(TraceQuestion { from, frame });
    match state.streams.open(host, &request).await? {
        (StreamReply::Trace(answer), _) => Ok(answer),
        _ => Err(unexpected(host)),
    }
}

/// The last hop: the receiver's host.
fn hop(place: &str, entry: String, name: &str, end: &PortEnd, answer: &TraceAnswer) -> NetworkHop {
    let sent = answer.sent.iter().find(|(other, _)| other == end);
    NetworkHop {
        place: place.to_owned(),
        entry,
        exit: sent.map(|_| name.to_owned()),
        tag: sent.and_then(|(_, frame)| tag(frame)),
        dropped: sent.is_none().then(|| refusal(answer, end)),
    }
}

/// Why an end does not get a frame.
fn refusal(answer: &TraceAnswer, end: &PortEnd) -> String {
    let refused = answer.refused.iter().find(|(other, _)| other == end).map(|(_, why)| why.clone());
    let refused = refused.or_else(|| answer.dropped.clone());
    refused.unwrap_or_else(|| "no_receiver".to_owned())
}

/// Why a frame does not leave its host.
fn way_out_refusal(answer: &TraceAnswer) -> String {
    let uplink = answer.refused.iter().find(|(end, _)| matches!(end, PortEnd::Uplink(_)));
    let uplink = uplink.map(|(_, why)| why.clone());
    answer.dropped.clone().or(uplink).unwrap_or_else(|| "no_receiver".to_owned())
}

/// An ordinary frame from one NIC to another: IPv4 without anything in it.
fn frame(from: &Guest, to: &Guest) -> Vec<u8> {
    let mut frame = [&to.mac[..], &from.mac, &[0x08, 0x00]].concat();
    frame.resize(60, 0);
    frame
}

/// The VLAN in a frame's tag.
fn tag(frame: &[u8]) -> Option<u16> {
    let tag = frame.get(12..16)?;
    (tag.starts_with(&[0x81, 0])).then(|| u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff)
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
