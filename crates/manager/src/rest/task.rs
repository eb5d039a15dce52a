//! Tasks.

use std::time::Duration;

use racknest_api::page::Page;
use racknest_api::reference::Reference;
use racknest_api::v1::task::{
    DeployFailure, DeployProgress, MigrationFigures, Task, TaskCancel, TaskList, TaskShow,
    TaskState, WAIT_SECONDS_MAX,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::task::{
    Deploy, TaskRecord, TaskResult, TaskState as StateRecord, TaskWork,
};
use racknest_types::fault::Fault;
use racknest_types::id::TaskId;
use tokio::time::timeout;

use super::call::{Call, Desk, Sight, View, not_yours};
use super::convert::{Cut, time};
use super::remediation;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<TaskList, _>(list).on::<TaskShow, _>(show_one).on::<TaskCancel, _>(cancel)
}

/// A task that was begun a moment ago.
pub(super) fn begun(desk: &Desk<'_>, id: TaskId) -> Result<Task, Fault> {
    desk.inventory.task(id).map(show)
}

/// A task's record as JSON.
pub(super) fn show(task: &TaskRecord) -> Task {
    let (state, error) = match &task.state {
        StateRecord::Running => (TaskState::Running, None),
        StateRecord::Success => (TaskState::Success, None),
        StateRecord::Error(fault) => (TaskState::Error, Some(fault.clone())),
    };
    Task {
        id: task.id,
        operation: task.operation.clone(),
        target: Reference { id: task.target.to_string(), name: task.target_name.clone() },
        user: task.user.clone(),
        state,
        percent: task.percent,
        cancel_requested: task.cancel_requested,
        created: time(task.created),
        completed: task.completed.map(time),
        error,
        deploy: match &task.work {
            TaskWork::Deploy(deploy) => Some(progress(deploy)),
            TaskWork::Step
            | TaskWork::EnterMaintenance { .. }
            | TaskWork::ReturnVms { .. }
            | TaskWork::PowerOnHost { .. }
            | TaskWork::Remediate(_)
            | TaskWork::ChangeSwitch => None,
        },
        remediation: match &task.work {
            TaskWork::Remediate(work) => Some(remediation::progress(work)),
            TaskWork::Step
            | TaskWork::Deploy(_)
            | TaskWork::EnterMaintenance { .. }
            | TaskWork::ReturnVms { .. }
            | TaskWork::PowerOnHost { .. }
            | TaskWork::ChangeSwitch => None,
        },
        migration: task.result.map(|TaskResult::Migration(figures)| MigrationFigures {
            downtime_ms: figures.downtime_ms,
            total_ms: figures.total_ms,
            bytes: figures.bytes,
            rounds: figures.rounds,
        }),
    }
}

fn progress(deploy: &Deploy) -> DeployProgress {
    let failure = |(name, error): &(String, Fault)| DeployFailure {
        name: name.clone(),
        error: error.clone(),
    };
    DeployProgress {
        count: deploy.count,
        done: deploy.done,
        failed: deploy.failed,
        failures: deploy.failures.iter().map(failure).collect(),
        left_off: deploy.left_off,
    }
}

/// Whether a user sees a task: their own, and those on what they see.
pub(super) fn is_seen(task: &TaskRecord, user: &str, sight: &Sight<'_>) -> bool {
    task.user == user || sight.sees(EntityRef::Task(task.id))
}

async fn list(call: Call<TaskList>) -> Result<Page<Task>, Fault> {
    let query = &call.query;
    let cut = Cut::<TaskId>::new(query.limit, query.after.as_deref())?;
    call.look(|view| {
        let target = query.target.as_ref().map(|text| view.find_past(text)).transpose()?;
        let sight = view.sight();
        let tasks = view.inventory.tasks().rev().filter(|task| {
            target.is_none_or(|target| task.target == target)
                && query.state.is_none_or(|state| show_state(&task.state) == state)
                && query.user.as_ref().is_none_or(|user| task.user == *user)
                && is_seen(task, view.user, &sight)
        });
        Ok(cut.falling(tasks, |task| task.id, show))
    })
}

const fn show_state(state: &StateRecord) -> TaskState {
    match state {
        StateRecord::Running => TaskState::Running,
        StateRecord::Success => TaskState::Success,
        StateRecord::Error(_) => TaskState::Error,
    }
}

async fn show_one(call: Call<TaskShow>) -> Result<Task, Fault> {
    let id = call.look(|view| {
        let id = view.find_task(&call.name(0))?;
        check_seen(view, id).map(|()| id)
    })?;
    let wait = call.query.wait_seconds.unwrap_or(0);
    if wait > WAIT_SECONDS_MAX {
        return Err(Fault::invalid(format!(
            "wait_seconds={wait} is too long; wait {WAIT_SECONDS_MAX} at most, and again"
        )));
    }
    let core = &call.state.core;
    // Watched before it is looked at: an end in between is not missed.
    let mut changes = core.feed().watch();
    let ended = async {
        loop {
            let task = core.read(|inventory| inventory.task(id).map(show))?;
            if task.state != TaskState::Running || changes.next().await.is_none() {
                return Ok(task);
            }
        }
    };
    match timeout(Duration::from_secs(wait.into()), ended).await {
        Ok(task) => task,
        Err(_) => core.read(|inventory| inventory.task(id).map(show)),
    }
}

fn check_seen(view: &View<'_>, id: TaskId) -> Result<(), Fault> {
    if is_seen(view.inventory.task(id)?, view.user, &view.sight()) {
        return Ok(());
    }
    Err(not_yours(&id.to_string()))
}

async fn cancel(call: Call<TaskCancel>) -> Result<Task, Fault> {
    let task = call.name(0);
    call.run(move |desk| {
        let id = find_to_cancel(desk.inventory, &desk.view(), &task)?;
        desk.inventory.task_cancel(desk.now, id)?;
        begun(desk, id)
    })
    .await
}

/// One's own task can be cancelled without a privilege.
fn find_to_cancel(inventory: &Inventory, view: &View<'_>, text: &str) -> Result<TaskId, Fault> {
    let own = text.parse::<TaskId>().ok().and_then(|id| inventory.task(id).ok());
    match own.filter(|task| task.user == view.user) {
        Some(task) => Ok(task.id),
        None => view.find_task(text),
    }
}
