//! Switches.

use std::time::Duration;

use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::switch::{
    NetworkRepair, Switch, SwitchAddHost, SwitchCreate, SwitchDelete, SwitchEdit, SwitchHost,
    SwitchHosts, SwitchList, SwitchPatch, SwitchRemoveHost, SwitchShow, SwitchSync,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::switch::{EditSwitch, NewSwitch};
use racknest_cluster::inventory::switch_sync::{SwitchChange, SwitchHostState};
use racknest_cluster::record::host::HostRecord;
use racknest_cluster::record::switch::SwitchRecord;
use racknest_cluster::record::task::TaskState;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{SwitchId, TaskId};
use tokio::time::timeout;

use super::call::{Call, View};
use super::convert::{count, datacenter, fits, reference};
use super::folder;
use super::routes::Routes;

/// How long every host may take to agree to a change; one that does not answer is lost before.
const AGREEMENT_MAX: Duration = Duration::from_secs(30);

/// How long hosts may take to do what they were told by a repair, before it is said how they stand.
const REPAIR_MAX: Duration = Duration::from_secs(3);

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<SwitchList, _>(list)
        .on::<SwitchShow, _>(show_one)
        .on::<SwitchCreate, _>(create)
        .on::<SwitchEdit, _>(edit)
        .on::<SwitchDelete, _>(delete)
        .on::<SwitchHosts, _>(hosts)
        .on::<SwitchAddHost, _>(add_host)
        .on::<SwitchRemoveHost, _>(remove_host)
        .on::<NetworkRepair, _>(repair)
}

fn show(inventory: &Inventory, switch: &SwitchRecord) -> Switch {
    let is_out = |host: &&HostRecord| {
        matches!(inventory.switch_host_state(switch, host), SwitchHostState::OutOfSync(_))
    };
    Switch {
        id: switch.id,
        name: switch.name.clone(),
        folder: reference(inventory, switch.folder),
        datacenter: datacenter(inventory, switch.folder),
        host: switch.host.map(|host| reference(inventory, host)),
        mtu: switch.mtu,
        uplinks: switch.uplinks.clone(),
        all_hosts: switch.takes_all,
        health_check: switch.health_check,
        generation: switch.generation,
        host_count: count(inventory.members_of(switch)),
        hosts_out_of_sync: count(inventory.members_of(switch).filter(is_out)),
        networks: inventory.networks_of(switch.id).map(|it| it.name.clone()).collect(),
    }
}

fn show_host(inventory: &Inventory, switch: &SwitchRecord, host: &HostRecord) -> SwitchHost {
    let uplinks = inventory.uplinks_on(switch, host).unwrap_or_default();
    let (state, reason) = match inventory.switch_host_state(switch, host) {
        SwitchHostState::InSync => (SwitchSync::InSync, None),
        SwitchHostState::Waiting => (SwitchSync::Waiting, None),
        SwitchHostState::OutOfSync(why) => (SwitchSync::OutOfSync, Some(why)),
        SwitchHostState::Away => (SwitchSync::Away, None),
        SwitchHostState::Unknown => (SwitchSync::Unknown, None),
    };
    SwitchHost {
        switch: switch.name.clone(),
        host: reference(inventory, host.id),
        uplinks: uplinks.iter().map(|it| format!("{}={}", it.name, it.nic)).collect(),
        state,
        reason,
    }
}

async fn list(call: Call<SwitchList>) -> Result<Page<Switch>, Fault> {
    let name = call.query.name.as_deref();
    call.look(|view| {
        let host = call.query.host.as_ref().map(|text| view.find_host(text)).transpose()?;
        let sight = view.sight();
        let switches = view.inventory.switches();
        let seen = switches.filter(|it| fits(name, &it.name) && sight.sees(it.id));
        let seen = seen.filter(|it| host.is_none_or(|host| view.inventory.is_member(it, host)));
        Ok(Page::whole(seen.map(|switch| show(view.inventory, switch)).collect()))
    })
}

async fn show_one(call: Call<SwitchShow>) -> Result<Switch, Fault> {
    call.look(|view| {
        let switch = view.find_switch(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.switch(switch)?))
    })
}

async fn create(call: Call<SwitchCreate>) -> Result<Switch, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let host = match &new.host {
            Some(host) => Some(desk.view().find_host(host)?),
            None => None,
        };
        let folder = match host {
            Some(_) => None,
            None => {
                folder::to_make_in(&desk.view(), new.folder.as_deref(), |it| it.network_folder)?
            }
        };
        let wanted = NewSwitch {
            name: new.name,
            folder,
            host,
            nics: new.nics,
            mtu: new.mtu,
            uplinks: new.uplinks,
        };
        let id = desk.inventory.switch_create(desk.now, desk.user, wanted)?;
        Ok(show(desk.inventory, desk.inventory.switch(id)?))
    })
    .await
}

fn changed(patch: SwitchPatch) -> EditSwitch {
    EditSwitch {
        name: patch.name,
        mtu: patch.mtu,
        uplinks: patch.uplinks,
        takes_all: patch.all_hosts,
        health_check: patch.health_check,
        ..EditSwitch::default()
    }
}

async fn edit(call: Call<SwitchEdit>) -> Result<Switch, Fault> {
    let (switch, patch) = (call.name(0), call.body.clone());
    let id = call.look(|view| view.find_switch(&switch))?;
    let is_atomic = patch.atomic;
    change(&call, (id, is_atomic), changed(patch)).await
}

async fn add_host(call: Call<SwitchAddHost>) -> Result<Switch, Fault> {
    let (switch, member) = (call.name(0), call.body.clone());
    let (id, host) = call
        .look(|view| Ok::<_, Fault>((view.find_switch(&switch)?, view.find_host(&member.host)?)))?;
    let put_hosts = vec![(host, member.nics)];
    let edit = EditSwitch { put_hosts, ..EditSwitch::default() };
    change(&call, (id, member.atomic), edit).await
}

async fn remove_host(call: Call<SwitchRemoveHost>) -> Result<Nothing, Fault> {
    let (switch, host) = (call.name(0), call.name(1));
    let (id, host) =
        call.look(|view| Ok::<_, Fault>((view.find_switch(&switch)?, view.find_host(&host)?)))?;
    let edit = EditSwitch { drop_hosts: vec![host], ..EditSwitch::default() };
    change(&call, (id, false), edit).await.map(|_| Nothing {})
}

/// Changes a switch: at once, or when every host has agreed.
async fn change<O: Operation>(
    call: &Call<O>,
    (id, is_atomic): (SwitchId, bool),
    edit: EditSwitch,
) -> Result<Switch, Fault> {
    if is_atomic {
        agreed(call, SwitchChange::Switch(id, edit)).await?;
    } else {
        call.run(move |desk| desk.inventory.switch_edit(desk.now, desk.user, id, edit)).await?;
    }
    call.look(|view| Ok(show(view.inventory, view.inventory.switch(id)?)))
}

/// Puts a change to every host that answers, and waits until it is made or refused.
///
/// # Errors
/// A host refuses; then none has made it.
pub(super) async fn agreed<O: Operation>(
    call: &Call<O>,
    change: SwitchChange,
) -> Result<(), Fault> {
    let begin =
        call.run(move |desk| desk.inventory.switch_change_atomic(desk.now, desk.user, change));
    let mut changes = call.state.core.feed().watch();
    let task = begin.await?;
    let ended = async {
        loop {
            if let Some(result) = ending(call, task) {
                return result;
            }
            if changes.next().await.is_none() {
                return Err(Fault::state("the manager is stopping; no host has made the change"));
            }
        }
    };
    match timeout(AGREEMENT_MAX, ended).await {
        Ok(result) => result,
        Err(_) => {
            let given_up = call.run(move |desk| desk.inventory.task_cancel(desk.now, task)).await;
            let message = "not every host has agreed in time; none has made the change";
            match given_up {
                Ok(()) => Err(Fault::new(FaultCode::Timedout, message)),
                // It has ended in the meantime, and that counts.
                Err(fault) => ending(call, task).unwrap_or(Err(fault)),
            }
        }
    }
}

fn ending<O: Operation>(call: &Call<O>, task: TaskId) -> Option<Result<(), Fault>> {
    call.look(|view| match view.inventory.task(task).map(|task| &task.state) {
        Ok(TaskState::Running) => None,
        Ok(TaskState::Success) => Some(Ok(())),
        Ok(TaskState::Error(fault)) => Some(Err(fault.clone())),
        Err(fault) => Some(Err(fault)),
    })
}

async fn delete(call: Call<SwitchDelete>) -> Result<Nothing, Fault> {
    let switch = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_switch(&switch)?;
        desk.inventory.switch_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}

async fn hosts(call: Call<SwitchHosts>) -> Result<Page<SwitchHost>, Fault> {
    call.look(|view| {
        let switch = view.inventory.switch(view.find_switch(&call.name(0))?)?;
        Ok(Page::whole(seen_hosts(view, switch)))
    })
}

fn seen_hosts(view: &View<'_>, switch: &SwitchRecord) -> Vec<SwitchHost> {
    let sight = view.sight();
    let members = view.inventory.members_of(switch).filter(|host| sight.sees(host.id));
    members.map(|host| show_host(view.inventory, switch, host)).collect()
}

async fn repair(call: Call<NetworkRepair>) -> Result<Page<SwitchHost>, Fault> {
    let named = call.body.switch.clone();
    let told = call
        .run(move |desk| {
            let switches = chosen(&desk.view(), named.as_deref())?;
            let mut told = Vec::new();
            for id in switches {
                let hosts = desk.inventory.switch_repair(id)?;
                told.extend(hosts.into_iter().map(|host| (id, host)));
            }
            Ok(told)
        })
        .await?;
    let shown = || {
        call.look(|view| {
            let host = |&(switch, host)| {
                let switch = view.inventory.switch(switch).ok()?;
                Some(show_host(view.inventory, switch, view.inventory.host(host).ok()?))
            };
            told.iter().filter_map(host).collect::<Vec<_>>()
        })
    };
    // Answers are no changes of the inventory, unless they are news: it is looked a few times.
    let mut left = REPAIR_MAX;
    let pause = Duration::from_millis(100);
    while left > Duration::ZERO && shown().iter().any(|it| it.state == SwitchSync::Waiting) {
        tokio::time::sleep(pause).await;
        left = left.saturating_sub(pause);
    }
    Ok(Page::whole(shown()))
}

/// The switch that is named, or all that the user may use.
fn chosen(view: &View<'_>, name: Option<&str>) -> Result<Vec<SwitchId>, Fault> {
    if let Some(name) = name {
        return Ok(vec![view.find_switch(name)?]);
    }
    view.authorize_root()?;
    Ok(view.inventory.switches().map(|switch| switch.id).collect())
}
