//! Streams: what they carry, what a cut cable does to them, and how dialling fails.

use std::time::Duration;

use racknest_underlay::{DialError, SilenceReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, in_time, machine, open, pass};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_stream_carries_both_ways_and_ends_one_way_at_a_time() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open(&vcenter, &mut listener, 902).await;
    pass(&mut near, &mut far, "power on").await;
    pass(&mut far, &mut near, "done").await;

    near.shutdown().await.unwrap();
    let mut rest = Vec::new();
    in_time(far.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    pass(&mut far, &mut near, "a last word").await;
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_the_stream() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, far) = open(&vcenter, &mut listener, 902).await;
    drop(far);
    assert_eq!(in_time(near.read(&mut [0; 8])).await.unwrap(), 0);
    // A write may still go into the buffer, as with TCP, but soon one fails.
    in_time(async { while near.write_all(b"anybody there?").await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_stream_waits_for_its_cable() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open(&vcenter, &mut listener, 902).await;
    pass(&mut near, &mut far, "before").await;

    world.cut("esx01", &[0, 1]).await;
    let sent = world.link("vcenter", 0).sent;
    near.write_all(b"during").await.unwrap();
    world.settle().await;
    assert_eq!(world.link("vcenter", 0).sent, sent, "nothing passes a cut cable");

    world.restore("esx01", &[1]).await;
    let mut read = [0; 6];
    in_time(far.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"during");
    pass(&mut far, &mut near, "after").await;
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_the_cable_too() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, far) = open(&vcenter, &mut listener, 902).await;
    world.cut("esx01", &[0, 1]).await;
    drop(far);
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = near.read(&mut byte) => panic!("the end passed a cut cable"),
        () = world.settle() => {}
    }
    world.restore("esx01", &[0]).await;
    assert_eq!(in_time(near.read(&mut byte)).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_is_carried_whole_while_cables_come_and_go() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open(&vcenter, &mut listener, 902).await;
    let sent: Vec<u8> = (0..8u32 << 20).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        near.write_all(&copy).await.unwrap();
        near.shutdown().await.unwrap();
        near
    });
    let reader = tokio::spawn(async move {
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        read
    });
    for _ in 0..10 {
        world.cut("vcenter", &[0, 1]).await;
        world.restore("vcenter", &[0, 1]).await;
    }
    assert!(in_time(reader).await.unwrap() == sent);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_second_card_carries_when_the_first_is_cut() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open(&vcenter, &mut listener, 902).await;
    pass(&mut near, &mut far, "12345").await;
    assert_eq!(world.link("esx01", 0).received.bytes, 5);

    world.cut("esx01", &[0]).await;
    pass(&mut near, &mut far, "1234567").await;
    assert_eq!(world.link("esx01", 0).received.bytes, 5);
    assert_eq!(world.link("esx01", 1).received.bytes, 7);
    assert_eq!(world.link("vcenter", 0).sent.bytes, 12);
}

#[tokio::test]
async fn a_machine_reaches_itself_without_a_cable() {
    let world = World::new().await;
    let esx01 = world.connect("esx01").await;
    world.cut("esx01", &[0, 1]).await;
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open(&esx01, &mut listener, 902).await;
    pass(&mut near, &mut far, "hello me").await;
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let to = machine("esx01");
    let nobody = vcenter.dial_within(&machine("esx99"), 902, SHORT).await.unwrap_err();
    assert_eq!(nobody.to_string(), "there is no machine esx99");

    let refused = vcenter.dial(&to, 902).await.unwrap_err();
    assert_eq!(refused, DialError::Refused { to: to.clone(), port: 902 });

    let listener = esx01.listen(902).await.unwrap();
    world.cut("vcenter", &[0, 1]).await;
    let silent = vcenter.dial_within(&to, 902, SHORT).await.unwrap_err();
    assert_eq!(silent, timed_out(SilenceReason::NoPath));
    world.restore("vcenter", &[0, 1]).await;

    drop((listener, esx01));
    in_time(async {
        while world.link("esx01", 0).is_machine_on {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let off = vcenter.dial_within(&to, 902, SHORT).await.unwrap_err();
    assert_eq!(off, timed_out(SilenceReason::Off));
}

#[tokio::test]
async fn a_port_that_is_closed_refuses_and_can_be_opened_again() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let listener = esx01.listen(902).await.unwrap();
    let taken = esx01.listen(902).await.unwrap_err();
    assert_eq!(taken.to_string(), "port 902 of esx01 is in use");
    drop(listener);
    // Later requests of the same machine follow the one that closed the port.
    let mut listener = esx01.listen(903).await.unwrap();
    vcenter.dial(&machine("esx01"), 902).await.unwrap_err();
    open(&vcenter, &mut listener, 903).await;
    let mut again = esx01.listen(902).await.unwrap();
    open(&vcenter, &mut again, 902).await;
}

#[tokio::test]
async fn a_machine_that_comes_back_later_than_the_box_is_waited_for() {
    let world = World::new().await;
    let vcenter = world.connect("vcenter").await;
    let dialler = vcenter.clone();
    let dial = tokio::spawn(async move { dialler.dial(&machine("esx01"), 902).await });
    let esx01 = world.connect("esx01").await;
    // It does not listen yet, but it is not unknown.
    let dialled = in_time(dial).await.unwrap();
    let refused = DialError::Refused { to: machine("esx01"), port: 902 };
    assert_eq!(dialled.map(drop).unwrap_err(), refused);
    drop(esx01);
}

#[tokio::test]
async fn a_dial_waits_for_the_cable_and_for_the_machine() {
    let world = World::new().await;
    let vcenter = world.connect("vcenter").await;
    world.fabric().plug(&machine("esx01"), &[crate::world::nic(0)]).await.unwrap();
    world.cut("vcenter", &[0, 1]).await;
    let dialler = vcenter.clone();
    let dial = tokio::spawn(async move { dialler.dial(&machine("esx01"), 902).await });
    world.settle().await;
    let esx01 = world.connect("esx01").await;
    let mut listener = esx01.listen(902).await.unwrap();
    world.restore("vcenter", &[1]).await;
    let (mut far, _) = in_time(listener.accept()).await;
    let mut near = dial.await.unwrap().unwrap();
    pass(&mut near, &mut far, "at last").await;
}

fn timed_out(reason: SilenceReason) -> DialError {
    DialError::TimedOut { to: machine("esx01"), reason }
}
