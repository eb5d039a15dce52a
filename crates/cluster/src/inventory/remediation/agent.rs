//! New agents: what the box is asked for, and what it says became of it.
//!
//! The box starts the new agent on trial and puts the old one back by itself unless it is told in time
//! to keep the new one: a manager that dies meanwhile leaves no host without an agent.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;

use crate::inventory::Inventory;
use crate::record::remediation::{HostWork, RemediationStep};
use crate::wire::VERSION;

/// A program that was put in place as an agent, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentProgram {
    /// The name under which it was put in place.
    pub name: String,
    /// Its racknest version.
    pub version: String,
    /// The version of the messages that it exchanges with managers.
    pub wire: u32,
}

/// What the box is to do with the agent of a host. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentOrder {
    /// Start this agent in place of the one that runs, on trial for so long.
    Try {
        /// The agent's name.
        agent: String,
        /// The trial, in milliseconds.
        limit_ms: u64,
    },
    /// Keep the agent that is on trial.
    Keep {
        /// The agent's name.
        agent: String,
    },
}

/// What the box says of the agent of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSeat {
    /// The name of the agent that it keeps running; empty for the box's own.
    pub agent: String,
    /// The agent whose trial it ended last by putting the old one back, and why.
    pub put_back: Option<(String, String)>,
}

/// The work of giving a host this agent.
///
/// # Errors
/// The agent and this manager would not understand each other.
pub fn agent_work(program: AgentProgram, limit_ms: u64) -> Result<HostWork, Fault> {
    let AgentProgram { name, version, wire } = program;
    if wire == VERSION {
        return Ok(HostWork::Agent { name, version, limit_ms });
    }
    let first = if wire > VERSION { "upgrade the manager first" } else { "it is too old" };
    Err(Fault::unsupported(format!(
        "agent '{name}' (racknest {version}): it speaks version {wire} of the messages between \
         manager and hosts, this manager version {VERSION}; {first}"
    )))
}

impl Inventory {
    /// What the box is to do now, by task and host. It stays here until it is answered.
    #[must_use]
    pub fn agent_orders(&self) -> Vec<(TaskId, HostId, AgentOrder)> {
        let mut orders = Vec::new();
        for task in self.running_remediations() {
            let Some(work) = self.remediation(task) else { continue };
            let HostWork::Agent { name, limit_ms, .. } = &work.work else { continue };
            for host in &work.hosts {
                let agent = name.clone();
                let order = match host.step {
                    RemediationStep::Switching(_) => AgentOrder::Try { agent, limit_ms: *limit_ms },
                    RemediationStep::Keeping => AgentOrder::Keep { agent },
                    RemediationStep::Waiting
                    | RemediationStep::Checking
                    | RemediationStep::Emptying(_)
                    | RemediationStep::Hook
                    | RemediationStep::Trial(_)
                    | RemediationStep::PutBack(_)
                    | RemediationStep::Settling
                    | RemediationStep::Filling(_)
                    | RemediationStep::Done
                    | RemediationStep::Failed(_) => continue,
                };
                orders.push((task, host.host, order));
            }
        }
        orders
    }

    /// The hosts whose agents are on trial: their seats are to be looked at.
    #[must_use]
    pub fn hosts_on_trial(&self) -> Vec<HostId> {
        let works = self.running_remediations().filter_map(|task| self.remediation(task));
        let on_trial = works.flat_map(|work| &work.hosts).filter(|host| {
            matches!(host.step, RemediationStep::Trial(_) | RemediationStep::Keeping)
        });
        on_trial.map(|host| host.host).collect()
    }

    /// The box has done what it was asked for, or could not.
    pub fn agent_ordered(
        &mut self,
        now: Timestamp,
        task: TaskId,
        host: HostId,
        order: &AgentOrder,
        result: Result<(), Fault>,
    ) {
        let Some(mut work) = self.remediation(task).cloned() else { return };
        let Some(at) = work.hosts.iter().position(|it| it.host == host) else { return };
        match (work.hosts[at].step.clone(), order, result) {
            (RemediationStep::Switching(boot), AgentOrder::Try { .. }, Ok(())) => {
                let told = "the new agent is on trial";
                self.note_step(now, task, (&mut work, at), RemediationStep::Trial(boot), told);
            }
            (RemediationStep::Switching(_), AgentOrder::Try { .. }, Err(fault)) => {
                self.fail_host(now, task, (&mut work, at), fault);
            }
            (RemediationStep::Keeping, AgentOrder::Keep { .. }, Ok(())) => {
                work.hosts[at].is_worked = true;
                let told = "the new agent is kept";
                self.note_step(now, task, (&mut work, at), RemediationStep::Settling, told);
            }
            // Why the box did not keep it shows in the seat; a box that did not answer is asked again.
            (_, AgentOrder::Try { .. } | AgentOrder::Keep { .. }, _) => return,
        }
        self.keep_remediation(task, work);
        self.advance_remediation(now, task);
    }

    /// How the box keeps the agent of a host that is on trial.
    pub fn agent_looked_at(&mut self, now: Timestamp, host: HostId, seat: &AgentSeat) {
        for task in self.running_remediations().collect::<Vec<_>>() {
            let Some(mut work) = self.remediation(task).cloned() else { continue };
            let HostWork::Agent { name, .. } = work.work.clone() else { continue };
            let Some(at) = work.hosts.iter().position(|it| it.host == host) else { continue };
            let on_trial =
                matches!(work.hosts[at].step, RemediationStep::Trial(_) | RemediationStep::Keeping);
            if !on_trial || seat.agent == name {
                continue;
            }
            let why = match &seat.put_back {
                Some((agent, why)) if *agent == name => why.clone(),
                Some(_) | None => "the box runs another".into(),
            };
            let told = format!("the old agent was put back: {why}");
            self.note_step(now, task, (&mut work, at), RemediationStep::PutBack(why), &told);
            self.keep_remediation(task, work);
            self.advance_remediation(now, task);
        }
    }
}
