//! A machine as the fabric sees it: its cards and cables, and whether its process is connected.
//!
//! A machine outlives its process: it is known from the moment it was first plugged in, and its
//! cables may be cut while it is off. What belongs to the process (ports it listens on, datagram
//! sockets) is in its [`Session`] and goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::fabric::link::Link;
use crate::packet::PacketSocket;
use crate::wire::{MachineName, NicName, Notice, Refusal, StorageState, Team};
use racknest_types::impairment::LinkFaults;

/// How long a machine that comes back waits for its former connection to be noticed as dead. A
/// killed process's sockets close before its death is reported, so this is about one wake-up.
const FORMER_SESSION_GRACE: Duration = Duration::from_secs(1);

/// A machine of the box.
#[derive(Debug)]
pub(crate) struct Machine {
    name: MachineName,
    cabling: watch::Sender<Cabling>,
    storage: watch::Sender<StorageState>,
    session: watch::Sender<Option<Arc<Session>>>,
    power_losses: watch::Sender<u32>,
}

/// The links of a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cabling {
    /// All of them, in the order of the cards.
    pub(crate) links: Arc<[Arc<Link>]>,
    /// The one that carries streams and datagrams: the first that is up. One that is faulty is up.
    pub(crate) live: Option<Arc<Link>>,
    /// Only machines of the same group reach each other.
    pub(crate) group: u32,
    /// Those that may carry, if not all may.
    pub(crate) team: Option<Team>,
}

/// What a connected machine has open.
#[derive(Debug)]
pub(crate) struct Session {
    /// Towards the machine's process, each with a descriptor if it opens something.
    pub(crate) notices: mpsc::Sender<(Notice, Option<OwnedFd>)>,
    // Guards two small tables; held for a lookup or an insertion, never across an await.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    listening: BTreeSet<u16>,
    datagrams: BTreeMap<u16, Arc<PacketSocket>>,
}

impl Machine {
    /// A machine without cards, off, with its storage in this state.
    pub(crate) fn new(name: MachineName, storage: StorageState) -> Self {
        let (storage, _) = watch::channel(storage);
        let (cabling, _) = watch::channel(Cabling::default());
        let (session, _) = watch::channel(None);
        let (power_losses, _) = watch::channel(0);
        Self { name, cabling, storage, session, power_losses }
    }

    pub(crate) const fn name(&self) -> &MachineName {
        &self.name
    }

    /// Its links, and news of them.
    pub(crate) fn cabling(&self) -> watch::Receiver<Cabling> {
        self.cabling.subscribe()
    }

    /// The way to its storage, and news of it.
    pub(crate) fn storage(&self) -> watch::Receiver<StorageState> {
        self.storage.subscribe()
    }

    /// Cuts the way to its storage, or restores it.
    pub(crate) fn set_storage(&self, state: StorageState) {
        self.storage.send_replace(state);
    }

    /// Gives the machine these links, in place of those it had.
    pub(crate) fn set_links(&self, links: Vec<Arc<Link>>) {
        self.cabling.send_modify(|cabling| *cabling = cabling.with_links(links.into()));
    }

    /// Finds the link of a card.
    pub(crate) fn link(&self, nic: &NicName) -> Option<Arc<Link>> {
        self.cabling.borrow().links.iter().find(|link| link.nic() == nic).cloned()
    }

    /// Pulls a cable or puts it back; whoever waits for a path hears of it.
    pub(crate) fn set_link_up(&self, link: &Link, is_up: bool) {
        link.set_up(is_up);
        self.cabling.send_modify(Cabling::look_again);
    }

    /// Makes a cable faulty or whole; streams over it hear of it.
    pub(crate) fn set_link_faults(&self, link: &Link, faults: LinkFaults, is_active: bool) {
        link.set_faults(faults, is_active);
        self.cabling.send_modify(Cabling::look_again);
    }

    /// Has the faults of a cable be there or not. Whether that changed anything.
    pub(crate) fn set_link_active(&self, link: &Link, is_active: bool) -> bool {
        let is_news = link.set_active(is_active);
        if is_news {
            self.cabling.send_modify(Cabling::look_again);
        }
        is_news
    }

    /// Puts the machine and its cables into a group.
    pub(crate) fn set_group(&self, group: u32) {
        self.cabling.send_if_modified(|cabling| {
            let is_news = std::mem::replace(&mut cabling.group, group) != group;
            *cabling = cabling.with_links(Arc::clone(&cabling.links));
            is_news
        });
    }

    /// Has other cards carry what the machine itself says.
    pub(crate) fn set_team(&self, team: Option<Team>) {
        self.cabling.send_if_modified(|cabling| {
            let is_news = cabling.team != team;
            cabling.team = team;
            cabling.look_again();
            is_news
        });
    }

    /// What a port of the physical switch carries has changed.
    pub(crate) fn look_at_ports(&self) {
        self.cabling.send_modify(Cabling::look_again);
    }

    /// The link that carries streams and datagrams, if any is up.
    pub(crate) fn live_link(&self) -> Option<Arc<Link>> {
        self.cabling.borrow().live.clone()
    }

    /// Something was lost on the way to or from this machine.
    pub(crate) fn count_dropped(&self) {
        let cabling = self.cabling.borrow();
        if let Some(link) = cabling.live.as_ref().or_else(|| cabling.links.first()) {
            link.count_dropped();
        }
    }

    /// Ends the streams of this machine.
    pub(crate) fn lose_power(&self) {
        self.power_losses.send_modify(|losses| *losses += 1);
    }

    /// Changes when this machine loses its power.
    pub(crate) fn power_losses(&self) -> watch::Receiver<u32> {
        self.power_losses.subscribe()
    }

    pub(crate) fn is_on(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// The process behind the machine, if it is connected.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.borrow().clone()
    }

    /// Waits until the process behind the machine is connected.
    pub(crate) async fn wait_on(&self) -> Arc<Session> {
        let mut sessions = self.session.subscribe();
        let found = sessions.wait_for(Option::is_some).await;
        let session = found.ok().and_then(|session| session.clone());
        session.expect("this machine holds the sender, and a session was waited for")
    }

    /// Turns the machine on with this session, unless another process is behind it.
    pub(crate) async fn turn_on(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        let mut sessions = self.session.subscribe();
        let former_gone = sessions.wait_for(Option::is_none);
        // Whether it is gone is asked below, where the answer cannot change any more.
        drop(tokio::time::timeout(FORMER_SESSION_GRACE, former_gone).await);
        let is_taken = self.session.send_if_modified(|current| {
            let is_free = current.is_none();
            if is_free {
                *current = Some(Arc::clone(session));
            }
            is_free
        });
        if is_taken {
            // Another process may have other ideas; it says so.
            self.set_team(None);
        }
        if is_taken { Ok(()) } else { Err(Refusal::NameTaken) }
    }

    /// Turns the machine off if this session is the one it runs with.
    pub(crate) fn turn_off(&self, session: &Arc<Session>) {
        self.session.send_if_modified(|current| {
            let is_own = current.as_ref().is_some_and(|own| Arc::ptr_eq(own, session));
            if is_own {
                *current = None;
            }
            is_own
        });
    }
}

impl Cabling {
    fn with_links(&self, links: Arc<[Arc<Link>]>) -> Self {
        for link in &*links {
            link.set_group(self.group);
        }
        let team = self.team.clone();
        let mut next = Self { links, live: None, group: self.group, team };
        next.look_again();
        next
    }

    fn look_again(&mut self) {
        let carries = |link: &&Arc<Link>| link.is_up();
        self.live = match &self.team {
            None => self.links.iter().find(carries).cloned(),
            Some(Team { nics, vlan }) => {
                let named = |nic| self.links.iter().find(|link| link.nic() == nic);
                let team = nics.iter().filter_map(named);
                team.filter(|link| link.port().carries(*vlan)).find(carries).cloned()
            }
        };
    }
}

impl Session {
    pub(crate) fn new(notices: mpsc::Sender<(Notice, Option<OwnedFd>)>) -> Self {
        Self { notices, open: Mutex::default() }
    }

    pub(crate) fn listen(&self, port: u16) {
        self.open().listening.insert(port);
    }

    pub(crate) fn unlisten(&self, port: u16) {
        self.open().listening.remove(&port);
    }

    pub(crate) fn is_listening(&self, port: u16) -> bool {
        self.open().listening.contains(&port)
    }

    /// Binds a datagram socket. A former one of the port is closed: its owner dropped it.
    pub(crate) fn bind_datagram(&self, port: u16, socket: Arc<PacketSocket>) {
        self.open().datagrams.insert(port, socket);
    }

    /// Unbinds a datagram socket if it is still this one.
    pub(crate) fn unbind_datagram(&self, port: u16, socket: &Arc<PacketSocket>) {
        let mut open = self.open();
        if open.datagrams.get(&port).is_some_and(|bound| Arc::ptr_eq(bound, socket)) {
            open.datagrams.remove(&port);
        }
    }

    pub(crate) fn datagram(&self, port: u16) -> Option<Arc<PacketSocket>> {
        self.open().datagrams.get(&port).cloned()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change under the lock is one call, so a panic elsewhere left it whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
