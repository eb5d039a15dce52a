//! The inventory as a planner sees it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, DatastoreId, HostId, PoolId, VmId};

use super::super::Inventory;
use super::super::reservation::{is_starting, place};
use crate::drs::{Capacity, Cluster, Demand, Host, HostState, Pool, Vm};
use crate::record::cluster::ClusterRecord;
use crate::record::ha::AdmissionPolicy;
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::record::pool::{Allocation, PoolRecord};
use crate::record::vm::{PowerState, Step, VmAllocation, VmConfig, VmRecord};

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
        let mut hosts =
            self.hosts_of(cluster).map(|it| self.drs_host(record, it)).collect::<Vec<_>>();
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
            admission: match record.ha.enabled {
                true => record.ha.admission.clone(),
                false => AdmissionPolicy::Off,
            },
        })
    }

    fn drs_vm(
        &self,
        cluster: &ClusterRecord,
        vm: &VmRecord,
        datastores: &BTreeMap<&str, DatastoreId>,
    ) -> Vm {
        let host = if is_starting(vm) { place(vm) } else { vm.host };
        Vm {
            id: vm.id,
            // What it will take is taken already: the next one must not be promised it, too.
            is_powered_on: vm.power == PowerState::On || is_starting(vm),
            is_busy: vm.pending.is_some(),
            datastores: datastores_of(vm, |name| datastores.get(name).copied()),
            ..self.drs_newcomer(cluster, host, vm.pool, &vm.config)
        }
    }

    /// A VM that does not run and has no disks yet, as a planner sees it.
    pub(in super::super) fn drs_newcomer(
        &self,
        cluster: &ClusterRecord,
        host: HostId,
        pool: Option<PoolId>,
        config: &VmConfig,
    ) -> Vm {
        let vcpus = u32::from(config.vcpus);
        let core_mhz = self.hosts.get(&host).map_or(1000, |host| host.claim.core_mhz);
        let own = |own: VmAllocation, shares: u32| Allocation {
            reservation: own.reservation,
            limit: own.limit,
            shares,
            expandable: false,
        };
        Vm {
            id: VmId::from_raw(0),
            host: Some(host),
            is_powered_on: false,
            is_busy: false,
            pool: pool.unwrap_or(cluster.root_pool),
            vcpus,
            cpu_mhz: u64::from(vcpus) * u64::from(core_mhz),
            memory_mib: config.memory.mib(),
            overhead_mib: 0,
            cpu: own(config.allocation.cpu, config.cpu_shares()),
            memory: own(config.allocation.memory, config.memory_shares()),
            demand: Demand::default(),
            peak: Demand::default(),
            datastores: Vec::new(),
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

impl Inventory {
    fn drs_host(&self, cluster: &ClusterRecord, host: &HostRecord) -> Host {
        let mut datastores = host.datastores.clone();
        datastores.sort_unstable();
        let state = match (host.power, host.connection, host.maintenance) {
            (HostPower::Standby | HostPower::PoweringOn, _, _) => HostState::Standby,
            (_, HostConnection::NotResponding | HostConnection::Disconnected, _) => {
                HostState::Unreachable
            }
            (_, HostConnection::Connected, Maintenance::Entering | Maintenance::On) => {
                HostState::Maintenance
            }
            (_, HostConnection::Connected, Maintenance::Off) if is_kept_free(cluster, host) => {
                HostState::Failover
            }
            (_, HostConnection::Connected, Maintenance::Off) if self.is_quarantined(host) => {
                HostState::Quarantined
            }
            (_, HostConnection::Connected, Maintenance::Off) => HostState::On,
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
            state_changed: host.connection_changed.max(host.power_changed),
        }
    }
}

/// Whether a host takes nothing before others fail.
pub(in super::super) fn is_kept_free(cluster: &ClusterRecord, host: &HostRecord) -> bool {
    match &cluster.ha.admission {
        AdmissionPolicy::FailoverHosts(names) => cluster.ha.enabled && names.contains(&host.name),
        AdmissionPolicy::Off
        | AdmissionPolicy::Slots { .. }
        | AdmissionPolicy::Percentage { .. } => false,
    }
}

fn drs_pool(pool: &PoolRecord) -> Pool {
    let memory =
        Allocation { shares: pool.memory.shares.saturating_mul(POOL_MEMORY_SHARES), ..pool.memory };
    Pool { id: pool.id, parent: pool.parent, cpu: pool.cpu, memory }
}

const fn is_move(step: &Step) -> bool {
    matches!(
        step,
        Step::Migrate { .. } | Step::Relocate { .. } | Step::MoveOut { .. } | Step::MoveIn { .. }
    )
}
