//! Faults that come and go, and what the physical switch hears.

use racknest_switch::Frame;
use racknest_switch::neighbour::{self, Identity, Protocol};
use racknest_switch::offload::Offload;
use racknest_types::time::Timestamp;
use racknest_underlay::{Control, LinkFaults, PACKET_MAX, Schedule};

use crate::world::{World, in_time, machine, nic};

fn unplugged(on_ms: Option<u64>, every_ms: Option<u64>, times: Option<u32>) -> LinkFaults {
    let schedule = Schedule { start: Timestamp::EPOCH, on_ms, every_ms, times };
    LinkFaults { is_unplugged: true, schedule: Some(schedule), ..LinkFaults::default() }
}

#[tokio::test]
async fn a_cable_that_flaps_does_so_over_a_restart_of_the_box_and_is_whole_at_the_end() {
    let mut world = World::new().await;
    let esx01 = world.connect("esx01").await;
    let mut links = esx01.links();
    let flapping = unplugged(Some(100), Some(200), None);
    world.fabric().impair(&machine("esx01"), &nic(0), flapping).await.unwrap();
    for is_up in [false, true, false] {
        in_time(links.wait_for(|links| links[&nic(0)] == is_up)).await.unwrap();
    }
    world.stop().await;
    world.start().await;
    for is_up in [true, false, true] {
        in_time(links.wait_for(|links| links[&nic(0)] == is_up)).await.unwrap();
    }
    // It was over long ago, so that it never comes and is forgotten.
    let over = unplugged(Some(100), None, None);
    world.fabric().impair(&machine("esx01"), &nic(0), over).await.unwrap();
    in_time(async {
        while !world.link("esx01", 0).faults.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(world.link("esx01", 0).is_up);
}

#[tokio::test]
async fn a_schedule_that_never_ends_or_repeats_itself_too_fast_is_refused() {
    let world = World::new().await;
    let _esx01 = world.connect("esx01").await;
    for faults in [unplugged(None, Some(1_000), None), unplugged(Some(5), Some(10), None)] {
        world.fabric().impair(&machine("esx01"), &nic(0), faults).await.unwrap_err();
    }
    assert!(world.link("esx01", 0).faults.is_none());
}

#[tokio::test]
async fn the_switch_says_who_it_is_on_each_cable_and_hears_who_is_there() {
    let world = World::new().await;
    let port = world.connect("esx01").await.ethernet(&nic(1)).await.unwrap();
    world.fabric().announce("switch1");
    let mut frame = vec![0; PACKET_MAX];
    for protocol in [Protocol::Lldp, Protocol::Cdp] {
        let (_, size) = in_time(port.recv(&mut frame)).await;
        let parsed = neighbour::parse(&Frame::parse(&frame[..size]).unwrap());
        let heard = parsed.expect("an announcement").unwrap();
        assert_eq!((heard.protocol, &*heard.identity.system), (protocol, "switch1"));
        assert_eq!(heard.identity.port, "Ethernet1/1");
    }
    // Once more when the cable is back.
    world.cut("esx01", &[1]).await;
    world.restore("esx01", &[1]).await;
    in_time(port.recv(&mut frame)).await;

    let source = "02:00:00:00:00:07".parse().unwrap();
    let identity = Identity { system: "x".repeat(200), ..Identity::new(source) };
    let bytes = neighbour::announcement(Protocol::Lldp, source, &identity, 120);
    port.send(&Offload::NONE, [&bytes, &[], &[]]).await;
    let control = Control::at(&world.socket());
    let heard = in_time(async {
        loop {
            let heard = control.neighbours().await.unwrap();
            if !heard.is_empty() {
                return heard;
            }
        }
    })
    .await;
    assert_eq!((&*heard[0].switch_port, heard[0].system.len()), ("Ethernet1/1", 80));
    assert_eq!((heard[0].machine.as_str(), heard[0].nic.as_str()), ("esx01", "vmnic1"));
    world.cut("esx01", &[1]).await;
    assert_eq!(control.neighbours().await.unwrap(), []);
}
