//! What a client asks for of a VM, as the inventory takes it: names become ids.

use racknest_api::v1::vm::{CloneMode, NewVm, VmCloneSpec, VmMoveSpec, VmPatch};
use racknest_api::v1::vm_config::{Boot, NewDisk, NewNic, Pattern, Workload};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::deploy::CloneVm;
use racknest_cluster::inventory::vm::{CreateVm, MoveVm};
use racknest_cluster::inventory::vm_edit::{ChangeNic, EditVm};
use racknest_cluster::record::task::NamePattern;
use racknest_cluster::record::vm::{
    Boot as BootRecord, Pattern as PatternRecord, Workload as WorkloadRecord,
};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{FolderId, HostId, NetworkId, PoolId, VmId};

use super::call::View;
use super::folder;

/// The most digits of a number in a name: enough for a u32.
const DIGITS_MAX: usize = 10;

/// A VM to make.
pub(super) fn create(view: &View<'_>, new: NewVm) -> Result<CreateVm, Fault> {
    let inventory = view.inventory;
    Ok(CreateVm {
        name: new.name,
        folder: folder::to_make_in(view, new.folder.as_deref(), |it| it.vm_folder)?,
        pool: pool(inventory, new.pool.as_deref())?,
        host: host(inventory, new.host.as_deref())?,
        datastore: new.datastore.map(|name| inventory.find_datastore(&name)).transpose()?,
        vcpus: new.vcpus,
        memory: Bytes::from_mib(new.memory_mib),
        disks: disks(&new.disks),
        nics: nics(inventory, &new.nics)?,
        boot: boot(new.boot)?,
        annotation: new.annotation,
        workload: new.workload.map(workload).unwrap_or_default(),
        is_template: new.is_template,
        power_on: new.power_on,
    })
}

/// VMs to clone.
pub(super) fn clone(view: &View<'_>, source: VmId, spec: VmCloneSpec) -> Result<CloneVm, Fault> {
    let inventory = view.inventory;
    Ok(CloneVm {
        source,
        names: names(&spec.name, spec.first, spec.count)?,
        count: spec.count,
        batch: spec.batch,
        linked: match spec.mode {
            CloneMode::Linked => true,
            CloneMode::Full => false,
        },
        power_on: spec.power_on,
        folder: given_folder(view, spec.folder.as_deref())?,
        pool: pool(inventory, spec.pool.as_deref())?,
        host: host(inventory, spec.host.as_deref())?,
    })
}

/// `web##` is `web` and two digits. Without `#`, several VMs get the digits their last one needs.
fn names(name: &str, first: u32, count: u32) -> Result<NamePattern, Fault> {
    let prefix = name.trim_end_matches('#');
    let digits = match name.len() - prefix.len() {
        0 if count <= 1 => 0,
        0 => first.saturating_add(count.saturating_sub(1)).to_string().len(),
        digits => digits,
    };
    let digits = u8::try_from(digits).ok().filter(|digits| usize::from(*digits) <= DIGITS_MAX);
    let digits =
        digits.ok_or_else(|| Fault::invalid(format!("'{name}' has more than {DIGITS_MAX} '#'")))?;
    Ok(NamePattern { prefix: prefix.to_owned(), first, digits })
}

/// What a VM is to become.
pub(super) fn edit(inventory: &Inventory, patch: VmPatch) -> Result<EditVm, Fault> {
    let changes = patch.edit_nics.iter().map(|nic| {
        let network = nic.network.as_ref().map(|name| inventory.find_network(name)).transpose()?;
        Ok(ChangeNic { key: nic.key, network, connected: nic.is_connected })
    });
    Ok(EditVm {
        vcpus: patch.vcpus,
        memory: patch.memory_mib.map(Bytes::from_mib),
        add_disks: disks(&patch.add_disks),
        remove_disks: patch.remove_disks,
        add_nics: nics(inventory, &patch.add_nics)?,
        remove_nics: patch.remove_nics,
        change_nics: changes.collect::<Result<_, Fault>>()?,
        boot: patch.boot.map(boot).transpose()?,
        annotation: patch.annotation,
        workload: patch.workload.map(workload),
    })
}

/// Where a VM is to go.
pub(super) fn place(view: &View<'_>, spec: &VmMoveSpec) -> Result<MoveVm, Fault> {
    if *spec == VmMoveSpec::default() {
        return Err(Fault::invalid("say where the VM goes: host, folder or pool"));
    }
    Ok(MoveVm {
        host: host(view.inventory, spec.host.as_deref())?,
        pool: pool(view.inventory, spec.pool.as_deref())?,
        folder: given_folder(view, spec.folder.as_deref())?,
    })
}

/// A VM folder that is named, in which the user may do the same.
fn given_folder(view: &View<'_>, name: Option<&str>) -> Result<Option<FolderId>, Fault> {
    let folder = name.map(|name| folder::of_vms(view.inventory, name)).transpose()?;
    folder.map(|folder| view.authorize(folder).map(|()| folder)).transpose()
}

/// A pool; of a cluster, the one that is all of it.
pub(super) fn pool(inventory: &Inventory, name: Option<&str>) -> Result<Option<PoolId>, Fault> {
    name.map(|name| super::pool::or_cluster(inventory, name)).transpose()
}

/// A host.
pub(super) fn host(inventory: &Inventory, name: Option<&str>) -> Result<Option<HostId>, Fault> {
    name.map(|name| inventory.find_host(name)).transpose()
}

fn disks(disks: &[NewDisk]) -> Vec<Bytes> {
    disks.iter().map(|disk| Bytes::new(disk.capacity_bytes)).collect()
}

fn nics(inventory: &Inventory, nics: &[NewNic]) -> Result<Vec<NetworkId>, Fault> {
    nics.iter().map(|nic| inventory.find_network(&nic.network)).collect()
}

fn boot(boot: Boot) -> Result<BootRecord, Fault> {
    let path = |text: &str| text.parse().map_err(|error| Fault::invalid(format!("boot: {error}")));
    Ok(match boot {
        Boot::Bios => BootRecord::Bios,
        Boot::Kernel { kernel, initramfs, arguments } => {
            BootRecord::Kernel { kernel: path(&kernel)?, initramfs: path(&initramfs)?, arguments }
        }
    })
}

const fn workload(workload: Workload) -> WorkloadRecord {
    let pattern = match workload.pattern {
        Pattern::Constant { permille } => PatternRecord::Constant { permille },
        Pattern::Daily { low_permille, high_permille } => {
            PatternRecord::Daily { low_permille, high_permille }
        }
        Pattern::Bursts { idle_permille, burst_permille, duty_permille } => {
            PatternRecord::Bursts { idle_permille, burst_permille, duty_permille }
        }
    };
    WorkloadRecord {
        pattern,
        active_memory_permille: workload.active_memory_permille,
        disk_iops: workload.disk_iops,
        network_kbps: workload.network_kbps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_the_digits_that_were_asked_for_or_are_needed() {
        for (name, first, count, last) in [
            ("web", 1, 1, "web"),
            ("web#", 7, 1, "web7"),
            ("web##", 1, 60, "web60"),
            ("web", 1, 60, "web60"),
            ("web", 1, 9, "web9"),
            ("web", 95, 10, "web104"),
            ("web####", 1, 60, "web0060"),
        ] {
            let pattern = names(name, first, count).unwrap();
            assert_eq!(pattern.name(count - 1), last, "{name} {first} {count}");
        }
        names("web###########", 1, 2).expect_err("more digits than a number has");
    }
}
