//! Where a VM is restarted.
//!
//! Rules that say *must* bind; claims do not, but for a VM that no host could hold alone: running
//! with less memory than claimed is better than not running. Dedicated failover hosts come first,
//! a host where the last attempt failed last. A host that has its power back and had the VM before
//! gets it again, else the one with the most room does.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};

use super::liveness::Watches;
use super::outbox::some_of;
use super::primary::View;
use super::restart::{Job, Restarts, Step};
use crate::record::ha::AdmissionPolicy;
use crate::wire::VmSpec;
use crate::wire::ha::{HaCluster, HaMember, HostHealth};

/// How good a host is, the lowest best: whether the last attempt failed there, whether it is no
/// failover host, whether the VM was elsewhere, the host's load, and its id so that equals have an
/// order.
type Score = (bool, bool, bool, u64, HostId);

/// The most reasons that are told why a VM cannot be placed.
const REASONS_MAX: usize = 5;

impl Restarts {
    /// The best host for a VM, and why it is.
    ///
    /// # Errors
    /// No host can take it now; why not.
    pub(super) fn choose(
        &self,
        view: &View<'_>,
        watches: &Watches,
        job: &Job,
    ) -> Result<(HostId, String), String> {
        let vm = job.spec.id;
        let apart = self.neighbours(view.cluster, watches, vm, &view.cluster.placement.apart);
        let company = self.neighbours(view.cluster, watches, vm, &view.cluster.placement.together);
        let mut best: Option<(Score, &HaMember)> = None;
        let mut reasons = Vec::new();
        for member in &view.cluster.members {
            let obstacle = obstacle(view, watches, member, &job.spec)
                .or_else(|| {
                    apart.contains(&member.id).then(|| "a VM to be kept apart runs there".into())
                })
                .or_else(|| {
                    let is_elsewhere = !company.is_empty() && !company.contains(&member.id);
                    is_elsewhere.then(|| "the VMs to be kept together run elsewhere".into())
                })
                .or_else(|| {
                    let group = self.lonely_group(view.cluster, &company, vm);
                    let blocks = |it: &VmSpec| obstacle(view, watches, member, it);
                    group.into_iter().find_map(blocks)
                });
            if let Some(obstacle) = obstacle {
                if reasons.len() < REASONS_MAX {
                    reasons.push(format!("{}: {obstacle}", member.name));
                }
                continue;
            }
            let is_last_resort = job.failed_on == Some(member.id);
            let is_spare = is_failover_host(view.cluster, member);
            let was_there = job.prefers == Some(member.id);
            let load = self.load_permille(member, &job.spec);
            let score = (is_last_resort, !is_spare, !was_there, load, member.id);
            if best.is_none_or(|best| score < best.0) {
                best = Some((score, member));
            }
        }
        let Some(((_, no_spare, was_elsewhere, load, host), member)) = best else {
            return Err(match reasons.is_empty() {
                true => "the cluster has no hosts".into(),
                false => some_of(&reasons),
            });
        };
        let kind = match (no_spare, was_elsewhere) {
            (false, _) => "is a failover host",
            (true, false) => "had it before",
            (true, true) => "has the most room",
        };
        Ok((host, format!("{} {kind}, {load} per mille with it", member.name)))
    }

    /// The memory of a host's VMs with one more, in per mille of its claim.
    fn load_permille(&self, member: &HaMember, spec: &VmSpec) -> u64 {
        let coming = self.jobs_on(member.id);
        let used = self.load.get(&member.id).copied().unwrap_or(0);
        let sum = u128::from(used) + u128::from(coming) + u128::from(spec.config.memory.get());
        let claim = u128::from(member.claim.memory.get().max(1));
        u64::try_from(sum * 1000 / claim).unwrap_or(u64::MAX)
    }

    /// Hosts on which VMs run that share a group with this one.
    fn neighbours(
        &self,
        cluster: &HaCluster,
        watches: &Watches,
        vm: VmId,
        groups: &[Vec<VmId>],
    ) -> BTreeSet<HostId> {
        let mine = groups.iter().filter(|group| group.contains(&vm)).flatten();
        let others = mine.filter(|it| **it != vm);
        others.filter_map(|it| self.location(cluster, watches, *it)).collect()
    }

    /// Where a VM runs or is about to.
    fn location(&self, cluster: &HaCluster, watches: &Watches, vm: VmId) -> Option<HostId> {
        match self.job(vm).map(|job| job.step) {
            Some(Step::Ordered { host, .. } | Step::Running { host, .. }) => return Some(host),
            Some(Step::Waiting { .. }) => return None,
            None => {}
        }
        let seen = self.seen.get(&vm).filter(|it| it.runs)?;
        let is_there = watches.health(seen.holder).is_some_and(|it| it != HostHealth::Dead);
        (is_there && cluster.member(seen.holder).is_some()).then_some(seen.holder)
    }

    /// The other VMs of this one's groups that are to be together, while none of them runs: all
    /// must fit where the first goes.
    fn lonely_group(
        &self,
        cluster: &HaCluster,
        company: &BTreeSet<HostId>,
        vm: VmId,
    ) -> Vec<&VmSpec> {
        if !company.is_empty() {
            return Vec::new();
        }
        let mine = cluster.placement.together.iter().filter(|group| group.contains(&vm)).flatten();
        mine.filter(|it| **it != vm).filter_map(|it| self.job(*it)).map(|job| &job.spec).collect()
    }
}

/// Why a host cannot take a VM, rules about other VMs apart.
fn obstacle(
    view: &View<'_>,
    watches: &Watches,
    member: &HaMember,
    spec: &VmSpec,
) -> Option<String> {
    let (vm, config, claim) = (spec.id, &spec.config, &member.claim);
    if member.standby {
        return Some("in standby".into());
    }
    if !watches.is_live(member.id) {
        let health = watches.health(member.id);
        return Some(
            health.map_or_else(|| "unknown".into(), |it| format!("{it:?}").to_lowercase()),
        );
    }
    if !member.takes_vms {
        return Some("takes no VMs (maintenance or quarantine)".into());
    }
    if !watches.can_reach(member, &spec.home.datastore) {
        return Some(format!("does not reach datastore '{}'", spec.home.datastore));
    }
    if config.memory > claim.memory || u32::from(config.vcpus) > claim.cores {
        return Some("too small".into());
    }
    if view.cluster.only_on(vm).is_some_and(|hosts| !hosts.contains(&member.id)) {
        return Some("a rule says that it runs on others only".into());
    }
    view.cluster.never_on(vm).contains(&member.id).then(|| "a rule forbids it".into())
}

fn is_failover_host(cluster: &HaCluster, member: &HaMember) -> bool {
    match &cluster.settings.admission {
        AdmissionPolicy::FailoverHosts(names) => names.contains(&member.name),
        AdmissionPolicy::Off
        | AdmissionPolicy::Slots { .. }
        | AdmissionPolicy::Percentage { .. } => false,
    }
}
