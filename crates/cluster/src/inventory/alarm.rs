//! Alarms: watching readings and states, and remembering where they are raised.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use racknest_types::fault::Fault;
use racknest_types::id::AlarmId;
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::alarm::{AlarmRecord, AlarmState, AlarmStatus, Threshold, Trigger};
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::host::{HealthLevel, HostConnection, HostPower};

/// What was measured of the hosts, VMs and datastores, per mille of what each has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// CPU use of hosts and VMs.
    pub cpu_permille: BTreeMap<EntityRef, u16>,
    /// Memory use of hosts.
    pub memory_permille: BTreeMap<EntityRef, u16>,
    /// Space used of datastores.
    pub datastore_permille: BTreeMap<EntityRef, u16>,
}

impl Inventory {
    pub(super) fn create_built_in_alarms(&mut self) {
        let alarms = [
            ("Host connection lost", Trigger::HostNotResponding),
            ("VM died", Trigger::VmDied),
            ("Host health", Trigger::HostHealth),
            ("CPU usage", Trigger::CpuUsage(threshold(900, 980))),
            ("Host memory usage", Trigger::HostMemoryUsage(threshold(900, 950))),
            ("Datastore usage", Trigger::DatastoreUsage(threshold(750, 850))),
        ];
        for (name, trigger) in alarms {
            self.create_alarm(name, trigger);
        }
        self.create_new_alarms();
    }

    /// Alarms that stores of before do not have.
    pub(super) fn create_new_alarms(&mut self) {
        if !self.alarms.values().any(|alarm| alarm.trigger == Trigger::NetworkOutOfSync) {
            self.create_alarm("Network out of sync", Trigger::NetworkOutOfSync);
        }
    }

    fn create_alarm(&mut self, name: &str, trigger: Trigger) {
        let id = AlarmId::from_raw(self.next_id());
        let raised = BTreeMap::new();
        let record = AlarmRecord { id, name: name.into(), trigger, enabled: true, raised };
        self.alarms.insert(id, record);
        self.touch_created(id);
    }

    /// Compares every alarm with what was measured, and raises or clears it where that changed.
    ///
    /// What was not measured keeps its colour: a silent host is not a healthy one.
    pub fn evaluate_alarms(&mut self, now: Timestamp, readings: &Readings) {
        let ids = self.alarms.keys().copied().collect::<alloc::vec::Vec<_>>();
        for id in ids {
            let alarm = &self.alarms[&id];
            let judged =
                if alarm.enabled { self.judge_alarm(alarm, readings) } else { BTreeMap::new() };
            let gone = alarm
                .raised
                .keys()
                .filter(|entity| !alarm.enabled || !self.record_exists(**entity));
            let gone = gone.map(|entity| (*entity, None)).collect::<BTreeMap<_, _>>();
            for (entity, status) in judged.into_iter().chain(gone) {
                self.set_alarm(now, id, entity, status);
            }
        }
    }

    fn judge_alarm(
        &self,
        alarm: &AlarmRecord,
        readings: &Readings,
    ) -> BTreeMap<EntityRef, Option<AlarmStatus>> {
        let compare = |limits: &Threshold, values: &BTreeMap<EntityRef, u16>| {
            values.iter().map(|(entity, value)| (*entity, limits.status(*value))).collect()
        };
        match &alarm.trigger {
            Trigger::HostNotResponding => self
                .hosts
                .values()
                .map(|host| {
                    // One that was turned off is not expected to answer.
                    let lost = host.connection == HostConnection::NotResponding
                        && host.power == HostPower::On;
                    (host.id.into(), lost.then_some(AlarmStatus::Red))
                })
                .collect(),
            Trigger::HostHealth => self
                .hosts
                .values()
                .map(|host| {
                    let worst = host.ailing.values().max().map(|level| match level {
                        HealthLevel::Moderate => AlarmStatus::Yellow,
                        HealthLevel::Severe => AlarmStatus::Red,
                    });
                    (host.id.into(), worst)
                })
                .collect(),
            Trigger::NetworkOutOfSync => self
                .hosts
                .values()
                .map(|host| {
                    let is_out = self.why_out_of_sync(host.id).is_some();
                    (host.id.into(), is_out.then_some(AlarmStatus::Red))
                })
                .collect(),
            Trigger::VmDied => self.judge_deaths(alarm),
            Trigger::CpuUsage(limits) => compare(limits, &readings.cpu_permille),
            Trigger::HostMemoryUsage(limits) => compare(limits, &readings.memory_permille),
            Trigger::DatastoreUsage(limits) => compare(limits, &readings.datastore_permille),
        }
    }

    /// A VM that died stays red until it runs again; the last of its events tells.
    fn judge_deaths(&self, alarm: &AlarmRecord) -> BTreeMap<EntityRef, Option<AlarmStatus>> {
        let mut judged = BTreeMap::new();
        for entity in alarm.raised.keys() {
            if let EntityRef::Vm(id) = entity
                && self.vms.get(id).is_some_and(|vm| vm.power != crate::record::vm::PowerState::Off)
            {
                judged.insert(*entity, None);
            }
        }
        judged
    }

    /// Raises the alarm for a VM that died, as soon as it did.
    pub(super) fn raise_death(&mut self, now: Timestamp, vm: EntityRef) {
        let alarm = self
            .alarms
            .values()
            .find(|alarm| alarm.enabled && alarm.trigger == Trigger::VmDied)
            .map(|alarm| alarm.id);
        if let Some(alarm) = alarm {
            self.set_alarm(now, alarm, vm, Some(AlarmStatus::Red));
        }
    }

    fn set_alarm(
        &mut self,
        now: Timestamp,
        id: AlarmId,
        entity: EntityRef,
        status: Option<AlarmStatus>,
    ) {
        let Some(alarm) = self.alarms.get_mut(&id) else {
            return;
        };
        let old = alarm.raised.get(&entity).map(|state| state.status);
        if old == status {
            return;
        }
        match status {
            None => drop(alarm.raised.remove(&entity)),
            Some(status) => {
                let state = AlarmState { status, since: now, acknowledged_by: None };
                alarm.raised.insert(entity, state);
            }
        }
        let detail = format!("'{}' went from {} to {}", alarm.name, colour(old), colour(status));
        self.touch(id);
        if self.record_exists(entity) {
            self.record_event(now, "", entity, EventKind::AlarmChanged, detail);
        }
    }

    /// Notes that somebody has seen a raised alarm.
    ///
    /// # Errors
    /// It is not raised there.
    pub fn alarm_acknowledge(
        &mut self,
        now: Timestamp,
        user: &str,
        id: AlarmId,
        entity: EntityRef,
    ) -> Result<(), Fault> {
        let name = self.alarm(id)?.name.clone();
        let what = self.describe(entity);
        let alarm = self.alarms.get_mut(&id).ok_or_else(|| Fault::not_found(id))?;
        let state = alarm
            .raised
            .get_mut(&entity)
            .ok_or_else(|| Fault::state(format!("alarm '{name}' is not raised on {what}")))?;
        state.acknowledged_by = Some(user.into());
        self.touch(id);
        let detail: String = format!("'{name}' was acknowledged");
        self.record_event(now, user, entity, EventKind::AlarmChanged, detail);
        Ok(())
    }

    /// Has an alarm watched, or not.
    ///
    /// # Errors
    /// It is not there.
    pub fn alarm_enable(
        &mut self,
        now: Timestamp,
        user: &str,
        id: AlarmId,
        enabled: bool,
    ) -> Result<(), Fault> {
        self.alarm(id)?;
        if let Some(alarm) = self.alarms.get_mut(&id)
            && alarm.enabled != enabled
        {
            alarm.enabled = enabled;
            self.touch(id);
            let detail = if enabled { "enabled" } else { "disabled" };
            self.record_event(now, user, id, EventKind::Reconfigured, detail);
        }
        Ok(())
    }
}

const fn threshold(yellow_permille: u16, red_permille: u16) -> Threshold {
    Threshold { yellow_permille, red_permille }
}

impl Threshold {
    fn status(&self, permille: u16) -> Option<AlarmStatus> {
        if permille >= self.red_permille {
            Some(AlarmStatus::Red)
        } else if permille >= self.yellow_permille {
            Some(AlarmStatus::Yellow)
        } else {
            None
        }
    }
}

const fn colour(status: Option<AlarmStatus>) -> &'static str {
    match status {
        None => "green",
        Some(AlarmStatus::Yellow) => "yellow",
        Some(AlarmStatus::Red) => "red",
    }
}
