//! Faulty cables: slow, narrow, lossy and deaf ones, split machines, cut storage.

use std::collections::BTreeSet;
use std::time::Duration;

use racknest_switch::offload::Offload;
use racknest_types::fault::FaultCode;
use racknest_underlay::{
    Control, DatagramSocket, DialError, Impairment, LinkFaults, MachineName, SilenceReason,
    StorageState,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::world::{World, in_time, machine, nic, open_to, pass};

const DELAY: Duration = Duration::from_millis(60);

fn both(impairment: Impairment) -> LinkFaults {
    LinkFaults { inward: impairment, outward: impairment, seed: 7, ..LinkFaults::default() }
}

fn inward(change: impl FnOnce(&mut Impairment)) -> LinkFaults {
    let mut faults = LinkFaults::default();
    change(&mut faults.inward);
    faults
}

impl World {
    async fn impair(&self, name: &str, faults: LinkFaults) {
        self.fabric().impair(&machine(name), &nic(0), faults).await.unwrap();
    }
}

async fn sockets(world: &World) -> (DatagramSocket, DatagramSocket) {
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap())
}

async fn heard(socket: &DatagramSocket) -> u8 {
    let mut byte = [0];
    in_time(socket.recv(&mut byte)).await;
    byte[0]
}

#[tokio::test]
async fn a_slow_cable_delays_datagrams_and_keeps_their_order() {
    let world = World::new().await;
    let (left, right) = sockets(&world).await;
    world.impair("esx02", inward(|one| one.delay_us = 60_000)).await;
    let start = Instant::now();
    for number in 0..5 {
        left.send_to(&machine("esx02"), 8182, &[number]).await.unwrap();
    }
    for number in 0..5 {
        assert_eq!(heard(&right).await, number);
    }
    assert!(start.elapsed() >= DELAY);

    // The way back is whole.
    right.send_to(&machine("esx01"), 8182, &[9]).await.unwrap();
    assert_eq!(heard(&left).await, 9);
    world.impair("esx02", LinkFaults::default()).await;
    let start = Instant::now();
    left.send_to(&machine("esx02"), 8182, &[6]).await.unwrap();
    assert_eq!(heard(&right).await, 6);
    assert!(start.elapsed() < DELAY, "a whole cable does not wait");
}

#[tokio::test]
async fn a_lossy_cable_loses_and_doubles_datagrams() {
    let world = World::new().await;
    let (left, right) = sockets(&world).await;
    world.impair("esx02", inward(|one| one.loss_ppm = 1_000_000)).await;
    left.send_to(&machine("esx02"), 8182, &[1]).await.unwrap();
    in_time(async {
        while world.link("esx02", 0).dropped_frames == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.impair("esx02", inward(|one| one.duplicate_ppm = 1_000_000)).await;
    left.send_to(&machine("esx02"), 8182, &[2]).await.unwrap();
    assert_eq!((heard(&right).await, heard(&right).await), (2, 2));
}

#[tokio::test]
async fn what_is_under_way_when_the_cable_is_cut_does_not_arrive() {
    let world = World::new().await;
    let (left, right) = sockets(&world).await;
    world.impair("esx02", inward(|one| one.delay_us = 60_000)).await;
    left.send_to(&machine("esx02"), 8182, &[1]).await.unwrap();
    world.cut("esx02", &[0, 1]).await;
    in_time(async {
        while world.link("esx02", 0).dropped_frames == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.restore("esx02", &[0]).await;
    left.send_to(&machine("esx02"), 8182, &[2]).await.unwrap();
    assert_eq!(heard(&right).await, 2);
}

#[tokio::test]
async fn a_slow_stream_arrives_late_and_whole() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open_to(&vcenter, &mut listener, "esx01", 902).await;
    let slow = Impairment { delay_us: 30_000, jitter_us: 5_000, ..Impairment::default() };
    world.impair("esx01", both(slow)).await;
    let start = Instant::now();
    pass(&mut near, &mut far, "there").await;
    pass(&mut far, &mut near, "and back").await;
    assert!(start.elapsed() >= Duration::from_millis(50));

    // Many pieces are on their way at once: 50 of them do not take 50 delays.
    let sent: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        for piece in sent.chunks(20_000) {
            near.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        near.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    in_time(far.read_to_end(&mut read)).await.unwrap();
    writer.await.unwrap();
    assert!(read == expected);
}

#[tokio::test]
async fn a_narrow_cable_takes_its_time() {
    let world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (mut near, mut far) = open_to(&vcenter, &mut listener, "esx01", 902).await;
    // 8 Mbit/s: a megabyte a second.
    world.impair("esx01", inward(|one| one.rate_bps = 8_000_000)).await;
    let start = Instant::now();
    let sent = vec![7; 200_000];
    let (written, read) = tokio::join!(near.write_all(&sent), async {
        let mut read = vec![0; 200_000];
        in_time(far.read_exact(&mut read)).await.unwrap();
        read
    });
    written.unwrap();
    assert!(read == sent);
    assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cable_cut_one_way_stops_streams_and_what_goes_that_way() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) = (one.datagram(8182).await.unwrap(), two.datagram(8182).await.unwrap());
    let mut listener = two.listen(902).await.unwrap();
    let (mut near, mut far) = open_to(&one, &mut listener, "esx02", 902).await;
    world.impair("esx02", inward(|one| one.is_cut = true)).await;
    assert!(world.link("esx02", 0).is_up, "the card sees its link");

    right.send_to(&machine("esx01"), 8182, &[1]).await.unwrap();
    assert_eq!(heard(&left).await, 1);
    let carried = world.link("esx02", 0).received;
    left.send_to(&machine("esx02"), 8182, &[2]).await.unwrap();
    near.write_all(b"stuck").await.unwrap();
    world.settle().await;
    assert_eq!(world.link("esx02", 0).received, carried);
    let dialled = one.dial_within(&machine("esx02"), 902, Duration::from_millis(50)).await;
    let reason = SilenceReason::NoPath;
    assert_eq!(dialled.unwrap_err(), DialError::TimedOut { to: machine("esx02"), reason });

    world.impair("esx02", LinkFaults::default()).await;
    let mut read = [0; 5];
    in_time(far.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"stuck");
}

#[tokio::test]
async fn machines_of_two_groups_do_not_reach_each_other() {
    let mut world = World::new().await;
    let one = world.connect("esx01").await;
    let (two, three) = (world.connect("esx02").await, world.connect("esx03").await);
    let (left, right) = (one.datagram(1).await.unwrap(), three.datagram(1).await.unwrap());
    let (here, there) =
        (one.ethernet(&nic(0)).await.unwrap(), three.ethernet(&nic(0)).await.unwrap());
    let mut listener = three.listen(902).await.unwrap();
    let group: BTreeSet<MachineName> = [machine("esx01"), machine("esx02")].into();
    world.fabric().partition(vec![group.clone()]).await.unwrap();

    let patience = Duration::from_millis(50);
    one.dial_within(&machine("esx03"), 902, patience).await.unwrap_err();
    let within = two.dial_within(&machine("esx01"), 902, patience).await.unwrap_err();
    let refused = DialError::Refused { to: machine("esx01"), port: 902 };
    assert_eq!(within, refused, "within a group there is a way");
    left.send_to(&machine("esx03"), 1, &[1]).await.unwrap();
    let frame = [[0xff; 6], [2, 0, 0, 0, 0, 1], [8, 0, 1, 0, 0, 0]].concat();
    here.send(&Offload::NONE, [&frame, &[], &[]]).await;
    in_time(async {
        while world.link("esx03", 0).dropped_frames < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // It is kept over a restart of the box, and undone by no group.
    world.stop().await;
    world.start().await;
    let control = Control::at(&world.socket());
    assert_eq!(control.groups().await.unwrap(), [group]);
    one.dial_within(&machine("esx03"), 902, Duration::from_millis(400)).await.unwrap_err();
    control.partition(vec![]).await.unwrap();
    let (near, far) = open_to(&one, &mut listener, "esx03", 902).await;
    drop((near, far));
    left.send_to(&machine("esx03"), 1, &[3]).await.unwrap();
    assert_eq!(heard(&right).await, 3);
    drop(there);

    let twice = vec![[machine("esx01")].into(), [machine("esx01")].into()];
    let fault = control.partition(twice).await.unwrap_err();
    assert_eq!(fault.message, "machine esx01 is in two groups");
}

#[tokio::test]
async fn faults_are_seen_kept_and_refused_where_they_cannot_be() {
    let mut world = World::new().await;
    let _esx01 = world.connect("esx01").await;
    let control = Control::at(&world.socket());
    let faults = inward(|one| (one.loss_ppm, one.delay_us) = (20_000, 5_000));
    control.impair(&machine("esx01"), &nic(1), faults).await.unwrap();
    assert_eq!(world.link("esx01", 1).faults, faults);
    world.stop().await;
    world.start().await;
    world.fabric().plug(&machine("esx01"), &[nic(0), nic(1)]).await.unwrap();
    assert_eq!(world.link("esx01", 1).faults, faults);

    let narrow = inward(|one| one.rate_bps = 1);
    let fault = control.impair(&machine("esx01"), &nic(0), narrow).await.unwrap_err();
    assert_eq!(fault.message, "a link carries at least 8 kbit/s; cut it instead");
    let adapter = "vmhba0".parse().unwrap();
    let fault = control.impair(&machine("esx01"), &adapter, faults).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::NotSupported);
}

#[tokio::test]
async fn a_machine_hears_of_its_storage() {
    let mut world = World::new().await;
    let esx01 = world.connect("esx01").await;
    let mut storage = esx01.storage();
    assert_eq!(*storage.borrow_and_update(), StorageState::Connected);
    let control = Control::at(&world.socket());
    let adapter = "vmhba0".parse().unwrap();
    control.cut(&machine("esx01"), &adapter).await.unwrap();
    let cut = |state: &StorageState| *state == StorageState::AllPathsDown;
    in_time(storage.wait_for(cut)).await.unwrap();
    assert_eq!(control.storage().await.unwrap()[0].state, StorageState::AllPathsDown);

    // A machine that comes while its storage is away knows it from the first moment.
    world.stop().await;
    world.start().await;
    let esx01 = {
        drop(esx01);
        world.connect("esx01").await
    };
    assert_eq!(*esx01.storage().borrow(), StorageState::AllPathsDown);
    control.set_storage(&machine("esx01"), StorageState::DeviceLost).await.unwrap();
    let lost = |state: &StorageState| *state == StorageState::DeviceLost;
    in_time(esx01.storage().wait_for(lost)).await.unwrap();
    control.restore(&machine("esx01"), &adapter).await.unwrap();
    let whole = |state: &StorageState| *state == StorageState::Connected;
    in_time(esx01.storage().wait_for(whole)).await.unwrap();
}
