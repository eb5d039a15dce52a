//! A VM's record as JSON.

use std::collections::{BTreeMap, BTreeSet};

use racknest_api::reference::Reference;
use racknest_api::v1::vm::{AllowedAction, PowerState, Vm};
use racknest_api::v1::vm_config::{Boot, Disk, Nic, Pattern, ShareLevel, VmAllocation, Workload};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::vm_action::Verdict;
use racknest_cluster::record::vm::{
    Boot as BootRecord, Disk as DiskRecord, Nic as NicRecord, Pattern as PatternRecord,
    PowerState as Power, Shares, VmAllocation as AllocationRecord, VmRecord,
    Workload as WorkloadRecord,
};
use racknest_types::bytes::Bytes;
use racknest_types::id::{NetworkId, VmId};

use super::convert::{count, datacenter, reference, time};
use super::ha_view;
use super::usage::Usage;

/// A VM as lists show it: without what can be done to it.
pub(super) fn show(inventory: &Inventory, usage: &Usage<'_>, vm: &VmRecord) -> Vm {
    let cluster = inventory.host(vm.host).map(|host| host.cluster);
    let cluster = cluster.expect("a VM's host is in the inventory");
    Vm {
        id: vm.id,
        name: vm.name.clone(),
        uuid: uuid(vm.uuid),
        is_template: vm.is_template,
        power_state: power(vm.power),
        power_changed: time(vm.power_changed),
        host: reference(inventory, vm.host),
        cluster: reference(inventory, cluster),
        datacenter: datacenter(inventory, vm.id),
        pool: vm.pool.map(|pool| reference(inventory, pool)),
        folder: reference(inventory, vm.folder),
        datastore: inventory
            .datastore_named(&vm.home.datastore)
            .ok()
            .map(|datastore| reference(inventory, datastore.id)),
        home: vm.home.to_string(),
        vcpus: vm.config.vcpus,
        memory_mib: vm.config.memory.mib(),
        cpu_allocation: allocation(vm.config.allocation.cpu, vm.config.cpu_shares()),
        memory_allocation: allocation(vm.config.allocation.memory, vm.config.memory_shares()),
        disks: vm.config.disks.iter().map(disk).collect(),
        nics: vm.config.nics.iter().map(|it| nic(inventory, it)).collect(),
        networks: networks(inventory, vm),
        boot: boot(&vm.config.boot),
        annotation: vm.config.annotation.clone(),
        workload: workload(&vm.config.workload),
        provisioned_bytes: provisioned(vm).get(),
        current_snapshot: vm.current_snapshot.map(|id| reference(inventory, id)),
        snapshot_count: count(inventory.snapshots_of(vm.id)),
        task: vm.pending.as_ref().map(|pending| pending.task),
        guest_address: usage.guest_address(vm.id),
        created: time(vm.created),
        usage: usage.of_vm(vm.id),
        score_permille: inventory.vm_score(cluster, vm.id),
        ha: ha_view::vm_if_own(inventory, vm),
        allowed_actions: BTreeMap::new(),
    }
}

/// A VM with what can be done to it.
pub(super) fn show_whole(inventory: &Inventory, usage: &Usage<'_>, vm: &VmRecord) -> Vm {
    Vm {
        ha: ha_view::vm(inventory, vm),
        allowed_actions: allowed_actions(inventory, vm.id),
        ..show(inventory, usage, vm)
    }
}

/// What can be done to a VM, and why not the rest; nothing for a VM that is not there.
pub(super) fn allowed_actions(inventory: &Inventory, vm: VmId) -> BTreeMap<String, AllowedAction> {
    let verdicts = inventory.vm_actions(vm).unwrap_or_default();
    let show = |(action, verdict): Verdict| {
        let reason = verdict.err().map(|fault| fault.message);
        (action.name().to_owned(), AllowedAction { allowed: reason.is_none(), reason })
    };
    verdicts.into_iter().map(show).collect()
}

/// What a VM's disks promise to its guest.
pub(super) fn provisioned(vm: &VmRecord) -> Bytes {
    vm.config.disks.iter().map(|disk| disk.capacity).sum()
}

pub(super) const fn power(power: Power) -> PowerState {
    match power {
        Power::Off => PowerState::PoweredOff,
        Power::On => PowerState::PoweredOn,
        Power::Suspended => PowerState::Suspended,
    }
}

const fn allocation(own: AllocationRecord, shares: u32) -> VmAllocation {
    VmAllocation {
        reservation: own.reservation,
        limit: own.limit,
        level: match own.shares {
            Shares::Low => ShareLevel::Low,
            Shares::Normal => ShareLevel::Normal,
            Shares::High => ShareLevel::High,
            Shares::Custom(_) => ShareLevel::Custom,
        },
        shares,
    }
}

fn networks(inventory: &Inventory, vm: &VmRecord) -> Vec<Reference<NetworkId>> {
    let ids: BTreeSet<_> = vm.config.nics.iter().map(|nic| nic.network).collect();
    ids.into_iter().map(|id| reference(inventory, id)).collect()
}

fn disk(disk: &DiskRecord) -> Disk {
    Disk {
        key: disk.key,
        capacity_bytes: disk.capacity.get(),
        file: disk.file.to_string(),
        backing: disk.backing.iter().map(ToString::to_string).collect(),
    }
}

fn nic(inventory: &Inventory, nic: &NicRecord) -> Nic {
    Nic {
        key: nic.key,
        mac: nic.mac.map(|byte| format!("{byte:02x}")).join(":"),
        network: reference(inventory, nic.network),
        is_connected: nic.connected,
        address: nic.address.map(|address| address.to_string()),
    }
}

fn boot(boot: &BootRecord) -> Boot {
    match boot {
        BootRecord::Bios => Boot::Bios,
        BootRecord::Kernel { kernel, initramfs, arguments } => Boot::Kernel {
            kernel: kernel.to_string(),
            initramfs: initramfs.to_string(),
            arguments: arguments.clone(),
        },
    }
}

fn workload(workload: &WorkloadRecord) -> Workload {
    let pattern = match workload.pattern {
        PatternRecord::Constant { permille } => Pattern::Constant { permille },
        PatternRecord::Daily { low_permille, high_permille } => {
            Pattern::Daily { low_permille, high_permille }
        }
        PatternRecord::Bursts { idle_permille, burst_permille, duty_permille } => {
            Pattern::Bursts { idle_permille, burst_permille, duty_permille }
        }
    };
    Workload {
        pattern,
        active_memory_permille: workload.active_memory_permille,
        disk_iops: workload.disk_iops,
        network_kbps: workload.network_kbps,
    }
}

/// As RFC 9562 writes it.
fn uuid(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_in_five_groups() {
        assert_eq!(
            uuid(0x1234_5678_9abc_4def_8123_4567_89ab_cdef),
            "12345678-9abc-4def-8123-456789abcdef"
        );
        assert_eq!(uuid(1), "00000000-0000-0000-0000-000000000001");
    }
}
