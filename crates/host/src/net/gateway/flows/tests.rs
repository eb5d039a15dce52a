//! A guest and the outside, with the sockets of this machine between them. The outside is 127.0.0.1,
//! where the gateway itself would let no guest go.

use racknest_gateway::packet::{datagram, refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const NETWORK: NetworkId = NetworkId::from_raw(1);
const GUEST: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 1, 0, 5), 4_000);
const MTU: u16 = 1_500;

fn flows() -> (Flows, mpsc::Receiver<Errand>) {
    let (brought, errands) = mpsc::channel(64);
    (Flows::new(brought), errands)
}

/// The guest's end of its wire; packets go between it and the flows as long as the task lives.
fn guest(mut flows: Flows, mut errands: mpsc::Receiver<Errand>, tasks: &mut JoinSet<()>) -> Link {
    let (to_guest, packets) = mpsc::channel(PACKETS_MAX);
    let (sender, mut sent) = mpsc::channel(64);
    tasks.spawn(async move {
        loop {
            let answer = tokio::select! {
                Some(Errand::Packet { packet, .. }) = sent.recv() => {
                    flows.outside(NETWORK, MTU, packet).err()
                }
                Some(errand) = errands.recv() => match errand {
                    Errand::Packet { packet, .. } => {
                        assert!(packet.len() <= MTU.into(), "it fits the guest's network");
                        to_guest.send(packet).await.unwrap();
                        None
                    }
                    Errand::Refused { packet, .. } => Some(packet),
                    other @ (Errand::Resolved { .. } | Errand::Open { .. }) => panic!("{other:?}"),
                },
                else => return,
            };
            if let Some(refused) = answer.and_then(|it| refusal(&Packet::parse(&it)?)) {
                to_guest.send(refused).await.unwrap();
            }
        }
    });
    Link { mtu: MTU, packets, guest: Way { network: NETWORK, errands: sender } }
}

#[tokio::test]
async fn what_a_guest_says_over_tcp_comes_back_from_an_echo_outside() {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = (Ipv4Addr::LOCALHOST, outside.local_addr().unwrap().port());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = outside.accept().await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    });
    let (flows, errands) = flows();
    let link = guest(flows, errands, &mut tasks);
    let wire = tcp::into(Ends { from: GUEST, to }, link).await.unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tasks.spawn(wire.join(theirs));

    let said: Vec<u8> = (0..1_000_000_u32).map(|it| it.to_be_bytes()[3] ^ 0x5a).collect();
    let (mut from, mut to) = tokio::io::split(ours);
    let expected = said.clone();
    let say = async {
        to.write_all(&said).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    // It ends only because the guest's end and then the echo's have arrived.
    let (_, ()) = tokio::join!(from.read_to_end(&mut heard), say);
    assert!(heard == expected, "{} of {} bytes came back", heard.len(), expected.len());
}

#[tokio::test]
async fn a_connection_that_nobody_takes_is_refused_to_the_guest() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = (Ipv4Addr::LOCALHOST, gone.local_addr().unwrap().port());
    drop(gone);
    let mut tasks = JoinSet::new();
    let (flows, errands) = flows();
    let link = guest(flows, errands, &mut tasks);
    let error = tcp::into(Ends { from: GUEST, to }, link).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn datagrams_are_answered_by_whom_the_guest_has_written_to_and_by_nobody_else() {
    let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = (Ipv4Addr::LOCALHOST, outside.local_addr().unwrap().port());
    let (mut flows, mut errands) = flows();
    flows.outside(NETWORK, MTU, datagram(Ends { from: GUEST, to }, b"hello")).unwrap();
    let mut bytes = [0; 64];
    let (size, from) = outside.recv_from(&mut bytes).await.unwrap();
    assert_eq!(&bytes[..size], b"hello");
    stranger.send_to(b"psst", from).await.unwrap();
    outside.send_to(b"hello yourself", from).await.unwrap();
    let Some(Errand::Packet { network: NETWORK, packet }) = errands.recv().await else {
        panic!("no answer")
    };
    let answer = Packet::parse(&packet).unwrap();
    assert_eq!(answer.datagram(), Some(&b"hello yourself"[..]), "not what a stranger says");
    assert_eq!((answer.source(), answer.ports()), (to.0, Some((to.1, GUEST.1))));
    assert_eq!(flows.live.len(), 1);
    flows.outside(NETWORK, MTU, datagram(Ends { from: GUEST, to }, b"again")).unwrap();
    let (_, again) = outside.recv_from(&mut bytes).await.unwrap();
    assert_eq!((again, flows.live.len()), (from, 1), "from the same port");
}

#[tokio::test]
async fn what_belongs_to_no_connection_is_given_back() {
    let (mut flows, _errands) = flows();
    let mut segment = [0; 20];
    segment[12..14].copy_from_slice(&[0x50, 16]);
    let packet = racknest_gateway::packet::packet(GUEST.0, Ipv4Addr::LOCALHOST, TCP, &segment);
    assert_eq!(flows.outside(NETWORK, MTU, packet.clone()), Err(packet.clone()));
    assert_eq!(flows.own(NETWORK, packet.clone()), Err(packet));
}
