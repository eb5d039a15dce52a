//! Listens on the ports of this machine that lead to guests, and leads whoever connects there.
//!
//! Where a forward leads is asked of the inventory for each conversation, so that it follows a VM that
//! moves. The bytes go over the underlay to the host that runs it, whose gateway speaks to the guest:
//! a cut cable cuts them, too. See decision 0018.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::services::{Forward, Protocol};
use racknest_cluster::wire::StreamRequest;
use racknest_cluster::wire::switching::ForwardRequest;
use racknest_types::fault::Fault;
use racknest_types::id::NetworkId;
use racknest_underlay::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::core::feed::Watcher;
use crate::state::State;

/// How soon it is tried again to listen where somebody else does.
const RETRY: Duration = Duration::from_secs(5);

/// Conversations of one forward at a time; more wait, or are lost if they are datagrams.
const CONVERSATIONS_MAX: usize = 256;

/// How long a conversation over UDP may be silent. RFC 4787 asks for two minutes at the least.
const SILENCE: Duration = Duration::from_secs(120);

/// Datagrams of one conversation that wait for the host.
const DATAGRAMS_MAX: usize = 64;

/// Room for the longest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Why nobody listens for a forward, by its number.
#[derive(Clone, Debug, Default)]
pub struct ForwardTroubles(
    /// Held for one look or change.
    Arc<Mutex<BTreeMap<u64, String>>>,
);

impl ForwardTroubles {
    /// Why nobody listens for this forward, if so.
    #[must_use]
    pub fn of(&self, number: u64) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn replace(&self, troubles: BTreeMap<u64, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
    }
}

/// A forward, and the network that it leads into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lead {
    network: NetworkId,
    forward: Forward,
}

/// Listens until it is dropped.
pub(crate) async fn run(state: State) {
    let mut changes = state.core.feed().watch();
    let mut live = BTreeMap::<u64, (Lead, JoinSet<()>)>::new();
    loop {
        let wanted = state.core.read(|inventory| {
            let leads = inventory.forwards().map(|(network, it)| Lead { network, forward: *it });
            leads.map(|lead| (lead.forward.number, lead)).collect::<BTreeMap<_, _>>()
        });
        // Who is dropped ends with its conversations.
        live.retain(|number, (lead, _)| wanted.get(number) == Some(lead));
        let mut troubles = BTreeMap::new();
        for (number, lead) in wanted {
            if live.contains_key(&number) {
                continue;
            }
            match listen(&state, lead).await {
                Ok(tasks) => drop(live.insert(number, (lead, tasks))),
                Err(error) => {
                    let listen = lead.forward.listen;
                    drop(troubles.insert(number, format!("cannot listen on {listen}: {error}")));
                }
            }
        }
        let has_troubles = !troubles.is_empty();
        state.forward_troubles.replace(troubles);
        let is_over = match has_troubles {
            true => timeout(RETRY, is_concerned(&mut changes)).await == Ok(false),
            false => !is_concerned(&mut changes).await,
        };
        if is_over {
            return;
        }
    }
}

/// Waits until a network has changed; says whether the core is still there.
async fn is_concerned(changes: &mut Watcher) -> bool {
    while let Some(next) = changes.next().await {
        let is_network = |entity: &EntityRef| matches!(entity, EntityRef::Network(_));
        if next.map_or(true, |changes| changes.iter().any(|it| is_network(&it.entity))) {
            return true;
        }
    }
    false
}

async fn listen(state: &State, lead: Lead) -> io::Result<JoinSet<()>> {
    let (state, at) = (state.clone(), SocketAddr::from(lead.forward.listen));
    let mut tasks = JoinSet::new();
    match lead.forward.protocol {
        Protocol::Udp => {
            let socket = UdpSocket::bind(at).await?;
            tasks.spawn(serve_datagrams(state, lead, socket));
        }
        Protocol::Tcp | Protocol::Icmp => {
            let listener = TcpListener::bind(at).await?;
            tasks.spawn(serve_connections(state, lead, listener));
        }
    }
    Ok(tasks)
}

async fn serve_connections(state: State, lead: Lead, listener: TcpListener) {
    let mut conversations = JoinSet::new();
    loop {
        while conversations.try_join_next().is_some() {}
        if conversations.len() >= CONVERSATIONS_MAX {
            conversations.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(conversations.spawn(connect(state.clone(), lead, stream))),
            Err(error) => {
                // As when there are too many open files: some will be closed.
                tracing::warn!(listen = %lead.forward.listen, %error, "nobody can connect for now");
                sleep(RETRY).await;
            }
        }
    }
}

async fn connect(state: State, lead: Lead, mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    match way(&state, lead).await {
        // Whichever of the two breaks off, the other hears it.
        Ok(mut stream) => drop(tokio::io::copy_bidirectional(&mut client, &mut stream).await),
        Err(fault) => {
            tracing::info!(listen = %lead.forward.listen, %fault, "a connection leads nowhere");
        }
    }
}

/// The way to the guest, as it is at this moment.
async fn way(state: &State, lead: Lead) -> Result<Stream, Fault> {
    let Lead { network, forward } = lead;
    let (host, address) = state.core.read(|inventory| {
        let target = inventory.forward_target(network, &forward)?;
        Ok::<_, Fault>((inventory.host(target.host)?.name.clone(), target.address))
    })?;
    let Forward { port, protocol, .. } = forward;
    let request = StreamRequest::Forward(ForwardRequest { network, address, port, protocol });
    state.streams.open(&host, &request).await.map(|(_, stream)| stream)
}

async fn serve_datagrams(state: State, lead: Lead, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut clients = BTreeMap::<SocketAddr, mpsc::Sender<Vec<u8>>>::new();
    let mut conversations = JoinSet::new();
    let mut bytes = vec![0; DATAGRAM_MAX];
    loop {
        // An error is of something that was sent before.
        let Ok((size, client)) = socket.recv_from(&mut bytes).await else { continue };
        while conversations.try_join_next().is_some() {}
        clients.retain(|_, sender| !sender.is_closed());
        if !clients.contains_key(&client) {
            if clients.len() >= CONVERSATIONS_MAX {
                continue;
            }
            let (sender, asked) = mpsc::channel(DATAGRAMS_MAX);
            clients.insert(client, sender);
            let (state, socket) = (state.clone(), Arc::clone(&socket));
            conversations.spawn(async move {
                match way(&state, lead).await {
                    Ok(stream) => drop(converse(stream, asked, &socket, client).await),
                    Err(fault) => {
                        let listen = lead.forward.listen;
                        tracing::info!(%listen, %fault, "a datagram leads nowhere");
                    }
                }
            });
        }
        if let Some(sender) = clients.get(&client) {
            // Lost like any datagram.
            let _ = sender.try_send(bytes[..size].to_vec());
        }
    }
}

/// Carries datagrams between a client and a host until both are silent.
async fn converse(
    stream: Stream,
    mut asked: mpsc::Receiver<Vec<u8>>,
    socket: &UdpSocket,
    client: SocketAddr,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let questions = async {
        while let Ok(Some(payload)) = timeout(SILENCE, asked.recv()).await {
            to.write_u16(u16::try_from(payload.len()).unwrap_or(u16::MAX)).await?;
            to.write_all(&payload).await?;
            to.flush().await?;
        }
        Ok(())
    };
    let answers = async {
        loop {
            let mut payload = vec![0; from.read_u16().await?.into()];
            from.read_exact(&mut payload).await?;
            socket.send_to(&payload, client).await?;
        }
    };
    tokio::select! {
        ended = questions => ended,
        ended = answers => ended,
    }
}
