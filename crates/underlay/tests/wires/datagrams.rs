//! Datagrams: carried or lost, never late.

use racknest_underlay::{DATAGRAM_MAX, DatagramSocket, Received};

use crate::world::{World, in_time, machine};

async fn receive(socket: &DatagramSocket) -> (Received, Vec<u8>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let received = in_time(socket.recv(&mut buffer)).await;
    buffer.truncate(received.size);
    (received, buffer)
}

#[tokio::test]
async fn a_datagram_says_from_where_it_came() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8183).await.unwrap());
    left.send_to(&machine("esx02"), 8183, b"beat").await.unwrap();
    let (received, payload) = receive(&right).await;
    assert_eq!(received, Received { from: machine("esx01"), port: 8182, size: 4 });
    assert_eq!(payload, b"beat");

    right.send_to(&received.from, received.port, b"").await.unwrap();
    assert_eq!(receive(&left).await.1, b"");
    let largest = vec![7; DATAGRAM_MAX];
    left.send_to(&machine("esx02"), 8183, &largest).await.unwrap();
    assert!(receive(&right).await.1 == largest);
    let error = left.send_to(&machine("esx02"), 1, &vec![0; DATAGRAM_MAX + 1]).await.unwrap_err();
    assert_eq!(error.to_string(), "a datagram of 65508 bytes is longer than 65507");
}

#[tokio::test]
async fn what_is_sent_while_the_cable_is_cut_is_lost() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap());
    for (cut, lost_at) in [("esx01", "esx01"), ("esx02", "esx02")] {
        let lost = world.link(lost_at, 0).dropped_frames;
        world.cut(cut, &[0, 1]).await;
        left.send_to(&machine("esx02"), 8182, b"lost").await.unwrap();
        in_time(async {
            while world.link(lost_at, 0).dropped_frames == lost {
                tokio::task::yield_now().await;
            }
        })
        .await;
        world.restore(cut, &[0, 1]).await;
        left.send_to(&machine("esx02"), 8182, b"heard").await.unwrap();
        assert_eq!(receive(&right).await.1, b"heard");
    }
}

#[tokio::test]
async fn one_of_two_cables_is_enough() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap());
    world.cut("esx01", &[0]).await;
    world.cut("esx02", &[1]).await;
    left.send_to(&machine("esx02"), 8182, b"beat").await.unwrap();
    assert_eq!(receive(&right).await.1, b"beat");
    assert_eq!(world.link("esx01", 1).sent.bytes, 4);
    assert_eq!(world.link("esx02", 0).received.bytes, 4);
}

#[tokio::test]
async fn a_datagram_to_nobody_hurts_nobody() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap());
    left.send_to(&machine("esx99"), 8182, b"no machine").await.unwrap();
    left.send_to(&machine("esx02"), 1, b"no port").await.unwrap();
    left.send_to(&machine("esx02"), 8182, b"beat").await.unwrap();
    assert_eq!(receive(&right).await.1, b"beat");
}

#[tokio::test]
async fn a_port_closed_and_opened_again_hears() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap());
    two.datagram(8182).await.unwrap_err();
    drop(right);
    let right = two.datagram(8182).await.unwrap();
    left.send_to(&machine("esx02"), 8182, b"beat").await.unwrap();
    assert_eq!(receive(&right).await.1, b"beat");
}
