//! Echoes of guests to the outside, where the machine lets ordinary users send any.
//!
//! Linux has sockets for that, open to the groups of `net.ipv4.ping_group_range`. Where this process
//! is in none, guests hear that the outside cannot be reached so.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use racknest_gateway::packet::{HEADER_LEN, ICMP, Packet, checksum, packet};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::flows::Link;
use super::udp::SILENCE;

/// Bytes of an echo before what it carries: kind, code, checksum, identifier, number.
const ECHO_LEN: usize = 8;

/// The kind of a reply.
const REPLY: u8 = 0;

/// Carries the echoes of one program of a guest, which are known by their identifier.
pub(super) async fn out(guest: (Ipv4Addr, u16), mut link: Link) {
    let socket = match socket() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, "this machine lets nobody here send echoes");
            if let Some(packet) = link.packets.recv().await {
                link.guest.refuse(packet).await;
            }
            return;
        }
    };
    let mut bytes = vec![0; usize::from(link.mtu)];
    let mut end = Instant::now() + SILENCE;
    loop {
        tokio::select! {
            packet = link.packets.recv() => {
                let Some(packet) = packet else { return };
                let Some(packet) = Packet::parse(&packet) else { continue };
                let to = SocketAddrV4::new(packet.destination(), 0);
                // What cannot be sent is lost, as anywhere.
                let _ = socket.send_to(packet.payload(), to).await;
            }
            received = socket.recv_from(&mut bytes) => {
                let Ok((size, SocketAddr::V4(from))) = received else { continue };
                if let Some(reply) = reply(&bytes[..size], guest.1, link.mtu) {
                    link.guest.send(packet(*from.ip(), guest.0, ICMP, &reply)).await;
                }
            }
            () = sleep_until(end) => return,
        }
        end = Instant::now() + SILENCE;
    }
}

fn socket() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?;
    UdpSocket::from_std(socket.into())
}

/// A reply with the guest's identifier: the machine had put its own in the place of it.
fn reply(message: &[u8], identifier: u16, mtu: u16) -> Option<Vec<u8>> {
    let is_reply = message.len() >= ECHO_LEN && message.first() == Some(&REPLY);
    if !is_reply || message.len() + HEADER_LEN > usize::from(mtu) {
        return None;
    }
    let mut reply = message.to_vec();
    reply[2..4].fill(0);
    reply[4..6].copy_from_slice(&identifier.to_be_bytes());
    let sum = checksum(&[&reply]);
    reply[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_identifier_of_the_guest() {
        let ours = reply(&[0, 0, 9, 9, 1, 1, 0, 5, b'h', b'i'], 7, 1_500).unwrap();
        assert_eq!(ours[4..], [0, 7, 0, 5, b'h', b'i']);
        assert_eq!(checksum(&[&ours]), 0);
        assert_eq!(reply(&[8, 0, 0, 0, 0, 1, 0, 1], 7, 1_500), None, "a request");
        assert_eq!(reply(&[0; 100], 7, 100), None, "it does not fit");
    }
}
