//! Switches the power of hosts that go to standby, or are woken, as the inventory wants it.
//!
//! What is wanted is asked again and again, so that nothing is lost with a manager that dies between
//! the wish and the deed. A host that is no machine of this box has no outlet here: that is told, and
//! the host is taken to be on.

use std::time::Duration;

use racknest_cluster::inventory::standby::PowerWish;
use racknest_types::fault::Fault;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::state::State;

/// How often it is asked.
const TICK: Duration = Duration::from_millis(500);

/// Switches until it is dropped.
pub(crate) async fn run(state: State) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::now();
        let (wishes, are_late) = state
            .core
            .read(|inventory| (inventory.power_wanted(now), inventory.has_late_hosts(now)));
        for wish in wishes {
            if let Err(fault) = switch(&state, &wish).await {
                tracing::warn!(host = wish.name, on = wish.on, %fault, "cannot switch its power");
                note(&state, &wish, fault).await;
            }
        }
        if are_late {
            let given_up = state.core.run(|inventory, now| {
                inventory.judge_woken_hosts(now);
                Ok(())
            });
            if let Err(fault) = given_up.await {
                tracing::warn!(%fault, "hosts that were woken were not judged");
            }
        }
    }
}

async fn switch(state: &State, wish: &PowerWish) -> Result<(), Fault> {
    let machine = wish.name.parse();
    let machine = machine
        .map_err(|error| Fault::invalid(format!("host '{}' has no outlet: {error}", wish.name)))?;
    match wish.on {
        true => state.cables.power_on(&machine).await,
        false => state.cables.power_off(&machine).await,
    }
}

async fn note(state: &State, wish: &PowerWish, fault: Fault) {
    let host = wish.host;
    let noted = state.core.run(move |inventory, now| {
        inventory.power_failed(now, host, &fault);
        Ok(())
    });
    if let Err(fault) = noted.await {
        tracing::warn!(%fault, "that power cannot be switched was not noted");
    }
}
