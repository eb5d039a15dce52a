//! Raw frames: what guests say through the cards of their hosts.

use std::io::IoSlice;

use racknest_underlay::{EthernetPort, FRAME_MAX, OpenError};

use crate::world::{World, in_time, machine, nic};

fn frame(destination: u8, source: u8, payload: &[u8]) -> Vec<u8> {
    let card = |n| if n == 0xff { [0xff; 6] } else { [2, 0, 0, 0, 0, n] };
    [&card(destination), &card(source), &[0x08, 0x00][..], payload].concat()
}

async fn send(port: &EthernetPort, frame: &[u8]) {
    // In two pieces, as a virtual switch does that adds a tag.
    let (head, tail) = frame.split_at(12);
    port.send(&[IoSlice::new(head), IoSlice::new(tail)]).await;
}

async fn receive(port: &EthernetPort) -> Vec<u8> {
    let mut frame = vec![0; FRAME_MAX];
    let size = in_time(port.recv(&mut frame)).await;
    frame.truncate(size);
    frame
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
