//! The hooks that the manager has ordered: each is carried out beside the agent's loop.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use racknest_cluster::wire::FromHost;
use racknest_cluster::wire::hook::HookOrder;
use racknest_types::id::TaskId;

use super::Running;
use crate::hook::Hooks;

/// Hooks under way.
pub(super) struct HookDesk {
    hooks: Hooks,
    under_way: BTreeSet<(TaskId, bool)>,
    answers: FuturesUnordered<Running<((TaskId, bool), FromHost)>>,
}

impl HookDesk {
    pub(super) fn new(hooks: Hooks) -> Self {
        Self { hooks, under_way: BTreeSet::new(), answers: FuturesUnordered::new() }
    }

    /// Takes an order in. One that is being carried out is answered once, by its end.
    pub(super) fn take(&mut self, order: HookOrder) {
        let key = (order.task, order.is_check);
        if !self.under_way.insert(key) {
            return;
        }
        let hooks = self.hooks.clone();
        self.answers.push(Box::pin(async move {
            let task = order.task;
            (key, FromHost::Hook { task, answer: hooks.carry_out(order).await })
        }));
    }

    /// The next answer. May be dropped and called again.
    pub(super) async fn answer(&mut self) -> FromHost {
        match self.answers.next().await {
            Some((key, answer)) => {
                self.under_way.remove(&key);
                answer
            }
            None => std::future::pending().await,
        }
    }
}
