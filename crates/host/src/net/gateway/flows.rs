//! Conversations with the outside: each has a task with the sockets that it needs.
//!
//! A conversation over TCP is one connection. Over UDP it is all that a guest sends from one port, so
//! that whom it has written to can answer (RFC 4787, endpoint-independent mapping).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use racknest_cluster::record::services::Protocol;
use racknest_cluster::wire::switching::ForwardRequest;
use racknest_gateway::Network;
use racknest_gateway::packet::{Ends, ICMP, Packet, TCP, UDP};
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::NetworkId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::resolve::{self, Question};
use super::{Errand, Opened, echo, tcp, udp};

/// Conversations of one host. One of TCP takes up to 512 KiB.
const FLOWS_MAX: usize = 1_024;

/// Packets that wait for a conversation's task; more are lost, and sent again.
const PACKETS_MAX: usize = 256;

/// Questions that are with the name servers; more are lost, and asked again.
const QUESTIONS_MAX: usize = 64;

/// The ports from which the gateway speaks to guests: those that nobody listens on (RFC 6335).
const OWN_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// No end in particular.
const ANYBODY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// Which conversation a packet of a guest belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    network: NetworkId,
    protocol: u8,
    guest: (Ipv4Addr, u16),
    /// With whom; anybody for what is not TCP and was begun by the guest.
    remote: (Ipv4Addr, u16),
}

/// A task's side of a conversation.
#[derive(Debug)]
pub(super) struct Link {
    /// The largest packet on the guest's network, in bytes.
    pub(super) mtu: u16,
    /// What the guest sends.
    pub(super) packets: mpsc::Receiver<Vec<u8>>,
    /// The way to the guest.
    pub(super) guest: Way,
}

/// The way to a guest.
#[derive(Debug)]
pub(super) struct Way {
    network: NetworkId,
    errands: mpsc::Sender<Errand>,
}

impl Way {
    /// Sends a packet to the guest.
    pub(super) async fn send(&self, packet: Vec<u8>) {
        // The gateway ends with the switch, and so does this.
        let _ = self.errands.send(Errand::Packet { network: self.network, packet }).await;
    }

    /// Tells the guest that nobody takes this packet of it.
    pub(super) async fn refuse(&self, packet: Vec<u8>) {
        let _ = self.errands.send(Errand::Refused { network: self.network, packet }).await;
    }
}

/// The conversations of one host.
#[derive(Debug)]
pub(super) struct Flows {
    live: BTreeMap<Flow, mpsc::Sender<Vec<u8>>>,
    errands: mpsc::Sender<Errand>,
    questions: Arc<Semaphore>,
    next_port: u16,
    /// They end with the switch.
    tasks: JoinSet<()>,
}

impl Flows {
    pub(super) fn new(errands: mpsc::Sender<Errand>) -> Self {
        Self {
            live: BTreeMap::new(),
            errands,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            next_port: *OWN_PORTS.start(),
            tasks: JoinSet::new(),
        }
    }

    /// Passes a packet to the outside.
    ///
    /// # Errors
    /// The packet, if it belongs to nothing and begins nothing.
    pub(super) fn outside(
        &mut self,
        network: NetworkId,
        mtu: u16,
        bytes: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        let Some(packet) = Packet::parse(&bytes) else { return Ok(()) };
        let Some((from, to)) = packet.ports() else { return Ok(()) };
        let (guest, target) = ((packet.source(), from), (packet.destination(), to));
        let protocol = packet.protocol();
        let remote = if protocol == TCP { target } else { ANYBODY };
        let flow = Flow { network, protocol, guest, remote };
        if let Some(sender) = self.live.get(&flow).filter(|sender| !sender.is_closed()) {
            // Lost like any packet.
            let _ = sender.try_send(bytes);
            return Ok(());
        }
        let is_start = protocol != TCP || packet.begins_connection();
        if !is_start || !self.has_room() {
            return Err(bytes);
        }
        let link = self.link(flow, mtu);
        match protocol {
            TCP => drop(self.tasks.spawn(tcp::out(bytes, Ends { from: guest, to: target }, link))),
            UDP => {
                drop(self.tasks.spawn(udp::out(guest, link)));
                self.repeat(&flow, bytes);
            }
            ICMP => {
                drop(self.tasks.spawn(echo::out(guest, link)));
                self.repeat(&flow, bytes);
            }
            _ => {}
        }
        Ok(())
    }

    /// Passes a packet to a conversation that was begun towards the guest.
    ///
    /// # Errors
    /// The packet, if there is none.
    pub(super) fn own(&self, network: NetworkId, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(packet) = Packet::parse(&bytes) else { return Ok(()) };
        let Some((from, to)) = packet.ports() else { return Ok(()) };
        let (guest, remote) = ((packet.source(), from), (packet.destination(), to));
        let flow = Flow { network, protocol: packet.protocol(), guest, remote };
        match self.live.get(&flow).filter(|sender| !sender.is_closed()) {
            Some(sender) => {
                let _ = sender.try_send(bytes);
                Ok(())
            }
            None => Err(bytes),
        }
    }

    /// Begins a conversation with a guest, in the name of the gateway.
    pub(super) fn open(
        &mut self,
        network: Option<&Network>,
        request: &ForwardRequest,
    ) -> Result<Opened, Fault> {
        let network = network.ok_or_else(|| {
            let what = format!("a gateway on {}, to which the port leads,", request.network);
            Fault::not_found(what)
        })?;
        let full = || {
            let why = format!("the host has {FLOWS_MAX} conversations with the outside already");
            Fault::new(FaultCode::InsufficientResources, why)
        };
        if !self.has_room() {
            return Err(full());
        }
        let protocol = if request.protocol == Protocol::Udp { UDP } else { TCP };
        let guest = (request.address, request.port);
        let flow =
            |port| Flow { network: network.id, protocol, guest, remote: (network.gateway, port) };
        let later = self.next_port..=*OWN_PORTS.end();
        let mut ports = later.chain(*OWN_PORTS.start()..self.next_port);
        let port = ports.find(|port| !self.live.contains_key(&flow(*port))).ok_or_else(full)?;
        self.next_port = if port == *OWN_PORTS.end() { *OWN_PORTS.start() } else { port + 1 };
        let ends = Ends { from: (network.gateway, port), to: guest };
        let link = self.link(flow(port), network.mtu);
        Ok(Opened::new(request.protocol, ends, link))
    }

    /// Asks the name servers of this machine.
    pub(super) fn resolve(&mut self, question: Question) {
        let Ok(turn) = Arc::clone(&self.questions).try_acquire_owned() else { return };
        let errands = self.errands.clone();
        self.tasks.spawn(async move {
            let Question { network, client, .. } = question;
            if let Some(answer) = resolve::answer(&question.query).await {
                let _ = errands.send(Errand::Resolved { network, client, answer }).await;
            }
            drop(turn);
        });
    }

    /// Forgets conversations that are over. Calling often is harmless.
    pub(super) fn sweep(&mut self) {
        self.live.retain(|_, sender| !sender.is_closed());
        while self.tasks.try_join_next().is_some() {}
    }

    fn has_room(&mut self) -> bool {
        if self.live.len() >= FLOWS_MAX {
            self.sweep();
        }
        self.live.len() < FLOWS_MAX
    }

    fn link(&mut self, flow: Flow, mtu: u16) -> Link {
        let (sender, packets) = mpsc::channel(PACKETS_MAX);
        self.live.insert(flow, sender);
        let guest = Way { network: flow.network, errands: self.errands.clone() };
        Link { mtu, packets, guest }
    }

    fn repeat(&self, flow: &Flow, bytes: Vec<u8>) {
        if let Some(sender) = self.live.get(flow) {
            let _ = sender.try_send(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
