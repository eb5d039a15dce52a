//! Raw frames: what guests say through the cards of their hosts.

use racknest_switch::offload::{Offload, Segmentation};
use racknest_underlay::{EthernetPort, FRAME_MAX, Impairment, LinkFaults, OpenError, PACKET_MAX};

use crate::world::{World, in_time, machine, nic};

fn frame(destination: u8, source: u8, payload: &[u8]) -> Vec<u8> {
    let card = |n| if n == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, n] };
    [&card(destination), &card(source), &[0x08, 0x00][..], payload].concat()
}

async fn send(port: &EthernetPort, frame: &[u8]) {
    // In two pieces, as a virtual switch does that adds a tag.
    let (head, tail) = frame.split_at(12);
    port.send(&Offload::NONE, [head, &[], tail]).await;
}

async fn receive(port: &EthernetPort) -> Vec<u8> {
    receive_packet(port).await.1
}

async fn receive_packet(port: &EthernetPort) -> (Offload, Vec<u8>) {
    let mut frame = vec![0; PACKET_MAX];
    let (offload, size) = in_time(port.recv(&mut frame)).await;
    frame.truncate(size);
    (offload, frame)
}

#[tokio::test]
async fn frames_find_their_card() {
    let world = World::new().await;
    let mut ports = Vec::new();
    for name in ["esx01", "esx02", "esx03"] {
        ports.push(world.connect(name).await.ethernet(&nic(0)).await.unwrap());
    }
    let everybody = frame(0xff, 1, b"who is 2?");
    send(&ports[0], &everybody).await;
    assert_eq!(receive(&ports[1]).await, everybody);
    assert_eq!(receive(&ports[2]).await, everybody);

    let answer = frame(1, 2, b"I am");
    send(&ports[1], &answer).await;
    assert_eq!(receive(&ports[0]).await, answer);

    // The third hears the next broadcast first: what was for one was for that one alone.
    let private = frame(2, 1, b"between us");
    send(&ports[0], &private).await;
    assert_eq!(receive(&ports[1]).await, private);
    let last = frame(0xff, 1, b"bye");
    send(&ports[0], &last).await;
    assert_eq!(receive(&ports[2]).await, last);
    assert_eq!(world.link("esx01", 0).sent.frames, 3);
}

#[tokio::test]
async fn tags_and_large_frames_pass_unchanged() {
    let world = World::new().await;
    let left = world.connect("esx01").await.ethernet(&nic(0)).await.unwrap();
    let right = world.connect("esx02").await.ethernet(&nic(1)).await.unwrap();
    let mut tagged = frame(0xff, 1, &[7; FRAME_MAX - 14]);
    tagged[12..16].copy_from_slice(&[0x81, 0x00, 0x20, 0x64]);
    send(&left, &tagged).await;
    assert!(receive(&right).await == tagged);
}

#[tokio::test]
async fn a_guest_behind_a_cut_card_is_found_behind_the_other() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let first = one.ethernet(&nic(0)).await.unwrap();
    let second = one.ethernet(&nic(1)).await.unwrap();
    let far = two.ethernet(&nic(0)).await.unwrap();
    let mut links = one.links();
    send(&first, &frame(0xff, 1, b"here I am")).await;
    receive(&far).await;
    receive(&second).await;

    world.cut("esx01", &[0]).await;
    // The host is told, as a card tells its driver.
    in_time(links.wait_for(|links| !links[&nic(0)])).await.unwrap();
    send(&first, &frame(0xff, 1, b"into the void")).await;
    let to_guest = frame(1, 2, b"where are you?");
    send(&far, &to_guest).await;
    assert_eq!(receive(&second).await, to_guest);
    let moved = frame(2, 1, b"behind the other");
    send(&second, &moved).await;
    assert_eq!(receive(&far).await, moved);
}

#[tokio::test]
async fn only_a_card_that_is_there_is_opened_and_once() {
    let world = World::new().await;
    let esx01 = world.connect("esx01").await;
    let unknown = esx01.ethernet(&nic(7)).await.unwrap_err();
    assert_eq!(unknown, OpenError::UnknownNic { machine: machine("esx01"), nic: nic(7) });
    let port = esx01.ethernet(&nic(0)).await.unwrap();
    esx01.ethernet(&nic(0)).await.unwrap_err();
    drop(port);
    esx01.ethernet(&nic(0)).await.unwrap();
}

/// A packet of TCP with this much payload in one frame, and what its sender leaves to others.
fn large(destination: u8, source: u8, payload_len: usize) -> (Offload, Vec<u8>) {
    let packet_len = u16::try_from(40 + payload_len).unwrap().to_be_bytes();
    let mut ip = [0x45, 0, packet_len[0], packet_len[1], 0, 0, 0, 0, 64, 6, 0, 0].to_vec();
    ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let mut tcp = [0; 20];
    tcp[12] = 5 << 4;
    let payload = vec![7; payload_len];
    let offload = Offload {
        needs_checksum: true,
        segmentation: Segmentation::TcpV4 { ecn: false },
        segment_size: 1_460,
        checksum_start: 34,
        checksum_offset: 16,
        ..Offload::NONE
    };
    (offload, frame(destination, source, &[&ip[..], &tcp, &payload].concat()))
}

#[tokio::test]
async fn a_frame_that_is_still_to_be_split_passes_whole() {
    let world = World::new().await;
    let left = world.connect("esx01").await.ethernet(&nic(0)).await.unwrap();
    let right = world.connect("esx02").await.ethernet(&nic(0)).await.unwrap();
    let (offload, whole) = large(0xff, 1, 60_000);
    left.send(&offload, [&whole, &[], &[]]).await;
    let (received, frame) = receive_packet(&right).await;
    assert_eq!(received.segmentation, offload.segmentation);
    assert!(frame == whole);
}

#[tokio::test]
async fn over_a_faulty_cable_it_goes_split() {
    let world = World::new().await;
    let left = world.connect("esx01").await.ethernet(&nic(0)).await.unwrap();
    let right = world.connect("esx02").await.ethernet(&nic(0)).await.unwrap();
    let slow = Impairment { delay_us: 1_000, ..Impairment::default() };
    let faults = LinkFaults { inward: slow, outward: slow, seed: 7, ..LinkFaults::default() };
    world.fabric().impair(&machine("esx02"), &nic(0), faults).await.unwrap();
    let (offload, whole) = large(0xff, 1, 4_000);
    left.send(&offload, [&whole, &[], &[]]).await;
    for payload_len in [1_460, 1_460, 1_080] {
        let (received, frame) = receive_packet(&right).await;
        assert_eq!((received, frame.len()), (Offload::NONE, 54 + payload_len));
    }
}

#[tokio::test]
async fn what_its_offload_does_not_fit_is_dropped_and_the_next_passes() {
    let world = World::new().await;
    let left = world.connect("esx01").await.ethernet(&nic(0)).await.unwrap();
    let right = world.connect("esx02").await.ethernet(&nic(0)).await.unwrap();
    let (offload, whole) = large(0xff, 1, 4_000);
    left.send(&offload, [&whole[..60], &[], &[]]).await;
    let after = frame(0xff, 1, b"after");
    send(&left, &after).await;
    assert_eq!(receive(&right).await, after);
}
