//! By which cards a machine speaks, and what the ports of the physical switch carry for it.

use racknest_switch::offload::Offload;
use racknest_underlay::{Control, DialError, EthernetPort, FRAME_MAX, PortSetup, Team};

use crate::world::{World, in_time, machine, nic, open, pass};

fn team(nics: &[usize], vlan: u16) -> Option<Team> {
    Some(Team { nics: nics.iter().copied().map(nic).collect(), vlan })
}

#[tokio::test]
async fn a_machine_speaks_by_the_cards_of_its_team_alone() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let mut listener = one.listen(902).await.unwrap();
    two.set_team(team(&[1, 0], 0)).await;
    let (mut near, mut far) = open(&two, &mut listener, 902).await;
    pass(&mut near, &mut far, "by the second").await;
    assert!(world.link("esx02", 1).sent.frames > 0);
    assert_eq!(world.link("esx02", 0).sent.frames, 0);

    two.set_team(team(&[1], 0)).await;
    world.cut("esx02", &[1]).await;
    let patience = std::time::Duration::from_millis(50);
    let dialled = two.dial_within(&machine("esx01"), 902, patience).await;
    assert!(matches!(dialled, Err(DialError::TimedOut { .. })), "its other card may not carry");
    two.set_team(None).await;
    in_time(two.dial(&machine("esx01"), 902)).await.unwrap();
}

#[tokio::test]
async fn a_team_outlives_a_restart_of_the_box() {
    let mut world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let mut listener = one.listen(902).await.unwrap();
    two.set_team(team(&[1], 0)).await;
    world.stop().await;
    world.start().await;
    let (mut near, mut far) = open(&two, &mut listener, 902).await;
    pass(&mut near, &mut far, "by the second").await;
    assert_eq!(world.link("esx02", 0).sent.frames, 0);
}

#[tokio::test]
async fn a_port_that_does_not_carry_the_vlan_of_a_team_carries_nothing_for_it() {
    let world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let mut listener = one.listen(902).await.unwrap();
    let control = Control::at(&world.socket());
    let setup = PortSetup { vlans: Some(vec![(10, 19)]), ..PortSetup::default() };
    for number in [0, 1] {
        control.set_port(&machine("esx02"), &nic(number), setup.clone()).await.unwrap();
    }
    two.set_team(team(&[0, 1], 12)).await;
    let (mut near, mut far) = open(&two, &mut listener, 902).await;
    pass(&mut near, &mut far, "on VLAN 12").await;
    two.set_team(team(&[0, 1], 20)).await;
    let patience = std::time::Duration::from_millis(50);
    let dialled = two.dial_within(&machine("esx01"), 902, patience).await;
    assert!(matches!(dialled, Err(DialError::TimedOut { .. })));
    // Whoever runs the switches lets it pass.
    control.set_port(&machine("esx02"), &nic(1), PortSetup::default()).await.unwrap();
    pass(&mut near, &mut far, "on VLAN 20").await;
}

async fn send(port: &EthernetPort, vlan: Option<u16>, payload: usize, word: u8) {
    let mut frame = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x08, 0x00]);
    frame.resize(frame.len() + payload, word);
    port.send(&Offload::NONE, [&frame, &[], &[]]).await;
}

#[tokio::test]
async fn a_port_carries_the_vlans_and_lengths_that_it_is_set_up_for_also_after_a_restart() {
    let mut world = World::new().await;
    let (one, two) = (world.connect("esx01").await, world.connect("esx02").await);
    let (left, right) =
        (one.ethernet(&nic(0)).await.unwrap(), two.ethernet(&nic(0)).await.unwrap());
    let control = Control::at(&world.socket());
    let setup = PortSetup { vlans: Some(vec![(10, 19)]), mtu: 1_500 };
    control.set_port(&machine("esx02"), &nic(0), setup.clone()).await.unwrap();
    let bad = PortSetup { mtu: 1, ..setup.clone() };
    let fault = control.set_port(&machine("esx02"), &nic(0), bad).await.unwrap_err();
    assert!(fault.message.contains("bytes"), "{fault}");
    for _ in 0..2 {
        let mut frame = vec![0; FRAME_MAX];
        loop {
            send(&left, Some(20), 46, 1).await;
            send(&left, Some(12), 1_600, 2).await;
            send(&left, Some(12), 1_500, 3).await;
            let received =
                tokio::time::timeout(std::time::Duration::from_millis(200), right.recv(&mut frame));
            // After a restart the cards are opened again in their own time.
            if let Ok((_, size)) = received.await {
                assert_eq!((frame[size - 1], size), (3, 18 + 1_500));
                break;
            }
        }
        send(&left, None, 46, 4).await;
        let (_, mut size) = in_time(right.recv(&mut frame)).await;
        while frame[size - 1] == 3 {
            size = in_time(right.recv(&mut frame)).await.1;
        }
        assert_eq!((frame[size - 1], size), (4, 14 + 46), "untagged frames pass always");
        assert_eq!(world.link("esx02", 0).port, setup);
        world.stop().await;
        world.start().await;
    }
}
