//! Datagrams: carried if there is a path at this moment and the receiver has room, else lost.

use std::io::IoSlice;
use std::sync::Arc;

use crate::fabric::machine::{Machine, Session};
use crate::fabric::plant::Plant;
use crate::header::{self, Header};
use crate::packet::PacketSocket;

/// Carries what one socket sends until the socket is closed.
pub(crate) async fn serve(
    plant: Arc<Plant>,
    from: Arc<Machine>,
    session: Arc<Session>,
    port: u16,
    socket: Arc<PacketSocket>,
) {
    let header = Header::new(from.name(), port);
    let carry_one = |packet: &[u8]| carry(&plant, &from, &header, packet);
    if let Err(error) = socket.for_each(&plant.buffers, carry_one).await {
        tracing::debug!(machine = %from.name(), port, %error, "datagram socket failed");
    }
    session.unbind_datagram(port, &socket);
}

fn carry(plant: &Plant, from: &Machine, sender: &Header, packet: &[u8]) {
    let Some((header, payload)) = packet.split_first_chunk() else { return };
    let Some((name, port)) = header::parse(header) else { return };
    let Some(to) = plant.machine(name) else { return from.count_dropped() };
    let links = if to.name() == from.name() {
        None
    } else {
        let Some(out) = from.live_link() else { return from.count_dropped() };
        out.count_sent(payload.len());
        let Some(back) = to.live_link() else { return to.count_dropped() };
        Some(back)
    };
    let receiver = to.session().and_then(|session| session.datagram(port));
    let Some(receiver) = receiver else { return to.count_dropped() };
    match receiver.try_send(&[IoSlice::new(sender.bytes()), IoSlice::new(payload)]) {
        Ok(()) => {
            if let Some(back) = links {
                back.count_received(payload.len());
            }
        }
        // Its queue is full, or it is just being closed.
        Err(_) => to.count_dropped(),
    }
}
