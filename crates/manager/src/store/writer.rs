//! The thread that writes records, and the door to it for async code.
//!
//! While one transaction waits for the disk, the changes that arrive wait together and go out in
//! the next: a hundred commands at once cost two or three fdatasyncs, and one command alone waits
//! for nobody.
//!
//! **Invariant:** changes are written in the order in which they were handed over. After a failed
//! write nothing more is written until the records were loaded again: what came later was built on
//! what was lost.

use std::thread;

use racknest_cluster::record::Record;
use racknest_types::fault::Fault;
use tokio::sync::{mpsc, oneshot};

use super::Revision;
use super::records::{Records, Saved};

/// Changes that go into one transaction at most, so that the first to wait is not kept too long.
const CHANGES_MAX: usize = 10_000;

/// Hands records to the thread that writes them. Clones share the thread; it ends with the last.
#[derive(Clone, Debug)]
pub struct RecordWriter {
    requests: mpsc::UnboundedSender<Request>,
}

/// A write under way. Await it for its revision; it is done whether somebody waits or not.
#[derive(Debug)]
pub struct Saving {
    answer: oneshot::Receiver<Result<Revision, Fault>>,
}

#[derive(Debug)]
enum Request {
    Save(Vec<Saved>, oneshot::Sender<Result<Revision, Fault>>),
    Load(oneshot::Sender<Result<Vec<Record>, Fault>>),
}

impl RecordWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(records: Records) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::unbounded_channel();
        let work = || Writing { records, failed: None }.run(inbox);
        thread::Builder::new().name("store".to_owned()).spawn(work)?;
        Ok(Self { requests })
    }

    /// Hands changes over, in order, without waiting for them to be on disk.
    ///
    /// The queue has no limit of its own: whoever hands over waits for answers before it takes in
    /// more commands.
    #[must_use]
    pub fn begin_save(&self, changes: Vec<Saved>) -> Saving {
        let (sender, answer) = oneshot::channel();
        // If the thread is gone so is `sender`, and that is what the answer will say.
        let _ = self.requests.send(Request::Save(changes, sender));
        Saving { answer }
    }

    /// Saves changes; on return they are on disk.
    ///
    /// # Errors
    /// They could not be written. Every later save fails as well, until [`Self::load`].
    pub async fn save(&self, changes: Vec<Saved>) -> Result<Revision, Fault> {
        self.begin_save(changes).finish().await
    }

    /// Every record that is saved, and an end to the refusals after a failed save.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self) -> Result<Vec<Record>, Fault> {
        let (sender, answer) = oneshot::channel();
        let _ = self.requests.send(Request::Load(sender));
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Saving {
    /// Waits until the changes are on disk.
    ///
    /// # Errors
    /// They could not be written.
    pub async fn finish(self) -> Result<Revision, Fault> {
        self.answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> Fault {
    Fault::system("the store is closed: the manager is stopping")
}

/// The thread's own.
struct Writing {
    records: Records,
    /// Why nothing is written any more.
    failed: Option<Fault>,
}

impl Writing {
    fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        let mut next = inbox.blocking_recv();
        while let Some(request) = next.take() {
            match request {
                Request::Load(answer) => {
                    let loaded = self.records.load();
                    if loaded.is_ok() {
                        self.failed = None;
                    }
                    // Whoever asked may have gone.
                    let _ = answer.send(loaded);
                }
                Request::Save(changes, answer) => {
                    next = self.save_with_waiting(changes, answer, &mut inbox);
                }
            }
            next = next.or_else(|| inbox.blocking_recv());
        }
    }

    /// Saves these changes, and those of the requests that wait behind them. Returns the request
    /// that could not come along.
    fn save_with_waiting(
        &mut self,
        mut changes: Vec<Saved>,
        answer: oneshot::Sender<Result<Revision, Fault>>,
        inbox: &mut mpsc::UnboundedReceiver<Request>,
    ) -> Option<Request> {
        let mut answers = vec![answer];
        let mut left_over = None;
        while changes.len() < CHANGES_MAX {
            match inbox.try_recv() {
                Ok(Request::Save(more, answer)) => {
                    changes.extend(more);
                    answers.push(answer);
                }
                Ok(other @ Request::Load(_)) => {
                    left_over = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let result = match &self.failed {
            Some(fault) => Err(fault.clone()),
            None => self.records.save(&changes),
        };
        if let Err(fault) = &result {
            self.failed = Some(fault.clone());
        }
        for answer in answers {
            let _ = answer.send(result.clone());
        }
        left_over
    }
}

#[cfg(test)]
mod tests;
