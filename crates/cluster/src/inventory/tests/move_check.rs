//! Every reason against a move, told before anything moves; and what comes along into another cluster.

use expect_test::expect;

use super::*;

/// Lines about where hosts are and what they have, and where a VM may go and is.
pub(super) fn apply(world: &mut World, words: &[&str]) -> Result<(), Fault> {
    let (now, it) = (world.now, &mut world.inventory);
    match *words {
        ["host", name, "in", cluster] => world.add_host_in(name, Some(cluster)),
        ["cancel"] => it.task_cancel(now, *world.running.last().expect("a task runs")),
        ["lose", name] => {
            let id = it.find_host(name)?;
            it.handle_host_lost(now, id, "silence");
            Ok(())
        }
        ["datacenter", name] => it.datacenter_create(now, USER, None, name).map(drop),
        ["cluster", name] => it.cluster_create(now, USER, None, name).map(drop),
        ["cluster", name, datacenter] => {
            let folder = it.datacenter(it.find_datacenter(datacenter)?)?.host_folder;
            it.cluster_create(now, USER, Some(folder), name).map(drop)
        }
        ["accelerator", name, accelerator] => {
            let host = it.host(it.find_host(name)?)?;
            let (id, claim) = (host.id, host.claim);
            let about = HostAbout { accelerator: accelerator.into(), ..HostAbout::default() };
            say_hello(it, now, id, claim, about)
        }
        ["claim", name, cores] => {
            let host = it.host(it.find_host(name)?)?;
            let (id, about) = (host.id, host.about.clone());
            let claim = Claim { cores: cores.parse().unwrap(), ..host.claim };
            say_hello(it, now, id, claim, about)
        }
        ["unmount", name, datastore] => {
            let (id, gone) = (it.find_host(name)?, it.find_datastore(datastore)?);
            let host = it.hosts.get_mut(&id).expect("it was found");
            host.datastores.retain(|mounted| *mounted != gone);
            it.touch(id);
            Ok(())
        }
        ["create", name, "with", vcpus, network] => {
            let nics = [it.find_network(network)?.into()].into();
            let create = CreateVm { vcpus: vcpus.parse().unwrap(), nics, ..vm_named(name) };
            it.vm_create(now, USER, create).map(drop)
        }
        ["may", "move", vm, host] => {
            let (vm, host) = (it.find_vm(vm)?, it.find_host(host)?);
            it.check_vm_move(vm, &MoveVm { host: Some(host), ..MoveVm::default() })
        }
        ["where", vm] => {
            let place = describe_place(it, it.vm(it.find_vm(vm)?)?)?;
            writeln!(world.transcript, "  : {place}").unwrap();
            Ok(())
        }
        _ => panic!("no such line: {words:?}"),
    }
}

/// A host without VMs connects.
fn say_hello(
    it: &mut Inventory,
    now: Timestamp,
    id: HostId,
    claim: Claim,
    about: HostAbout,
) -> Result<(), Fault> {
    let hello = HostHello { claim, driver: DriverKind::Simulated, about, vms: Vec::new() };
    it.handle_host_connected(now, id, hello)
}

fn describe_place(it: &Inventory, vm: &VmRecord) -> Result<String, Fault> {
    let (host, pool) = (vm.host, vm.pool.expect("it is no template"));
    let cluster = it.cluster(it.host(host)?.cluster)?;
    let policy = cluster.ha_policies.get(&vm.id).map(|it| it.restart_priority);
    Ok(std::format!("on {} in {}, {policy:?}", it.name(host.into()), it.path(pool.into())))
}

#[test]
fn a_template_moves_and_stays_a_template() {
    check(
        "host a; host b; template t; done t off; move t b; done t off; done t off; on t;
         move t a; done t off; done t fails",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > move t b
              a <- t unregister
            > done t off
              b <- t register
            > done t off
              * Moved t from host 'a'
              = vm_move t: Success
            > on t
              ! InvalidState: 't' is a template; clone it, or make it a VM first
            > move t a
              b <- t unregister
            > done t off
              a <- t register
            > done t fails
              * TaskFailed t vm_move: qemu: no
              b <- register t Off
              = vm_move t: SystemError
        "#]],
    );
}

#[test]
fn a_host_with_too_little_or_without_the_files_is_refused() {
    check(
        "host a; host b; datastore fast; create v with 4 net; done v off; relocate v fast; done v off;
         may move v b; unmount b fast; may move v b; claim b 2; may move v b; claim b 4; enter b; may move v b; exit b; lose b; may move v b; template t; done t off;
         may move t b",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > datastore fast
              * Created fast /fast
              a <- mounts
              b <- mounts
            > create v with 4 net
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > relocate v fast
              a <- v relocate [ds] v to [fast] v: [ds] v/disk0.qcow2 to [fast] v/disk0.qcow2 on nothing
            > done v off
              * Moved v from datastore 'ds' to 'fast'
              = vm_move v: Success
            > may move v b
            > unmount b fast
            > may move v b
              ! InvalidState: host 'b' has not mounted datastore 'fast'
            > claim b 2
            > may move v b
              ! InsufficientResources: host 'b' has 2 cores and 8 GiB, the VM needs 4 and 512 MiB
            > claim b 4
            > enter b
              * HostEnteredMaintenance b
            > may move v b
              ! InvalidState: host 'b' is in maintenance
            > exit b
              * HostExitedMaintenance b
            > lose b
              * HostConnectionLost b silence
            > may move v b
              ! HostNotConnected: host 'b' does not answer
            > template t
              a <- t create t/disk0.qcow2 from [Empty]
            > done t off
              * Created t
              = vm_create t: Success
            > may move t b
              ! HostNotConnected: host 'b' does not answer
        "#]],
    );
}

#[test]
fn a_guest_with_memory_keeps_its_kind_of_machine_and_one_without_does_not_care() {
    check(
        "host a; accelerator a TCG; host b; create v; done v off; on v; done v on;
         accelerator b KVM; may move v b; suspend v; done v suspended; may move v b; on v; done v on;
         off v; done v off; may move v b; accelerator b TCG:; on v; done v on; may move v b",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > accelerator a TCG
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > accelerator b KVM
            > may move v b
              ! NotSupported: VM 'v' runs by TCG on host 'a', and host 'b' has KVM: a guest cannot change that while it runs; power it off first
            > suspend v
              a <- v suspend
            > done v suspended
              * VmSuspended v
              = vm_suspend v: Success
            > may move v b
              ! NotSupported: VM 'v' is suspended by TCG on host 'a', and host 'b' has KVM: a guest cannot change that with its memory; power it on first
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > off v
              a <- v poweroff
            > done v off
              * VmPoweredOff v
              = vm_power_off v: Success
            > may move v b
            > accelerator b TCG:
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > may move v b
        "#]],
    );
}

#[test]
fn what_speaks_of_a_vm_in_its_cluster_is_named_before_it_leaves() {
    check(
        "host a; host z; create v; done v off; create w; done w off; cluster far; host b in far;
         rule apart two v w; may move v b; rule delete two; group vms g v; may move v b;
         group delete g; vmha v >w; may move w b; vmha v low; may move w b",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host z
              * Created z
              * HostConnected z
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > create w
              z <- w create w/disk0.qcow2 from [Empty]
            > done w off
              * Created w
              = vm_create w: Success
            > cluster far
              * Created far
            > host b in far
              * Created b
              * HostConnected b
            > rule apart two v w
              * Reconfigured lab rule 'two' was made
            > may move v b
              ! ResourceInUse: rule 'two' of cluster 'lab' speaks of VM 'v'; take it out there before it moves to another cluster
            > rule delete two
              * Reconfigured lab rule 'two' was deleted
            > group vms g v
              * Reconfigured lab group 'g' was made
            > may move v b
              ! ResourceInUse: group 'g' of cluster 'lab' speaks of VM 'v'; take it out there before it moves to another cluster
            > group delete g
              * Reconfigured lab group 'g' was deleted
            > vmha v >w
              * Reconfigured v HA policy
            > may move w b
              ! ResourceInUse: the restart order of VM 'v' of cluster 'lab' speaks of VM 'w'; take it out there before it moves to another cluster
            > vmha v low
              * Reconfigured v HA policy
            > may move w b
        "#]],
    );
}

#[test]
fn a_vm_that_is_off_comes_into_another_cluster_with_its_settings() {
    check(
        "host a; create v; done v off; vmha v high; cluster far; host b in far; move v b; where v;
         done v off; done v off; where v; move v a; done v off; done v fails; where v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > vmha v high
              * Reconfigured v HA policy
            > cluster far
              * Created far
            > host b in far
              * Created b
              * HostConnected b
            > move v b
              a <- v unregister
            > where v
              : on a in /dc/host/lab/Resources, Some(Some(High))
            > done v off
              b <- v register
            > done v off
              * Moved v from host 'a'
              = vm_move v: Success
            > where v
              : on b in /dc/host/far/Resources, Some(Some(High))
            > move v a
              b <- v unregister
            > done v off
              a <- v register
            > done v fails
              * TaskFailed v vm_move: qemu: no
              b <- register v Off
              = vm_move v: SystemError
            > where v
              : on b in /dc/host/far/Resources, Some(Some(High))
        "#]],
    );
}

#[test]
fn a_running_vm_comes_into_another_cluster_or_stays_in_its_own() {
    check(
        "host a; create v; done v off; on v; done v on; vmha v low; cluster far; host b in far;
         move v b; done v fails; where v; move v b; done v on; where v; says b v:on:4; lose b;
         says a v:on:5; where v",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > on v
              a <- v power on
            > done v on
              * VmPoweredOn v on host 'a'
              = vm_power_on v: Success
            > vmha v low
              * Reconfigured v HA policy
            > cluster far
              * Created far
            > host b in far
              * Created b
              * HostConnected b
            > move v b
              a <- v migrate to b
            > done v fails
              * TaskFailed v vm_move: qemu: no
              b <- unregister v
              = vm_move v: SystemError
            > where v
              : on a in /dc/host/lab/Resources, Some(Some(Low))
            > move v b
              a <- v migrate to b
            > done v on
              * Moved v from host 'a'
              b <- register v On
              = vm_move v: Success
            > where v
              : on b in /dc/host/far/Resources, Some(Some(Low))
            > says b v:on:4
            > lose b
              * HostConnectionLost b silence
            > says a v:on:5
              * Moved v from host 'b' to host 'a', which has it under a newer run lease
            > where v
              : on a in /dc/host/lab/Resources, Some(Some(Low))
        "#]],
    );
}

#[test]
fn a_network_of_another_datacenter_is_not_there() {
    check(
        "host a; create v with 1 net; done v off; datacenter other; cluster far other;
         host b in far; may move v b",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > create v with 1 net
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > datacenter other
              * Created other
            > cluster far other
              * Created far
            > host b in far
              * Created b
              * HostConnected b
            > may move v b
              ! InvalidState: host 'b' has no network 'net': it is no member of switch 'DSwitch'
        "#]],
    );
}

#[test]
fn another_cluster_keeps_free_what_it_keeps_free() {
    check(
        "host a; host b; create v; done v off; cluster far; host c in far; move v c; done v off;
         done v off; on v; done v on; ha on spare=b; may move v b; may move v a",
        expect![[r#"
            > host a
              * Created a
              * HostConnected a
            > host b
              * Created b
              * HostConnected b
            > create v
              a <- v create v/disk0.qcow2 from [Empty]
            > done v off
              * Created v
              = vm_create v: Success
            > cluster far
              * Created far
            > host c in far
              * Created c
              * HostConnected c
            > move v c
              a <- v unregister
            > done v off
              c <- v register
            > done v off
              * Moved v from host 'a'
              = vm_move v: Success
            > on v
              c <- v power on
            > done v on
              * VmPoweredOn v on host 'c'
              = vm_power_on v: Success
            > ha on spare=b
              * Reconfigured lab HA on
              a <- ha generation 1
              b <- ha generation 1
            > may move v b
              ! InvalidState: host 'b' is kept free for what fails elsewhere
            > may move v a
        "#]],
    );
}
