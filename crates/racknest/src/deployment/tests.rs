//! Deployment files as people write them, and what is said about those that cannot be.

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn refused(text: &str, expected: Expect) {
    let why = parse(text).and_then(|file| check(&file)).expect_err("the file is refused");
    assert!(!why.contains('\n'), "one line: {why:?}");
    expected.assert_eq(&why);
}

#[test]
fn the_file_that_is_printed_is_read_back_as_it_was() {
    let file = File::default();
    expect![[r#"
        name = "lab"
        driver = "qemu"
        datacenter = "datacenter1"
        cluster = "lab"

        [options]
        page_merging = false
        address_randomisation = true
        fast_network = true

        [memory]
        high_percent = 12
        soft_percent = 10
        hard_percent = 7
        low_percent = 5

        [[hosts]]
        name = "esx01"
        count = 8
        memory = "8 GiB"
        cores = 4
        core_mhz = 2000
        rack = "rack1"
        nics = 2

        [[datastores]]
        name = "datastore1"

        [[networks]]
        name = "VM Network"
        vlan = 0

        [[templates]]
        name = "template1"
        vcpus = 1
        memory = "512 MiB"
        disk = "8 GiB"
        boot = "bios"

        [[vms]]
        name = "vm01"
        count = 60
        batch = 10
        power_on = true
        alive = 0

        [ha]
    "#]]
    .assert_eq(&print(&file));
    assert_eq!(parse(&print(&file)), Ok(file));
}

#[test]
fn an_empty_file_is_the_lab() {
    let lab = check(&parse("").unwrap()).unwrap();
    assert_eq!(lab.hosts.len(), 8);
    assert_eq!(lab.hosts.iter().map(|host| host.memory).sum::<Bytes>(), Bytes::from_gib(64));
    assert_eq!(lab.vms.iter().map(|vms| vms.names.count).sum::<u32>(), 60);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    refused(
        "name = 'lab'\nhots = 3\n",
        expect![
            "2: `hots = 3`: unknown field `hots`, expected one of `name`, `driver`, `datacenter`, `cluster`, `options`, `memory`, `hosts`, `datastores`, `networks`, `templates`, `vms`, `ha`, `restarts`, `groups`, `rules`"
        ],
    );
    refused(
        "[[hosts]]\ncount = 8\nmemory = 'much'\n",
        expect![
            "3: `memory = 'much'`: 'much' is not a size; write for example 512MiB, 8GiB or 1.5TiB"
        ],
    );
    refused(
        "[[hosts]]\ncount = 0\n",
        expect!["2: `count = 0`: invalid value: integer `0`, expected a nonzero u32"],
    );
    refused(
        "driver = 'xen'",
        expect!["1: `driver = 'xen'`: unknown variant `xen`, expected `qemu` or `simulated`"],
    );
    refused("name = 'lab\n", expect!["1: `name = 'lab`: invalid literal string, expected `'`"]);
    refused("[[networks]]\nvlan = 7\n", expect!["1: `[[networks]]`: missing field `name`"]);
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    refused(
        "[[hosts]]\n[[hosts]]\n",
        expect!["there are two of the name 'esx01' (host): names are unique"],
    );
    refused(
        "[[vms]]\ntemplate = 'gold'",
        expect!["VMs 'vm01': there is no template 'gold' in the file"],
    );
    refused(
        "[[vms]]\ncount = 2\nalive = 3",
        expect!["VMs 'vm01': 3 cannot be alive, there are only 2"],
    );
    refused(
        "[[vms]]\nname = 'web'\ncount = 2",
        expect!["2 names cannot count on from 'web': end it with a number, as in 'web01'"],
    );
    refused(
        "driver = 'simulated'\n[[vms]]\nalive = 1",
        expect![[
            r#"VMs 'vm01': simulated guests do not boot: leave out alive, or use driver "qemu""#
        ]],
    );
    for marks in ["low_percent = 8", "high_percent = 101", "soft_percent = 60000"] {
        refused(
            &format!("[memory]\n{marks}"),
            expect![
                "memory: the marks are per cent of the machine, each below the one before: high, soft, hard, low"
            ],
        );
    }
    refused(
        "[[networks]]\nname = 'a'\nvlan = 4095",
        expect!["network 'a': VLAN 4095 is not 0 to 4094"],
    );
    refused(
        "[[templates]]\nname = 'vm07'",
        expect!["there are two of the name 'vm07' (VM or template): names are unique"],
    );
    refused(
        "[[templates]]\ndatastore = 'nfs'",
        expect!["template 'template1': there is no datastore 'nfs' in the file"],
    );
    refused(
        "[[templates]]\nmemory = '100 KiB'",
        expect!["template 'template1': memory is whole MiB, 4 at least"],
    );
    refused(
        "[[hosts]]\nname = 'esx/1'\ncount = 1",
        expect![[
            r#"host "esx/1": a name has 1 to 80 letters, without '/', '\', '%' and without spaces at its ends"#
        ]],
    );
    refused(
        "[[hosts]]\nname = 'vcenter'\ncount = 1",
        expect!["host 'vcenter': that is the manager's name; take another"],
    );
    refused(
        "datastores = []",
        expect!["datastores = []: a box has one at least; leave the key out for the lab's"],
    );
    refused(
        "[[vms]]\ncount = 4000000000",
        expect!["a box has at most 1000000 VMs, and this one 4000000000"],
    );
}

#[test]
fn the_command_line_changes_the_file() {
    let overrides = Overrides {
        driver: Some(DriverName::Simulated),
        hosts: Some(1000),
        vms: Some(100_000),
        ..Overrides::default()
    };
    let file = overrides.apply(File::default()).unwrap();
    let box_ = check(&file).unwrap();
    assert_eq!(box_.hosts[0].name, "esx0001");
    assert_eq!(box_.hosts[999].name, "esx1000");
    assert_eq!(box_.vms[0].names.to_string(), "vm000001 to vm100000");

    let two = parse("[[hosts]]\nname = 'a1'\n[[hosts]]\nname = 'b1'\n").unwrap();
    expect!["--hosts needs a file with one [[hosts]] group and this one has 2: change the count in the file"].assert_eq(&overrides.apply(two).unwrap_err());
}

#[test]
fn ha_that_cannot_be_is_refused() {
    refused(
        "[ha]\nadmission = \"some\"",
        expect![
            "ha: 'some' is not off, slots:HOSTS, percentage:CPU:MEMORY, or failover-hosts:NAME,NAME: the policy is not known"
        ],
    );
    refused(
        "[ha]\nprofile = \"fast\"",
        expect![[r#"2: `profile = "fast"`: unknown variant `fast`, expected `lab` or `vsphere`"#]],
    );
    refused(
        "[[restarts]]\nvms = [\"vm99\"]",
        expect!["restarts: there is no VM 'vm99' in the file"],
    );
    refused(
        "[[rules]]\nname = \"r\"\nkind = \"near\"",
        expect![[
            r#"3: `kind = "near"`: unknown variant `near`, expected one of `together`, `apart`, `run_on`, `not_run_on`, `start_after`"#
        ]],
    );
}
