//! A task ends once, and in the end every task has ended, whatever became of manager and hosts.

use std::collections::BTreeMap;

use racknest_cluster::record::task::TaskState;
use racknest_types::id::TaskId;

use super::Invariant;
use crate::fact::{Fact, TaskFate};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct TaskEndsOnce {
    ended: BTreeMap<TaskId, TaskFate>,
}

impl Invariant for TaskEndsOnce {
    fn name(&self) -> &'static str {
        "task_ends_once"
    }

    fn observe(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        let Fact::TaskSaved { task, fate } = *fact else { return Ok(()) };
        match (self.ended.get(&task).copied(), fate) {
            (_, TaskFate::Dropped) | (None, TaskFate::Running) => Ok(()),
            (None, TaskFate::Success | TaskFate::Error) => {
                self.ended.insert(task, fate);
                Ok(())
            }
            (Some(before), _) if before == fate => Ok(()),
            (Some(before), _) => Err(format!("{task} ended in {before:?} and is {fate:?} then")),
        }
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        let Some(inventory) = &world.manager.inventory else { return Ok(()) };
        match inventory.tasks().find(|task| task.state == TaskState::Running) {
            Some(task) => {
                let waits = inventory.vms().filter_map(|vm| Some((vm.id, vm.pending.as_ref()?)));
                let waits = waits.filter(|(_, pending)| pending.task == task.id);
                Err(format!(
                    "{} ({} on {}) never ended: {:?}, and waits for {:?}",
                    task.id,
                    task.operation,
                    task.target_name,
                    task.work,
                    waits.collect::<Vec<_>>()
                ))
            }
            None => Ok(()),
        }
    }
}
