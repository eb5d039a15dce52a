//! Events.

use racknest_api::page::Page;
use racknest_api::reference::Reference;
use racknest_api::v1::event::{Event, EventList};
use racknest_cluster::record::event::{EventKind, EventRecord};
use racknest_types::fault::Fault;
use racknest_types::id::EventId;

use super::call::Call;
use super::convert::{Cut, moment, time};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<EventList, _>(list)
}

/// An event as people see it.
pub(super) fn show(event: &EventRecord) -> Event {
    Event {
        id: event.id,
        at: time(event.at),
        kind: kind(event.kind),
        entity: Reference { id: event.entity.to_string(), name: event.entity_name.clone() },
        user: event.user.clone(),
        message: message(event),
    }
}

/// The name that records and clients know it by.
fn kind(kind: EventKind) -> String {
    format!("{kind:?}")
}

/// The sentence for people: what, then the rest of it.
fn message(event: &EventRecord) -> String {
    let (kind, name) = (event.entity.kind(), &event.entity_name);
    let what = match event.kind {
        EventKind::Created => format!("{kind} '{name}' was made"),
        EventKind::Removed => format!("{kind} '{name}' was removed"),
        EventKind::Renamed => format!("{kind} '{name}' was renamed"),
        EventKind::Reconfigured => format!("{kind} '{name}' was changed"),
        EventKind::Moved => format!("{kind} '{name}' was moved"),
        EventKind::VmPoweredOn => format!("VM '{name}' was powered on"),
        EventKind::VmPoweredOff => format!("VM '{name}' is powered off"),
        EventKind::VmSuspended => format!("VM '{name}' was suspended"),
        EventKind::VmReset => format!("VM '{name}' was reset"),
        EventKind::VmDied => format!("VM '{name}' died"),
        EventKind::VmGuestShutdown => format!("the guest of VM '{name}' was asked to shut down"),
        EventKind::SnapshotCreated => format!("a snapshot of VM '{name}' was taken"),
        EventKind::SnapshotReverted => format!("VM '{name}' went back to a snapshot"),
        EventKind::SnapshotRemoved => format!("a snapshot of VM '{name}' was deleted"),
        EventKind::HostConnected => format!("host '{name}' answers"),
        EventKind::HostConnectionLost => format!("host '{name}' no longer answers"),
        EventKind::HostEnteredMaintenance => format!("host '{name}' is in maintenance"),
        EventKind::HostExitedMaintenance => format!("host '{name}' takes VMs again"),
        EventKind::HostRemediation => format!("remediation of host '{name}'"),
        EventKind::HostFailed => format!("the power of host '{name}' was pulled"),
        EventKind::HostRecovered => format!("host '{name}' got its power back"),
        EventKind::LinkCut => format!("a cable of host '{name}' was pulled"),
        EventKind::LinkRestored => format!("a cable of host '{name}' was plugged back in"),
        EventKind::DrsApplied => format!("DRS acts in {kind} '{name}'"),
        EventKind::DrsMeasured => format!("DRS has acted in {kind} '{name}'"),
        EventKind::LinkImpaired => format!("a cable of host '{name}' changed"),
        EventKind::StorageCut => format!("host '{name}' was cut off from its datastores"),
        EventKind::StorageRestored => format!("host '{name}' has its datastores back"),
        EventKind::HostHung => format!("the agent of host '{name}' was stopped where it is"),
        EventKind::HostResumed => format!("the agent of host '{name}' runs on"),
        EventKind::DrillStarted => format!("{name} was set off"),
        EventKind::DrillUndone => format!("{name} was undone"),
        EventKind::TaskFailed => format!("a task on {kind} '{name}' failed"),
        EventKind::UserLoggedIn => format!("user '{name}' logged in"),
        EventKind::LoginFailed => "a login failed".to_owned(),
        EventKind::AlarmChanged => format!("an alarm on {kind} '{name}' changed"),
        EventKind::Repaired => format!("{kind} '{name}' was repaired"),
        EventKind::HaPrimaryElected => format!("host '{name}' is HA primary"),
        EventKind::HaHostLive => format!("HA hears host '{name}' again"),
        EventKind::HaHostSuspected => format!("HA has not heard host '{name}' for a while"),
        EventKind::HaHostPartitioned => format!("host '{name}' is network partitioned"),
        EventKind::HaHostIsolated => format!("host '{name}' is network isolated"),
        EventKind::HaHostDead => format!("HA declared host '{name}' dead"),
        EventKind::HaHostAway => format!("the agent of host '{name}' left with notice"),
        EventKind::HaVmPlaced => format!("HA gave VM '{name}' to a host"),
        EventKind::HaVmNotPlaced => format!("HA finds no host for VM '{name}' now"),
        EventKind::HaVmRestarted => format!("HA restarted VM '{name}'"),
        EventKind::HaVmRestartFailed => format!("HA could not start VM '{name}'"),
        EventKind::HaVmStopped => format!("a copy of VM '{name}' was stopped"),
        EventKind::HaVmReset => format!("HA reset VM '{name}'"),
        EventKind::HaVmResetRefused => format!("HA did not reset VM '{name}' once more"),
        EventKind::HaVmNotReady => format!("VM '{name}' was not ready in time"),
        EventKind::HaDatastoreLost => format!("host '{name}' cannot reach a datastore"),
        EventKind::HaDatastoreBack => format!("host '{name}' reaches a datastore again"),
        EventKind::HaHealingHeld => format!("HA waits before it restarts VMs of {kind} '{name}'"),
        EventKind::HaHealingReleased => format!("HA restarts VMs of {kind} '{name}' again"),
        EventKind::HaDisarmed => format!("HA of {kind} '{name}' was disarmed"),
        EventKind::HaArmed => format!("HA of {kind} '{name}' was armed"),
        EventKind::HostEnteredStandby => format!("host '{name}' is in standby"),
        EventKind::HostExitedStandby => format!("host '{name}' is on again"),
        EventKind::HostHealthChanged => format!("the health of host '{name}' changed"),
        EventKind::SwitchHostOutOfSync => format!("the network of host '{name}' is out of sync"),
        EventKind::SwitchHostInSync => format!("the network of host '{name}' is in sync again"),
        EventKind::NetworkHealthChanged => format!("the uplinks of host '{name}' were checked"),
        EventKind::NetworkRolledBack => format!("host '{name}' took a change of its network back"),
    };
    if event.detail.is_empty() { what } else { format!("{what}: {}", event.detail) }
}

async fn list(call: Call<EventList>) -> Result<Page<Event>, Fault> {
    let query = &call.query;
    let cut = Cut::<EventId>::new(query.limit, query.after.as_deref())?;
    let (from, to) = (query.from.map(moment), query.to.map(moment));
    call.look(|view| {
        let entity = query.entity.as_ref().map(|text| view.find_past(text)).transpose()?;
        let sight = view.sight();
        let events = view.inventory.events().rev().filter(|event| {
            entity.is_none_or(|entity| event.entity == entity)
                && query.kind.as_ref().is_none_or(|wanted| kind(event.kind) == *wanted)
                && query.user.as_ref().is_none_or(|user| event.user == *user)
                && from.is_none_or(|from| event.at >= from)
                && to.is_none_or(|to| event.at < to)
                && (event.user == view.user || sight.sees(event.entity))
        });
        Ok(cut.falling(events, |event| event.id, show))
    })
}
