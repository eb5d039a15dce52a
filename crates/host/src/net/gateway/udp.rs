//! A conversation over UDP: a socket of this machine in the place of a guest's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use racknest_gateway::packet::{Ends, HEADER_LEN, Packet, UDP_LEN, datagram};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::flows::Link;

/// How long a conversation may be silent. RFC 4787 asks for two minutes at the least.
pub(super) const SILENCE: Duration = Duration::from_secs(120);

/// How many others one socket of a guest hears from.
const PEERS_MAX: usize = 256;

/// Room for the longest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// Carries what a guest sends from one port, and the answers of whom it has written to.
pub(super) async fn out(guest: (Ipv4Addr, u16), mut link: Link) {
    let socket = match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "a guest's datagrams go nowhere"),
    };
    let mut peers = BTreeSet::new();
    let mut bytes = vec![0; DATAGRAM_MAX];
    let mut end = Instant::now() + SILENCE;
    loop {
        tokio::select! {
            packet = link.packets.recv() => {
                let Some(packet) = packet else { return };
                let Some(packet) = Packet::parse(&packet) else { continue };
                let (Some((_, port)), Some(payload)) = (packet.ports(), packet.datagram()) else {
                    continue;
                };
                let to = SocketAddrV4::new(packet.destination(), port);
                if peers.len() < PEERS_MAX || peers.contains(&to) {
                    peers.insert(to);
                    // What cannot be sent is lost, as anywhere.
                    let _ = socket.send_to(payload, to).await;
                }
            }
            received = socket.recv_from(&mut bytes) => {
                // An error is of something that was sent before.
                let Ok((size, SocketAddr::V4(from))) = received else { continue };
                let is_short = size + HEADER_LEN + UDP_LEN <= usize::from(link.mtu);
                if is_short && peers.contains(&from) {
                    let ends = Ends { from: (*from.ip(), from.port()), to: guest };
                    link.guest.send(datagram(ends, &bytes[..size])).await;
                }
            }
            () = sleep_until(end) => return,
        }
        end = Instant::now() + SILENCE;
    }
}

/// Where to bind a socket that speaks to this address.
pub(super) const fn any_like(address: IpAddr) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpAddr::V6(_) => SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 0),
    }
}
