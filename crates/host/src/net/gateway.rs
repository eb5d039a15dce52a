//! The gateway at work: hands it what guests send, sends what it answers, and has the sockets towards
//! the outside.
//!
//! ```text
//!  switch ──Entry──► Attendant ──Output──┬─► the switch, by the gateway's port on the network
//!                     ▲   Gateway        ├─► resolve: the name servers of this machine
//!                     │                  └─► flows: a socket and a task for each conversation
//!                     └──Errand──────────────────┘
//! ```
//!
//! What is decided is in [`racknest_gateway`]; which port it has on which network, and what it takes
//! from the switch, is in [`ports`].
//!
//! The attendant alone owns the gateway. Whatever waits (a connection, a name server) is a task of
//! its own and comes back with an errand.

mod echo;
mod flows;
mod forward;
mod ports;
mod resolve;
mod tables;
mod tcp;
mod udp;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::wire::switching::ForwardRequest;
use racknest_gateway::{Gateway, Network, Output};
use racknest_types::fault::Fault;
use racknest_types::id::NetworkId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use self::flows::Flows;
pub use self::forward::{Opened, Spoken};
pub(super) use self::ports::Ports;
pub(super) use self::tables::networks;
use super::Shared;

/// Frames that wait for the gateway; more are lost, as at any port.
const ENTRIES_MAX: usize = 1_024;

/// What tasks have brought back and is not taken yet; more make them wait.
const ERRANDS_MAX: usize = 256;

/// How often it is looked for conversations that are over.
const TICK: Duration = Duration::from_secs(10);

/// What comes from the switch.
#[derive(Debug)]
pub(super) enum Entry {
    /// A guest of this host sent this frame to the gateway of the network.
    Guest {
        /// The network.
        network: NetworkId,
        /// The frame, without a tag.
        frame: Vec<u8>,
    },
    /// The gateway of another host sends this frame to a guest of this one.
    Passing {
        /// The network.
        network: NetworkId,
        /// The frame, without a tag.
        frame: Vec<u8>,
    },
}

/// What comes from the tasks of the gateway.
#[derive(Debug)]
enum Errand {
    /// A packet for a guest.
    Packet { network: NetworkId, packet: Vec<u8> },
    /// Nobody takes this packet of a guest.
    Refused { network: NetworkId, packet: Vec<u8> },
    /// A name server has answered, or not.
    Resolved { network: NetworkId, client: (Ipv4Addr, u16), answer: Vec<u8> },
    /// Somebody outside wants to speak to a guest.
    Open { request: ForwardRequest, reply: oneshot::Sender<Result<Opened, Fault>> },
}

/// The switch's side of the gateway.
#[derive(Debug)]
pub(super) struct Door {
    entries: mpsc::Sender<Entry>,
    errands: mpsc::Sender<Errand>,
    tables: mpsc::UnboundedSender<Vec<Network>>,
}

/// The gateway's side of it.
#[derive(Debug)]
pub(super) struct Inside {
    entries: mpsc::Receiver<Entry>,
    errands: mpsc::Receiver<Errand>,
    brought: mpsc::Sender<Errand>,
    tables: mpsc::UnboundedReceiver<Vec<Network>>,
}

/// Both sides.
pub(super) fn door() -> (Door, Inside) {
    let (entry, entries) = mpsc::channel(ENTRIES_MAX);
    let (brought, errands) = mpsc::channel(ERRANDS_MAX);
    let (table, tables) = mpsc::unbounded_channel();
    let door = Door { entries: entry, errands: brought.clone(), tables: table };
    (door, Inside { entries, errands, brought, tables })
}

impl Door {
    /// Hands a frame over; false if there is no room.
    pub(super) fn enter(&self, entry: Entry) -> bool {
        self.entries.try_send(entry).is_ok()
    }

    /// These are the networks now, all that have a gateway.
    pub(super) fn set_networks(&self, networks: Vec<Network>) {
        // The attendant lives as long as the switch.
        let _ = self.tables.send(networks);
    }
}

/// Attends to the gateway until the switch ends.
pub(super) async fn attend(shared: Arc<Shared>, inside: Inside) {
    let Inside { entries, errands, brought, tables } = inside;
    let (flows, gateway) = (Flows::new(brought), Gateway::default());
    let attendant = Attendant { shared, gateway, flows, outputs: Vec::new() };
    attendant.run(entries, errands, tables).await;
}

struct Attendant {
    shared: Arc<Shared>,
    gateway: Gateway,
    flows: Flows,
    /// Kept from frame to frame.
    outputs: Vec<Output>,
}

impl Attendant {
    async fn run(
        mut self,
        mut entries: mpsc::Receiver<Entry>,
        mut errands: mpsc::Receiver<Errand>,
        mut tables: mpsc::UnboundedReceiver<Vec<Network>>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A table that came before a frame holds for it.
                biased;
                networks = tables.recv() => match networks {
                    Some(networks) => self.gateway.set_networks(networks),
                    None => return,
                },
                entry = entries.recv() => match entry {
                    Some(entry) => self.enter(entry),
                    None => return,
                },
                errand = errands.recv() => match errand {
                    Some(errand) => self.take(errand),
                    None => return,
                },
                _ = ticks.tick() => {
                    self.gateway.handle_timeout(self.shared.clock.millis());
                    self.flows.sweep();
                }
            }
            // Under load there is always a frame, and others have their turn all the same.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn enter(&mut self, entry: Entry) {
        let now_ms = self.shared.clock.millis();
        match entry {
            Entry::Guest { network, frame } => {
                self.gateway.handle_frame(now_ms, network, &frame, &mut self.outputs);
                self.perform();
            }
            Entry::Passing { network, frame } => {
                self.gateway.handle_passing(now_ms, network, &frame);
            }
        }
    }

    fn take(&mut self, errand: Errand) {
        let outputs = &mut self.outputs;
        match errand {
            Errand::Packet { network, packet } => {
                self.gateway.handle_delivery(network, &packet, outputs);
            }
            Errand::Refused { network, packet } => {
                self.gateway.handle_refused(network, &packet, outputs);
            }
            Errand::Resolved { network, client, answer } => {
                self.gateway.handle_resolved(network, client, answer, outputs);
            }
            Errand::Open { request, reply } => {
                let opened = self.flows.open(self.gateway.network(request.network), &request);
                // Who asked may have gone.
                let _ = reply.send(opened);
            }
        }
        self.perform();
    }

    fn perform(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Frame { network, frame } => self.shared.emit(network, &frame),
                Output::Resolve { network, client, query } => {
                    self.flows.resolve(resolve::Question { network, client, query });
                }
                Output::Outside { network, packet } => {
                    let mtu = self.gateway.network(network).map_or(0, |it| it.mtu);
                    if let Err(refused) = self.flows.outside(network, mtu, packet) {
                        self.refuse(network, &refused);
                    }
                }
                Output::Own { network, packet } => {
                    if let Err(refused) = self.flows.own(network, packet) {
                        self.refuse(network, &refused);
                    }
                }
            }
        }
    }

    fn refuse(&self, network: NetworkId, packet: &[u8]) {
        let mut outputs = Vec::new();
        self.gateway.handle_refused(network, packet, &mut outputs);
        for output in outputs {
            if let Output::Frame { network, frame } = output {
                self.shared.emit(network, &frame);
            }
        }
    }
}
