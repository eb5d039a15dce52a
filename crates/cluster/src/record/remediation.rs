//! Remediation: the hosts of a cluster are worked on, some at a time, and what has become of each.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, TaskId};
use racknest_types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The most lines of a hook's output that are kept: its last.
pub const HOOK_LINES_MAX: usize = 20;

/// The most bytes of a hook's output that are kept.
pub const HOOK_OUTPUT_MAX: usize = 4096;

/// A remediation: all that is needed to carry on after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// The cluster.
    pub cluster: ClusterId,
    /// What is done to each host.
    pub work: HostWork,
    /// Whether each host is emptied before; else the work is done under its running VMs.
    pub evacuates: bool,
    /// The most hosts that are under way at once.
    pub at_once: u16,
    /// Whether hosts are taken out though less is kept free for failures then than should be.
    pub ignore_admission: bool,
    /// How long a host may take to be back after the work, in milliseconds.
    pub return_ms: u64,
    /// The hosts, in the order in which they are begun.
    pub hosts: Vec<RemediatedHost>,
    /// Why no more host is begun; the task ends with this once none is under way.
    pub stopped: Option<Fault>,
}

/// What is done to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostWork {
    /// Its agent runs a command of the machine's owner, once.
    Hook {
        /// The name of the command in the host's directory of hooks.
        name: String,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
    /// It gets another agent.
    Agent {
        /// The name under which the agent was put in place.
        name: String,
        /// Its racknest version.
        version: String,
        /// How long it may take to come up, in milliseconds, before the old one is put back.
        limit_ms: u64,
    },
}

/// A host of a remediation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemediatedHost {
    /// The host.
    pub host: HostId,
    /// Its name when the remediation began.
    pub name: String,
    /// Where it stands.
    pub step: RemediationStep,
    /// Since when.
    pub since: Timestamp,
    /// Whether it was in maintenance before; then it stays there.
    pub stays: bool,
    /// Whether the work on it is done.
    pub is_worked: bool,
    /// The task under which its hook was ordered: it runs once for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<TaskId>,
    /// How its hook ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookEnd>,
}

/// Where a host of a remediation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemediationStep {
    /// It has not begun.
    Waiting,
    /// It was asked whether it has the hook.
    Checking,
    /// It is emptied, by this task.
    Emptying(TaskId),
    /// Its hook runs, or has run unheard.
    Hook,
    /// The box was asked to start the new agent in the place of the one with this boot number.
    Switching(u64),
    /// The new agent is on trial, in the place of the one with this boot number.
    Trial(u64),
    /// The new agent is up, and the box is told to keep it.
    Keeping,
    /// The old agent was put back, for this reason.
    PutBack(String),
    /// The work is done; it is not yet connected and healthy.
    Settling,
    /// Its VMs return, by this task if there are any.
    Filling(TaskId),
    /// All of it is done.
    Done,
    /// Not done, and why.
    Failed(Fault),
}

impl RemediationStep {
    /// Whether nothing more happens to the host.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Done | Self::Failed(_) => true,
            Self::Waiting
            | Self::Checking
            | Self::Emptying(_)
            | Self::Hook
            | Self::Switching(_)
            | Self::Trial(_)
            | Self::Keeping
            | Self::PutBack(_)
            | Self::Settling
            | Self::Filling(_) => false,
        }
    }

    /// How much of the host's way is behind it, in per cent.
    #[must_use]
    pub const fn percent(&self) -> u64 {
        match self {
            Self::Waiting => 0,
            Self::Checking => 5,
            Self::Emptying(_) => 10,
            Self::Hook | Self::Switching(_) => 40,
            Self::Trial(_) | Self::PutBack(_) => 50,
            Self::Keeping => 60,
            Self::Settling => 70,
            Self::Filling(_) => 80,
            Self::Done | Self::Failed(_) => 100,
        }
    }
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEnd {
    /// How.
    pub exit: HookExit,
    /// The last lines of what it printed.
    pub output: String,
}

/// How the process of a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookExit {
    /// With this exit code.
    Code(u8),
    /// It took longer than it may, and was killed.
    TimedOut,
    /// It was begun, and nobody saw how it ended.
    Unknown,
}

impl HookEnd {
    /// Whether the hook did what it should.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.exit, HookExit::Code(0))
    }

    /// How it ended, with the last line it printed.
    #[must_use]
    pub fn told(&self) -> String {
        let how = match self.exit {
            HookExit::Code(code) => format!("ended with exit code {code}"),
            HookExit::TimedOut => "took too long and was killed".into(),
            HookExit::Unknown => "was begun and nobody saw its end".into(),
        };
        match self.output.lines().rfind(|line| !line.trim().is_empty()) {
            Some(last) => format!("{how}: {}", last.trim()),
            None => how,
        }
    }
}
