//! Where a VM starts: where it is registered, or on a better host if DRS may choose.
//!
//! DRS leaves a VM where it is unless its host may not run it (maintenance, a mandatory rule) or
//! another would be much less full: to be moved costs a second, and who put it there had a reason.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, VmId};

use super::super::Inventory;
use super::super::index::promised_to;
use crate::drs::imbalance::normalised;
use crate::drs::placement::Need;
use crate::drs::rules::{Breach, Rules};
use crate::drs::{Load, Names};
use crate::record::cluster::ClusterRecord;
use crate::record::drs::DrsMode;
use crate::record::host::Maintenance;
use crate::record::vm::{PowerState, VmRecord};

/// How much less full another host must be, in parts per million of it.
const MUCH: u64 = 250_000;

impl Inventory {
    /// Whether DRS chooses where this VM starts.
    pub(in super::super) fn drs_places(&self, vm: &VmRecord) -> bool {
        let cluster = self.hosts.get(&vm.host).and_then(|host| self.clusters.get(&host.cluster));
        let mode = cluster.map_or(DrsMode::Off, |cluster| mode_of(cluster, vm.id));
        mode >= DrsMode::Partial && vm.power == PowerState::Off
    }

    /// The other host that a VM should start on; `None` if it should where it is.
    ///
    /// # Errors
    /// It may not start where it is, and no other host can take it.
    pub(in super::super) fn start_place(&self, vm: &VmRecord) -> Result<Option<HostId>, Fault> {
        let host = self.host(vm.host)?;
        let cluster = self.cluster(host.cluster)?;
        let rules = self.rules_if_any(cluster);
        let here = self.check_rules_at(&rules, vm, vm.host);
        if !self.drs_places(vm) {
            return here.map(|()| None);
        }
        let Some(rooms) = self.index.rooms(cluster.id) else {
            return Ok(None);
        };
        let need = Need {
            vm: vm.id,
            vcpus: vm.config.vcpus.into(),
            memory_mib: vm.config.memory.mib(),
            load: promised_to(vm),
            guaranteed: Load::default(),
            datastores: alloc::vec::Vec::new(),
        };
        let placed = |id: VmId| self.runs_on(id);
        let takes = |id: HostId| {
            let is_like = self.hosts.get(&id).is_some_and(|other| other.driver == host.driver);
            id != vm.host && is_like && self.check_move(vm, id).is_ok()
        };
        let ranked = rooms.rank_among(&need, &rules, &placed, &takes);
        let best = ranked.ok().and_then(|ranked| ranked.first().copied());
        let is_good = here.is_ok() && host.maintenance == Maintenance::Off;
        let full = |used: Load| used.cpu.max(used.memory);
        let now =
            rooms.room(vm.host).map_or(0, |room| full(normalised(room.load, room.capacity.load())));
        match (is_good, best) {
            (true, Some(best)) if !best.bends && full(best.after) + MUCH < now => {
                Ok(Some(best.host))
            }
            (true, Some(_) | None) => Ok(None),
            (false, Some(best)) => Ok(Some(best.host)),
            (false, None) => {
                here?;
                Err(Fault::state(format!(
                    "host '{}' is in maintenance, and no other host can take VM '{}'",
                    host.name, vm.name
                )))
            }
        }
    }

    /// Whether mandatory rules let a VM run on a host of its cluster, or of another.
    ///
    /// Those that must stay with it are taken to follow: DRS moves them.
    ///
    /// # Errors
    /// A rule is against it; the fault names it.
    pub(in super::super) fn check_rules(&self, vm: &VmRecord, host: HostId) -> Result<(), Fault> {
        let cluster = self.cluster(self.host(host)?.cluster)?;
        self.check_rules_at(&self.rules_if_any(cluster), vm, host)
    }

    fn check_rules_at(&self, rules: &Rules, vm: &VmRecord, host: HostId) -> Result<(), Fault> {
        let placed = |id: VmId| self.runs_on(id).filter(|_| !rules.bundle(vm.id).contains(&id));
        let Err(broken) = rules.permits(vm.id, host, &placed) else {
            return Ok(());
        };
        let breach = broken.to_breach();
        Err(Fault::state(format!(
            "VM '{}' must not run on {}: {}",
            vm.name,
            self.describe(host.into()),
            self.explain_breach(&breach)
        )))
    }

    fn explain_breach(&self, breach: &Breach) -> String {
        let vm = |id: VmId| format!("VM '{}'", self.name(id.into()));
        let host = |id: HostId| format!("host '{}'", self.name(id.into()));
        breach.explain(&Names { vm: &vm, host: &host })
    }

    /// The host that a running VM is on.
    fn runs_on(&self, id: VmId) -> Option<HostId> {
        self.vms.get(&id).filter(|vm| vm.power == PowerState::On).map(|vm| vm.host)
    }

    /// Most clusters have no rules, and are not asked for their hosts.
    fn rules_if_any(&self, cluster: &ClusterRecord) -> Rules {
        if cluster.rules.is_empty() { Rules::default() } else { self.compiled_rules(cluster) }
    }
}

fn mode_of(cluster: &ClusterRecord, vm: VmId) -> DrsMode {
    cluster.drs.overrides.get(&vm).copied().unwrap_or(cluster.drs.mode)
}
