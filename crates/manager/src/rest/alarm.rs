//! Alarms: what is watched, and where it is raised.

use racknest_api::operation::Operation;
use racknest_api::page::Page;
use racknest_api::v1::alarm::{
    Alarm, AlarmAcknowledge, AlarmDisable, AlarmEnable, AlarmList, AlarmState, AlarmStates,
    AlarmStatus, AlarmTrigger,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::alarm::{
    AlarmRecord, AlarmState as StateRecord, AlarmStatus as StatusRecord, Threshold, Trigger,
};
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{count, mention, reference, time};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<AlarmList, _>(list)
        .on::<AlarmStates, _>(list_states)
        .on::<AlarmAcknowledge, _>(acknowledge)
        .on::<AlarmEnable, _>(|call| enable(call, true))
        .on::<AlarmDisable, _>(|call| enable(call, false))
}

fn show(alarm: &AlarmRecord) -> Alarm {
    let (trigger, limits) = match &alarm.trigger {
        Trigger::HostNotResponding => (AlarmTrigger::HostNotResponding, None),
        Trigger::VmDied => (AlarmTrigger::VmDied, None),
        Trigger::HostHealth => (AlarmTrigger::HostHealth, None),
        Trigger::NetworkOutOfSync => (AlarmTrigger::NetworkOutOfSync, None),
        Trigger::CpuUsage(limits) => (AlarmTrigger::CpuUsage, Some(limits)),
        Trigger::HostMemoryUsage(limits) => (AlarmTrigger::HostMemoryUsage, Some(limits)),
        Trigger::DatastoreUsage(limits) => (AlarmTrigger::DatastoreUsage, Some(limits)),
    };
    Alarm {
        id: alarm.id,
        name: alarm.name.clone(),
        trigger,
        yellow_permille: limits.map(|limits: &Threshold| limits.yellow_permille),
        red_permille: limits.map(|limits| limits.red_permille),
        enabled: alarm.enabled,
        raised_count: count(alarm.raised.iter()),
    }
}

fn show_state(
    inventory: &Inventory,
    alarm: &AlarmRecord,
    entity: EntityRef,
    state: &StateRecord,
) -> AlarmState {
    AlarmState {
        alarm: reference(inventory, alarm.id),
        entity: mention(inventory, entity),
        status: show_status(state.status),
        since: time(state.since),
        acknowledged_by: state.acknowledged_by.clone(),
    }
}

const fn show_status(status: StatusRecord) -> AlarmStatus {
    match status {
        StatusRecord::Yellow => AlarmStatus::Yellow,
        StatusRecord::Red => AlarmStatus::Red,
    }
}

async fn list(call: Call<AlarmList>) -> Result<Page<Alarm>, Fault> {
    Ok(call.look(|view| Page::whole(view.inventory.alarms().map(show).collect())))
}

async fn list_states(call: Call<AlarmStates>) -> Result<Page<AlarmState>, Fault> {
    let query = &call.query;
    call.look(|view| {
        let wanted = query.entity.as_ref().map(|text| view.find_any(text)).transpose()?;
        let sight = view.sight();
        let raised = view.inventory.alarms().flat_map(|alarm| {
            alarm.raised.iter().map(move |(entity, state)| (alarm, *entity, state))
        });
        let raised = raised.filter(|(_, entity, state)| {
            wanted.is_none_or(|wanted| *entity == wanted)
                && query.status.is_none_or(|status| show_status(state.status) == status)
                && sight.sees(*entity)
        });
        let states =
            raised.map(|(alarm, entity, state)| show_state(view.inventory, alarm, entity, state));
        Ok(Page::whole(states.collect()))
    })
}

async fn acknowledge(call: Call<AlarmAcknowledge>) -> Result<AlarmState, Fault> {
    let (alarm, entity) = (call.name(0), call.body.entity.clone());
    call.run(move |desk| {
        let id = desk.inventory.find_alarm(&alarm)?;
        let entity = desk.view().find_any(&entity)?;
        desk.inventory.alarm_acknowledge(desk.now, desk.user, id, entity)?;
        let alarm = desk.inventory.alarm(id)?;
        let state = alarm.raised.get(&entity).expect("only what is raised was acknowledged");
        Ok(show_state(desk.inventory, alarm, entity, state))
    })
    .await
}

async fn enable<O: Operation>(call: Call<O>, enabled: bool) -> Result<Alarm, Fault> {
    let alarm = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_alarm(&alarm)?;
        desk.inventory.alarm_enable(desk.now, desk.user, id, enabled)?;
        desk.inventory.alarm(id).map(show)
    })
    .await
}
