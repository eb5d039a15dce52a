//! The screen, keyboard and serial port of a VM: bytes between a client and the VM's host.

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use futures::{SinkExt as _, StreamExt as _};
use racknest_api::operation::{Operation, path};
use racknest_api::v1::console::{
    ConsoleTicket, SocketQuery, VmConsole, VmConsoleTicket, VmLog, VmScreenshot, VmSerial,
};
use racknest_cluster::inventory::vm_action::VmAction;
use racknest_cluster::record::host::HostConnection;
use racknest_cluster::wire::StreamRequest;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;
use racknest_underlay::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::call::{Call, View, caller};
use super::convert::time;
use super::routes::Routes;
use crate::clock;
use crate::session::login::Caller;
use crate::state::State;

/// A large screen is some 30 MB before it is packed.
const PICTURE_BYTES_MAX: u64 = 64 << 20;

/// As much as the host keeps of what a serial port prints.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// Read from a host at once.
const CHUNK_BYTES: usize = 16 << 10;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<VmConsoleTicket, _>(issue_ticket)
        .on_request::<VmConsole, _>(|state, request| {
            connect::<VmConsole>(state, request, StreamRequest::Console)
        })
        .on_request::<VmSerial, _>(|state, request| {
            connect::<VmSerial>(state, request, StreamRequest::Serial)
        })
        .on_request::<VmScreenshot, _>(screenshot)
        .on_request::<VmLog, _>(log)
}

async fn issue_ticket(call: Call<VmConsoleTicket>) -> Result<ConsoleTicket, Fault> {
    let vm = call.look(|view| {
        let vm = view.find_vm(&call.name(0))?;
        view.inventory.check_vm_action(vm, VmAction::Console).map(|()| vm)
    })?;
    let tickets = &call.state.console_tickets;
    let (token, expires) = tickets.issue(clock::now(), vm, call.caller().clone())?;
    let url =
        |template| format!("{}?ticket={}", path(template, &[&vm.to_string()]), token.reveal());
    Ok(ConsoleTicket {
        ticket: token.reveal().to_owned(),
        console: url(VmConsole::PATH),
        serial: url(VmSerial::PATH),
        expires: time(expires),
    })
}

async fn connect<O: Operation<Query = SocketQuery>>(
    state: State,
    request: Request,
    ask: fn(VmId) -> StreamRequest,
) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let (caller, ticketed) = caller_of_socket(&mut parts, &state).await?;
    let call = Call::<O>::receive_head(state, &mut parts, caller).await?;
    let (vm, host) = call.look(|view| {
        let vm = view.find_vm(&call.name(0))?;
        if ticketed.is_some_and(|ticketed| ticketed != vm) {
            return Err(Fault::new(
                FaultCode::NoPermission,
                format!("the console ticket is for another VM than {vm}; ask for one for this"),
            ));
        }
        view.inventory.check_vm_action(vm, VmAction::Console)?;
        host_of(view, vm).map(|host| (vm, host))
    })?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|error| {
        Fault::invalid(format!("this is a WebSocket and must be opened as one: {error}"))
    })?;
    let (_, stream) = call.state.streams.open(&host, &ask(vm)).await?;
    // noVNC and its like offer this name and want it back.
    Ok(upgrade.protocols(["binary"]).on_upgrade(move |socket| carry(socket, stream)))
}

/// Who connects: by a ticket, which is for one VM, or by the header or cookie as everywhere.
async fn caller_of_socket(
    parts: &mut Parts,
    state: &State,
) -> Result<(Caller, Option<VmId>), Fault> {
    let query = Query::<SocketQuery>::try_from_uri(&parts.uri);
    match query.ok().and_then(|Query(query)| query.ticket) {
        Some(secret) => {
            let (vm, caller) = state.console_tickets.redeem(clock::now(), &secret)?;
            Ok((caller, Some(vm)))
        }
        None => caller(parts, state).await.map(|caller| (caller, None)),
    }
}

/// Carries bytes both ways until either side has had enough.
async fn carry(socket: WebSocket, stream: Stream) {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_host, mut to_host) = tokio::io::split(stream);
    let inward = async {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => break,
            };
            if to_host.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let outward = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(size @ 1..) = from_host.read(&mut chunk).await {
            let message = Message::Binary(Bytes::copy_from_slice(&chunk[..size]));
            if to_client.send(message).await.is_err() {
                break;
            }
        }
        // The client may be gone already; then nobody waits for a farewell.
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}

/// The name of a VM's host, which must answer.
fn host_of(view: &View<'_>, vm: VmId) -> Result<String, Fault> {
    let vm = view.inventory.vm(vm)?;
    let host = view.inventory.host(vm.host)?;
    match host.connection {
        HostConnection::Connected => Ok(host.name.clone()),
        HostConnection::NotResponding | HostConnection::Disconnected => Err(Fault::new(
            FaultCode::HostNotConnected,
            format!("host '{}' of VM '{}' does not answer", host.name, vm.name),
        )),
    }
}

async fn screenshot(state: State, request: Request) -> Result<Response, Fault> {
    let ask = |call: &Call<VmScreenshot>| {
        call.look(|view| {
            let vm = view.find_vm(&call.name(0))?;
            view.inventory.check_vm_action(vm, VmAction::Console)?;
            host_of(view, vm).map(|host| (host, StreamRequest::Screenshot(vm)))
        })
    };
    let picture = fetch(state, request, ask, PICTURE_BYTES_MAX).await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

async fn log(state: State, request: Request) -> Result<Response, Fault> {
    let ask = |call: &Call<VmLog>| {
        call.look(|view| {
            let vm = view.find_vm(&call.name(0))?;
            host_of(view, vm).map(|host| (host, StreamRequest::SerialLog(vm)))
        })
    };
    let log = fetch(state, request, ask, LOG_BYTES_MAX).await?;
    // What a guest prints need not be UTF-8, and must not be run by a browser.
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let text = String::from_utf8_lossy(&log).into_owned();
    Ok(([kind, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text).into_response())
}

async fn fetch<O: Operation>(
    state: State,
    request: Request,
    ask: impl FnOnce(&Call<O>) -> Result<(String, StreamRequest), Fault>,
    max: u64,
) -> Result<Vec<u8>, Fault> {
    let (mut parts, _) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    let call = Call::<O>::receive_head(state, &mut parts, caller).await?;
    let (host, request) = ask(&call)?;
    call.state.streams.fetch(&host, &request, max).await
}
