//! What others ask of the switch: its ports and cards, what would become of a frame, and copies of
//! what passes.

use std::sync::Arc;

use racknest_cluster::wire::switching::{
    CaptureRequest, FlowQuestion, FlowReport, SwitchReport, TraceAnswer, TraceQuestion,
};
use racknest_types::fault::Fault;
use tokio::sync::mpsc;

use super::Shared;
use super::tap::TapId;

/// Copies that wait for whoever watches; more are lost, and counted at the tap's port.
const COPIES_MAX: usize = 4_096;

/// A handle to a host's switch. Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Shared>);

/// Copies of what passes by a port. They end when it is dropped.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    id: TapId,
    copies: mpsc::Receiver<Vec<u8>>,
    bytes_max: usize,
}

impl Desk {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// The ports and the cards.
    #[must_use]
    pub fn report(&self) -> SwitchReport {
        self.0.panel().report(self.0.clock.millis())
    }

    /// Who talks to whom, most bytes first.
    #[must_use]
    pub fn flows(&self, question: FlowQuestion) -> Vec<FlowReport> {
        self.0.panel().flows(self.0.clock.millis(), question)
    }

    /// What would become of a frame. Nothing changes by it.
    ///
    /// # Errors
    /// The port is not there.
    pub fn trace(&self, question: &TraceQuestion) -> Result<TraceAnswer, Fault> {
        self.0.panel().trace(self.0.clock.millis(), question)
    }

    /// Has what passes by a port copied.
    ///
    /// # Errors
    /// The port is not there.
    pub fn tap(&self, request: &CaptureRequest) -> Result<Tap, Fault> {
        let (sender, copies) = mpsc::channel(COPIES_MAX);
        let id = self.0.panel().add_tap(self.0.clock.millis(), &request.end, sender)?;
        let bytes_max = request.bytes_max.and_then(|max| usize::try_from(max).ok());
        let bytes_max = bytes_max.unwrap_or(usize::MAX);
        Ok(Tap { shared: Arc::clone(&self.0), id, copies, bytes_max })
    }
}

impl Tap {
    /// The next copy, as much of it as is wanted, and how long the frame was. `None` when the switch
    /// is gone.
    pub async fn next(&mut self) -> Option<(Vec<u8>, usize)> {
        let mut copy = self.copies.recv().await?;
        let size = copy.len();
        copy.truncate(self.bytes_max);
        Some((copy, size))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.panel().remove_tap(&self.id);
    }
}
