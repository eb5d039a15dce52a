//! Drills: what users asked to go wrong, remembered with what should follow.
//!
//! The inventory decides whether a drill may be set off and what should happen; the edge carries
//! it out. The record is saved first, so that a manager that dies in between, which may be the very
//! drill, still knows what to undo.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{DrillId, EventId, HostId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::drill::{self, Situation, Verdict};
use crate::record::drill::{DrillFault, DrillKind, DrillRecord, Expectation, LinkTrouble};
use crate::record::entity::EntityRef;
use crate::record::event::{EventKind, EventRecord};
use crate::record::ha::{HaSettings, RestartPriority};
use crate::record::vm::PowerState;

/// The most drills that are kept; the oldest that are over go first.
pub const DRILLS_MAX: usize = 1_000;

impl Inventory {
    /// What a drill would hit, and what should happen; nothing is changed.
    ///
    /// # Errors
    /// It makes no sense, or one like it is under way.
    pub fn drill_preview(
        &self,
        fault: &DrillFault,
    ) -> Result<(Vec<VmId>, Vec<Expectation>), Fault> {
        self.check_drill(fault)?;
        let ha = self.ha_of(fault);
        let vms: Vec<(VmId, bool)> = self.vms_hit(fault, &ha);
        let ids = vms.iter().map(|(vm, _)| *vm).collect();
        let expected = drill::expect(fault, &Situation { ha: &ha, vms });
        Ok((ids, expected))
    }

    /// Writes down a drill that is about to be set off.
    ///
    /// # Errors
    /// As for [`Inventory::drill_preview`].
    pub fn drill_start(
        &mut self,
        now: Timestamp,
        user: &str,
        fault: DrillFault,
    ) -> Result<DrillId, Fault> {
        let (vms, expected) = self.drill_preview(&fault)?;
        let id = DrillId::from_raw(self.next_id());
        let what = self.drill_name(&fault);
        let record = DrillRecord {
            id,
            fault,
            user: user.into(),
            started: now,
            undone: None,
            failed: None,
            vms,
            expected,
        };
        self.drills.insert(id, record);
        self.touch_created(id);
        self.forget_old_drills();
        self.record_event(now, user, id, EventKind::DrillStarted, what);
        Ok(id)
    }

    /// A drill could not be set off: whatever was done of it was taken back.
    pub fn drill_fail(&mut self, now: Timestamp, id: DrillId, why: &str) {
        let Some(drill) = self.drills.get_mut(&id) else { return };
        drill.failed = Some(why.into());
        drill.undone = Some(now);
        self.touch(id);
        self.record_event(now, "", id, EventKind::DrillUndone, format!("it failed: {why}"));
    }

    /// What a drill did was undone.
    ///
    /// # Errors
    /// There is no such drill, or it was undone before.
    pub fn drill_undone(&mut self, now: Timestamp, user: &str, id: DrillId) -> Result<(), Fault> {
        let drill = self.active_drill(id)?;
        let what = self.drill_name(&drill.fault);
        if let Some(drill) = self.drills.get_mut(&id) {
            drill.undone = Some(now);
        }
        self.touch(id);
        self.record_event(now, user, id, EventKind::DrillUndone, what);
        Ok(())
    }

    /// A drill that is under way.
    ///
    /// # Errors
    /// There is no such drill, or it was undone.
    pub fn active_drill(&self, id: DrillId) -> Result<&DrillRecord, Fault> {
        let drill = self.drill(id)?;
        if drill.undone.is_some() {
            return Err(Fault::state(format!("{id} is over: there is nothing to undo")));
        }
        Ok(drill)
    }

    /// The drill that people mean by its id, or by `last`.
    ///
    /// # Errors
    /// There is none.
    pub fn find_drill(&self, text: &str) -> Result<DrillId, Fault> {
        let found = match text {
            "last" => self.drills.keys().next_back().copied(),
            _ => text.parse().ok().filter(|id| self.drills.contains_key(id)),
        };
        found.ok_or_else(|| Fault::not_found(format!("drill '{text}'")))
    }

    /// How each thing that should happen in a drill stands, in their order.
    #[must_use]
    pub fn drill_verdicts(&self, drill: &DrillRecord, now: Timestamp) -> Vec<Verdict> {
        drill::judge(drill, &self.events_since(drill), now)
    }

    /// What happened around a drill, in order; until another one hits its hosts, if it is over.
    pub fn drill_timeline(&self, drill: &DrillRecord) -> Vec<&EventRecord> {
        let meets = |other: &&DrillRecord| {
            other.fault.hosts.iter().any(|host| drill.fault.hosts.contains(host))
        };
        let later = self.drills.range(drill.id..).skip(1).map(|(_, other)| other);
        let mut after_it =
            later.filter(|other| drill.undone.is_some_and(|undone| other.started >= undone));
        let until = after_it.find(meets).map(|other| other.started);
        let is_before = |event: &EventRecord| until.is_none_or(|until| event.at < until);
        let events = self.events_since(drill);
        drill::timeline(drill, &events).filter(|event| is_before(event)).collect()
    }

    /// A drill in a few words: `fail_host esx03`.
    #[must_use]
    pub fn drill_name(&self, fault: &DrillFault) -> String {
        let mut words = String::from(fault.kind.name());
        for host in &fault.hosts {
            words.push(' ');
            words.push_str(&self.name((*host).into()));
        }
        words
    }

    /// The events since the start of a drill, in the order in which they happened.
    ///
    /// That is not the order in which they were written down: a host that was cut off tells what it
    /// did when it is heard again.
    fn events_since(&self, drill: &DrillRecord) -> Vec<&EventRecord> {
        let written =
            self.events.range(EventId::from_raw(drill.id.raw())..).map(|(_, event)| event);
        let mut events: Vec<_> = written.filter(|event| event.at >= drill.started).collect();
        events.sort_by_key(|event| event.at);
        events
    }

    fn check_drill(&self, fault: &DrillFault) -> Result<(), Fault> {
        let kind = fault.kind.name();
        for host in &fault.hosts {
            let record = self.host(*host)?;
            let missing = fault.nics.iter().find(|nic| !record.nics.contains(nic));
            if let Some(nic) = missing {
                let has = record.nics.join(", ");
                let name = &record.name;
                return Err(Fault::not_found(format!(
                    "NIC '{nic}' of host '{name}' (it has {has})"
                )));
            }
        }
        if fault.hosts.is_empty() != (fault.kind == DrillKind::KillManager) {
            return Err(Fault::invalid(if fault.hosts.is_empty() {
                format!("a drill of kind {kind} needs a host: name one")
            } else {
                "the manager is on no host: name none".into()
            }));
        }
        let is_needed = matches!(fault.kind, DrillKind::SlowLink | DrillKind::LossyLink);
        if is_needed && fault.trouble == LinkTrouble::default() {
            let say = if fault.kind == DrillKind::LossyLink { "loss" } else { "delay or rate" };
            return Err(Fault::invalid(format!("a drill of kind {kind} needs a {say}")));
        }
        self.check_no_other_drill(fault)
    }

    /// Two drills of a kind on one host could not be undone one by one; nor could two partitions.
    fn check_no_other_drill(&self, fault: &DrillFault) -> Result<(), Fault> {
        let clashes = |other: &DrillFault| {
            let is_same =
                other.kind == fault.kind || (other.kind.is_power() && fault.kind.is_power());
            let meets = other.hosts.iter().any(|host| fault.hosts.contains(host));
            is_same
                && (meets || matches!(fault.kind, DrillKind::Partition | DrillKind::KillManager))
        };
        let mut active = self.drills.values().filter(|drill| drill.undone.is_none());
        match active.find(|drill| clashes(&drill.fault)) {
            None => Ok(()),
            Some(other) => {
                let (id, name) = (other.id, self.drill_name(&other.fault));
                Err(Fault::state(format!("{id} ({name}) is under way: undo it first")))
            }
        }
    }

    fn ha_of(&self, fault: &DrillFault) -> HaSettings {
        let host = fault.hosts.first().and_then(|id| self.hosts.get(id));
        let cluster = host.and_then(|host| self.clusters.get(&host.cluster));
        cluster.map(|cluster| cluster.ha.clone()).unwrap_or_default()
    }

    /// The VMs that run on the hosts, and whether HA restarts them.
    fn vms_hit(&self, fault: &DrillFault, ha: &HaSettings) -> Vec<(VmId, bool)> {
        let policy = |host: HostId, vm: VmId| {
            let cluster = self.clusters.get(&self.hosts.get(&host)?.cluster)?;
            cluster.ha_policies.get(&vm)?.restart_priority
        };
        let on_host = |host: &HostId| {
            let host = *host;
            let running = self.vms_on(host).filter(|vm| vm.power == PowerState::On);
            running.map(move |vm| {
                let priority = policy(host, vm.id).unwrap_or(ha.restart_priority);
                (vm.id, priority != RestartPriority::Disabled)
            })
        };
        fault.hosts.iter().flat_map(on_host).collect()
    }

    fn forget_old_drills(&mut self) {
        while self.drills.len() > DRILLS_MAX {
            let over = self.drills.values().find(|drill| drill.undone.is_some());
            let Some(id) = over.map(|drill| drill.id) else { return };
            self.drills.remove(&id);
            self.touch_deleted(EntityRef::Drill(id));
        }
    }
}
