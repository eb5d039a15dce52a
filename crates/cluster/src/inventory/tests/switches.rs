//! Switches: which NIC is whose, that hosts are told and answer, and changes that all must agree to.

use super::*;
use crate::inventory::network::{EditNetwork, NewNetwork};
use crate::inventory::nic::NewNic;
use crate::inventory::switch::{EditSwitch, NewSwitch};
use crate::inventory::switch_sync::{SwitchChange, SwitchHostState};
use crate::inventory::vm_edit::EditVm;
use crate::inventory::vmkernel::EditVmkernel;
use crate::record::network::{Binding, NetworkPolicy};
use crate::record::vmkernel::VmkernelService;
use crate::wire::host_network::{HostNetwork, NetworkOutcome};

/// A box whose hosts `a` and `b` have two NICs each and agents that keep switches.
struct Rack {
    world: World,
    hosts: [HostId; 2],
}

impl Rack {
    fn new() -> Self {
        let mut world = World::new();
        let hosts = ["a", "b"].map(|name| {
            let add = AddHost {
                name: name.into(),
                cluster: None,
                claim: Claim { cores: 4, core_mhz: 2000, memory: gib(8) },
                driver: DriverKind::Simulated,
                nics: ["vmnic0".into(), "vmnic1".into()].into(),
                rack: "rack1".into(),
            };
            world.inventory.host_add(world.now, USER, add).expect("a new name")
        });
        let mut made = Self { world, hosts };
        hosts.into_iter().for_each(|host| made.connect(host));
        made
    }

    fn connect(&mut self, host: HostId) {
        let claim = self.it().host(host).expect("made").claim;
        let about = HostAbout { keeps_switches: true, ..HostAbout::default() };
        let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms: Vec::new() };
        let now = self.world.now;
        self.it().handle_host_connected(now, host, hello).expect("it is known");
    }

    fn it(&mut self) -> &mut Inventory {
        &mut self.world.inventory
    }

    /// What hosts were asked since the last time: `true` for a question before a change.
    fn told(&mut self) -> Vec<(HostId, bool, HostNetwork)> {
        let actions = core::iter::from_fn(|| self.world.inventory.poll_action());
        let told = actions.filter_map(|action| match action {
            Action::Send { host, message: ToHost::HostNetwork(told) } => Some((host, false, *told)),
            Action::Send { host, message: ToHost::PrepareNetwork(told) } => {
                Some((host, true, *told))
            }
            Action::Send { .. } | Action::HangUp(_) => None,
        });
        told.collect()
    }

    /// Every host does what it was told; those that were asked agree.
    fn obey(&mut self) {
        for (host, is_question, told) in self.told() {
            let versions = told.versions;
            let answer = match is_question {
                true => FromHost::NetworkPrepared { versions, result: Ok(()) },
                false => FromHost::NetworkApplied { versions, outcome: NetworkOutcome::Applied },
            };
            self.say(host, answer);
        }
        self.world.inventory.assert_invariants();
    }

    fn say(&mut self, host: HostId, message: FromHost) {
        let now = self.world.now;
        self.it().handle_host_message(now, host, message);
    }

    fn switch(&mut self, name: &str) -> SwitchId {
        self.it().find_switch(name).expect("made")
    }

    fn state(&mut self, switch: &str, host: usize) -> SwitchHostState {
        let (id, host) = (self.switch(switch), self.hosts[host]);
        let it = self.it();
        it.switch_host_state(it.switch(id).expect("made"), it.host(host).expect("made"))
    }

    fn create(&mut self, name: &str) -> SwitchId {
        let (now, new) = (self.world.now, NewSwitch { name: name.into(), ..NewSwitch::default() });
        self.it().switch_create(now, USER, new).expect("a new name")
    }

    fn edit(&mut self, switch: &str, edit: EditSwitch) -> Result<(), Fault> {
        let (now, id) = (self.world.now, self.switch(switch));
        self.it().switch_edit(now, USER, id, edit)
    }

    fn join(&mut self, switch: &str, host: usize, nics: &[&str]) -> Result<(), Fault> {
        let nics = nics.iter().map(|nic| String::from(*nic)).collect();
        let put_hosts = [(self.hosts[host], nics)].into();
        self.edit(switch, EditSwitch { put_hosts, ..EditSwitch::default() })
    }

    fn network(&mut self, name: &str, switch: &str, binding: Binding) -> Result<NetworkId, Fault> {
        let (now, switch) = (self.world.now, Some(self.switch(switch)));
        let new = NewNetwork { name: name.into(), switch, binding, ..NewNetwork::default() };
        self.it().network_create_on(now, USER, new)
    }

    fn vm(&mut self, name: &str, host: usize, network: NetworkId) -> Result<VmId, Fault> {
        let (now, host) = (self.world.now, Some(self.hosts[host]));
        let nics = [NewNic::from(network)].into();
        let create = CreateVm { nics, host, ..vm_named(name) };
        self.it().vm_create(now, USER, create).map(|(vm, _)| vm)
    }

    fn port(&mut self, vm: VmId) -> Option<u32> {
        self.it().vm(vm).expect("made").config.nics[0].port
    }

    /// The NICs of a host that a switch has there.
    fn nics(&mut self, switch: &str, host: usize) -> Option<Vec<String>> {
        let (id, host) = (self.switch(switch), self.hosts[host]);
        let it = self.it();
        let uplinks = it.uplinks_on(it.switch(id).expect("made"), it.host(host).expect("made"));
        Some(uplinks?.into_iter().map(|it| format!("{}={}", it.name, it.nic)).collect())
    }
}

const FIXED: Binding = Binding::Static { ports: 2, auto_expand: false };

#[test]
fn the_first_switch_has_every_nic_that_no_other_has() {
    let mut rack = Rack::new();
    let all = ["uplink1=vmnic0", "uplink2=vmnic1"];
    assert_eq!(rack.nics("DSwitch", 0).unwrap(), all);
    rack.create("dvs");
    assert_eq!(rack.nics("dvs", 0), None, "nobody has joined yet");
    rack.join("dvs", 0, &["uplink2=vmnic1"]).unwrap();
    assert_eq!(rack.nics("dvs", 0).unwrap(), ["uplink2=vmnic1"]);
    assert_eq!(rack.nics("DSwitch", 0).unwrap(), ["uplink1=vmnic0"]);
    assert_eq!(rack.nics("DSwitch", 1).unwrap(), all, "the other host has joined nothing");

    let takes_all = Some(false);
    rack.edit("DSwitch", EditSwitch { takes_all, ..EditSwitch::default() }).unwrap();
    assert_eq!(rack.nics("DSwitch", 0).unwrap(), ["uplink1=vmnic0"], "as it was, by name");
    let fault = rack.join("dvs", 0, &["vmnic0"]).unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    assert!(fault.message.contains("DSwitch") && fault.message.contains("vmnic0"), "{fault}");
    rack.obey();
}

#[test]
fn what_no_switch_can_be_is_refused_by_name() {
    let mut rack = Rack::new();
    rack.create("dvs");
    rack.network("jumbo", "DSwitch", Binding::default()).unwrap();
    let wide = NetworkPolicy { mtu: 9_000, ..NetworkPolicy::default() };
    let (now, jumbo) = (rack.world.now, rack.it().find_network("jumbo").unwrap());
    let edit = EditNetwork { policy: Some(wide.clone()), ..EditNetwork::default() };
    rack.it().network_edit(now, USER, jumbo, edit.clone()).unwrap();
    let small = EditSwitch { mtu: Some(1_500), ..EditSwitch::default() };
    for (fault, word) in [
        (rack.join("dvs", 0, &["vmnic7"]).unwrap_err(), "vmnic7"),
        (rack.join("dvs", 0, &["uplink9=vmnic0"]).unwrap_err(), "uplink9"),
        (rack.join("dvs", 0, &["uplink1=vmnic0", "uplink1=vmnic1"]).unwrap_err(), "uplink1"),
        (rack.join("dvs", 0, &["uplink1=vmnic0", "uplink2=vmnic0"]).unwrap_err(), "vmnic0"),
        (rack.edit("DSwitch", small).unwrap_err(), "jumbo"),
        (
            rack.edit("dvs", EditSwitch { takes_all: Some(true), ..<_>::default() }).unwrap_err(),
            "DSwitch",
        ),
        (
            rack.edit(
                "DSwitch",
                EditSwitch { drop_hosts: [rack.hosts[0]].into(), ..<_>::default() },
            )
            .unwrap_err(),
            "all-hosts",
        ),
    ] {
        assert!(fault.message.contains(word), "{word}: {fault}");
    }
    let narrow = rack.network("narrow", "dvs", Binding::default()).unwrap();
    let fault = rack.it().network_edit(now, USER, narrow, edit).unwrap_err();
    assert!(fault.message.contains("'dvs'") && fault.message.contains("1500"), "{fault}");
    let dvs = rack.switch("dvs");
    let fault = rack.it().switch_delete(now, USER, dvs).unwrap_err();
    assert!(fault.message.contains("narrow"), "{fault}");
    rack.obey();
}

#[test]
fn a_vm_is_attached_only_where_its_switch_is() {
    let mut rack = Rack::new();
    rack.create("dvs");
    rack.join("dvs", 0, &["vmnic1"]).unwrap();
    let web = rack.network("web", "dvs", Binding::default()).unwrap();
    let fault = rack.vm("lost", 1, web).unwrap_err();
    assert!(fault.message.contains("'b'") && fault.message.contains("'dvs'"), "{fault}");
    let vm = rack.vm("vm", 0, web).unwrap();
    rack.world.apply(&["done", "vm", "off"]).unwrap();
    let b = rack.hosts[1];
    let record = rack.it().vm(vm).unwrap().clone();
    let fault = rack.it().check_move(&record, b).unwrap_err();
    assert!(fault.message.contains("'dvs'"), "{fault}");
    let drop_hosts = [rack.hosts[0]].into();
    let fault = rack.edit("dvs", EditSwitch { drop_hosts, ..EditSwitch::default() }).unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    assert!(fault.message.contains("'vm'"), "{fault}");
    rack.obey();
}

#[test]
fn a_standard_switch_is_of_one_host_and_goes_with_it() {
    let mut rack = Rack::new();
    let (now, [a, b]) = (rack.world.now, rack.hosts);
    let new = |nic: &str| NewSwitch {
        name: "vSwitch0".into(),
        host: Some(a),
        nics: [nic.into()].into(),
        ..NewSwitch::default()
    };
    let id = rack.it().switch_create(now, USER, new("vmnic1")).unwrap();
    assert_eq!(rack.it().path(id.into()), "/dc/host/lab/a/vSwitch0");
    let other = NewSwitch { host: Some(b), ..new("vmnic1") };
    rack.it().switch_create(now, USER, other).expect("each host has names of its own");
    let new = NewNetwork { name: "lab".into(), switch: Some(id), ..NewNetwork::default() };
    let lab = rack.it().network_create_on(now, USER, new).unwrap();
    let fault = rack.vm("far", 1, lab).unwrap_err();
    assert!(fault.message.contains("host 'a'") && fault.message.contains("alone"), "{fault}");
    let edit = EditSwitch { put_hosts: [(b, ["vmnic0".into()].into())].into(), ..<_>::default() };
    let fault = rack.it().switch_edit(now, USER, id, edit).unwrap_err();
    assert!(fault.message.contains("alone"), "{fault}");
    rack.it().host_remove(now, USER, a).unwrap();
    assert!(rack.it().switch(id).is_err() && rack.it().network(lab).is_err());
    rack.obey();
}

#[test]
fn a_port_is_kept_while_the_vm_is_off_and_given_to_the_next_when_it_is_gone() {
    let mut rack = Rack::new();
    let net = rack.network("few", "DSwitch", FIXED).unwrap();
    let [one, two] = ["one", "two"].map(|name| {
        let vm = rack.vm(name, 0, net).unwrap();
        rack.world.apply(&["done", name, "off"]).unwrap();
        vm
    });
    assert_eq!((rack.port(one), rack.port(two)), (Some(0), Some(1)));
    let fault = rack.vm("three", 0, net).unwrap_err();
    assert_eq!(fault.code, FaultCode::ResourceInUse);
    assert!(fault.message.contains("2 ports of network 'few'"), "{fault}");
    assert!(fault.message.contains("--ports"), "{fault}");

    let now = rack.world.now;
    let more = |ports, auto_expand| EditNetwork {
        binding: Some(Binding::Static { ports, auto_expand }),
        ..EditNetwork::default()
    };
    let fault = rack.it().network_edit(now, USER, net, more(1, false)).unwrap_err();
    assert!(fault.message.contains("2 adapters"), "{fault}");
    rack.it().vm_delete(now, USER, one).unwrap();
    rack.world.apply(&["done", "one", "off"]).unwrap();
    let three = rack.vm("three", 0, net).unwrap();
    assert_eq!(rack.port(three), Some(0), "the lowest that is free");
    rack.it().network_edit(now, USER, net, more(2, true)).unwrap();
    let four = rack.vm("four", 0, net).unwrap();
    assert_eq!(rack.port(four), Some(2));
    let network = rack.it().network(net).unwrap().clone();
    assert_eq!(rack.it().port_count(&network), 10, "it grows by eight");

    let ephemeral = EditNetwork { binding: Some(Binding::Ephemeral), ..EditNetwork::default() };
    rack.it().network_edit(now, USER, net, ephemeral).unwrap();
    assert_eq!((rack.port(two), rack.port(four)), (None, None), "hosts make them");
    rack.it().network_edit(now, USER, net, more(8, false)).unwrap();
    assert!(rack.port(two).is_some() && rack.port(two) != rack.port(four));
    rack.obey();
}

#[test]
fn two_edits_at_once_cannot_take_the_last_port_both() {
    let mut rack = Rack::new();
    let net = rack.network("few", "DSwitch", Binding::Static { ports: 1, auto_expand: false });
    let net = net.unwrap();
    let other = rack.it().find_network("net").unwrap();
    let [one, two] = ["one", "two"].map(|name| {
        let vm = rack.vm(name, 0, other).unwrap();
        rack.world.apply(&["done", name, "off"]).unwrap();
        vm
    });
    let now = rack.world.now;
    let add = || EditVm { add_nics: [NewNic::from(net)].into(), ..EditVm::default() };
    rack.it().vm_edit(now, USER, one, add()).unwrap();
    let fault = rack.it().vm_edit(now, USER, two, add()).unwrap_err();
    assert!(fault.message.contains("'few'"), "{fault}");
    rack.world.apply(&["done", "one", "off"]).unwrap();
    assert_eq!(rack.it().vm(one).unwrap().config.nics[1].port, Some(0));
    rack.obey();
}

#[test]
fn a_store_of_before_there_were_switches_is_what_it_was() {
    let mut rack = Rack::new();
    let net = rack.it().find_network("net").unwrap();
    let vm = rack.vm("vm", 0, net).unwrap();
    rack.world.apply(&["done", "vm", "off"]).unwrap();
    rack.world.settle();
    let host = rack.world.inventory.hosts[&rack.hosts[0]].clone();
    let before = rack.it().host_network(&host);
    let entities = rack.world.inventory.dirty.keys().copied().collect::<Vec<_>>();
    assert_eq!(entities, [], "all is saved");
    let old = rack.world.records().into_iter().filter_map(|record| {
        if let Record::Network(network) = record {
            return Some(Record::Network(NetworkRecord { switch: None, ..network }));
        }
        if let Record::Vm(mut vm) = record {
            vm.config.nics.iter_mut().for_each(|nic| nic.port = None);
            return Some(Record::Vm(vm));
        }
        let is_new = matches!(&record, Record::Switch(_))
            || matches!(&record, Record::Alarm(alarm) if alarm.name == "Network out of sync");
        (!is_new).then_some(record)
    });
    let loaded = Inventory::load(old, 1).expect("it opens");
    loaded.assert_invariants();
    let host = loaded.hosts[&rack.hosts[0]].clone();
    let after = loaded.host_network(&host);
    let shown = |network: &HostNetwork| {
        let groups = network.groups.iter().map(|it| (it.id, it.vlan, it.uplinks.clone()));
        (groups.collect::<Vec<_>>(), network.switches[0].uplinks.clone())
    };
    assert_eq!(shown(&after), shown(&before));
    assert_eq!(loaded.vm(vm).unwrap().config.nics[0].port, Some(0));
    loaded.find_alarm("Network out of sync").expect("it is made");
    assert!(loaded.has_changes(), "it is saved as it is now");
}

#[test]
fn a_host_is_in_sync_once_it_says_so_and_out_of_sync_until_it_can() {
    let mut rack = Rack::new();
    rack.obey();
    assert_eq!(rack.state("DSwitch", 0), SwitchHostState::InSync);
    let now = rack.world.now;
    rack.it().network_create(now, USER, None, "new", 7).unwrap();
    assert_eq!(rack.state("DSwitch", 0), SwitchHostState::Waiting);
    let told = rack.told();
    assert_eq!(told.len(), 2, "both hosts are told, once");
    let [(a, _, network), (b, _, _)] = [told[0].clone(), told[1].clone()];
    let versions = network.versions.clone();
    let fault = Fault::invalid("no room for VLAN 7");
    let outcome = NetworkOutcome::Refused(fault);
    rack.say(a, FromHost::NetworkApplied { versions: versions.clone(), outcome });
    let SwitchHostState::OutOfSync(why) = rack.state("DSwitch", 0) else { panic!("it refused") };
    assert!(why.contains("VLAN 7"), "{why}");
    let kinds = |rack: &Rack| {
        let events = rack.world.inventory.events.values();
        let about = events.filter(|event| event.entity == a.into());
        about.map(|event| event.kind).next_back().expect("it was made")
    };
    assert_eq!(kinds(&rack), EventKind::SwitchHostOutOfSync);
    rack.it().evaluate_alarms(now, &Readings::default());
    let alarm = rack.it().find_alarm("Network out of sync").unwrap();
    assert!(rack.it().alarm(alarm).unwrap().raised.contains_key(&a.into()));

    rack.it().repair_networks();
    let again = rack.told();
    assert_eq!(again.iter().map(|told| told.0).collect::<Vec<_>>(), [a], "only who refused");
    assert_eq!(rack.state("DSwitch", 0), SwitchHostState::Waiting);
    let applied = FromHost::NetworkApplied { versions, outcome: NetworkOutcome::Applied };
    rack.say(a, applied.clone());
    assert_eq!(rack.state("DSwitch", 0), SwitchHostState::InSync);
    assert_eq!(kinds(&rack), EventKind::SwitchHostInSync);
    let confirmed = core::iter::from_fn(|| rack.world.inventory.poll_action());
    let is_it = |action: &Action| {
        matches!(action, Action::Send { message: ToHost::NetworkConfirmed(_), .. })
    };
    assert_eq!(confirmed.filter(is_it).count(), 1);

    rack.it().handle_host_lost(now, b, "no answer");
    assert_eq!(rack.state("DSwitch", 1), SwitchHostState::Away);
    rack.connect(b);
    assert_eq!(rack.told().len(), 1, "it is told when it comes back");
    rack.say(a, applied);
    assert_eq!(rack.state("DSwitch", 0), SwitchHostState::InSync, "the last answer was of before");
}

#[test]
fn what_cut_a_host_off_is_tried_again_only_when_somebody_says_so() {
    let mut rack = Rack::new();
    rack.obey();
    let now = rack.world.now;
    rack.it().network_create(now, USER, None, "new", 7).unwrap();
    let (a, _, told) = rack.told()[0].clone();
    let outcome = NetworkOutcome::RolledBack;
    rack.say(a, FromHost::NetworkApplied { versions: told.versions, outcome });
    let SwitchHostState::OutOfSync(why) = rack.state("DSwitch", 0) else { panic!("it went back") };
    assert!(why.contains("network repair"), "{why}");
    rack.it().repair_networks();
    assert_eq!(rack.told().len(), 0);
    let switch = rack.switch("DSwitch");
    let hosts = rack.hosts;
    assert_eq!(rack.it().switch_repair(switch).unwrap(), hosts);
    assert!(rack.told().iter().all(|(_, _, told)| told.again));
}

#[test]
fn an_atomic_change_is_made_by_all_or_by_none() {
    let mut rack = Rack::new();
    rack.obey();
    let (now, net) = (rack.world.now, rack.it().find_network("net").unwrap());
    let vlan = |vlan| {
        SwitchChange::Network(net, EditNetwork { vlan: Some(vlan), ..EditNetwork::default() })
    };
    let change = vlan(30);
    let task = rack.it().switch_change_atomic(now, USER, change).unwrap();
    let asked = rack.told();
    assert!(asked.len() == 2 && asked.iter().all(|it| it.1), "both are asked, none is told");
    assert!(asked.iter().all(|(_, _, it)| it.groups[0].vlan == 30));
    assert_eq!(rack.it().network(net).unwrap().vlan, 0, "nothing has changed yet");
    let [(a, _, first), (b, _, second)] = [asked[0].clone(), asked[1].clone()];
    let agrees = |versions: &_| FromHost::NetworkPrepared {
        versions: Clone::clone(versions),
        result: Ok(()),
    };
    rack.say(a, agrees(&first.versions));
    let result = Err(Fault::invalid("no"));
    rack.say(b, FromHost::NetworkPrepared { versions: second.versions, result });
    let TaskState::Error(fault) = rack.it().task(task).unwrap().state.clone() else {
        panic!("b refused")
    };
    assert!(fault.message.contains("host 'b'") && fault.message.contains("no host"), "{fault}");
    assert_eq!(rack.it().network(net).unwrap().vlan, 0);
    assert_eq!(rack.told().len(), 0, "nobody was told");

    let change = vlan(40);
    let task = rack.it().switch_change_atomic(now, USER, change).unwrap();
    rack.obey();
    assert_eq!(rack.it().task(task).unwrap().state, TaskState::Success);
    assert_eq!(rack.it().network(net).unwrap().vlan, 40);
    rack.obey();
    assert_eq!(rack.state("DSwitch", 1), SwitchHostState::InSync);

    let change = vlan(50);
    let lost = rack.it().switch_change_atomic(now, USER, change).unwrap();
    rack.it().handle_host_lost(now, b, "no answer");
    let state = rack.it().task(lost).unwrap().state.clone();
    assert!(matches!(state, TaskState::Error(fault) if fault.message.contains("'b'")));
    rack.told();
    let change = vlan(60);
    let left = rack.it().switch_change_atomic(now, USER, change).unwrap();
    assert_eq!(rack.told().len(), 1, "who is away is told when it comes back");
    rack.world.reload();
    let state = rack.it().task(left).unwrap().state.clone();
    assert!(matches!(state, TaskState::Error(fault) if fault.message.contains("manager")));
}

#[test]
fn a_switch_that_is_brought_twice_is_brought_once() {
    let mut rack = Rack::new();
    rack.create("dvs");
    rack.join("dvs", 0, &["vmnic1"]).unwrap();
    let web = rack.network("web", "dvs", FIXED).unwrap();
    let now = rack.world.now;
    let policy = NetworkPolicy { promiscuous: true, ..NetworkPolicy::default() };
    let edit = EditNetwork { vlan: Some(20), policy: Some(policy), ..EditNetwork::default() };
    rack.it().network_edit(now, USER, web, edit).unwrap();
    let id = rack.switch("dvs");
    let mut template = rack.it().switch_export(id).unwrap();
    let bring = |rack: &mut Rack, template: &_, preview| {
        rack.it().switch_import(now, USER, None, template, preview)
    };
    assert_eq!(bring(&mut rack, &template, false).unwrap(), Vec::<String>::new());

    let edit = EditNetwork { vlan: Some(99), ..EditNetwork::default() };
    rack.it().network_edit(now, USER, web, edit).unwrap();
    let changes = bring(&mut rack, &template, true).unwrap();
    assert_eq!(changes, ["change network 'web': VLAN 99 to 20"]);
    assert_eq!(rack.it().network(web).unwrap().vlan, 99, "that was a preview");
    assert_eq!(bring(&mut rack, &template, false).unwrap(), changes);
    assert_eq!(rack.it().network(web).unwrap().vlan, 20);

    template.name = "copy".into();
    template.networks[0].name = "web copy".into();
    template.members =
        [("a".into(), ["uplink1=vmnic0".into()].into()), ("z".into(), Vec::new())].into();
    let changes = bring(&mut rack, &template, false).unwrap();
    let expected =
        ["create switch 'copy'", "create network 'web copy'", "leave out host 'z', not here"];
    assert_eq!(changes, expected);
    assert_eq!(rack.nics("copy", 0).unwrap(), ["uplink1=vmnic0"]);
    let copy = rack.it().find_network("web copy").unwrap();
    assert_eq!(rack.it().network(copy).unwrap().binding, FIXED);
    assert_eq!(bring(&mut rack, &template, false).unwrap(), Vec::<String>::new());

    template.networks[0].vlan = 5_000;
    template.mtu = 9_000;
    let fault = bring(&mut rack, &template, false).unwrap_err();
    assert!(fault.message.contains("5000"), "{fault}");
    let copy = rack.switch("copy");
    assert_eq!(rack.it().switch(copy).unwrap().mtu, 1_500, "an error changed nothing");
    rack.obey();
}

#[test]
fn the_last_adapter_for_management_stays() {
    let mut rack = Rack::new();
    let (now, [a, b]) = (rack.world.now, rack.hosts);
    let only = |service| EditVmkernel { services: Some([service].into()), ..<_>::default() };
    let fault = rack.it().vmkernel_delete(now, USER, a, "vmk0").unwrap_err();
    assert!(fault.message.contains("vmk0") && fault.message.contains("management"), "{fault}");
    let storage = only(VmkernelService::Storage);
    let fault = rack.it().vmkernel_edit(now, USER, a, "vmk0", storage.clone()).unwrap_err();
    assert!(fault.message.contains("last"), "{fault}");
    let name = rack.it().vmkernel_create(now, USER, a, only(VmkernelService::Management)).unwrap();
    assert_eq!(name, "vmk1");
    rack.it().vmkernel_edit(now, USER, a, "vmk0", storage).unwrap();
    rack.it().vmkernel_delete(now, USER, a, "vmk0").unwrap();
    let name = rack.it().vmkernel_create(now, USER, a, EditVmkernel::default()).unwrap();
    assert_eq!(name, "vmk0", "the lowest that is free");

    let net = rack.it().find_network("net").unwrap();
    let at = |address: &str| EditVmkernel {
        network: Some(Some(net)),
        address: Some(Some(address.into())),
        ..EditVmkernel::default()
    };
    for bad in ["10.0.0.5", "10.0.0.5/33", "10.0.0.5/0", "there/24", "224.0.0.1/4", "::/64"] {
        let fault = rack.it().vmkernel_edit(now, USER, a, "vmk1", at(bad)).unwrap_err();
        assert!(fault.message.contains(bad), "{fault}");
    }
    rack.it().vmkernel_edit(now, USER, a, "vmk1", at("10.0.0.5/24")).unwrap();
    let fault = rack.it().vmkernel_edit(now, USER, b, "vmk0", at("10.0.0.5/16")).unwrap_err();
    assert!(fault.message.contains("vmk1 of host 'a'"), "{fault}");
    let fault = rack.it().network_delete(now, USER, net).unwrap_err();
    assert!(fault.message.contains("vmk1"), "{fault}");
    rack.obey();
}

#[test]
fn ha_is_told_where_a_vm_would_have_no_network() {
    let mut rack = Rack::new();
    rack.world.apply(&["ha", "on"]).unwrap();
    rack.create("dvs");
    rack.join("dvs", 0, &["vmnic1"]).unwrap();
    let web = rack.network("web", "dvs", Binding::default()).unwrap();
    let cluster = rack.it().find_cluster("lab").unwrap();
    let told = |rack: &mut Rack| {
        let cluster = rack.it().ha_cluster(cluster).unwrap();
        (cluster.generation, cluster.placement.never_on)
    };
    let (first, never_on) = told(&mut rack);
    assert_eq!(never_on, []);
    let vm = rack.vm("vm", 0, web).unwrap();
    let (second, never_on) = told(&mut rack);
    assert_eq!(never_on, [(vm, [rack.hosts[1]].into())]);
    assert!(second > first, "the agents are told again");
    rack.join("dvs", 1, &["vmnic1"]).unwrap();
    let (third, never_on) = told(&mut rack);
    assert_eq!(never_on, []);
    assert!(third > second);
    rack.obey();
}
