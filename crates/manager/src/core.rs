//! The one writer: commands and host messages in, saved changes out.
//!
//! ```text
//!  REST, SOAP ─command─►┌───────┐ 1 apply a batch    ┌───────────┐
//!  host links ─message─►│ queue ├──────────────────► │ inventory │ (RwLock: readers beside it)
//!                       └───────┘                    └─────┬─────┘
//!        2 one transaction, one fdatasync ◄────── changes ─┤
//!        3 publish the changes, answer the callers         │
//!        4 send to the hosts ◄─────────────────── actions ─┘
//! ```
//!
//! It is a thread of its own, because a commit blocks for as long as the disk takes (3 ms here).
//! What arrives meanwhile is the next batch: one caller alone waits for one fdatasync, a hundred at
//! once wait for two. Save, then act: a host is never asked for something that a restarted manager
//! would not know of.
//!
//! **Readers do not wait for the disk.** [`Core::read`] sees a batch from the moment it is applied,
//! up to one fdatasync before it is safe. A crash in that moment can take back what a reader saw,
//! never what a caller was told or a host was asked for.
//!
//! **A failed save loses nothing but the batch.** Memory is ahead of the disk then, so it is thrown
//! away and read again from the store, every caller of the batch gets the fault, and every host is
//! connected to anew, because its messages may have been in the batch.
//!
//! **Invariant:** what a caller was answered, what was published and what a host was sent is on
//! disk.

pub mod feed;
mod writer;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::wire::{FromHost, ToHost};
use racknest_types::fault::Fault;
use racknest_types::id::HostId;
use racknest_types::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use self::feed::ChangeFeed;
use self::writer::Writer;
use crate::store::records::Records;

/// Messages that wait to be applied; who sends more waits too.
const QUEUE_MAX: usize = 16 * 1024;

/// The way to the inventory, for everything that asks or tells. Clones share it.
#[derive(Clone, Debug)]
pub struct Core {
    queue: mpsc::Sender<Message>,
    /// Written by the core's thread alone, while it applies a batch; nothing awaits while it holds
    /// or waits for the lock.
    inventory: Arc<RwLock<Inventory>>,
    feed: ChangeFeed,
    ended: watch::Receiver<Option<Result<(), Fault>>>,
}

/// One connection to a host's agent, as the core knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The host.
    pub(crate) host: HostId,
    /// Tells it from an earlier connection to the same host.
    pub(crate) number: u64,
}

/// A change to the inventory, and then the answer to who asked for it.
type Command = Box<dyn FnOnce(&mut Inventory, Timestamp) -> Applied + Send>;

/// What became of a command in memory.
struct Applied {
    is_ok: bool,
    /// Called with what became of the save.
    answer: Box<dyn FnOnce(Result<(), Fault>) + Send>,
}

enum Message {
    Command(Command),
    HostConnected { connection: Connection, hello: HostHello, outbox: mpsc::Sender<ToHost> },
    HostSaid { connection: Connection, message: FromHost },
    HostLost { connection: Connection, why: String },
    Stop,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::HostConnected { .. } => "HostConnected",
            Self::HostSaid { .. } => "HostSaid",
            Self::HostLost { .. } => "HostLost",
            Self::Stop => "Stop",
        })
    }
}

impl Core {
    /// Starts the thread with the inventory that these records hold, or a new one if there are
    /// none. `seed` decides what the inventory draws: UUIDs and MAC addresses.
    ///
    /// # Errors
    /// The records cannot be read or contradict each other, or the system has no thread left.
    pub fn start(mut records: Records, seed: u64) -> Result<Self, Fault> {
        let inventory = writer::load(&mut records, seed)?;
        let feed = ChangeFeed::new(inventory.last_change());
        let inventory = Arc::new(RwLock::new(inventory));
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let (end, ended) = watch::channel(None);
        let writer = Writer::new(records, seed, Arc::clone(&inventory), feed.clone());
        let run = move || {
            // Nobody may be listening any more; then nobody needs to know.
            let _ = end.send(Some(writer.run(inbox)));
        };
        thread::Builder::new()
            .name("core".to_owned())
            .spawn(run)
            .map_err(|error| Fault::system(format!("cannot start the core's thread: {error}")))?;
        Ok(Self { queue, inventory, feed, ended })
    }

    /// Changes the inventory. On return the change is saved and published; with an `Err` from
    /// `work`, nothing was changed; with one from the store, nothing is changed any more.
    ///
    /// # Errors
    /// Those of `work`; the change could not be saved; the manager is stopping.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inventory, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        let command: Command = Box::new(move |inventory, now| {
            let result = work(inventory, now);
            let is_ok = result.is_ok();
            let answer = Box::new(move |saved: Result<(), Fault>| {
                // The caller may have hung up. What it asked for is done all the same.
                let _ = sender.send(saved.and(result));
            });
            Applied { is_ok, answer }
        });
        self.send(Message::Command(command)).await?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Looks at the inventory, without waiting for the disk; `look` must be short.
    pub fn read<T>(&self, look: impl FnOnce(&Inventory) -> T) -> T {
        // A panic in the core's thread ends the process (release) or its tests: what it left is
        // still readable.
        look(&self.inventory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The numbered changes, as they are saved.
    #[must_use]
    pub const fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// Applies and saves what was sent before, then stops the thread. Every later command is
    /// refused.
    pub async fn stop(&self) {
        // A thread that has ended needs no telling.
        let _ = self.send(Message::Stop).await;
        let _ = self.ended().await;
    }

    /// Waits until the core ends.
    ///
    /// # Errors
    /// It ended by itself: the store can no longer be read.
    pub async fn ended(&self) -> Result<(), Fault> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(())),
            Err(_) => Err(Fault::system("the core's thread ended in a panic; see the log")),
        }
    }

    /// A host's agent said hello: what the inventory has for it goes to `outbox`, until the core
    /// drops it to say that the connection must be made anew.
    pub(crate) async fn host_connected(
        &self,
        connection: Connection,
        hello: HostHello,
        outbox: mpsc::Sender<ToHost>,
    ) -> Result<(), Fault> {
        self.send(Message::HostConnected { connection, hello, outbox }).await
    }

    /// A host's agent said something else.
    pub(crate) async fn host_said(
        &self,
        connection: Connection,
        message: FromHost,
    ) -> Result<(), Fault> {
        self.send(Message::HostSaid { connection, message }).await
    }

    /// A host's agent no longer answers.
    pub(crate) async fn host_lost(&self, connection: Connection, why: String) -> Result<(), Fault> {
        self.send(Message::HostLost { connection, why }).await
    }

    async fn send(&self, message: Message) -> Result<(), Fault> {
        self.queue.send(message).await.map_err(|_| stopping())
    }
}

fn stopping() -> Fault {
    Fault::system("the manager is stopping; try again when it is back")
}

#[cfg(test)]
mod tests;
