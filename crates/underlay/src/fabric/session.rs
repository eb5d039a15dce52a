//! A connected machine: lets it in, does what it asks, tells it what happens to it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::fabric::datagram;
use crate::fabric::ethernet::PhysicalSwitch;
use crate::fabric::machine::{Machine, Session};
use crate::fabric::plant::Plant;
use crate::fabric::stream::{self, Call};
use crate::fabric::tasks::Tasks;
use crate::packet::PacketSocket;
use crate::wire::{
    MESSAGE_MAX, MachineName, NicName, Notice, Refusal, Request, StorageState, VERSION, encode,
};

/// How many notices may wait for a machine. Who has more for it waits.
const NOTICES_MAX: usize = 64;

/// The most a dial may ask to wait.
const DIAL_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// How long a machine may take to hear why its connection ends.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Who wants in.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub(crate) version: u32,
    pub(crate) name: MachineName,
    pub(crate) nics: Vec<NicName>,
}

/// Keeps a machine on; off when dropped, however the connection ends.
struct Presence {
    machine: Arc<Machine>,
    session: Arc<Session>,
}

/// What the requests of one machine work on.
struct Desk {
    plant: Arc<Plant>,
    /// End with the fabric.
    tasks: Tasks,
    /// End with the connection.
    own: Tasks,
    presence: Presence,
}

/// Serves a machine until it hangs up.
pub(crate) async fn serve(
    plant: Arc<Plant>,
    tasks: Tasks,
    socket: PacketSocket,
    applicant: Applicant,
) {
    let name = applicant.name.clone();
    let (notices, outgoing) = mpsc::channel(NOTICES_MAX);
    let (presence, storage) = match let_in(&plant, notices, applicant).await {
        Ok(let_in) => let_in,
        Err(refusal) => {
            tracing::debug!(machine = %name, ?refusal, "machine was not let in");
            return refuse(&socket, refusal).await;
        }
    };
    tracing::debug!(machine = %name, "machine connected");
    let desk = Desk { plant, own: tasks.part(), tasks, presence };
    tokio::select! {
        () = desk.read_requests(&socket) => {}
        () = write_notices(&socket, outgoing) => {}
        () = tell_links(&desk.presence) => {}
        () = tell_storage(&desk.presence, storage) => {}
        () = desk.plant.wait_off(&name) => {
            desk.presence.machine.lose_power();
            refuse(&socket, Refusal::PoweredOff).await;
        }
    }
    desk.own.stop();
    tracing::debug!(machine = %name, "machine disconnected");
}

/// Tells a machine why its connection ends. If it does not listen, it hears that it ended.
async fn refuse(socket: &PacketSocket, refusal: Refusal) {
    let notice = encode(&Notice::Refused(refusal));
    drop(timeout(REFUSAL_TIMEOUT, socket.send_with_fd(&notice, None)).await);
}

async fn let_in(
    plant: &Plant,
    notices: mpsc::Sender<(Notice, Option<OwnedFd>)>,
    applicant: Applicant,
) -> Result<(Presence, watch::Receiver<StorageState>), Refusal> {
    if applicant.version != VERSION {
        return Err(Refusal::Version(VERSION));
    }
    if plant.is_off(&applicant.name) {
        return Err(Refusal::PoweredOff);
    }
    let machine = match plant.machine(applicant.name.as_str()) {
        // Its cards stay as they are until it is certain that no other process has them.
        Some(machine) if machine.is_on() => machine,
        Some(_) | None => plant.plug(&applicant.name, &applicant.nics).await?,
    };
    let session = Arc::new(Session::new(notices));
    // In the queue before anybody can find the session, so it is the first it hears.
    let mut storage = machine.storage();
    let welcome = Notice::Welcome { storage: *storage.borrow_and_update() };
    let queued = session.notices.send((welcome, None)).await;
    queued.expect("the receiving end is held by the caller");
    machine.turn_on(&session).await?;
    let presence = Presence { machine, session };
    plant.plug(&applicant.name, &applicant.nics).await?;
    Ok((presence, storage))
}

impl Desk {
    async fn read_requests(&self, socket: &PacketSocket) {
        let mut buffer = vec![0; MESSAGE_MAX];
        while let Ok(size @ 1..) = socket.recv(&mut buffer).await {
            match serde_json::from_slice(&buffer[..size]) {
                Ok(request) => self.serve_request(request).await,
                Err(error) => {
                    let machine = self.presence.machine.name();
                    tracing::warn!(%machine, %error, "machine sent no request; it is cut off");
                    return;
                }
            }
        }
    }

    async fn serve_request(&self, request: Request) {
        let Presence { machine, session } = &self.presence;
        match request {
            Request::Listen { call, port } => {
                session.listen(port);
                answer(session, call, Ok(None)).await;
            }
            Request::Unlisten { port } => session.unlisten(port),
            Request::Dial { call, machine: to, port, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms).min(DIAL_TIMEOUT_MAX);
                let wanted = Call { from: Arc::clone(machine), to, port, timeout };
                self.spawn_dial(call, wanted);
            }
            Request::Datagram { call, port } => {
                answer(session, call, self.open_datagram(port).map(Some)).await;
            }
            Request::Team { team } => machine.set_team(team),
            Request::Ethernet { call, nic } => {
                answer(session, call, self.open_ethernet(&nic).map(Some)).await;
            }
        }
    }

    /// A dial takes as long as it takes; other requests do not wait for it.
    fn spawn_dial(&self, call: u64, wanted: Call) {
        let session = Arc::clone(&self.presence.session);
        let (plant, tasks) = (Arc::clone(&self.plant), self.tasks.clone());
        self.own.spawn(async move {
            let dialled = stream::dial(&plant, &tasks, wanted).await;
            answer(&session, call, dialled.map(Some)).await;
        });
    }

    fn open_datagram(&self, port: u16) -> Result<OwnedFd, Refusal> {
        let (kept, given) = pair()?;
        let Presence { machine, session } = &self.presence;
        let socket = Arc::new(kept);
        session.bind_datagram(port, Arc::clone(&socket));
        let (plant, machine) = (Arc::clone(&self.plant), Arc::clone(machine));
        self.own.spawn(datagram::serve(plant, machine, Arc::clone(session), port, socket));
        Ok(given)
    }

    fn open_ethernet(&self, nic: &NicName) -> Result<OwnedFd, Refusal> {
        let link = self.presence.machine.link(nic).ok_or(Refusal::UnknownNic)?;
        let (kept, given) = pair()?;
        let plant = Arc::clone(&self.plant);
        self.own.spawn(async move { PhysicalSwitch::serve(&plant, link, kept).await });
        Ok(given)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.machine.turn_off(&self.session);
    }
}

fn pair() -> Result<(PacketSocket, OwnedFd), Refusal> {
    PacketSocket::pair().map_err(|error| Refusal::System(error.to_string()))
}

async fn answer(session: &Session, call: u64, result: Result<Option<OwnedFd>, Refusal>) {
    let (refusal, fd) = match result {
        Ok(fd) => (None, fd),
        Err(refusal) => (Some(refusal), None),
    };
    // Nobody is left to hear it if this fails.
    drop(session.notices.send((Notice::Answer { call, refusal }, fd)).await);
}

async fn write_notices(
    socket: &PacketSocket,
    mut outgoing: mpsc::Receiver<(Notice, Option<OwnedFd>)>,
) {
    while let Some((notice, fd)) = outgoing.recv().await {
        let given = fd.as_ref().map(AsFd::as_fd);
        if socket.send_with_fd(&encode(&notice), given).await.is_err() {
            return;
        }
    }
}

/// Tells the machine which of its links are up, whenever that changes.
async fn tell_links(presence: &Presence) {
    let mut cabling = presence.machine.cabling();
    loop {
        let states = {
            let cabling = cabling.borrow_and_update();
            cabling.links.iter().map(|link| (link.nic().clone(), link.is_up())).collect()
        };
        let told = presence.session.notices.send((Notice::Links(states), None)).await;
        if told.is_err() || cabling.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the machine about the way to its storage, whenever that changes after the welcome.
async fn tell_storage(presence: &Presence, mut storage: watch::Receiver<StorageState>) {
    while storage.changed().await.is_ok() {
        let state = *storage.borrow_and_update();
        if presence.session.notices.send((Notice::Storage(state), None)).await.is_err() {
            return;
        }
    }
}
