//! The desk of the box: where cables are pulled by whoever may open the socket.

use std::io;
use std::sync::Arc;

use racknest_types::fault::Fault;

use crate::fabric::plant::Plant;
use crate::packet::PacketSocket;
use crate::wire::{LINKS_PER_REPLY, LinkState, MESSAGE_MAX, Order, Reply, VERSION, encode};

/// Serves orders until whoever gives them hangs up.
pub(crate) async fn serve(plant: Arc<Plant>, socket: PacketSocket, version: u32) {
    if let Err(error) = serve_orders(&plant, &socket, version).await {
        tracing::debug!(%error, "desk connection failed");
    }
}

async fn serve_orders(plant: &Plant, socket: &PacketSocket, version: u32) -> io::Result<()> {
    if version != VERSION {
        let fault = Fault::unsupported(format!(
            "the running box speaks version {VERSION} of the underlay, this program version \
             {version}; use the racknest that started the box"
        ));
        return reply(socket, &Reply::Failed(fault)).await;
    }
    reply(socket, &Reply::Done).await?;
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        let order = serde_json::from_slice(&buffer[..size])?;
        let done = match order {
            Order::Cut { machine, nic } => plant.set_cable(&machine, &nic, false).await,
            Order::Restore { machine, nic } => plant.set_cable(&machine, &nic, true).await,
            Order::Unplug { machine } => plant.unplug(&machine).await,
            Order::Links => {
                tell_links(socket, &plant.links()).await?;
                continue;
            }
        };
        let answer = match done {
            Ok(()) => Reply::Done,
            Err(fault) => Reply::Failed(fault),
        };
        reply(socket, &answer).await?;
    }
}

async fn tell_links(socket: &PacketSocket, links: &[LinkState]) -> io::Result<()> {
    let mut rest = links;
    loop {
        let (page, next) = rest.split_at(rest.len().min(LINKS_PER_REPLY));
        let more = !next.is_empty();
        reply(socket, &Reply::Links { links: page.to_vec(), more }).await?;
        if !more {
            return Ok(());
        }
        rest = next;
    }
}

async fn reply(socket: &PacketSocket, reply: &Reply) -> io::Result<()> {
    socket.send_with_fd(&encode(reply), None).await
}
