//! What a machine has open, and the calls that it waits for.
//!
//! It outlives connections to the fabric: when a connection is new, everything that is open is
//! asked for again. A call belongs to one connection and is given up with it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use crate::packet::PacketSocket;
use crate::underlay::stream::Stream;
use crate::wire::{MachineName, NicName, Refusal, Request, StorageState, Team};

/// Something that stays open over connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// A port that streams are taken at.
    Listen(u16),
    /// A datagram socket.
    Datagram(u16),
    /// The raw side of a card.
    Ethernet(NicName),
}

/// What the fabric made of a slot.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// It was asked for, or there is no connection.
    Waiting,
    /// It is open; with a socket unless it is a listener.
    Bound(Option<Arc<PacketSocket>>),
    /// It is not to be had.
    Refused(Refusal),
}

/// A stream that came in, and from where.
pub(crate) type Incoming = (Stream, MachineName);

/// How a dial ended.
pub(crate) type Dialled = Result<OwnedFd, Refusal>;

/// The tables of a machine.
#[derive(Debug)]
pub(crate) struct Endpoints {
    // Guards the tables; held for a lookup or a change, never across an await.
    tables: Mutex<Tables>,
    links: watch::Sender<BTreeMap<NicName, bool>>,
    powered: watch::Sender<bool>,
    storage: watch::Sender<StorageState>,
}

#[derive(Debug, Default)]
struct Tables {
    slots: BTreeMap<Slot, watch::Sender<Binding>>,
    backlogs: BTreeMap<u16, mpsc::Sender<Incoming>>,
    calls: BTreeMap<u64, Pending>,
    calls_ever: u64,
    team: Option<Team>,
}

#[derive(Debug)]
enum Pending {
    Open(Slot),
    Dial(oneshot::Sender<Dialled>),
}

impl Endpoints {
    pub(crate) fn new(nics: &[NicName], storage: StorageState) -> Self {
        let links = nics.iter().map(|nic| (nic.clone(), true)).collect();
        let (links, powered) = (watch::Sender::new(links), watch::Sender::new(true));
        let storage = watch::Sender::new(storage);
        Self { tables: Mutex::default(), links, powered, storage }
    }

    pub(crate) fn links(&self) -> watch::Receiver<BTreeMap<NicName, bool>> {
        self.links.subscribe()
    }

    pub(crate) fn powered(&self) -> watch::Receiver<bool> {
        self.powered.subscribe()
    }

    pub(crate) fn storage(&self) -> watch::Receiver<StorageState> {
        self.storage.subscribe()
    }

    pub(crate) fn handle_storage(&self, state: StorageState) {
        self.storage.send_if_modified(|known| std::mem::replace(known, state) != state);
    }

    pub(crate) fn handle_power(&self, is_powered: bool) {
        self.powered.send_if_modified(|powered| {
            let is_news = *powered != is_powered;
            *powered = is_powered;
            is_news
        });
    }

    pub(crate) fn handle_links(&self, states: Vec<(NicName, bool)>) {
        let states: BTreeMap<NicName, bool> = states.into_iter().collect();
        self.links.send_if_modified(|links| {
            let is_news = *links != states;
            *links = states;
            is_news
        });
    }

    /// Opens a slot; none if it is open. The request is to be sent.
    ///
    /// Streams that come in are put into the backlog of a listener, so that it is there before the
    /// first one can come.
    pub(crate) fn open(
        &self,
        slot: &Slot,
        backlog: Option<mpsc::Sender<Incoming>>,
    ) -> Option<(watch::Receiver<Binding>, Request)> {
        let mut tables = self.tables();
        if tables.slots.contains_key(slot) {
            return None;
        }
        let (binding, news) = watch::channel(Binding::Waiting);
        tables.slots.insert(slot.clone(), binding);
        if let (Slot::Listen(port), Some(backlog)) = (slot, backlog) {
            tables.backlogs.insert(*port, backlog);
        }
        Some((news, tables.ask_for(slot)))
    }

    /// Closes a slot. What was asked for it is nobody's any more.
    pub(crate) fn close(&self, slot: &Slot) {
        let mut tables = self.tables();
        tables.slots.remove(slot);
        if let Slot::Listen(port) = slot {
            tables.backlogs.remove(port);
        }
        tables.calls.retain(|_, pending| !matches!(pending, Pending::Open(own) if own == slot));
    }

    /// Starts a dial.
    pub(crate) fn start_dial(&self) -> (u64, oneshot::Receiver<Dialled>) {
        let (answer, dialled) = oneshot::channel();
        (self.tables().start_call(Pending::Dial(answer)), dialled)
    }

    /// Gives a call up.
    pub(crate) fn forget_call(&self, call: u64) {
        self.tables().calls.remove(&call);
    }

    /// Whether somebody waits for this request. One from before the connection is not to be sent.
    pub(crate) fn is_wanted(&self, request: &Request) -> bool {
        match request {
            Request::Unlisten { .. } | Request::Team { .. } => true,
            Request::Listen { call, .. }
            | Request::Dial { call, .. }
            | Request::Datagram { call, .. }
            | Request::Ethernet { call, .. } => self.tables().calls.contains_key(call),
        }
    }

    /// The connection is lost: nothing is bound, and no call will be answered.
    pub(crate) fn handle_lost(&self) {
        let mut tables = self.tables();
        tables.calls.clear();
        for binding in tables.slots.values() {
            binding.send_replace(Binding::Waiting);
        }
    }

    /// A connection is there: what is to be asked for on it.
    pub(crate) fn handle_connected(&self) -> Vec<Request> {
        let mut tables = self.tables();
        // Dials that began meanwhile begin again, on this connection.
        tables.calls.clear();
        let slots: Vec<Slot> = tables.slots.keys().cloned().collect();
        let team = tables.team.clone().map(|team| Request::Team { team: Some(team) });
        team.into_iter().chain(slots.iter().map(|slot| tables.ask_for(slot))).collect()
    }

    /// Takes in by which cards the machine speaks. The request is to be sent.
    pub(crate) fn set_team(&self, team: Option<Team>) -> Request {
        self.tables().team.clone_from(&team);
        Request::Team { team }
    }

    /// A call was answered.
    pub(crate) fn handle_answer(&self, call: u64, refusal: Option<Refusal>, fd: Option<OwnedFd>) {
        let mut tables = self.tables();
        match tables.calls.remove(&call) {
            Some(Pending::Dial(answer)) => {
                let dialled = match (refusal, fd) {
                    (Some(refusal), _) => Err(refusal),
                    (None, Some(fd)) => Ok(fd),
                    (None, None) => Err(Refusal::System("no descriptor came along".to_owned())),
                };
                // The dialler may have given up; then the stream closes here.
                drop(answer.send(dialled));
            }
            Some(Pending::Open(slot)) => {
                if let Some(binding) = tables.slots.get(&slot) {
                    binding.send_replace(Binding::new(refusal, fd));
                }
            }
            None => {}
        }
    }

    /// A stream came in. It closes at once if nobody listens or too many wait.
    pub(crate) fn handle_incoming(&self, from: MachineName, port: u16, fd: OwnedFd) {
        let tables = self.tables();
        let Some(backlog) = tables.backlogs.get(&port) else { return };
        let sent = Stream::new(fd).map(|stream| backlog.try_send((stream, from)));
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!(port, "a stream was turned away: too many wait to be accepted");
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change under the lock leaves the tables whole, whatever panics elsewhere.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn start_call(&mut self, pending: Pending) -> u64 {
        self.calls_ever += 1;
        self.calls.insert(self.calls_ever, pending);
        self.calls_ever
    }

    fn ask_for(&mut self, slot: &Slot) -> Request {
        let call = self.start_call(Pending::Open(slot.clone()));
        match slot {
            Slot::Listen(port) => Request::Listen { call, port: *port },
            Slot::Datagram(port) => Request::Datagram { call, port: *port },
            Slot::Ethernet(nic) => Request::Ethernet { call, nic: nic.clone() },
        }
    }
}

impl Binding {
    fn new(refusal: Option<Refusal>, fd: Option<OwnedFd>) -> Self {
        match (refusal, fd.map(PacketSocket::from_fd)) {
            (Some(refusal), _) => Self::Refused(refusal),
            (None, None) => Self::Bound(None),
            (None, Some(Ok(socket))) => Self::Bound(Some(Arc::new(socket))),
            (None, Some(Err(error))) => Self::Refused(Refusal::System(error.to_string())),
        }
    }
}
