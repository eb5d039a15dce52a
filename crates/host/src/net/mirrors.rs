//! Mirror sessions: copies of what passes by ports, for a guest that watches, into a file, or to an
//! address outside of the box.
//!
//! Every host is told of every session and does what concerns its own ports; so a session follows a
//! guest from host to host. Copies to a guest stay on its host, as with distributed port mirroring of
//! vSphere: where the watcher is not here, nothing is copied to it. Copies to an address travel as
//! VXLAN (RFC 7348), which `tshark` opens without being told anything, by a socket of the agent's own.
//!
//! A sink takes copies as fast as it can and misses the others: no guest waits for it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use racknest_cluster::record::switching::{
    MirrorDirection, MirrorSession, MirrorSource, MirrorTarget,
};
use racknest_switch::forward::MirrorId;
use racknest_switch::{Mirror, PortConfig, PortId, PortMode, PortRole, VlanId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::panel::Panel;
use crate::pcapng::Writer;

/// Copies that wait for a sink; more are lost.
const COPIES_MAX: usize = 1_024;

/// Copies that are written with one call, at most.
const COPIES_PER_WRITE: usize = 32;

/// The header of VXLAN with nothing but the flag that says that there is an identifier.
const VXLAN_HEAD: [u8; 4] = [0x08, 0, 0, 0];

/// The sessions of a host.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    sessions: Vec<MirrorSession>,
    /// By the session's number. A sink stays while its session does, whatever is plugged in.
    sinks: BTreeMap<u32, Sink>,
    mirrors: Vec<MirrorId>,
}

/// A port of the switch whose copies go into a file or to an address.
#[derive(Debug)]
struct Sink {
    session: MirrorSession,
    port: PortId,
}

impl Panel {
    /// Copies as the manager says from now on.
    pub(super) fn set_mirrors(&mut self, now_ms: u64, sessions: Vec<MirrorSession>) {
        let gone = self.mirrors.sinks.extract_if(.., |_, sink| !sessions.contains(&sink.session));
        for (_, sink) in gone.collect::<Vec<_>>() {
            self.switch.remove_port(sink.port);
            self.taps.remove(&sink.port);
        }
        self.mirrors.sessions = sessions;
        self.connect_mirrors(now_ms);
    }

    /// Brings the copying in line with what is plugged in.
    pub(super) fn connect_mirrors(&mut self, now_ms: u64) {
        for mirror in std::mem::take(&mut self.mirrors.mirrors) {
            self.switch.remove_mirror(mirror);
        }
        for session in self.mirrors.sessions.clone() {
            if let Some(mirror) = self.mirror(now_ms, &session) {
                let id = self.switch.add_mirror(mirror);
                self.mirrors.mirrors.push(id);
            }
        }
    }

    fn mirror(&mut self, now_ms: u64, session: &MirrorSession) -> Option<Mirror> {
        let to = match &session.target {
            MirrorTarget::Guest { vm, nic } => self.guest_port(|it| it == (*vm, *nic))?,
            MirrorTarget::File { .. } | MirrorTarget::Remote { .. } => self.sink(now_ms, session),
        };
        let watched: Vec<PortId> =
            self.watched(session).into_iter().filter(|port| *port != to).collect();
        let only = |is_meant: bool| if is_meant { watched.clone() } else { Vec::new() };
        let (sent, received) = match session.direction {
            MirrorDirection::Both => (true, true),
            MirrorDirection::Sent => (true, false),
            MirrorDirection::Received => (false, true),
        };
        let vlan = session.vlan.and_then(VlanId::new);
        Some(Mirror { to, sent_by: only(sent), sent_to: only(received), vlan })
    }

    /// The ports of this host that a session is about; all guests, if it names none.
    fn watched(&self, session: &MirrorSession) -> Vec<PortId> {
        if session.sources.is_empty() {
            return self.ports.keys().copied().collect();
        }
        let find = |source: &MirrorSource| match source {
            MirrorSource::Guest { vm, nic } => self.guest_port(|it| it == (*vm, *nic)),
            MirrorSource::Uplink { host, nic } => {
                let uplinks = self.uplinks.iter().filter(|_| self.watch.is_called(host));
                uplinks.into_iter().find(|(name, _)| name.as_str() == nic).map(|(_, port)| *port)
            }
        };
        session.sources.iter().filter_map(find).collect()
    }

    fn guest_port(
        &self,
        is_it: impl Fn((racknest_types::id::VmId, u32)) -> bool,
    ) -> Option<PortId> {
        self.ports.iter().find(|(_, port)| is_it((port.vm, port.nic.key))).map(|(id, _)| *id)
    }

    fn sink(&mut self, now_ms: u64, session: &MirrorSession) -> PortId {
        if let Some(sink) = self.mirrors.sinks.get(&session.number) {
            return sink.port;
        }
        let config = PortConfig::new(PortRole::Tap, PortMode::trunk());
        let port = self.switch.plug(now_ms, PortConfig { mtu: u16::MAX, ..config });
        let (sender, copies) = mpsc::channel(COPIES_MAX);
        self.taps.insert(port, sender);
        let file = self.layout.mirror(&session.name);
        tokio::spawn(drain(session.clone(), file, copies));
        self.mirrors.sinks.insert(session.number, Sink { session: session.clone(), port });
        port
    }
}

/// Takes copies until the session ends.
async fn drain(session: MirrorSession, file: PathBuf, copies: mpsc::Receiver<Vec<u8>>) {
    let ended = match &session.target {
        MirrorTarget::File { bytes_max } => write(&file, *bytes_max, copies).await,
        MirrorTarget::Remote { address } => tell(session.number, address, copies).await,
        MirrorTarget::Guest { .. } => Ok(()),
    };
    if let Err(error) = ended {
        tracing::error!(session = session.name, %error, "a mirror session has nowhere to go");
    }
}

/// Writes copies to a file; when it has half of the bytes it becomes the old one, and another begins.
async fn write(path: &Path, bytes_max: u64, mut copies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs_err::tokio::create_dir_all(directory).await?;
    }
    let old = path.with_extension("old.pcapng");
    loop {
        let mut writer = Writer::new(0)?;
        let mut file = fs_err::tokio::File::create(path).await?;
        let mut written = 0;
        while written < bytes_max / 2 {
            let head = writer.take();
            file.write_all(&head).await?;
            written += u64::try_from(head.len()).unwrap_or(u64::MAX);
            file.flush().await?;
            let Some(copy) = copies.recv().await else { return Ok(()) };
            writer.add(&copy, copy.len())?;
            // Some of those that wait, too, with one call.
            for copy in std::iter::from_fn(|| copies.try_recv().ok()).take(COPIES_PER_WRITE) {
                writer.add(&copy, copy.len())?;
            }
        }
        file.write_all(&writer.take()).await?;
        file.flush().await?;
        fs_err::tokio::rename(path, &old).await?;
    }
}

/// Sends copies to an address, each in a datagram.
async fn tell(number: u32, address: &str, mut copies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    while let Some(copy) = copies.recv().await {
        // Lost like any datagram: too long for a packet, or nobody listens.
        let _ = socket.send_to(&vxlan(number, &copy), address).await;
    }
    Ok(())
}

/// A frame behind the header of VXLAN; the number of the session is the identifier of the network.
fn vxlan(number: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = number.to_be_bytes();
    [&VXLAN_HEAD[..], &[a, b, c, 0], frame].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_never_has_more_than_its_session_may_keep() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirrors/web.pcapng");
        let (sender, copies) = mpsc::channel(COPIES_MAX);
        for _ in 0..COPIES_MAX {
            sender.try_send(vec![7; 1_000]).unwrap();
        }
        drop(sender);
        write(&path, 200_000, copies).await.unwrap();
        for path in [path.with_extension("old.pcapng"), path] {
            let file = fs_err::read(&path).unwrap();
            assert!(file.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "it is a file of its own");
            // Half, and what is written with one call.
            assert!((40..140_000).contains(&file.len()), "{path:?}: {}", file.len());
        }
    }

    #[tokio::test]
    async fn a_copy_travels_as_vxlan() {
        let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = collector.local_addr().unwrap().to_string();
        let (sender, copies) = mpsc::channel(1);
        let telling = tokio::spawn(async move { tell(0x0001_0203, &address, copies).await });
        sender.send(vec![0xff; 60]).await.unwrap();
        let mut datagram = [0; 100];
        let size = collector.recv(&mut datagram).await.unwrap();
        assert_eq!((size, &datagram[..8]), (68, &[8, 0, 0, 0, 1, 2, 3, 0][..]));
        drop(sender);
        telling.await.unwrap().unwrap();
    }
}
