//! Powering on a group of VMs at once.
//!
//! One by one, each VM would take the place that is best for it alone, and the last might find none.
//! Here all are placed on paper first: those that few hosts can take and the large ones while there is
//! still choice, each beside those before it, by rules that hold within the group too. Only then is
//! anything begun.
//!
//! What is kept free for failures is asked for in the order in which the VMs were named, so that who
//! names the database first has it first.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::cmp::Reverse;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::drs::StartPlace;
use super::drs::start::Beside;
use super::reservation::reserved;
use crate::drs::Load;
use crate::record::task::TaskWork;
use crate::record::vm::{Step, VmRecord};

/// The most VMs of one group; a deployment task starts more.
pub const GROUP_MAX: usize = 10_000;

/// What becomes of a group that is to be powered on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStart {
    /// VMs that start, and where, in the order in which they were named.
    pub starts: Vec<(VmId, StartPlace)>,
    /// VMs that do not, and why.
    pub refused: Vec<(VmId, Fault)>,
}

impl Inventory {
    /// Where each VM of a group would start, and which cannot and why. Nothing is begun.
    ///
    /// # Errors
    /// A VM is not there, or they are too many.
    pub fn vm_group_plan(&self, vms: &[VmId]) -> Result<GroupStart, Fault> {
        if vms.len() > GROUP_MAX {
            return Err(Fault::invalid(format!(
                "{} VMs are more than a group of {GROUP_MAX}; power them on in several",
                vms.len()
            )));
        }
        let mut named = BTreeSet::new();
        let mut plan = GroupStart::default();
        let mut could = Vec::new();
        for id in vms.iter().copied().filter(|id| named.insert(*id)) {
            let vm = self.vm(id)?;
            match self.check_could_start(vm) {
                Ok(()) => could.push(vm),
                Err(fault) => plan.refused.push((id, fault)),
            }
        }
        let could = self.admitted(could, &mut plan)?;
        let mut beside = Beside::default();
        let mut starts = BTreeMap::new();
        for vm in self.by_choice(&could) {
            match self.start_beside(vm, &beside) {
                Ok(place) => {
                    beside.add(self, vm, place.host);
                    starts.insert(vm.id, place);
                }
                Err(fault) => plan.refused.push((vm.id, fault)),
            }
        }
        let in_order = could.iter().filter_map(|vm| Some((vm.id, starts.remove(&vm.id)?)));
        plan.starts = in_order.collect();
        Ok(plan)
    }

    /// Powers on a group of VMs: those that can be, or with `all_or_none` none unless all can. The
    /// tasks are in the order of the plan's starts.
    ///
    /// # Errors
    /// A VM is not there; or not all can be started, and the fault names the first that cannot.
    pub fn vm_group_power_on(
        &mut self,
        now: Timestamp,
        user: &str,
        vms: &[VmId],
        all_or_none: bool,
    ) -> Result<(GroupStart, Vec<TaskId>), Fault> {
        let plan = self.vm_group_plan(vms)?;
        if let (true, Some((_, first))) = (all_or_none, plan.refused.first()) {
            return Err(Fault::new(
                first.code,
                format!(
                    "{} of {} VMs cannot be powered on, so none is: {}",
                    plan.refused.len(),
                    plan.refused.len() + plan.starts.len(),
                    first.message
                ),
            ));
        }
        let mut tasks = Vec::new();
        for (id, place) in &plan.starts {
            let is_here = self.vm(*id)?.host == place.host;
            let step = match is_here {
                true => Step::PowerOn,
                false => Step::MoveOut { to: place.host, power_on: true, pool: None },
            };
            let task = self.begin_task(now, user, "vm_power_on", *id, TaskWork::Step);
            self.begin_step(*id, task, step);
            tasks.push(task);
        }
        Ok((plan, tasks))
    }

    /// Those that pools and admission control let start, with the ones before them.
    fn admitted<'a>(
        &self,
        vms: Vec<&'a VmRecord>,
        plan: &mut GroupStart,
    ) -> Result<Vec<&'a VmRecord>, Fault> {
        let mut clusters = BTreeMap::<ClusterId, Vec<VmId>>::new();
        for vm in &vms {
            clusters.entry(self.host(vm.host)?.cluster).or_default().push(vm.id);
        }
        let mut refused = self.refused_by_pools(&vms);
        for (cluster, vms) in clusters {
            let asked = vms.into_iter().filter(|id| !refused.contains_key(id)).collect::<Vec<_>>();
            refused.extend(self.admit_in_order(cluster, &asked)?);
        }
        let mut left = Vec::new();
        for vm in vms {
            match refused.remove(&vm.id) {
                Some(fault) => plan.refused.push((vm.id, fault)),
                None => left.push(vm),
            }
        }
        Ok(left)
    }

    /// Those whose pools cannot give what they reserve, beside those before them.
    fn refused_by_pools(&self, vms: &[&VmRecord]) -> BTreeMap<VmId, Fault> {
        let mut refused = BTreeMap::new();
        let mut beside = BTreeMap::new();
        for vm in vms {
            let Some(pool) = vm.pool else { continue };
            match self.check_pool_beside(&vm.name, Some(vm.id), pool, &vm.config, &beside) {
                Ok(()) => {
                    let taken = beside.entry(pool).or_insert_with(Load::default);
                    *taken = *taken + reserved(&vm.config);
                }
                Err(fault) => drop(refused.insert(vm.id, fault)),
            }
        }
        refused
    }

    /// Those with the fewest hosts to choose from first, then the largest.
    fn by_choice<'a>(&self, vms: &[&'a VmRecord]) -> Vec<&'a VmRecord> {
        let clusters = vms.iter().filter_map(|vm| Some(self.hosts.get(&vm.host)?.cluster));
        let clusters = clusters.collect::<BTreeSet<_>>().into_iter();
        let rules = clusters.filter_map(|id| self.clusters.get(&id));
        let rules = rules.filter(|it| !it.rules.is_empty());
        let rules = rules.map(|it| self.compiled_rules(it)).collect::<Vec<_>>();
        let choice = |vm: VmId| rules.iter().find_map(|it| it.only_hosts(vm)).map(BTreeSet::len);
        let mut order = vms.to_vec();
        order.sort_by_cached_key(|vm| {
            let size = Reverse((vm.config.memory, vm.config.vcpus));
            (choice(vm.id).unwrap_or(usize::MAX), size, vm.id)
        });
        order
    }
}
