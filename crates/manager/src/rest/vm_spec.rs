//! What a client asks for of a VM, as the inventory takes it: names become ids.
//!
//! A VM takes something of the pool, the datastore and the networks that it is put on. Each of them
//! is asked for its own privilege, as in vSphere: who may make VMs in a folder has not been given
//! every pool and disk of the data centre with it.

use racknest_api::operation::Operation as _;
use racknest_api::v1::vm::{
    CloneMode, NewVm, VmClone, VmCloneSpec, VmCreate, VmEdit, VmMarkVm, VmMove, VmMoveSpec,
    VmPatch, VmRegister,
};
use racknest_api::v1::vm_config::{
    Boot, DiskGrowth, NewDisk, NewNic, Pattern, ShareLevel, VmAllocationPatch, Workload,
};
use racknest_api::v1::vm_group::VmCloneStack;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::deploy::CloneVm;
use racknest_cluster::inventory::nic::{ChangeNic, Mac, NewNic as NewNicSpec};
use racknest_cluster::inventory::vm::{CreateVm, MoveVm};
use racknest_cluster::inventory::vm_edit::{EditVm, GrowDisk};
use racknest_cluster::record::migration::MigrationLimits;
use racknest_cluster::record::task::NamePattern;
use racknest_cluster::record::vm::{
    Boot as BootRecord, Pattern as PatternRecord, Shares, VmAllocation, VmAllocations,
    Workload as WorkloadRecord,
};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, FolderId, HostId, NetworkId, PoolId, VmId};

use super::call::View;
use super::folder;

/// What is asked for besides an operation's own privilege, and by which operations.
pub(super) const PLACING: [(&str, &[&str]); 4] = [
    (ASSIGN_TO_POOL, &[VmCreate::ID, VmClone::ID, VmMarkVm::ID, VmMove::ID, VmRegister::ID]),
    (ALLOCATE_SPACE, &[VmCreate::ID, VmClone::ID, VmCloneStack::ID, VmEdit::ID, VmMove::ID]),
    (ASSIGN_NETWORK, &[VmCreate::ID, VmClone::ID, VmEdit::ID]),
    (CREATE_NETWORK, &[VmCloneStack::ID]),
];

/// To make a network.
pub(super) const CREATE_NETWORK: &str = "DVPortgroup.Create";

/// To put a VM into a pool.
const ASSIGN_TO_POOL: &str = "Resource.AssignVMToPool";

/// To take room on a datastore.
pub(super) const ALLOCATE_SPACE: &str = "Datastore.AllocateSpace";

/// To attach an adapter to a network.
const ASSIGN_NETWORK: &str = "Network.Assign";

/// The most digits of a number in a name: enough for a u32.
const DIGITS_MAX: usize = 10;

/// A VM to make.
pub(super) fn create(view: &View<'_>, new: NewVm) -> Result<CreateVm, Fault> {
    let inventory = view.inventory;
    let folder = folder::to_make_in(view, new.folder.as_deref(), |it| it.vm_folder)?;
    let datastore = new.datastore.map(|name| inventory.find_datastore(&name)).transpose()?;
    let datastore = inventory.datastore_or_default(datastore)?.id;
    view.authorize_as(ALLOCATE_SPACE, datastore)?;
    Ok(CreateVm {
        name: new.name,
        folder,
        pool: Some(pool_to_join(view, new.pool.as_deref(), None)?),
        host: host(inventory, new.host.as_deref())?,
        datastore: Some(datastore),
        vcpus: new.vcpus,
        memory: Bytes::from_mib(new.memory_mib),
        disks: disks(&new.disks),
        nics: nics(view, &new.nics)?,
        boot: boot(new.boot)?,
        annotation: new.annotation,
        workload: new.workload.map(workload).unwrap_or_default(),
        allocation: allocations(
            VmAllocations::default(),
            new.cpu_allocation,
            new.memory_allocation,
        )?,
        is_template: new.is_template,
        power_on: new.power_on,
    })
}

/// VMs to clone.
pub(super) fn clone(view: &View<'_>, source: VmId, spec: VmCloneSpec) -> Result<CloneVm, Fault> {
    let inventory = view.inventory;
    let original = inventory.vm(source)?;
    let cluster = inventory.host(original.host)?.cluster;
    let datastore = inventory.datastore_named(&original.home.datastore)?.id;
    view.authorize_as(ALLOCATE_SPACE, datastore)?;
    let swaps = spec.networks.iter();
    let swaps = swaps.map(|it| Ok((inventory.find_network(&it.from)?, network(view, &it.to)?)));
    Ok(CloneVm {
        networks: swaps.collect::<Result<_, Fault>>()?,
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
        pool: Some(pool_to_join(view, spec.pool.as_deref(), Some(cluster))?),
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
pub(super) fn edit(view: &View<'_>, vm: VmId, patch: VmPatch) -> Result<EditVm, Fault> {
    if !patch.add_disks.is_empty() || !patch.grow_disks.is_empty() {
        let home = &view.inventory.vm(vm)?.home;
        view.authorize_as(ALLOCATE_SPACE, view.inventory.datastore_named(&home.datastore)?.id)?;
    }
    let old = view.inventory.vm(vm)?.config.allocation;
    let allocation = allocations(old, patch.cpu_allocation, patch.memory_allocation)?;
    let changes = patch.edit_nics.iter().map(|nic| {
        let network = nic.network.as_ref().map(|name| network(view, name)).transpose()?;
        let mac = nic.mac.as_deref().map(mac).transpose()?;
        Ok(ChangeNic { key: nic.key, network, mac, connected: nic.is_connected })
    });
    Ok(EditVm {
        vcpus: patch.vcpus,
        memory: patch.memory_mib.map(Bytes::from_mib),
        add_disks: disks(&patch.add_disks),
        remove_disks: patch.remove_disks,
        grow_disks: patch.grow_disks.into_iter().map(growth).collect(),
        add_nics: nics(view, &patch.add_nics)?,
        remove_nics: patch.remove_nics,
        change_nics: changes.collect::<Result<_, Fault>>()?,
        boot: patch.boot.map(boot).transpose()?,
        annotation: patch.annotation,
        workload: patch.workload.map(workload),
        allocation: Some(allocation),
    })
}

/// Where a VM is to go.
pub(super) fn place(view: &View<'_>, vm: VmId, spec: &VmMoveSpec) -> Result<MoveVm, Fault> {
    let places = [&spec.host, &spec.datastore, &spec.folder, &spec.pool];
    if places.into_iter().all(Option::is_none) {
        return Err(Fault::invalid("say where the VM goes: host, datastore, folder or pool"));
    }
    let host = host(view.inventory, spec.host.as_deref())?;
    let pool = match (&spec.pool, host) {
        (Some(name), _) => Some(pool_to_join(view, Some(name), None)?),
        (None, Some(host)) => pool_behind(view, vm, host)?,
        (None, None) => None,
    };
    let folder = given_folder(view, spec.folder.as_deref())?;
    let datastore = spec.datastore.as_ref().map(|name| view.inventory.find_datastore(name));
    let datastore = datastore.transpose()?;
    if let Some(datastore) = datastore {
        view.authorize_as(ALLOCATE_SPACE, datastore)?;
    }
    Ok(MoveVm { host, datastore, pool, folder, limits: limits(spec) })
}

/// What moving a running VM may cost.
fn limits(spec: &VmMoveSpec) -> MigrationLimits {
    let usual = MigrationLimits::default();
    MigrationLimits {
        downtime_ms: spec.downtime_ms.unwrap_or(usual.downtime_ms),
        mib_per_second: spec.bandwidth_mib,
        auto_converge: spec.auto_converge.unwrap_or(usual.auto_converge),
    }
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

/// The pool that a VM is put into, where the user may: the one named, or all of the cluster.
pub(super) fn pool_to_join(
    view: &View<'_>,
    name: Option<&str>,
    cluster: Option<ClusterId>,
) -> Result<PoolId, Fault> {
    let given = pool(view.inventory, name)?;
    let pool = view.inventory.pool_or_default(given, cluster)?;
    view.authorize_as(ASSIGN_TO_POOL, pool).map(|()| pool)
}

/// The pool that a VM comes into with another host: that of its cluster, if it is another one.
fn pool_behind(view: &View<'_>, vm: VmId, host: HostId) -> Result<Option<PoolId>, Fault> {
    let (from, to) = (view.inventory.vm(vm)?.host, view.inventory.host(host)?.cluster);
    let is_template = view.inventory.vm(vm)?.is_template;
    if is_template || view.inventory.host(from)?.cluster == to {
        return Ok(None);
    }
    pool_to_join(view, None, Some(to)).map(Some)
}

/// A host.
pub(super) fn host(inventory: &Inventory, name: Option<&str>) -> Result<Option<HostId>, Fault> {
    name.map(|name| inventory.find_host(name)).transpose()
}

fn disks(disks: &[NewDisk]) -> Vec<Bytes> {
    disks.iter().map(|disk| Bytes::new(disk.capacity_bytes)).collect()
}

const fn growth(growth: DiskGrowth) -> GrowDisk {
    GrowDisk { key: growth.key, capacity: Bytes::new(growth.capacity_bytes) }
}

fn nics(view: &View<'_>, nics: &[NewNic]) -> Result<Vec<NewNicSpec>, Fault> {
    let made = nics.iter().map(|nic| {
        let mac = nic.mac.as_deref().map(mac).transpose()?;
        Ok(NewNicSpec { network: network(view, &nic.network)?, mac })
    });
    made.collect()
}

/// An address: six bytes in two digits each.
pub(super) fn mac(text: &str) -> Result<Mac, Fault> {
    let is_two_digits =
        |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    let bytes = text.split([':', '-']).map(|part| {
        Some(part).filter(is_two_digits).and_then(|part| u8::from_str_radix(part, 16).ok())
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>().and_then(|bytes| Mac::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        Fault::invalid(format!(
            "'{text}' is no network address; give six bytes, as in 02:00:00:00:00:01"
        ))
    })
}

/// A network that an adapter is attached to, where the user may.
fn network(view: &View<'_>, name: &str) -> Result<NetworkId, Fault> {
    let id = view.inventory.find_network(name)?;
    view.authorize_as(ASSIGN_NETWORK, id).map(|()| id)
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

/// A VM's part of CPU and memory after a change.
fn allocations(
    old: VmAllocations,
    cpu: VmAllocationPatch,
    memory: VmAllocationPatch,
) -> Result<VmAllocations, Fault> {
    Ok(VmAllocations {
        cpu: allocation("cpu", old.cpu, cpu)?,
        memory: allocation("memory", old.memory, memory)?,
    })
}

fn allocation(
    what: &str,
    old: VmAllocation,
    patch: VmAllocationPatch,
) -> Result<VmAllocation, Fault> {
    if patch.unlimited && patch.limit.is_some() {
        return Err(Fault::invalid(format!(
            "{what}: limit and unlimited contradict each other; leave one out"
        )));
    }
    let shares = match (patch.level, patch.shares) {
        (None, None) => old.shares,
        (None | Some(ShareLevel::Custom), Some(shares)) => Shares::Custom(shares),
        (Some(ShareLevel::Low), None) => Shares::Low,
        (Some(ShareLevel::Normal), None) => Shares::Normal,
        (Some(ShareLevel::High), None) => Shares::High,
        (Some(ShareLevel::Custom), None) => {
            return Err(Fault::invalid(format!(
                "{what}: level custom needs shares; give a number"
            )));
        }
        (Some(ShareLevel::Low | ShareLevel::Normal | ShareLevel::High), Some(_)) => {
            return Err(Fault::invalid(format!(
                "{what}: a level and shares contradict each other; leave one out"
            )));
        }
    };
    Ok(VmAllocation {
        reservation: patch.reservation.unwrap_or(old.reservation),
        limit: if patch.unlimited { None } else { patch.limit.or(old.limit) },
        shares,
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
    fn an_address_is_six_bytes() {
        for text in ["02:00:00:0a:ff:01", "02-00-00-0A-FF-01"] {
            assert_eq!(mac(text), Ok([2, 0, 0, 10, 255, 1]));
        }
        for text in
            ["", "02", "02:00:00:00:00", "02:00:00:00:00:00:01", "2:0:0:0:0:1", "02:00:00:00:00:+1"]
        {
            let fault = mac(text).expect_err("it is none");
            assert!(fault.message.contains("as in 02:00:00:00:00:01"), "{fault}");
        }
    }

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
