//! The way from this host to its datastores, as everything of the host's own must go it.
//!
//! In a box the datastores are directories, which no cut cable can keep an agent from. So the
//! underlay tells what the cable of the host's storage adapter is like, and the host makes it true:
//! whoever lists a datastore, takes a lease, writes a heartbeat or starts a VM asks here first, and
//! the driver has the disks of running guests stand still.
//!
//! ```text
//! Connected ── cut ──► AllPathsDown: requests wait, then fail with a fault that says so
//!     ▲                     │
//!     └────── restored ─────┴── lost ──► DeviceLost: requests fail at once
//! ```
//!
//! **Invariant:** nothing of this host touches a datastore but with a [`StoragePath::check`] or
//! [`StoragePath::ready`] right before it.

use std::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
pub use racknest_underlay::StorageState;
use tokio::sync::watch;

/// How long a request waits for storage whose paths are down before it fails. vSphere waits 140 s;
/// a user at a drill shall see the fault while he looks.
pub const APD_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the datastores. Clones are the same way.
///
/// ```
/// use racknest_host::storage_path::{StoragePath, StorageState};
///
/// let (cable, path) = StoragePath::new(StorageState::Connected);
/// assert!(path.check().is_ok());
/// cable.send_replace(StorageState::DeviceLost);
/// assert!(path.check().is_err());
/// ```
#[derive(Clone, Debug)]
pub struct StoragePath {
    state: watch::Receiver<StorageState>,
}

impl StoragePath {
    /// A way in this state, and its cable.
    #[must_use]
    pub fn new(state: StorageState) -> (watch::Sender<StorageState>, Self) {
        let (cable, state) = watch::channel(state);
        (cable, Self { state })
    }

    /// A way that is always there: for tests and for hosts without a cable.
    #[must_use]
    pub fn connected() -> Self {
        // Without its sender the state stays as it is.
        Self::new(StorageState::Connected).1
    }

    /// The way that the underlay tells of.
    #[must_use]
    pub const fn told_by(state: watch::Receiver<StorageState>) -> Self {
        Self { state }
    }

    /// What the cable is like.
    #[must_use]
    pub fn state(&self) -> StorageState {
        *self.state.borrow()
    }

    /// News of the cable.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StorageState> {
        self.state.clone()
    }

    /// Whether storage can be used now. For what is done again and again (heartbeats, leases) and
    /// must not wait, and for work on the disk that began after [`StoragePath::ready`].
    ///
    /// # Errors
    /// All paths are down, or the device is lost.
    pub fn check(&self) -> Result<(), Fault> {
        fault_of(self.state()).map_or(Ok(()), Err)
    }

    /// Waits until storage can be used, for [`APD_TIMEOUT`] at most.
    ///
    /// # Errors
    /// All paths were down all the time, or the device is lost.
    pub async fn ready(&self) -> Result<(), Fault> {
        self.ready_within(APD_TIMEOUT).await
    }

    /// Waits until storage can be used, for this long at most.
    ///
    /// # Errors
    /// As for [`StoragePath::ready`].
    pub async fn ready_within(&self, patience: Duration) -> Result<(), Fault> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| *state != StorageState::AllPathsDown);
        // Without a sender nothing changes any more, and the state that stays decides.
        drop(tokio::time::timeout(patience, decided).await);
        self.check()
    }

    /// Returns once the device is lost, or the paths have been down for this long without a break.
    pub async fn failed_for(&self, grace: Duration) -> StorageState {
        let mut state = self.state.clone();
        loop {
            if let Ok(lost) = state.wait_for(|state| *state != StorageState::Connected).await {
                if *lost == StorageState::DeviceLost {
                    return StorageState::DeviceLost;
                }
            } else {
                std::future::pending::<()>().await;
            }
            let changed = state.wait_for(|state| *state != StorageState::AllPathsDown);
            if tokio::time::timeout(grace, changed).await.is_err() {
                return StorageState::AllPathsDown;
            }
        }
    }
}

fn fault_of(state: StorageState) -> Option<Fault> {
    let message = match state {
        StorageState::Connected => return None,
        StorageState::AllPathsDown => {
            "the host has no path to its datastores (APD); restore vmhba0, or wait"
        }
        StorageState::DeviceLost => "the host's datastores are gone for good (PDL); restore vmhba0",
    };
    Some(Fault::new(FaultCode::InaccessibleDatastore, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_cable() {
        let (cable, path) = StoragePath::new(StorageState::AllPathsDown);
        let waiting = path.clone();
        let request = tokio::spawn(async move { waiting.ready().await });
        tokio::task::yield_now().await;
        cable.send_replace(StorageState::Connected);
        assert_eq!(request.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waited_in_vain_is_told_why() {
        let (cable, path) = StoragePath::new(StorageState::AllPathsDown);
        let fault = path.ready().await.unwrap_err();
        assert_eq!(fault.code, FaultCode::InaccessibleDatastore);
        assert!(fault.message.contains("APD"), "{fault}");
        cable.send_replace(StorageState::DeviceLost);
        assert!(path.ready().await.unwrap_err().message.contains("PDL"));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_failure_without_a_break_counts() {
        let grace = Duration::from_secs(5);
        let (cable, path) = StoragePath::new(StorageState::AllPathsDown);
        let watching = path.clone();
        let mut failed = tokio::spawn(async move { watching.failed_for(grace).await });
        tokio::time::advance(Duration::from_secs(4)).await;
        cable.send_replace(StorageState::Connected);
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::timeout(Duration::ZERO, &mut failed).await.unwrap_err();
        cable.send_replace(StorageState::AllPathsDown);
        assert_eq!(failed.await.unwrap(), StorageState::AllPathsDown);
        cable.send_replace(StorageState::DeviceLost);
        assert_eq!(path.failed_for(grace).await, StorageState::DeviceLost);
    }
}
