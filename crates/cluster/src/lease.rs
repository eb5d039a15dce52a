//! The rules of run leases: who may take one, who may run under one.
//!
//! The datastore decides which of two takers gets an epoch; these rules decide who may try. They
//! are shared by the host agent and the simulation, so that what is simulated is what runs.
//!
//! ```text
//!                       clean stop
//!        ┌────────────────────────────────────► Stopped ───┐
//!        │                                                 │ take, by a user only
//!     Running ◄────────────────────────────────────────────┤
//!        │  ▲                                              │
//!        │  └── take, when the old copy is gone            │
//!        └────────────────────────────────────► Abandoned ─┘ take
//!                   isolation, storage lost
//! ```
//!
//! **Invariants:** an epoch is never used twice; every take has the next epoch; HA never takes a
//! lease that was stopped cleanly.

use racknest_types::id::{ClusterId, HostId};

use crate::ha::StartFailure;
use crate::record::lease::{LeaseState, RunLease};
use crate::wire::VmSpec;

/// Why a lease is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody wants the VM to run: a user, or its own host that finds it not running.
    Start,
    /// HA restarts the VM, as seen under a lease of this epoch; whatever happened since is newer
    /// than the decision, which is void then.
    Restart {
        /// The epoch seen.
        after_epoch: u64,
    },
    /// The VM comes here alive from the holder of this epoch, which has stopped its copy for good.
    HandOver {
        /// The epoch of that holder.
        after_epoch: u64,
    },
}

/// Who takes a lease, and what he knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// The host.
    pub host: HostId,
    /// Its cluster, if it knows.
    pub cluster: Option<ClusterId>,
    /// Why.
    pub purpose: Purpose,
    /// Whether it was made sure that no old copy runs: no process has a disk of the VM open for
    /// writing, or, for a VM without disks, its holder has not beaten on the datastore for
    /// `lease_ms`. Only asked for where [`needs_proof`] says so.
    pub old_copy_gone: bool,
}

/// Whether a taker must make sure first that the old copy is gone: the lease is another host's,
/// which may run the VM still.
#[must_use]
pub fn needs_proof(current: Option<&RunLease>, by: HostId) -> bool {
    current.is_some_and(|lease| lease.holder != by && lease.state != LeaseState::Stopped)
}

/// The lease to write in place of the current one.
///
/// # Errors
/// [`StartFailure::LeaseTaken`]: what is there is not what was seen, or was stopped cleanly.
/// [`StartFailure::DiskInUse`]: the old copy may run still.
pub fn take(
    current: Option<&RunLease>,
    taker: Taker,
    spec: VmSpec,
) -> Result<RunLease, StartFailure> {
    let epoch = current.map_or(0, |lease| lease.epoch);
    match taker.purpose {
        Purpose::Start => {}
        Purpose::Restart { after_epoch } => {
            let stopped = current.is_some_and(|lease| lease.state == LeaseState::Stopped);
            if epoch != after_epoch || stopped {
                return Err(StartFailure::LeaseTaken);
            }
        }
        Purpose::HandOver { after_epoch } => {
            if epoch != after_epoch {
                return Err(StartFailure::LeaseTaken);
            }
        }
    }
    let handed_over = matches!(taker.purpose, Purpose::HandOver { .. });
    if needs_proof(current, taker.host) && !taker.old_copy_gone && !handed_over {
        return Err(StartFailure::DiskInUse);
    }
    let Some(epoch) = epoch.checked_add(1) else {
        return Err(StartFailure::Failed("the VM's lease has no epoch left".into()));
    };
    let (holder, cluster) = (taker.host, taker.cluster);
    Ok(RunLease { epoch, holder, cluster, state: LeaseState::Running, spec })
}

/// Whether a host may run the VM under this epoch, and write its lease: nobody has a newer one.
#[must_use]
pub fn may_write(current: Option<&RunLease>, by: HostId, epoch: u64) -> bool {
    current.is_some_and(|lease| lease.holder == by && lease.epoch == epoch)
}

/// The lease to write when its holder's copy has changed: stopped, abandoned, or of another spec.
/// `None` if the lease is not the holder's any more, which then has nothing to say; nor is a VM
/// abandoned that was stopped.
#[must_use]
pub fn changed(
    current: Option<&RunLease>,
    by: HostId,
    epoch: u64,
    state: LeaseState,
    spec: Option<VmSpec>,
) -> Option<RunLease> {
    let current = current.filter(|lease| may_write(Some(lease), by, epoch))?;
    // Whoever gives away a VM that has just been stopped cleanly would have it started again.
    if current.state == LeaseState::Stopped && state == LeaseState::Abandoned {
        return None;
    }
    let spec = spec.unwrap_or_else(|| current.spec.clone());
    Some(RunLease { state, spec, ..current.clone() })
}

#[cfg(test)]
mod tests;
