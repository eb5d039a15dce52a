//! Hooks: asked of a host when its turn comes, and again whenever it connects, until it answers.

use alloc::format;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;

use crate::inventory::Inventory;
use crate::record::remediation::{HostWork, RemediationStep};
use crate::wire::ToHost;
use crate::wire::hook::{HookAnswer, HookOrder};

impl Inventory {
    /// Asks a host once more for the hooks that it has not answered for.
    pub(in crate::inventory) fn repeat_hooks(&mut self, host: HostId) {
        let tasks = self.running_remediations().collect::<alloc::vec::Vec<_>>();
        for task in tasks {
            self.send_hook(task, host);
        }
    }

    /// Asks a host for what its step waits for, if that is a hook.
    pub(super) fn send_hook(&mut self, task: TaskId, host: HostId) {
        let Some(work) = self.remediation(task) else { return };
        let HostWork::Hook { name, limit_ms } = &work.work else { return };
        let Some(of) = work.hosts.iter().find(|it| it.host == host) else { return };
        let is_check = of.step == RemediationStep::Checking;
        if !is_check && of.step != RemediationStep::Hook {
            return;
        }
        let task = of.run.unwrap_or(task);
        let order = HookOrder { task, name: name.clone(), limit_ms: *limit_ms, is_check };
        if self.is_connected(host) {
            self.send(host, ToHost::Hook(order));
        }
    }

    pub(in crate::inventory) fn handle_hook_answer(
        &mut self,
        now: Timestamp,
        host: HostId,
        task: TaskId,
        answer: HookAnswer,
    ) {
        let Some((task, at)) = self.ordered_hook(host, task) else { return };
        let Some(mut work) = self.remediation(task).cloned() else { return };
        let HostWork::Hook { name, .. } = &work.work else { return };
        let name = name.clone();
        let step = work.hosts[at].step.clone();
        match (step, answer) {
            (RemediationStep::Checking, HookAnswer::Ready) => {
                self.empty_host(now, task, &mut work, at);
            }
            (RemediationStep::Checking | RemediationStep::Hook, HookAnswer::Refused(fault)) => {
                self.fail_host(now, task, (&mut work, at), fault);
            }
            (RemediationStep::Hook, HookAnswer::Ended(end)) => {
                let told = format!("hook '{name}' {}", end.told());
                let is_success = end.is_success();
                work.hosts[at].hook = Some(end);
                if is_success {
                    work.hosts[at].is_worked = true;
                    self.note_step(now, task, (&mut work, at), RemediationStep::Settling, &told);
                } else {
                    let fault = Fault::system(told);
                    self.fail_host(now, task, (&mut work, at), fault);
                }
            }
            // An answer to an order of an earlier step, sent twice.
            (_, HookAnswer::Ready | HookAnswer::Ended(_) | HookAnswer::Refused(_)) => return,
        }
        self.keep_remediation(task, work);
        self.advance_remediation(now, task);
    }

    /// The remediation that runs, and the place of a host there, whose hook was ordered under a task.
    fn ordered_hook(&self, host: HostId, ordered: TaskId) -> Option<(TaskId, usize)> {
        self.running_remediations().find_map(|task| {
            let mut hosts = self.remediation(task)?.hosts.iter();
            let at = hosts.position(|it| it.host == host && it.run.unwrap_or(task) == ordered)?;
            Some((task, at))
        })
    }
}
