//! What holds for the switches of all hosts: what it may be, and that hosts are told.

use racknest_types::impairment::{Impairment, LinkFaults, Schedule};

use super::*;
use crate::record::switching::{
    FlowSettings, GuestWire, MirrorDirection, MirrorSession, MirrorTarget, SwitchSettings,
};

/// What hosts were told since the last time.
fn told(world: &mut World) -> Vec<(String, SwitchSettings)> {
    let mut told = Vec::new();
    while let Some(action) = world.inventory.poll_action() {
        if let Action::Send { host, message: ToHost::Switching(settings) } = action {
            told.push((world.inventory.name(host.into()), *settings));
        }
    }
    told
}

/// A host whose agent knows of settings.
fn connect(world: &mut World, name: &str) {
    world.step(&std::format!("host {name}"));
    let id = world.inventory.find_host(name).expect("made");
    world.inventory.handle_host_lost(world.now, id, "no answer");
    let claim = world.inventory.host(id).expect("made").claim;
    let about = HostAbout { takes_switching: true, ..HostAbout::default() };
    let hello = HostHello { claim, driver: DriverKind::Qemu, about, vms: Vec::new() };
    world.inventory.handle_host_connected(world.now, id, hello).expect("it is known");
}

fn configure(world: &mut World, settings: SwitchSettings) -> Result<(), Fault> {
    world.inventory.switch_configure(world.now, USER, settings)
}

#[test]
fn hosts_that_know_of_settings_are_told_at_once_and_when_they_come() {
    let mut world = World::new();
    world.step("host old");
    connect(&mut world, "new");
    let default = SwitchSettings::default();
    assert_eq!(told(&mut world), [("new".into(), default.clone())]);
    let snooping = SwitchSettings { snooping: true, ..default };
    configure(&mut world, snooping.clone()).expect("it is fine");
    assert_eq!(told(&mut world), [("new".into(), snooping.clone())]);
    configure(&mut world, snooping.clone()).expect("it is fine");
    assert_eq!(told(&mut world), [], "nothing has changed");

    world.settle();
    let restarted = Inventory::load(world.records(), 2).expect("it was saved");
    assert_eq!(restarted.switch_settings(), &snooping);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let mut world = World::new();
    for (flows, word) in [
        (FlowSettings { sampling: 0, ..FlowSettings::default() }, "sampling"),
        (FlowSettings { active_seconds: 0, ..FlowSettings::default() }, "seconds"),
        (FlowSettings { inactive_seconds: 4_000, ..FlowSettings::default() }, "4000"),
        (FlowSettings { collector: Some("nowhere".into()), ..FlowSettings::default() }, "nowhere"),
    ] {
        let settings = SwitchSettings { flows, ..SwitchSettings::default() };
        let fault = configure(&mut world, settings).expect_err(word);
        assert!(fault.message.contains(word), "{fault}");
    }
    assert_eq!(world.inventory.switch_settings(), &SwitchSettings::default());
}

#[test]
fn the_wire_of_a_guest_is_on_record_until_it_is_whole_or_its_time_is_over() {
    let mut world = World::new();
    connect(&mut world, "a");
    let network = world.inventory.find_network("net").expect("made");
    let create = CreateVm { nics: [network.into()].into(), ..vm_named("web") };
    let (vm, _) = world.inventory.vm_create(world.now, USER, create).expect("it is fine");
    let nic = world.inventory.vm(vm).expect("made").config.nics[0].key;
    let lossy = Impairment { loss_ppm: 20_000, ..Impairment::default() };
    let faults = LinkFaults { inward: lossy, ..LinkFaults::default() };
    let now = world.now;
    let impair = |world: &mut World, nic: u32, faults: LinkFaults| {
        let wire = GuestWire { vm, nic, faults };
        world.inventory.wire_impair(world.now, USER, wire)
    };
    let missing = impair(&mut world, 99, faults).expect_err("there is no such NIC");
    assert!(missing.message.contains("NIC 99") && missing.message.contains("web"), "{missing}");
    impair(&mut world, nic, faults).expect("it is fine");
    let wires =
        |world: &World| world.inventory.guest_wires().map(|it| it.faults).collect::<Vec<_>>();
    assert_eq!(wires(&world), [faults]);
    let bad = Impairment { loss_ppm: 2_000_000, ..Impairment::default() };
    let bad = LinkFaults { inward: bad, ..LinkFaults::default() };
    impair(&mut world, nic, bad).expect_err("more than everything");

    let schedule = Schedule { start: now, on_ms: Some(1), every_ms: None, times: None };
    let brief = LinkFaults { is_unplugged: true, schedule: Some(schedule), ..faults };
    impair(&mut world, nic, brief).expect("it is fine");
    assert_eq!(wires(&world), [brief]);
    impair(&mut world, nic, LinkFaults::default()).expect("it is whole");
    assert_eq!(wires(&world), []);
    world.settle();
}

#[test]
fn a_mirror_session_has_a_name_a_number_and_somewhere_to_go() {
    let mut world = World::new();
    let session = |name: &str, target: MirrorTarget| MirrorSession {
        number: 0,
        name: name.into(),
        sources: Vec::new(),
        vlan: None,
        direction: MirrorDirection::Both,
        target,
    };
    let file = MirrorTarget::File { bytes_max: 1 << 20 };
    let create = |world: &mut World, session: MirrorSession| {
        world.inventory.mirror_create(world.now, USER, session)
    };
    assert_eq!(create(&mut world, session("one", file.clone())).expect("it is fine"), 1);
    assert_eq!(create(&mut world, session("two", file.clone())).expect("it is fine"), 2);
    for (bad, word) in [
        (session("one", file.clone()), "one"),
        (session("../x", file.clone()), "letters"),
        (session("tiny", MirrorTarget::File { bytes_max: 1 }), "bytes"),
        (session("lost", MirrorTarget::Remote { address: "nowhere".into() }), "nowhere"),
        (MirrorSession { vlan: Some(4_095), ..session("vlan", file) }, "4094"),
    ] {
        let fault = create(&mut world, bad).expect_err(word);
        assert!(fault.message.contains(word), "{fault}");
    }
    world.inventory.mirror_delete(world.now, USER, "one").expect("it is there");
    let fault = world.inventory.mirror_delete(world.now, USER, "one").expect_err("it is gone");
    assert_eq!(fault.code, FaultCode::NotFound);
    world.settle();
}
