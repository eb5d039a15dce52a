//! Remediation, and agents that are upgraded under their VMs.

use std::time::Duration;

use racknest_api::v1::remediation::{
    ClusterRemediate, HostUpgrade, PlannedHost as ShownHost, Remediate as Asked, RemediatedHost,
    Remediation, RemediationProgress, RemediationStep,
};
use racknest_api::v1::task::Task;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::remediation::{AgentProgram, PlannedHost, Remediate, agent_work};
use racknest_cluster::record::remediation as record;
use racknest_cluster::record::remediation::{HookExit, HostWork};
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId};

use super::call::{Call, View};
use super::convert::{count, reference, time};
use super::routes::Routes;
use super::task;
use crate::state::State;

/// The privilege to take hosts out of service, which a remediation does too.
const MAINTENANCE: &str = "Host.Config.Maintenance";

/// The longest that a hook may take, if nothing else is said.
const HOOK_LIMIT: Duration = Duration::from_mins(10);

/// The longest that a new agent may take to come up, if nothing else is said.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// The longest that a host may take to be back, if nothing else is said.
const RETURN_LIMIT: Duration = Duration::from_mins(2);

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<ClusterRemediate, _>(remediate).on::<HostUpgrade, _>(upgrade)
}

async fn remediate(call: Call<ClusterRemediate>) -> Result<Remediation, Fault> {
    // Who may not is not told what agents there are.
    call.look(|view| allowed(view, &call.name(0)))?;
    let asked = call.body.clone();
    let (name, resume, skip) = (call.name(0), asked.resume, asked.skip);
    if resume {
        check_resume(&asked)?;
        let work = move |desk: &mut super::call::Desk<'_>| {
            let id = allowed(&desk.view(), &name)?;
            let task = desk.inventory.cluster_remediate_resume(desk.now, desk.user, id, skip)?;
            task::begun(desk, task)
        };
        return call.run(work).await.map(begun);
    }
    let work = work(&call.state, &asked).await?;
    if asked.dry_run {
        return call.look(|view| {
            let id = allowed(view, &name)?;
            let wanted = wanted(view, work, &asked)?;
            let planned = view.inventory.remediation_plan(id, &wanted)?;
            let items = (1..).zip(&planned).map(|(at, it)| show_planned(view.inventory, at, it));
            Ok(Remediation { task: None, items: items.collect() })
        });
    }
    let work = move |desk: &mut super::call::Desk<'_>| {
        let id = allowed(&desk.view(), &name)?;
        let wanted = wanted(&desk.view(), work, &asked)?;
        let task = desk.inventory.cluster_remediate(desk.now, desk.user, id, wanted)?;
        task::begun(desk, task)
    };
    call.run(work).await.map(begun)
}

async fn upgrade(call: Call<HostUpgrade>) -> Result<Task, Fault> {
    let host = call.name(0);
    call.look(|view| view.find_host(&host).map(drop))?;
    let Some(agent) = &call.body.agent else {
        return Err(Fault::invalid("which agent? name one that was put in place"));
    };
    let limit = limit(call.body.limit_seconds, AGENT_LIMIT);
    let work = agent_work(program(&call.state, agent).await?, limit)?;
    call.run(move |desk| {
        let id = desk.view().find_host(&host)?;
        let task = desk.inventory.host_upgrade(desk.now, desk.user, id, work)?;
        task::begun(desk, task)
    })
    .await
}

fn begun(task: Task) -> Remediation {
    Remediation { task: Some(task), items: vec![] }
}

/// The cluster, if its hosts may be patched and taken out of service.
fn allowed(view: &View<'_>, name: &str) -> Result<ClusterId, Fault> {
    let id = view.find_cluster(name)?;
    view.authorize_as(MAINTENANCE, id)?;
    Ok(id)
}

fn check_resume(asked: &Asked) -> Result<(), Fault> {
    let rest = Asked { resume: false, skip: false, ..asked.clone() };
    if rest == Asked::default() {
        return Ok(());
    }
    Err(Fault::invalid("resume goes on as it was begun: say nothing else but skip with it"))
}

/// What is to be done, with the agent looked up.
async fn work(state: &State, asked: &Asked) -> Result<HostWork, Fault> {
    if asked.skip {
        return Err(Fault::invalid("skip belongs to resume"));
    }
    match (&asked.hook, &asked.agent) {
        (Some(name), None) => {
            let limit_ms = limit(asked.limit_seconds, HOOK_LIMIT);
            Ok(HostWork::Hook { name: name.clone(), limit_ms })
        }
        (None, Some(agent)) => {
            let limit = limit(asked.limit_seconds, AGENT_LIMIT);
            agent_work(program(state, agent).await?, limit)
        }
        (None, None) | (Some(_), Some(_)) => Err(Fault::invalid(
            "what is to be done to the hosts? name a hook or an agent, not both",
        )),
    }
}

async fn program(state: &State, agent: &str) -> Result<AgentProgram, Fault> {
    let name = agent.parse().map_err(|_| {
        Fault::invalid(format!(
            "'{agent}' is no agent that was put in place; see `racknest host upgrade --help`"
        ))
    })?;
    let staged = state.cables.staged_program(&name).await?;
    let (version, wire) = (staged.about.version, staged.about.wire);
    Ok(AgentProgram { name: staged.name.as_str().to_owned(), version, wire })
}

fn limit(seconds: Option<u32>, default: Duration) -> u64 {
    let limit = seconds.map_or(default, |seconds| Duration::from_secs(seconds.into()));
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

fn wanted(view: &View<'_>, work: HostWork, asked: &Asked) -> Result<Remediate, Fault> {
    let hosts = asked.hosts.iter().map(|name| view.find_host(name));
    Ok(Remediate {
        hosts: hosts.collect::<Result<Vec<HostId>, _>>()?,
        work,
        evacuates: true,
        at_once: asked.at_once.unwrap_or(1),
        ignore_admission: asked.ignore_admission,
        return_ms: limit(asked.return_seconds, RETURN_LIMIT),
    })
}

fn show_planned(inventory: &Inventory, place: u32, planned: &PlannedHost) -> ShownHost {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    ShownHost {
        place,
        host: reference(inventory, planned.host),
        vms_powered_on: number(planned.vms.0),
        vms_powered_off: number(planned.vms.1),
        is_primary: planned.is_primary,
        in_maintenance: planned.stays,
        is_done: planned.is_done,
        blocked: planned.blocked.as_ref().map(|fault| fault.message.clone()),
    }
}

/// How far a remediation is.
pub(super) fn progress(work: &record::Remediation) -> RemediationProgress {
    let is_done = |host: &&record::RemediatedHost| host.step == record::RemediationStep::Done;
    RemediationProgress {
        host_count: count(work.hosts.iter()),
        done: count(work.hosts.iter().filter(is_done)),
        hosts: work.hosts.iter().map(show_host).collect(),
    }
}

fn show_host(host: &record::RemediatedHost) -> RemediatedHost {
    use record::RemediationStep as Step;

    let step = match host.step {
        Step::Waiting => RemediationStep::Waiting,
        Step::Checking => RemediationStep::Checking,
        Step::Emptying(_) => RemediationStep::Emptying,
        Step::Hook | Step::Switching(_) => RemediationStep::Working,
        Step::Trial(_) | Step::Keeping => RemediationStep::OnTrial,
        Step::PutBack(_) => RemediationStep::PutBack,
        Step::Settling => RemediationStep::Settling,
        Step::Filling(_) => RemediationStep::Filling,
        Step::Done => RemediationStep::Done,
        Step::Failed(_) => RemediationStep::Failed,
    };
    RemediatedHost {
        host: racknest_api::reference::Reference { id: host.host, name: host.name.clone() },
        step,
        since: time(host.since),
        exit_code: host.hook.as_ref().and_then(|end| match end.exit {
            HookExit::Code(code) => Some(code),
            HookExit::TimedOut | HookExit::Unknown => None,
        }),
        output: host.hook.as_ref().map(|end| end.output.clone()),
        error: if let Step::Failed(fault) = &host.step { Some(fault.clone()) } else { None },
    }
}
