//! Where a VM starts: where it is registered, or on a better host if DRS may choose.
//!
//! DRS leaves a VM where it is unless its host may not run it (maintenance, a mandatory rule) or
//! another would be much less full: to be moved costs a second, and who put it there had a reason.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, VmId};

use super::super::Inventory;
use super::super::health::ailments;
use super::super::index::promised_to;
use super::super::reservation::{is_starting, place, reserved};
use crate::drs::imbalance::normalised;
use crate::drs::placement::{Need, Ranked, Rooms};
use crate::drs::rules::{Breach, Rules};
use crate::drs::{Load, Names};
use crate::record::cluster::ClusterRecord;
use crate::record::drs::DrsMode;
use crate::record::host::{HostRecord, Maintenance};
use crate::record::vm::{PowerState, VmRecord};

/// How much less full another host must be, in parts per million of it.
const MUCH: u64 = 250_000;

/// Where a VM starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPlace {
    /// The host.
    pub host: HostId,
    /// Other hosts that could take it, the best first.
    pub ranked: Vec<Ranked>,
    /// Why that host.
    pub why: String,
}

/// VMs that are about to start and of which nothing is on record yet.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Beside {
    hosts: BTreeMap<VmId, HostId>,
    reserved: BTreeMap<HostId, Load>,
    rooms: BTreeMap<ClusterId, Rooms>,
}

impl Beside {
    /// Takes note of a VM that will start on this host.
    pub(in super::super) fn add(&mut self, inventory: &Inventory, vm: &VmRecord, to: HostId) {
        self.hosts.insert(vm.id, to);
        let taken = self.reserved.entry(to).or_default();
        *taken = *taken + reserved(&vm.config);
        let Ok(host) = inventory.host(vm.host) else { return };
        if to == vm.host {
            return;
        }
        let rooms = self
            .rooms
            .entry(host.cluster)
            .or_insert_with(|| inventory.index.rooms(host.cluster).cloned().unwrap_or_default());
        rooms.change(vm.host, |room| room.load = room.load - promised_to(vm));
        rooms.change(to, |room| room.load = room.load + promised_to(vm));
    }
}

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
        let place = self.start_beside(vm, &Beside::default())?;
        Ok(Some(place.host).filter(|host| *host != vm.host))
    }

    /// Where a VM should start, beside others that are about to.
    ///
    /// # Errors
    /// It may not start where it is, and no other host can take it.
    pub(in super::super) fn start_beside(
        &self,
        vm: &VmRecord,
        beside: &Beside,
    ) -> Result<StartPlace, Fault> {
        let host = self.host(vm.host)?;
        let cluster = self.cluster(host.cluster)?;
        let rules = self.rules_if_any(cluster);
        let placed = |id: VmId| beside.hosts.get(&id).copied().or_else(|| self.runs_on(id));
        let gives = |host: HostId| {
            let more = beside.reserved.get(&host).copied().unwrap_or_default();
            self.check_host_gives_beside(&vm.name, Some(vm.id), host, &vm.config, more)
        };
        let here = self.check_rules_beside(&rules, vm, vm.host, &placed);
        let here = here.and_then(|()| gives(vm.host));
        let own_rooms = self.index.rooms(cluster.id);
        let rooms = beside.rooms.get(&cluster.id).or(own_rooms);
        let stays = |why: String| StartPlace { host: vm.host, ranked: Vec::new(), why };
        let (true, Some(rooms)) = (self.drs_places(vm), rooms) else {
            return here.map(|()| stays("DRS does not choose for it".into()));
        };
        let need = Need {
            vm: vm.id,
            vcpus: vm.config.vcpus.into(),
            memory_mib: vm.config.memory.mib(),
            load: promised_to(vm),
            guaranteed: Load::default(),
            datastores: Vec::new(),
        };
        let takes = |id: HostId| {
            let is_like = self.hosts.get(&id).is_some_and(|other| other.driver == host.driver);
            id != vm.host && is_like && self.check_move(vm, id).is_ok() && gives(id).is_ok()
        };
        let ranked = rooms.rank_among(&need, &rules, &placed, &takes).unwrap_or_default();
        let best = ranked.first().copied();
        let obstacle = self.start_obstacle(host);
        let is_good = here.is_ok() && obstacle.is_none();
        let full = |used: Load| used.cpu.max(used.memory);
        let percent = |used: u64| used / 10_000;
        let now =
            rooms.room(vm.host).map_or(0, |room| full(normalised(room.load, room.capacity.load())));
        match (is_good, best) {
            (true, Some(best)) if !best.bends && full(best.after) + MUCH < now => {
                let why = format!(
                    "host '{}' is {} % full with it, host '{}' {} %",
                    self.name(best.host.into()),
                    percent(full(best.after)),
                    host.name,
                    percent(now)
                );
                Ok(StartPlace { host: best.host, ranked, why })
            }
            (true, Some(_) | None) => {
                let why = "it is there, and no other host is much less full".into();
                Ok(StartPlace { ranked, ..stays(why) })
            }
            (false, Some(best)) => {
                let why = here.err().map(|fault| fault.message).or(obstacle).unwrap_or_default();
                Ok(StartPlace { host: best.host, ranked, why })
            }
            (false, None) => {
                here?;
                Err(Fault::state(format!(
                    "host '{}' {}, and no other host can take VM '{}'",
                    host.name,
                    obstacle.unwrap_or_default(),
                    vm.name
                )))
            }
        }
    }

    /// Why a host takes no VM that starts, as far as that is not this VM's doing.
    fn start_obstacle(&self, host: &HostRecord) -> Option<String> {
        if host.maintenance != Maintenance::Off {
            return Some("is in maintenance".into());
        }
        self.is_quarantined(host).then(|| format!("is quarantined, because {}", ailments(host)))
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
        self.check_rules_beside(rules, vm, host, &|id| self.runs_on(id))
    }

    fn check_rules_beside(
        &self,
        rules: &Rules,
        vm: &VmRecord,
        host: HostId,
        placed: &dyn Fn(VmId) -> Option<HostId>,
    ) -> Result<(), Fault> {
        let placed = |id: VmId| placed(id).filter(|_| !rules.bundle(vm.id).contains(&id));
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

    /// The host that a running VM is on, or one that has been asked to start will be on.
    fn runs_on(&self, id: VmId) -> Option<HostId> {
        let vm = self.vms.get(&id)?;
        match vm.power {
            _ if is_starting(vm) => Some(place(vm)),
            PowerState::On => Some(vm.host),
            PowerState::Off | PowerState::Suspended => None,
        }
    }

    /// Most clusters have no rules, and are not asked for their hosts.
    fn rules_if_any(&self, cluster: &ClusterRecord) -> Rules {
        if cluster.rules.is_empty() { Rules::default() } else { self.compiled_rules(cluster) }
    }
}

fn mode_of(cluster: &ClusterRecord, vm: VmId) -> DrsMode {
    cluster.drs.overrides.get(&vm).copied().unwrap_or(cluster.drs.mode)
}
