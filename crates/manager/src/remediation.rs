//! Drives remediations on: when something has changed, when time has passed, and at the box.
//!
//! What follows from what is decided in [`racknest_cluster::inventory::remediation`]. Here is the clock,
//! and the desk of the box, which is asked for what the inventory has saved that it wants.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use racknest_cluster::inventory::remediation::{AgentOrder, AgentSeat};
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use tokio::time::{MissedTickBehavior, interval};

use crate::core::feed::Watcher;
use crate::state::State;

/// How often it is looked though nothing has changed: limits are in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Follows the inventory until it is dropped, or the core ends.
pub(crate) async fn run(state: State) {
    let mut changes = state.core.feed().watch();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            is_there = is_concerned(&mut changes) => if !is_there { return },
        }
        if !state.core.read(|inventory| inventory.has_remediations()) {
            continue;
        }
        let advanced = state.core.run(|inventory, now| {
            inventory.advance_remediations(now);
            Ok(())
        });
        if let Err(fault) = advanced.await {
            tracing::warn!(%fault, "remediations were not driven on");
            continue;
        }
        // Saved by now: the box may be asked.
        carry_out(&state).await;
        look(&state).await;
    }
}

/// Waits until a host or a task has changed; says whether the core is still there.
async fn is_concerned(changes: &mut Watcher) -> bool {
    while let Some(next) = changes.next().await {
        let concerns = next.as_ref().map_or(true, |changes| {
            changes.iter().any(|it| matches!(it.entity, EntityRef::Host(_) | EntityRef::Task(_)))
        });
        if concerns {
            return true;
        }
    }
    false
}

/// Has the box do what it is to do, for all hosts at once.
async fn carry_out(state: &State) {
    let orders = state.core.read(|inventory| {
        let named = |(task, host, order): (TaskId, HostId, AgentOrder)| {
            let name = inventory.host(host).map(|host| host.name.clone()).unwrap_or_default();
            (task, host, name, order)
        };
        inventory.agent_orders().into_iter().map(named).collect::<Vec<_>>()
    });
    let each = orders.into_iter().map(|(task, host, name, order)| async move {
        let result = carry_out_one(state, &name, &order).await;
        let noted = state.core.run(move |inventory, now| {
            inventory.agent_ordered(now, task, host, &order, result);
            Ok(())
        });
        if let Err(fault) = noted.await {
            tracing::warn!(%fault, "what the box did was not noted; it is asked again");
        }
    });
    join_all(each).await;
}

async fn carry_out_one(state: &State, host: &str, order: &AgentOrder) -> Result<(), Fault> {
    let machine = host.parse().map_err(unnamed)?;
    match order {
        AgentOrder::Try { agent, limit_ms } => {
            let (agent, limit) =
                (agent.parse().map_err(unnamed)?, Duration::from_millis(*limit_ms));
            state.cables.try_program(&machine, &agent, limit).await
        }
        AgentOrder::Keep { agent } => {
            state.cables.keep_program(&machine, &agent.parse().map_err(unnamed)?).await
        }
    }
}

/// Tells the inventory how the box keeps the agents that are on trial.
async fn look(state: &State) {
    let hosts: BTreeMap<String, HostId> = state.core.read(|inventory| {
        let on_trial = inventory.hosts_on_trial().into_iter();
        let named = on_trial.filter_map(|id| Some((inventory.host(id).ok()?.name.clone(), id)));
        named.collect()
    });
    if hosts.is_empty() {
        return;
    }
    // A box that does not answer is looked at again.
    let Ok(outlets) = state.cables.power().await else { return };
    let seats = outlets.into_iter().filter_map(|outlet| {
        let host = *hosts.get(outlet.machine.as_str())?;
        let agent = outlet.program.map(String::from).unwrap_or_default();
        let put_back = outlet.put_back.map(|it| (String::from(it.program), it.why));
        Some((host, AgentSeat { agent, put_back }))
    });
    let seats: Vec<_> = seats.collect();
    let noted = state.core.run(move |inventory, now| {
        for (host, seat) in &seats {
            inventory.agent_looked_at(now, *host, seat);
        }
        Ok(())
    });
    if let Err(fault) = noted.await {
        tracing::warn!(%fault, "how the box keeps its agents was not noted");
    }
}

fn unnamed(error: racknest_underlay::wire::ParseNameError) -> Fault {
    Fault::invalid(error.to_string())
}
