//! The plan as a reader of `racknest diff` sees it: a file, a box, the lines.

use expect_test::{Expect, expect};

use racknest_api::v1::ha::RestartPriority;

use super::*;
use crate::deployment::{check, parse};

fn deployment(text: &str) -> Deployment {
    check(&parse(text).unwrap()).unwrap()
}

/// The box after every step of a plan: what the real one must look like when it is applied.
fn done(mut actual: Actual, wanted: &Deployment, plan: &Plan) -> Actual {
    for step in &plan.steps {
        match step.clone() {
            Step::DeleteVms(names) | Step::DeleteTemplates(names) => {
                actual.vms.retain(|name, _| !names.contains(name));
            }
            Step::CreateDatacenter(name) => {
                actual.datacenters.insert(name);
            }
            Step::CreateCluster { name, .. } => {
                actual.availability.insert(name.clone(), ActualAvailability::default());
                actual.clusters.insert(name);
            }
            Step::Availability { cluster, step } => {
                make_available(actual.availability.get_mut(&cluster).unwrap(), step);
            }
            Step::AddHosts { cluster, hosts } => {
                actual.hosts.extend(hosts.into_iter().map(|host| {
                    let is = ActualHost {
                        cluster: cluster.clone(),
                        memory: host.memory,
                        cores: host.cores,
                        core_mhz: host.core_mhz,
                        rack: host.rack,
                    };
                    (host.name, is)
                }));
            }
            Step::CreateDatastore(entry) => {
                actual.datastores.insert(entry.name);
            }
            Step::CreateNetwork(entry) | Step::SetVlan(entry) => {
                actual.networks.insert(entry.name, entry.vlan);
            }
            Step::CreateTemplate(template) => {
                let made = made_from(&template, true, false);
                {
                    actual.vms.insert(template.name, made);
                };
            }
            Step::MarkTemplate(name) => actual.vms.get_mut(&name).unwrap().is_template = true,
            Step::EditTemplate(template) => {
                actual.vms.insert(template.name.clone(), made_from(&template, true, false));
            }
            Step::Deploy(vms) => {
                let of = wanted.templates.iter().find(|t| t.name == vms.template).unwrap();
                let made = vms.names.names().map(|name| (name, made_from(of, false, vms.power_on)));
                actual.vms.extend(made);
            }
            Step::SetBoot { names, boot } => {
                for name in names {
                    actual.vms.get_mut(&name).unwrap().boot = boot;
                }
            }
            Step::PowerOn { names, .. } => {
                for name in names {
                    actual.vms.get_mut(&name).unwrap().is_off = false;
                }
            }
            Step::RemoveHosts(names) => actual.hosts.retain(|name, _| !names.contains(name)),
            Step::DeleteNetworks(names) => actual.networks.retain(|name, _| !names.contains(name)),
            Step::RemoveDatastores(names) => actual.datastores.retain(|name| !names.contains(name)),
        }
    }
    actual
}

fn make_available(actual: &mut ActualAvailability, step: availability::Step) {
    use availability::Step as Do;
    let own = |actual: &mut ActualAvailability, name: String| {
        let usual = (RestartPriority::Medium, vec![]);
        actual.vms.entry(name.clone()).or_insert(usual);
        name
    };
    match step {
        Do::SetHa(entry) => {
            let is = &mut actual.ha;
            is.enabled = entry.enabled.or(is.enabled);
            is.profile = entry.profile.or(is.profile);
            is.isolation_response = entry.isolation_response.or(is.isolation_response);
            is.isolation_addresses =
                entry.isolation_addresses.or_else(|| is.isolation_addresses.take());
            is.admission = entry.admission.or_else(|| is.admission.take());
        }
        Do::CreateGroup(group) => drop(actual.groups.insert(group.name.clone(), group)),
        Do::EditGroup(name, patch) => {
            let group = actual.groups.get_mut(&name).unwrap();
            group.vms.retain(|vm| !patch.remove_vms.contains(vm));
            group.vms.extend(patch.add_vms);
            group.vms.sort();
        }
        Do::CreateRule(rule) | Do::ReplaceRule(rule) => {
            actual.rules.insert(rule.name.clone(), rule);
        }
        Do::SetPriority(names, priority) => {
            for name in names {
                let name = own(actual, name);
                actual.vms.get_mut(&name).unwrap().0 = priority;
            }
        }
        Do::SetDependencies(names, on) => {
            for name in names {
                let name = own(actual, name);
                actual.vms.get_mut(&name).unwrap().1 = on.clone();
            }
        }
    }
}

fn made_from(template: &Template, is_template: bool, is_on: bool) -> ActualVm {
    ActualVm {
        is_template,
        is_off: !is_on,
        boot: template.boot,
        vcpus: template.vcpus,
        memory: template.memory,
        disk: template.disk,
        cpu_allocation: allocated(&template.cpu_allocation),
        memory_allocation: allocated(&template.memory_allocation),
    }
}

fn allocated(patch: &VmAllocationPatch) -> VmAllocation {
    VmAllocation {
        reservation: patch.reservation.unwrap_or(0),
        limit: patch.limit,
        level: patch.level.unwrap_or_default(),
        shares: patch.shares.unwrap_or(1000),
    }
}

fn shown(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| format!("{step}\n"));
    let extras = plan.extras.iter().map(|extra| format!("stays: {extra}\n"));
    let conflicts = plan.conflicts.iter().map(|conflict| format!("conflict: {conflict}\n"));
    steps.chain(extras).chain(conflicts).collect()
}

fn lab() -> Actual {
    let wanted = deployment("");
    done(Actual::default(), &wanted, &plan(&wanted, &Actual::default(), false))
}

#[track_caller]
fn check_plan(text: &str, actual: &Actual, prune: bool, expected: Expect) {
    let wanted = deployment(text);
    let found = plan(&wanted, actual, prune);
    expected.assert_eq(&shown(&found));
    if found.conflicts.is_empty() {
        let again = plan(&wanted, &done(actual.clone(), &wanted, &found), prune);
        assert_eq!(again.steps, [], "what was done is planned again");
    }
}

#[test]
fn an_empty_box_becomes_the_lab() {
    check_plan(
        "",
        &Actual::default(),
        false,
        expect![[r#"
            create datacenter datacenter1
            create cluster lab in datacenter1
            add 8 hosts: esx01 to esx08 to cluster lab
            turn HA on in cluster lab
            create datastore datastore1
            create network VM Network (VLAN 0)
            create template template1 (1 vCPU, 512 MiB, disk 8 GiB, boots the BIOS)
            clone vm01 to vm60 from template1 and power on
        "#]],
    );
}

#[test]
fn a_finished_box_needs_nothing() {
    check_plan("", &lab(), false, expect![""]);
    check_plan("", &lab(), true, expect![""]);
}

#[test]
fn an_interrupted_deployment_is_finished() {
    let mut actual = lab();
    actual.vms.retain(|name, _| !matches!(name.as_str(), "vm12" | "vm13" | "vm60"));
    actual.vms.get_mut("vm20").unwrap().is_off = true;
    actual.vms.get_mut("template1").unwrap().is_template = false;
    check_plan(
        "",
        &actual,
        false,
        expect![[r#"
        mark template1 as a template
        clone vm12 and vm13 from template1 and power on
        clone vm60 from template1 and power on
        power on VM vm20
    "#]],
    );
}

#[test]
fn live_guests_get_a_template_of_their_own() {
    let text = "[[vms]]\ncount = 10\nalive = 3";
    check_plan(
        text,
        &Actual::default(),
        false,
        expect![[r#"
            create datacenter datacenter1
            create cluster lab in datacenter1
            add 8 hosts: esx01 to esx08 to cluster lab
            turn HA on in cluster lab
            create datastore datastore1
            create network VM Network (VLAN 0)
            create template template1 (1 vCPU, 512 MiB, disk 8 GiB, boots the BIOS)
            create template template1-live (1 vCPU, 512 MiB, disk 8 GiB, boots the live guest)
            clone vm01 to vm03 from template1-live and power on
            clone vm04 to vm10 from template1 and power on
        "#]],
    );
    check_plan(
        "[[vms]]\nalive = 2",
        &lab(),
        false,
        expect![[r#"
        create template template1-live (1 vCPU, 512 MiB, disk 8 GiB, boots the live guest)
        have 2 VMs: vm01, vm02 boot the live guest (restarts them)
    "#]],
    );
}

#[test]
fn what_the_file_does_not_name_stays_unless_pruned() {
    let text = "
        vms = []
        [[hosts]]
        count = 2
        [[networks]]
        name = 'web'
        vlan = 10
    ";
    check_plan(
        text,
        &lab(),
        false,
        expect![[r#"
        create network web (VLAN 10)
        stays: 6 hosts: esx03 to esx08
        stays: network VM Network
        stays: 60 VMs: vm01 to vm60
    "#]],
    );
    check_plan(
        text,
        &lab(),
        true,
        expect![[r#"
        delete 60 VMs: vm01 to vm60
        create network web (VLAN 10)
        remove 6 hosts: esx03 to esx08
        delete network VM Network
    "#]],
    );
}

#[test]
fn a_change_that_cannot_be_made_in_place_is_a_conflict() {
    let text = "
        [[hosts]]
        count = 8
        memory = '16 GiB'
        [[networks]]
        name = 'VM Network'
        vlan = 7
        [[templates]]
        name = 'template2'
    ";
    let mut actual = lab();
    let old = actual.vms["template1"].clone();
    actual.vms.insert("template2".to_owned(), ActualVm { disk: Bytes::from_gib(1), ..old });
    actual.hosts.retain(|name, _| name == "esx01");
    check_plan(
        text,
        &actual,
        false,
        expect![[r#"
            add 7 hosts: esx02 to esx08 to cluster lab
            set network VM Network to VLAN 7
            stays: template template1
            conflict: host esx01 claims 4 cores of 2000 MHz and 8 GiB in rack1, the file says 4 cores of 2000 MHz and 16 GiB in rack1: remove the host first
            conflict: template template2 has 1 GiB and boots the BIOS, the file says 8 GiB and the BIOS: delete it first, or give the file's another name
        "#]],
    );
}

#[test]
fn ha_and_rules_become_what_the_file_says() {
    let text = r#"
        [ha]
        isolation_response = "power_off"
        admission = "slots:1"
        [[groups]]
        name = "db"
        vms = ["vm02", "vm01"]
        [[groups]]
        name = "licensed"
        hosts = ["esx01", "esx02"]
        [[rules]]
        name = "licence"
        kind = "run_on"
        vm_group = "db"
        host_group = "licensed"
        [[restarts]]
        vms = ["vm03"]
        depends_on = ["vm01"]
        [[restarts]]
        vms = ["vm01"]
        priority = "high"
    "#;
    check_plan(
        text,
        &lab(),
        false,
        expect![[r#"
        change HA settings in cluster lab
        create group db in cluster lab
        create group licensed in cluster lab
        give vm01 the restart priority high in cluster lab
        restart vm03 after vm01 in cluster lab
        create rule licence in cluster lab
    "#]],
    );
    let smaller = text.replace("\"vm02\", ", "").replace("run_on", "not_run_on");
    let wanted = deployment(text);
    let actual = done(lab(), &wanted, &plan(&wanted, &lab(), false));
    check_plan(
        &smaller,
        &actual,
        false,
        expect![[r#"
        change the members of group db in cluster lab
        replace rule licence in cluster lab
    "#]],
    );
}

#[test]
fn a_box_too_small_or_too_large_gets_ha_only_if_its_file_says_so() {
    let has_ha = |text: &str| {
        let plan = plan(&deployment(text), &Actual::default(), false);
        plan.steps.iter().any(|step| step.to_string().starts_with("turn HA on"))
    };
    assert!(has_ha("[[hosts]]\ncount = 2"));
    assert!(!has_ha("[[hosts]]\ncount = 1"));
    assert!(!has_ha("[[hosts]]\ncount = 65"));
    assert!(has_ha("[ha]\nenabled = true\n[[hosts]]\ncount = 65"));
    assert!(!has_ha("[ha]\nenabled = false"));
}
