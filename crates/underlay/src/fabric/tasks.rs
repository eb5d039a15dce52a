//! The tasks of a fabric, so that all of them end with it.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are stopped together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs something until it ends or everything is stopped.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// A part that can be stopped alone, and is stopped with the whole.
    pub(crate) fn part(&self) -> Self {
        Self { tracker: self.tracker.clone(), stop: self.stop.child_token() }
    }

    /// Asks all to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all have stopped.
    pub(crate) async fn wait_stopped(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
