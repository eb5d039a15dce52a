//! Questions to a cluster's configuration.
//!
//! A thousand simulated hosts share one configuration, so it is asked by binary search and no host
//! builds an index of its own.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};

use crate::record::ha::{
    HaTimings, IsolationResponse, Readiness, RestartPriority, VmHaPolicy, VmMonitoring,
};
use crate::wire::ha::{HaCluster, HaMember};

/// How many of a host's datastores carry its beats besides those its VMs live on; as vSphere's.
const HEARTBEAT_DATASTORES: usize = 2;

impl HaCluster {
    /// Whether a VM that does not run and should is HA's to start.
    #[must_use]
    pub fn restarts(&self, vm: VmId) -> bool {
        let Self { settings, .. } = self;
        settings.enabled && settings.armed && self.priority(vm) != RestartPriority::Disabled
    }

    /// The same, in the order that the questions below rely on.
    pub(super) fn sorted(self: Arc<Self>) -> Arc<Self> {
        let placement = &self.placement;
        if self.members.is_sorted_by_key(|it| it.id)
            && self.policies.is_sorted_by_key(|it| it.0)
            && placement.only_on.is_sorted_by_key(|it| it.0)
            && placement.never_on.is_sorted_by_key(|it| it.0)
        {
            return self;
        }
        let mut sorted = Arc::unwrap_or_clone(self);
        sorted.members.sort_by_key(|it| it.id);
        sorted.policies.sort_by_key(|it| it.0);
        sorted.placement.only_on.sort_by_key(|it| it.0);
        sorted.placement.never_on.sort_by_key(|it| it.0);
        Arc::new(sorted)
    }

    pub(super) fn timings(&self) -> &HaTimings {
        &self.settings.timings
    }

    pub(super) fn member(&self, host: HostId) -> Option<&HaMember> {
        let place = self.members.binary_search_by_key(&host, |it| it.id).ok()?;
        self.members.get(place)
    }

    /// The members that should be there, but for one.
    pub(super) fn peers(&self, me: HostId) -> impl Iterator<Item = &HaMember> {
        self.members.iter().filter(move |it| it.id != me && !it.standby)
    }

    /// A host's name for people.
    pub(super) fn name(&self, host: HostId) -> String {
        self.member(host).map_or_else(|| host.to_string(), |it| it.name.clone())
    }

    pub(super) fn policy(&self, vm: VmId) -> Option<&VmHaPolicy> {
        find(&self.policies, vm)
    }

    pub(super) fn priority(&self, vm: VmId) -> RestartPriority {
        let own = self.policy(vm).and_then(|it| it.restart_priority);
        own.unwrap_or(self.settings.restart_priority)
    }

    pub(super) fn readiness(&self, vm: VmId) -> Readiness {
        let own = self.policy(vm).and_then(|it| it.readiness);
        own.unwrap_or(self.settings.readiness)
    }

    pub(super) fn isolation_response(&self, vm: VmId) -> IsolationResponse {
        let own = self.policy(vm).and_then(|it| it.isolation_response);
        own.unwrap_or(self.settings.isolation_response)
    }

    pub(super) fn monitoring(&self, vm: VmId) -> VmMonitoring {
        let own = self.policy(vm).and_then(|it| it.monitoring);
        own.unwrap_or(self.settings.monitoring)
    }

    pub(super) fn only_on(&self, vm: VmId) -> Option<&[HostId]> {
        find(&self.placement.only_on, vm).map(|hosts| &hosts[..])
    }

    pub(super) fn never_on(&self, vm: VmId) -> &[HostId] {
        find(&self.placement.never_on, vm).map_or(&[], |hosts| &hosts[..])
    }

    /// Everything that can say to a host that it is not cut off.
    pub(super) fn witnesses(&self) -> impl Iterator<Item = &String> {
        self.settings.isolation_addresses.iter().chain(&self.settings.witness)
    }
}

impl HaMember {
    /// The datastores on which its beats are looked for.
    pub(super) fn heartbeat_datastores(&self) -> impl Iterator<Item = &String> {
        self.datastores.iter().take(HEARTBEAT_DATASTORES)
    }

    pub(super) fn has(&self, datastore: &str) -> bool {
        self.datastores.iter().any(|it| it == datastore)
    }
}

fn find<T>(sorted: &[(VmId, T)], vm: VmId) -> Option<&T> {
    let place = sorted.binary_search_by_key(&vm, |it| it.0).ok()?;
    sorted.get(place).map(|it| &it.1)
}

/// Whether a configuration can be told to another host in one datagram of 64 KiB: a member takes
/// about 300 bytes, everything else about 100 a piece. A larger one comes from the manager only.
pub(super) fn fits_a_datagram(cluster: &HaCluster) -> bool {
    let rules = &cluster.placement;
    let groups = rules.apart.iter().chain(&rules.together).map(Vec::len).sum::<usize>();
    let pieces = cluster.policies.len() + rules.only_on.len() + rules.never_on.len() + groups;
    300 * cluster.members.len() + 100 * pieces < 50_000
}
