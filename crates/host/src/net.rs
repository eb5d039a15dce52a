//! The host's virtual switch: carries frames between its guests, and between them and the wire.
//!
//! Every guest NIC of the host sends its frames to one socket; where a frame came from says which
//! NIC sent it. The switch's ways out are the host's physical NICs, each a trunk; which of them a
//! guest uses says the teaming of its port group:
//!
//! ```text
//!  guest NICs ──as the port group says──► switch ──trunk──► vmnic0 ──► physical switch
//!                                                ├─trunk──► vmnic1 ──┘
//!                                                …
//! ```
//!
//! What comes in by a NIC that a guest does not use it does not get: the physical switch floods to
//! all, and a guest would hear everything twice.
//!
//! The switch belongs to the agent: while the agent is away guests lose frames, as they would on a
//! bad cable, and nothing else.

mod address;
mod card;
mod desk;
mod gateway;
mod groups;
mod mirrors;
mod panel;
mod probes;
mod protection;
mod tap;
mod watching;
mod wires;

pub use desk::{Desk, Tap};
pub use gateway::{Opened, Spoken};

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use racknest_cluster::record::switching::SwitchSettings;
use racknest_cluster::record::vm::Nic;
use racknest_cluster::wire::PortGroup;
use racknest_cluster::wire::host_network::{HostNetwork, UplinkHealth};
use racknest_switch::offload::Offload;
use racknest_switch::{Packet, PortId};
use racknest_types::id::VmId;
use racknest_underlay::{EthernetPort, FRAME_MAX, NicName, PACKET_MAX};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketAddrUnix};
use tokio::net::UnixDatagram;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use self::gateway::{Door, Entry};
use self::groups::Groups;
use self::panel::{Exit, Panel};
use self::probes::{Outgoing, Probes};
use self::watching::Watch;
use crate::clock::Stopwatch;
use crate::layout::Layout;

/// Room for the longest frame and a tag.
const FRAME_ROOM: usize = FRAME_MAX + 4;

/// How many frames of guests are carried before others have their turn.
const FRAMES_PER_TURN: usize = 64;

/// How often a guest whose socket is full is tried again. It takes ten frames each time: 10,000
/// frames a second, more than a guest under TCG can handle.
const FLUSH_PAUSE: Duration = Duration::from_millis(1);

/// What is plugged into the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// These are the NICs of a VM that runs; replaces those it had.
    Plug {
        /// The VM.
        vm: VmId,
        /// Its NICs.
        nics: Vec<Nic>,
    },
    /// A VM with these NICs is about to come, or to get them: their cards may connect, and nothing
    /// passes yet.
    Expect {
        /// The VM.
        vm: VmId,
        /// Its NICs.
        nics: Vec<Nic>,
    },
    /// The VM does not run.
    Unplug {
        /// The VM.
        vm: VmId,
    },
    /// These are the port groups, all of them.
    Groups(Vec<PortGroup>),
    /// This holds for the switch.
    Switching(Box<SwitchSettings>),
    /// These are the switches: the uplinks are probed of those that say so.
    Switches(Box<HostNetwork>),
}

/// A guest was heard to use an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The VM.
    pub vm: VmId,
    /// The address.
    pub address: Ipv4Addr,
}

/// The agent's side of the switch. The switch ends with it.
#[derive(Debug)]
pub struct Network {
    orders: mpsc::UnboundedSender<Order>,
    heard: mpsc::UnboundedReceiver<Heard>,
    desk: Desk,
    health: watch::Receiver<Vec<UplinkHealth>>,
    _tasks: JoinSet<()>,
}

/// A physical NIC of the host.
#[derive(Debug)]
pub struct Uplink {
    /// Its name.
    pub nic: NicName,
    /// Its raw side.
    pub port: EthernetPort,
}

/// Which of a machine's links are up.
pub type Links = watch::Receiver<BTreeMap<NicName, bool>>;

/// What became of one copy of a frame.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Done,
    /// The receiver is there and has no room at the moment.
    Later,
    /// The receiver is not there.
    Lost,
}

/// What the tasks of the switch share.
#[derive(Debug)]
struct Shared {
    guests: UnixDatagram,
    layout: Layout,
    uplinks: Vec<Uplink>,
    /// Held for one frame.
    panel: Mutex<Panel>,
    clock: Stopwatch,
    heard: mpsc::UnboundedSender<Heard>,
    /// Frames wait for a guest.
    backlog: Notify,
    gateway: Door,
    /// A link came up, or the settings changed: the host says who it is.
    fresh: Notify,
    /// The wires of guests are others.
    rewired: Notify,
    probes: Probes,
    /// Other switches are to be probed.
    checks: Notify,
}

impl Network {
    /// Starts the switch of the host of this name, in the place of one whose agent was killed. The
    /// uplinks are in order of preference.
    ///
    /// # Errors
    /// The switch's socket cannot be made.
    pub fn start(
        name: &str,
        layout: &Layout,
        uplinks: Vec<Uplink>,
        links: Links,
    ) -> io::Result<Self> {
        let path = layout.switch_socket();
        fs_err::create_dir_all(layout.run())?;
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let (orders, taken) = mpsc::unbounded_channel();
        let (told, heard) = mpsc::unbounded_channel();
        let (gateway, inside) = gateway::door();
        let guests = UnixDatagram::bind(&path)?;
        let nics: Vec<NicName> = uplinks.iter().map(|uplink| uplink.nic.clone()).collect();
        let watch = Watch::load(name, layout);
        let shared = Arc::new_cyclic(|shared| Shared {
            guests,
            panel: Mutex::new(Panel::new(layout.clone(), nics.into_iter(), watch, shared.clone())),
            layout: layout.clone(),
            probes: Probes::new(uplinks.iter().map(|uplink| uplink.nic.clone())),
            checks: Notify::new(),
            uplinks,
            clock: Stopwatch::start(),
            heard: told,
            backlog: Notify::new(),
            gateway,
            fresh: Notify::new(),
            rewired: Notify::new(),
        });
        shared.renew_gateways();
        let desk = Desk::new(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).carry_from_guests());
        for place in 0..shared.uplinks.len() {
            tasks.spawn(Arc::clone(&shared).carry_from_uplink(place));
        }
        tasks.spawn(Arc::clone(&shared).hand_over_later());
        tasks.spawn(gateway::attend(Arc::clone(&shared), inside));
        tasks.spawn(Arc::clone(&shared).announce());
        tasks.spawn(Arc::clone(&shared).export_flows());
        tasks.spawn(Arc::clone(&shared).look_after());
        tasks.spawn(Arc::clone(&shared).deliver_held());
        tasks.spawn(Arc::clone(&shared).follow_wires());
        let (found, health) = watch::channel(Vec::new());
        tasks.spawn(Arc::clone(&shared).probe(found));
        tasks.spawn(shared.attend(taken, links));
        Ok(Self { orders, heard, desk, health, _tasks: tasks })
    }

    /// Says what is plugged in.
    pub fn order(&self, order: Order) {
        // The switch lives as long as this, so that it takes every order.
        let _ = self.orders.send(order);
    }

    /// What the uplinks carry, of the switches that are probed, and news of it.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Vec<UplinkHealth>> {
        self.health.clone()
    }

    /// Where others ask.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// The next address that was heard.
    pub async fn heard(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }
}

impl Shared {
    /// Carries out orders, and follows the links.
    async fn attend(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>, mut links: Links) {
        self.follow(&links.borrow_and_update());
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order),
                    None => return,
                },
                changed = links.changed() => match changed {
                    Ok(()) => self.follow(&links.borrow_and_update()),
                    Err(_) => return,
                },
            }
        }
    }

    fn carry_out(&self, order: Order) {
        let now_ms = self.clock.millis();
        match order {
            Order::Plug { vm, nics } => {
                self.panel().plug(now_ms, vm, &nics, |exit, offload, pieces| {
                    self.send(exit, offload, pieces)
                });
            }
            Order::Expect { vm, nics } => self.panel().expect(vm, &nics),
            Order::Unplug { vm } => self.panel().unplug(vm),
            Order::Switching(settings) => self.set_switching(now_ms, *settings),
            Order::Switches(network) => {
                if self.probes.set(&network) {
                    self.checks.notify_one();
                }
            }
            Order::Groups(groups) => {
                if let Err(error) = Groups::save(&self.layout, &groups) {
                    tracing::error!(%error, "the port groups will be forgotten when the agent ends");
                }
                self.panel().set_groups(now_ms, groups, |exit, offload, pieces| {
                    self.send(exit, offload, pieces)
                });
                self.renew_gateways();
            }
        }
    }

    fn follow(&self, links: &BTreeMap<NicName, bool>) {
        let is_up = |nic: &NicName| links.get(nic).is_some_and(|is_up| *is_up);
        let mut panel = self.panel();
        panel.set_links(is_up, |exit, offload, pieces| self.send(exit, offload, pieces));
        self.fresh.notify_one();
        if !panel.has_way_out(is_up) {
            tracing::warn!("no NIC works: guests reach only those on this host");
        }
    }

    async fn carry_from_guests(self: Arc<Self>) {
        let mut frame = vec![0; FRAME_ROOM];
        loop {
            if let Err(error) = self.guests.readable().await {
                tracing::error!(%error, "the guests' socket broke; they have no network");
                return;
            }
            for _ in 0..FRAMES_PER_TURN {
                // An error is "no more", or one of a guest that is gone.
                let Ok((size, from)) = self.guests.try_recv_from(&mut frame) else { break };
                let port = from.as_pathname().and_then(|path| self.panel().port_of(path));
                if let Some(port) = port {
                    self.carry(port, &Packet::plain(&frame[..size]), true);
                }
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn carry_from_uplink(self: Arc<Self>, place: usize) {
        let mut frame = vec![0; PACKET_MAX];
        let port = self.panel().uplink(place);
        let (Some(uplink), Some(port)) = (self.uplinks.get(place), port) else { return };
        loop {
            let (offload, size) = uplink.port.recv(&mut frame).await;
            if let Some(answer) = self.probes.take(place, &frame[..size]) {
                answer.into_iter().for_each(|answer| self.send_probe(&answer));
                continue;
            }
            match Packet::new(offload, &frame[..size]) {
                Ok(packet) => {
                    self.note_passing(packet.frame());
                    self.carry(port, &packet, false);
                }
                Err(_) => self.panel().refuse(self.clock.millis(), port, size),
            }
        }
    }

    /// Carries what a guest's card has sent: a frame behind what is left to do for it.
    fn carry_bytes(&self, port: PortId, bytes: &[u8]) {
        let parts = bytes.split_first_chunk::<{ Offload::LEN }>();
        let packet = parts.and_then(|(head, frame)| {
            let offload = Offload::read(head).ok()?;
            Packet::new(offload, frame).ok()
        });
        match packet {
            Some(packet) => self.carry(port, &packet, true),
            None => self.panel().refuse(self.clock.millis(), port, bytes.len()),
        }
    }

    /// Hands over what waits for guests.
    fn hand_over(&self) -> bool {
        self.panel().flush(|exit, offload, pieces| self.send(exit, offload, pieces))
    }

    fn carry(&self, port: PortId, packet: &Packet<'_>, is_guest: bool) {
        let mut panel = self.panel();
        if !is_guest || !self.delay(&mut panel, port, packet) {
            self.carry_whole(&mut panel, port, packet, is_guest);
        }
    }

    /// Carries what has come over a wire.
    fn carry_whole(&self, panel: &mut Panel, port: PortId, packet: &Packet<'_>, is_guest: bool) {
        let now_ms = self.clock.millis();
        let claimed = if is_guest { panel.claim(port, packet.frame()) } else { None };
        // Of what the gateway alone is to answer only the address is another.
        let claimed = claimed.as_deref().and_then(|it| Packet::new(*packet.offload(), it).ok());
        let packet = claimed.as_ref().unwrap_or(packet);
        if is_guest && let Some(heard) = panel.listen(now_ms, port, packet.frame()) {
            // Nobody listens while the agent ends.
            let _ = self.heard.send(heard);
        }
        let send = |exit: Exit<'_>, offload: &Offload, pieces: [&[u8]; 3]| {
            self.send(exit, offload, pieces)
        };
        if is_guest && panel.inspect(now_ms, port, packet.frame(), send) {
            return;
        }
        if !is_guest {
            panel.watch.hear(now_ms, port, packet.frame());
        }
        panel.carry(now_ms, port, packet, send);
        if panel.has_waiting() {
            self.backlog.notify_one();
        }
    }

    /// Hands frames over to guests that had no room.
    async fn hand_over_later(self: Arc<Self>) {
        loop {
            self.backlog.notified().await;
            loop {
                tokio::time::sleep(FLUSH_PAUSE).await;
                if !self.hand_over() {
                    break;
                }
            }
        }
    }

    /// Sends by a socket. Those of guests do not know of anything left to do.
    fn send(&self, exit: Exit<'_>, offload: &Offload, pieces: [&[u8]; 3]) -> Sent {
        match exit {
            Exit::Guest(socket) => send_to(&self.guests, socket, &pieces.map(IoSlice::new)),
            Exit::Uplink(place) => {
                let uplink = self.uplinks.get(place);
                let is_sent = uplink.is_some_and(|uplink| uplink.port.try_send(offload, pieces));
                if is_sent { Sent::Done } else { Sent::Lost }
            }
            Exit::Gateway(network) => {
                let frame = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
                let is_taken = self.gateway.enter(Entry::Guest { network, frame });
                if is_taken { Sent::Done } else { Sent::Lost }
            }
        }
    }

    fn send_probe(&self, Outgoing { uplink, tag, frame }: &Outgoing) {
        let mut room = [0; 4];
        // What is lost is missed, as any probe.
        let _ = self.send(Exit::Uplink(*uplink), &Offload::NONE, tag.pieces(frame, &mut room));
    }

    fn panel(&self) -> MutexGuard<'_, Panel> {
        self.panel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a frame that consists of these pieces to a guest.
fn send_to(guests: &UnixDatagram, socket: &SocketAddrUnix, pieces: &[IoSlice<'_>]) -> Sent {
    let mut control = SendAncillaryBuffer::default();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match rustix::net::sendmsg_addr(guests.as_fd(), socket, pieces, &mut control, flags) {
        Ok(_) => Sent::Done,
        Err(Errno::AGAIN | Errno::NOBUFS) => Sent::Later,
        Err(_) => Sent::Lost,
    }
}

#[cfg(test)]
mod tests;
