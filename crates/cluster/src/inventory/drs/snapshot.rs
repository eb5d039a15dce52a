//! The inventory as a planner sees it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, DatastoreId};

use super::super::Inventory;
use crate::drs::{Capacity, Cluster, Demand, Host, HostState, Pool, Vm};
use crate::record::cluster::ClusterRecord;
use crate::record::ha::AdmissionPolicy;
use crate::record::host::{HostConnection, HostRecord, Maintenance};
use crate::record::pool::{Allocation, PoolRecord};
use crate::record::vm::{PowerState, Step, VmRecord};

/// Shares of a VM per vCPU, at vSphere's normal level.
const CPU_SHARES_PER_VCPU: u32 = 1000;

/// Shares of a VM per MiB, at vSphere's normal level.
const MEMORY_SHARES_PER_MIB: u64 = 10;

/// A pool of normal level has 4,000 shares of CPU and 163,840 of memory in vSphere; here it has 4,000
/// of each, so memory shares count this much beside those of VMs.
const POOL_MEMORY_SHARES: u32 = 41;

impl Inventory {
    /// A cluster as a planner sees it, with nothing measured yet.
    ///
    /// # Errors
    /// The cluster is not there.
    pub fn drs_cluster(&self, cluster: ClusterId) -> Result<Cluster, Fault> {
        let record = self.cluster(cluster)?;
        let mut hosts = self.hosts_of(cluster).map(|it| drs_host(record, it)).collect::<Vec<_>>();
        hosts.sort_by_key(|host| host.id);
        let named = self.datastores().map(|it| (it.name.as_str(), it.id)).collect();
        let mut vms = Vec::new();
        let mut moves_under_way = 0;
        for vm in self.hosts_of(cluster).flat_map(|host| self.vms_on(host.id)) {
            if !vm.is_template {
                vms.push(self.drs_vm(record, vm, &named));
                let moves = vm.pending.as_ref().is_some_and(|pending| is_move(&pending.step));
                moves_under_way += usize::from(moves);
            }
        }
        vms.sort_by_key(|vm| vm.id);
        let pools = self.pools().filter(|pool| pool.cluster == cluster);
        Ok(Cluster {
            hosts,
            vms,
            pools: pools.map(drs_pool).collect(),
            rules: record.rules.clone(),
            groups: record.groups.clone(),
            settings: record.drs.clone(),
            moves_under_way,
        })
    }

    fn drs_vm(
        &self,
        cluster: &ClusterRecord,
        vm: &VmRecord,
        datastores: &BTreeMap<&str, DatastoreId>,
    ) -> Vm {
        let vcpus = u32::from(vm.config.vcpus);
        let core_mhz = self.hosts.get(&vm.host).map_or(1000, |host| host.claim.core_mhz);
        let memory_mib = vm.config.memory.mib();
        let memory_shares = u32::try_from(memory_mib * MEMORY_SHARES_PER_MIB).unwrap_or(u32::MAX);
        let own = |shares: u32| Allocation { shares: shares.max(1), ..Allocation::default() };
        Vm {
            id: vm.id,
            host: Some(vm.host),
            is_powered_on: vm.power == PowerState::On,
            is_busy: vm.pending.is_some(),
            pool: vm.pool.unwrap_or(cluster.root_pool),
            vcpus,
            cpu_mhz: u64::from(vcpus) * u64::from(core_mhz),
            memory_mib,
            overhead_mib: 0,
            cpu: own(vcpus * CPU_SHARES_PER_VCPU),
            memory: own(memory_shares),
            demand: Demand::default(),
            peak: Demand::default(),
            datastores: datastores_of(vm, |name| datastores.get(name).copied()),
            moved: None,
            is_protected: cluster.ha.enabled,
        }
    }
}

/// The datastores that a VM's files are on.
fn datastores_of(vm: &VmRecord, find: impl Fn(&str) -> Option<DatastoreId>) -> Vec<DatastoreId> {
    let layers = vm.config.disks.iter();
    let layers = layers.flat_map(|disk| core::iter::once(&disk.file).chain(&disk.backing));
    let names = layers.map(|layer| layer.datastore.as_str()).chain([vm.home.datastore.as_str()]);
    let mut ids = names.filter_map(find).collect::<Vec<_>>();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn drs_host(cluster: &ClusterRecord, host: &HostRecord) -> Host {
    let mut datastores = host.datastores.clone();
    datastores.sort_unstable();
    let is_kept_free = match &cluster.ha.admission {
        AdmissionPolicy::FailoverHosts(names) => cluster.ha.enabled && names.contains(&host.name),
        AdmissionPolicy::Off
        | AdmissionPolicy::Slots { .. }
        | AdmissionPolicy::Percentage { .. } => false,
    };
    let state = match (host.connection, host.maintenance) {
        (HostConnection::NotResponding | HostConnection::Disconnected, _) => HostState::Unreachable,
        (HostConnection::Connected, Maintenance::Entering | Maintenance::On) => {
            HostState::Maintenance
        }
        (HostConnection::Connected, Maintenance::Off) if is_kept_free => HostState::Failover,
        (HostConnection::Connected, Maintenance::Off) => HostState::On,
    };
    Host {
        id: host.id,
        capacity: Capacity {
            cpu_mhz: u64::from(host.claim.cores) * u64::from(host.claim.core_mhz),
            memory_mib: host.claim.memory.mib(),
            // Underlay links have no speed of their own: what they are slowed to is a drill.
            network_kbps: 0,
            cores: host.claim.cores,
        },
        state,
        datastores,
        state_changed: host.connection_changed,
    }
}

fn drs_pool(pool: &PoolRecord) -> Pool {
    let memory =
        Allocation { shares: pool.memory.shares.saturating_mul(POOL_MEMORY_SHARES), ..pool.memory };
    Pool { id: pool.id, parent: pool.parent, cpu: pool.cpu, memory }
}

const fn is_move(step: &Step) -> bool {
    matches!(step, Step::Migrate { .. } | Step::MoveOut { .. } | Step::MoveIn { .. })
}
