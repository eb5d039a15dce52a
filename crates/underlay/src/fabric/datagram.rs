//! Datagrams: carried if there is a path at this moment and the receiver has room, else lost.
//!
//! Over whole cables a datagram is handed on at once. Over faulty ones it is put into the delay line
//! for each time that it arrives, and needs the path again when it does.

use std::io::IoSlice;
use std::sync::Arc;

use crate::fabric::link::Link;
use crate::fabric::machine::{Machine, Session};
use crate::fabric::plant::Plant;
use crate::header::{self, Header};
use crate::packet::PacketSocket;

/// A datagram on its way to a machine.
struct Parcel<'a> {
    sender: &'a Header,
    to: &'a Machine,
    port: u16,
    payload: &'a [u8],
}

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

fn carry(plant: &Arc<Plant>, from: &Machine, sender: &Header, packet: &[u8]) {
    let Some((header, payload)) = packet.split_first_chunk() else { return };
    let Some((name, port)) = header::parse(header) else { return };
    let Some(to) = plant.machine(name) else { return from.count_dropped() };
    let parcel = Parcel { sender, to: &to, port, payload };
    if to.name() == from.name() {
        return parcel.deliver(None);
    }
    let Some(out) = from.live_link() else { return from.count_dropped() };
    out.count_sent(payload.len());
    let Some(back) = to.live_link() else { return to.count_dropped() };
    if out.group() != back.group() {
        return to.count_dropped();
    }
    if out.is_faulty() || back.is_faulty() {
        return delay(plant, &out, &back, &parcel);
    }
    parcel.deliver(Some(&back));
}

/// Puts a datagram on faulty cables.
fn delay(plant: &Arc<Plant>, out: &Link, back: &Link, parcel: &Parcel<'_>) {
    let Parcel { sender, to, port, payload } = parcel;
    let arrivals = Link::pass(out, back, plant.line.now(), payload.len());
    if arrivals.is_empty() {
        to.count_dropped();
    }
    for arrival in arrivals {
        let (sender, payload) = ((*sender).clone(), payload.to_vec());
        let (name, port, plant_then) = (to.name().clone(), *port, Arc::clone(plant));
        let is_put = plant.line.put(arrival, move || {
            let Some(to) = plant_then.machine(name.as_str()) else { return };
            // What was on the way when the cable was pulled does not arrive.
            let Some(back) = to.live_link() else { return to.count_dropped() };
            Parcel { sender: &sender, to: &to, port, payload: &payload }.deliver(Some(&back));
        });
        if !is_put {
            to.count_dropped();
        }
    }
}

impl Parcel<'_> {
    /// Hands it to the receiver, over its link unless it is the sender.
    fn deliver(&self, link: Option<&Link>) {
        let receiver = self.to.session().and_then(|session| session.datagram(self.port));
        let Some(receiver) = receiver else { return self.to.count_dropped() };
        let pieces = [IoSlice::new(self.sender.bytes()), IoSlice::new(self.payload)];
        match receiver.try_send(&pieces) {
            Ok(()) => {
                if let Some(link) = link {
                    link.count_received(self.payload.len());
                }
            }
            // Its queue is full, or it is just being closed.
            Err(_) => self.to.count_dropped(),
        }
    }
}
