//! Networks with a subnet: who gets which address, what hosts are told, and what is refused.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::string::ToString as _;

use racknest_types::subnet::Subnet;

use super::*;
use crate::inventory::forward::NewForward;
use crate::inventory::network::{CopyNetwork, EditNetwork};
use crate::inventory::nic::NewNic;
use crate::inventory::services::label;
use crate::inventory::stack::CloneStack;
use crate::inventory::vm_edit::EditVm;
use crate::record::services::{
    Firewall, FirewallRule, Party, Protocol, Reservation, Services, Verdict,
};
use crate::wire::PortGroup;

fn lab() -> World {
    let mut world = World::new();
    world.step("host a");
    world
}

fn services(subnet: &str) -> Services {
    Services::new(subnet.parse().unwrap())
}

fn edit(world: &mut World, name: &str, services: Option<Services>) -> Result<(), Fault> {
    let network = world.inventory.find_network(name)?;
    let edit = EditNetwork { services: Some(services), ..EditNetwork::default() };
    let result = world.inventory.network_edit(world.now, USER, network, edit);
    world.settle();
    result
}

/// A VM with one adapter on a network, made.
fn create(world: &mut World, name: &str, network: &str, mac: Option<[u8; 6]>) {
    let network = world.inventory.find_network(network).unwrap();
    let create = CreateVm { nics: [NewNic { network, mac }].into(), ..vm_named(name) };
    world.inventory.vm_create(world.now, USER, create).unwrap();
    world.settle();
    world.step(&std::format!("done {name} off"));
}

/// Who has which address, in order of names.
fn addresses(world: &World) -> String {
    let mut vms = world.inventory.vms().collect::<Vec<_>>();
    vms.sort_by(|one, other| one.name.cmp(&other.name));
    let shown = vms.iter().map(|vm| {
        let nics = vm.config.nics.iter().map(|nic| match nic.address {
            Some(address) => std::format!(" {address}"),
            None => " -".into(),
        });
        std::format!("{}{}", vm.name, nics.collect::<String>())
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn adapters_get_the_lowest_free_address_and_keep_it_until_they_go() {
    let mut world = lab();
    create(&mut world, "early", "net", None);
    assert_eq!(addresses(&world), "early -");
    edit(&mut world, "net", Some(services("10.1.0.0/29"))).unwrap();
    assert_eq!(addresses(&world), "early 10.1.0.2", "those that are there get theirs at the edit");
    create(&mut world, "one", "net", None);
    create(&mut world, "two", "net", None);
    world.step("delete one");
    world.step("done one off");
    create(&mut world, "three", "net", None);
    assert_eq!(addresses(&world), "early 10.1.0.2, three 10.1.0.3, two 10.1.0.4");
    for name in ["four", "five", "late"] {
        create(&mut world, name, "net", None);
    }
    assert!(addresses(&world).contains("late -"), "no address is left: {}", addresses(&world));
    edit(&mut world, "net", Some(services("10.2.0.0/24"))).unwrap();
    assert!(addresses(&world).contains("early 10.2.0."), "{}", addresses(&world));
    assert!(!addresses(&world).contains('-'), "{}", addresses(&world));
    edit(&mut world, "net", None).unwrap();
    assert!(!addresses(&world).contains("10."), "{}", addresses(&world));
}

#[test]
fn an_adapter_that_is_added_or_moved_gets_an_address_of_its_network() {
    let mut world = lab();
    world.inventory.network_create(world.now, USER, None, "other", 7).unwrap();
    edit(&mut world, "net", Some(services("10.1.0.0/24"))).unwrap();
    edit(&mut world, "other", Some(services("10.7.0.0/24"))).unwrap();
    create(&mut world, "web", "net", None);
    let (vm, other) =
        (world.inventory.find_vm("web").unwrap(), world.inventory.find_network("other").unwrap());
    let add = EditVm { add_nics: [other.into()].into(), ..EditVm::default() };
    world.inventory.vm_edit(world.now, USER, vm, add).unwrap();
    world.settle();
    world.step("done web off");
    assert_eq!(addresses(&world), "web 10.1.0.2 10.7.0.2");
}

#[test]
fn an_address_that_is_kept_for_a_card_goes_to_it_and_to_nobody_else() {
    let mut world = lab();
    edit(&mut world, "net", Some(services("10.1.0.0/24"))).unwrap();
    let printer = [2, 0, 0, 0, 0, 9];
    create(&mut world, "one", "net", None);
    create(&mut world, "two", "net", Some(printer));
    assert_eq!(addresses(&world), "one 10.1.0.2, two 10.1.0.3");
    let kept = |mac, last| Reservation {
        mac,
        address: Ipv4Addr::new(10, 1, 0, last),
        name: "printer".into(),
    };
    let reservations = [kept(printer, 2), kept([2, 0, 0, 0, 0, 8], 4)].into();
    let with = Services { reservations, ..services("10.1.0.0/24") };
    edit(&mut world, "net", Some(with)).unwrap();
    create(&mut world, "three", "net", None);
    assert_eq!(addresses(&world), "one 10.1.0.5, three 10.1.0.3, two 10.1.0.2");
    let network = world.inventory.find_network("net").unwrap();
    let leases = world.inventory.leases(network);
    let names = leases.iter().map(|(lease, vm)| (lease.name.as_str(), vm.is_some()));
    let names = names.collect::<Vec<_>>();
    assert_eq!(names, [("one", true), ("two", true), ("three", true), ("printer", false)]);
}

#[test]
fn a_clone_in_a_fenced_copy_of_the_network_has_the_address_of_its_source() {
    let mut world = lab();
    let routed = Services { routed: true, nat: true, ..services("10.1.0.0/24") };
    edit(&mut world, "net", Some(routed)).unwrap();
    create(&mut world, "early", "net", None);
    create(&mut world, "web", "net", None);
    let source = world.inventory.find_network("net").unwrap();
    let copy = CopyNetwork { source, folder: None, name: "test", vlan: None };
    let copy = world.inventory.network_copy(world.now, USER, copy).unwrap();
    world.settle();
    let record = world.inventory.network(copy).unwrap();
    let services = record.services.clone().unwrap();
    assert!(record.vlan == 1 && services.nat && !services.routed, "{record:?}");
    let web = world.inventory.find_vm("web").unwrap();
    let clone = clone_of(web, "test", ["1", "2", "2"], "full");
    let clone = CloneVm { networks: [(source, copy)].into(), ..clone };
    world.inventory.vm_clone(world.now, USER, clone.clone()).unwrap();
    world.settle();
    world.step("done test1 off");
    world.step("done test2 off");
    let expected = "early 10.1.0.2, test1 10.1.0.3, test2 10.1.0.2, web 10.1.0.3";
    assert_eq!(addresses(&world), expected);
    let swapped = CloneVm { networks: [(copy, source)].into(), ..clone };
    let fault = world.inventory.vm_clone(world.now, USER, swapped).unwrap_err();
    assert!(fault.message.contains("'web' is not attached"), "{fault}");
}

#[test]
fn a_stack_is_cloned_into_copies_of_all_its_networks_with_the_addresses_that_it_has() {
    let mut world = lab();
    world.inventory.network_create(world.now, USER, None, "back", 1).unwrap();
    edit(&mut world, "net", Some(services("10.1.0.0/24"))).unwrap();
    edit(&mut world, "back", Some(services("10.2.0.0/24"))).unwrap();
    for (name, network) in [("other", "net"), ("web", "net"), ("gone", "back"), ("db", "back")] {
        create(&mut world, name, network, None);
    }
    let find = |world: &World, name: &str| world.inventory.find_vm(name).unwrap();
    let vms: Vec<VmId> = ["web", "db"].map(|name| find(&world, name)).into();
    let suffix = "-test".into();
    let stack = CloneStack { vms, suffix, linked: false, power_on: false };
    let cloned = world.inventory.vm_clone_stack(world.now, USER, &stack).unwrap();
    assert!(cloned.vms.iter().all(|(_, task)| task.is_ok()), "{cloned:?}");
    world.settle();
    world.step("done web-test off");
    world.step("done db-test off");
    let all = addresses(&world);
    assert!(all.contains("web 10.1.0.3, web-test 10.1.0.3"), "{all}");
    assert!(all.contains("db 10.2.0.3, db-test 10.2.0.3"), "{all}");
    let vlan = |name: &str| {
        let id = world.inventory.find_network(name).unwrap();
        world.inventory.network(id).unwrap().vlan
    };
    assert_eq!([vlan("net-test"), vlan("back-test")], [2, 3]);

    let before = world.inventory.networks().count();
    for (stack, word) in [
        (stack.clone(), "web-test"),
        (CloneStack { suffix: String::new(), ..stack.clone() }, "behind their names"),
        (CloneStack { vms: [stack.vms[0], stack.vms[0]].into(), ..stack.clone() }, "twice"),
    ] {
        let fault = world.inventory.vm_clone_stack(world.now, USER, &stack).expect_err(word);
        assert!(fault.message.contains(word), "{fault}");
    }
    world.step("on web");
    world.step("done web on");
    let again = CloneStack { suffix: "-2".into(), ..stack };
    let fault = world.inventory.vm_clone_stack(world.now, USER, &again).unwrap_err();
    assert!(fault.message.contains("'web' is powered on"), "{fault}");
    assert_eq!(world.inventory.networks().count(), before, "an error changed nothing");
}

#[test]
fn a_copy_on_the_vlan_of_another_network_is_refused() {
    let mut world = lab();
    let source = world.inventory.find_network("net").unwrap();
    let copy = CopyNetwork { source, folder: None, name: "test", vlan: Some(0) };
    let fault = world.inventory.network_copy(world.now, USER, copy).unwrap_err();
    assert!(fault.message.contains("'net' has VLAN 0"), "{fault}");
}

/// What hosts were told since the last time.
fn told(world: &mut World) -> Vec<Vec<PortGroup>> {
    let mut told = Vec::new();
    while let Some(action) = world.inventory.poll_action() {
        if let Action::Send { message: ToHost::Networks(groups), .. } = action {
            told.push(groups);
        }
    }
    told
}

#[test]
fn real_hosts_are_told_of_leases_once_for_all_that_is_saved_together_and_simulated_ones_never() {
    let mut world = lab();
    edit(&mut world, "net", Some(services("10.1.0.0/24"))).unwrap();
    for name in ["one", "two"] {
        let network = world.inventory.find_network("net").unwrap();
        let create = CreateVm { nics: [network.into()].into(), ..vm_named(name) };
        world.inventory.vm_create(world.now, USER, create).unwrap();
    }
    let groups = told(&mut world);
    assert!(groups.len() == 1 && groups[0][0].services.is_none(), "{groups:?}");
    let a = world.inventory.find_host("a").unwrap();
    let claim = world.inventory.host(a).unwrap().claim;
    let about = HostAbout::default();
    let hello = HostHello { claim, driver: DriverKind::Qemu, about, vms: Vec::new() };
    world.inventory.handle_host_connected(world.now, a, hello).unwrap();
    let groups = told(&mut world);
    let services = groups[0][0].services.as_ref().expect("it is real now");
    let names = services.leases.iter().map(|lease| lease.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["one", "two"]);
    let two = world.inventory.find_vm("two").unwrap();
    world.inventory.vm_rename(world.now, USER, two, "Data Base").unwrap();
    let groups = told(&mut world);
    assert_eq!(groups[0][0].services.as_ref().unwrap().leases[1].name, "data-base");
    world.inventory.vm_rename(world.now, USER, two, "Data Base").unwrap();
    assert_eq!(told(&mut world), Vec::<Vec<PortGroup>>::new(), "nothing has changed");
}

#[test]
fn services_that_no_host_could_keep_are_refused_by_name() {
    let mut world = lab();
    world.inventory.network_create(world.now, USER, None, "other", 7).unwrap();
    world.inventory.network_create(world.now, USER, None, "same", 0).unwrap();
    let routed = Services { routed: true, ..services("10.9.0.0/24") };
    edit(&mut world, "other", Some(routed.clone())).unwrap();
    let fine = services("10.1.0.0/24");
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    let rule = FirewallRule {
        verdict: Verdict::Deny,
        from: Party::Any,
        to: Party::Any,
        protocol: None,
        ports: Some((80, 80)),
    };
    let firewall = |rule| Firewall { rules: [rule].into(), otherwise: Verdict::Allow };
    let nowhere = Party::Network(NetworkId::from_raw(999));
    let kept = Reservation { mac: [2; 6], address: address("10.1.0.1"), name: String::new() };
    for (services, word) in [
        (services("10.0.0.0/8"), "/16 and /30"),
        (services("127.1.0.0/24"), "meaning"),
        (Services { gateway: address("10.2.0.1"), ..fine.clone() }, "gateway"),
        (Services { range: (address("10.1.0.9"), address("10.1.0.2")), ..fine.clone() }, "range"),
        (Services { domain: "-lab".into(), ..fine.clone() }, "domain"),
        (Services { domain: "a..b".into(), ..fine.clone() }, "domain"),
        (Services { reservations: [kept].into(), ..fine.clone() }, "10.1.0.1 cannot be kept"),
        (Services { firewall: firewall(rule.clone()), ..fine.clone() }, "rule 1: ports"),
        (
            Services {
                firewall: firewall(FirewallRule { ports: None, from: nowhere, ..rule.clone() }),
                ..fine.clone()
            },
            "network-999",
        ),
        (routed, "overlaps"),
    ] {
        let fault = edit(&mut world, "net", Some(services)).expect_err(word);
        assert_eq!(fault.code, FaultCode::InvalidArgument);
        assert!(fault.message.contains(word) && fault.message.contains("'net'"), "{fault}");
    }
    edit(&mut world, "net", Some(fine)).unwrap();
    let fault = edit(&mut world, "same", Some(services("10.3.0.0/24"))).unwrap_err();
    assert!(fault.message.contains("'net' has a subnet on VLAN 0"), "{fault}");
}

#[test]
fn a_network_of_which_a_firewall_speaks_is_not_deleted() {
    let mut world = lab();
    let other = world.inventory.network_create(world.now, USER, None, "other", 7).unwrap();
    let rule = FirewallRule {
        verdict: Verdict::Allow,
        from: Party::Network(other),
        to: Party::Addresses(Subnet::of(Ipv4Addr::new(10, 1, 0, 0), 25)),
        protocol: Some(Protocol::Tcp),
        ports: Some((80, 90)),
    };
    let firewall = Firewall { rules: [rule].into(), otherwise: Verdict::Deny };
    let with = Services { firewall, ..services("10.1.0.0/24") };
    edit(&mut world, "net", Some(with)).unwrap();
    let fault = world.inventory.network_delete(world.now, USER, other).unwrap_err();
    assert!(fault.message.contains("firewall of network 'net'"), "{fault}");
    edit(&mut world, "net", None).unwrap();
    world.inventory.network_delete(world.now, USER, other).unwrap();
    world.settle();
}

#[test]
fn a_forward_leads_to_the_vm_wherever_it_runs_and_goes_with_it() {
    let mut world = lab();
    create(&mut world, "web", "net", None);
    let vm = world.inventory.find_vm("web").unwrap();
    let new = NewForward { vm, network: None, port: 80, listen: None, protocol: Protocol::Tcp };
    let fault = world.inventory.network_forward(world.now, USER, new).unwrap_err();
    assert!(fault.message.contains("--subnet"), "{fault}");
    edit(&mut world, "net", Some(services("10.1.0.0/24"))).unwrap();
    let first = world.inventory.network_forward(world.now, USER, new).unwrap();
    let second = world.inventory.network_forward(world.now, USER, new).unwrap();
    let ports = [first, second].map(|it| it.listen.to_string());
    assert_eq!(ports, ["127.0.0.1:10080", "127.0.0.1:10000"]);
    let taken = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 10_080);
    let fault = NewForward { listen: Some(taken), ..new };
    let fault = world.inventory.network_forward(world.now, USER, fault).unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse, "{fault}");
    world.settle();

    let network = world.inventory.find_network("net").unwrap();
    let fault = world.inventory.forward_target(network, &first).unwrap_err();
    assert!(fault.message.contains("'web' is off"), "{fault}");
    world.step("on web");
    world.step("done web on");
    let target = world.inventory.forward_target(network, &first).unwrap();
    let host = world.inventory.find_host("a").unwrap();
    assert_eq!((target.host, target.address), (host, Ipv4Addr::new(10, 1, 0, 2)));

    let fault = edit(&mut world, "net", None).unwrap_err();
    assert!(fault.message.contains("forwards lead"), "{fault}");
    world.inventory.network_unforward(world.now, USER, second.number).unwrap();
    assert_eq!(world.inventory.forwards().count(), 1);
    for line in ["off web", "done web off", "delete web", "done web off"] {
        world.step(line);
    }
    assert_eq!(world.inventory.forwards().count(), 0, "it has gone with the VM");
    let fault = world.inventory.network_unforward(world.now, USER, first.number).unwrap_err();
    assert_eq!(fault.code, FaultCode::NotFound);
}

#[test]
fn a_name_of_a_vm_is_made_one_of_a_machine() {
    for (name, expected) in [
        ("Web 01", "web-01"),
        ("db_1.test", "db-1-test"),
        ("-x-", "x"),
        ("Ärger", "rger"),
        ("…", ""),
    ] {
        assert_eq!(label(name), expected, "{name}");
    }
}
