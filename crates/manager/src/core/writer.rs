//! The core's thread: applies a batch, saves it, then tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use racknest_cluster::inventory::{Action, Change, Inventory};
use racknest_cluster::record::Record;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::wire::ToHost;
use racknest_types::fault::Fault;
use racknest_types::id::HostId;
use racknest_types::time::Timestamp;
use tokio::sync::mpsc;

use super::feed::ChangeFeed;
use super::{Applied, Connection, Message};
use crate::clock;
use crate::store::records::{Records, Saved};

/// Messages that are saved together. More would make the first of them wait for the last.
const BATCH_MAX: usize = 4096;

pub(super) struct Writer {
    records: Records,
    seed: u64,
    inventory: Arc<RwLock<Inventory>>,
    feed: ChangeFeed,
    hosts: BTreeMap<HostId, Outbox>,
    /// The clock may be set back; the inventory's time does not.
    now: Timestamp,
}

/// The newest connection to a host.
struct Outbox {
    number: u64,
    /// Where messages to it go; `None` when it was given up and its end is still to come.
    messages: Option<mpsc::Sender<ToHost>>,
}

/// A batch that is applied and not yet saved.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    answers: Vec<Applied>,
    saved: Vec<Saved>,
    actions: Vec<Action>,
    stop: bool,
}

/// The inventory in these records; a new one, saved, if there are none.
pub(super) fn load(records: &mut Records, seed: u64) -> Result<Inventory, Fault> {
    let loaded = records.load()?;
    let next_id = loaded
        .iter()
        .find_map(|record| if let Record::Meta(meta) = record { Some(meta.next_id) } else { None });
    if let Some(next_id) = next_id {
        // The same seed must not draw the same UUIDs again after each restart.
        return Inventory::load(loaded, seed.wrapping_add(next_id))
            .map_err(|error| Fault::system(format!("the store is damaged: {error}")));
    }
    if !loaded.is_empty() {
        return Err(Fault::system("the store is damaged: it holds records without a beginning"));
    }
    let mut inventory = Inventory::new(seed);
    let changes = inventory.take_changes();
    records.save(&records_of(&inventory, &changes))?;
    Ok(inventory)
}

/// What is to be saved of some changes: each object once, as it is now.
fn records_of(inventory: &Inventory, changes: &[Change]) -> Vec<Saved> {
    let entities: BTreeSet<EntityRef> = changes.iter().map(|change| change.entity).collect();
    entities.into_iter().map(|entity| (entity, inventory.record(entity))).collect()
}

impl Writer {
    pub(super) fn new(
        records: Records,
        seed: u64,
        inventory: Arc<RwLock<Inventory>>,
        feed: ChangeFeed,
    ) -> Self {
        Self { records, seed, inventory, feed, hosts: BTreeMap::new(), now: Timestamp::EPOCH }
    }

    /// Until it is told to stop, or nobody is left to tell it anything.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Message>) -> Result<(), Fault> {
        let mut messages = Vec::new();
        while inbox.blocking_recv_many(&mut messages, BATCH_MAX) > 0 {
            let batch = self.apply(messages.drain(..));
            let stop = batch.stop;
            self.settle(batch)?;
            if stop {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, messages: impl Iterator<Item = Message>) -> Batch {
        self.now = self.now.max(clock::now());
        let mut batch = Batch::default();
        let inventory = Arc::clone(&self.inventory);
        let mut inventory = inventory.write().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            self.apply_one(&mut inventory, message, &mut batch);
        }
        batch.changes.extend(inventory.take_changes());
        batch.saved = records_of(&inventory, &batch.changes);
        batch.actions = std::iter::from_fn(|| inventory.poll_action()).collect();
        batch
    }

    fn apply_one(&mut self, inventory: &mut Inventory, message: Message, batch: &mut Batch) {
        let now = self.now;
        match message {
            Message::Command(command) => {
                batch.changes.extend(inventory.take_changes());
                let applied = command(inventory, now);
                // The callers of a failed command are told that it did nothing.
                debug_assert!(
                    applied.is_ok || !inventory.has_changes(),
                    "an Err changed something"
                );
                batch.answers.push(applied);
            }
            Message::HostConnected { connection, hello, outbox } => {
                let Connection { host, number } = connection;
                let welcome = inventory.handle_host_connected(now, host, hello).is_ok();
                // Without a place for messages, the connection ends: it is not wanted any more.
                self.hosts.insert(host, Outbox { number, messages: welcome.then_some(outbox) });
            }
            Message::HostSaid { connection, message } => {
                // What a connection says after it was given up is said again in the next hello.
                if self.outbox(connection).is_some_and(|outbox| outbox.messages.is_some()) {
                    inventory.handle_host_message(now, connection.host, message);
                }
            }
            Message::HostLost { connection, why } => {
                if self.outbox(connection).is_some() {
                    self.hosts.remove(&connection.host);
                    inventory.handle_host_lost(now, connection.host, &why);
                }
            }
            Message::Stop => batch.stop = true,
        }
    }

    fn outbox(&self, connection: Connection) -> Option<&Outbox> {
        self.hosts.get(&connection.host).filter(|outbox| outbox.number == connection.number)
    }

    /// Saves a batch and then lets it be seen; or takes it back.
    fn settle(&mut self, batch: Batch) -> Result<(), Fault> {
        let saved = if batch.saved.is_empty() { Ok(()) } else { self.save(&batch.saved) };
        if let Err(fault) = &saved {
            tracing::error!("{} changes could not be saved: {fault}", batch.saved.len());
            self.reload()?;
        }
        if saved.is_ok() {
            self.feed.publish(&batch.changes);
        }
        for applied in batch.answers {
            (applied.answer)(saved.clone());
        }
        if saved.is_ok() {
            batch.actions.into_iter().for_each(|action| self.perform(action));
        }
        Ok(())
    }

    fn save(&mut self, saved: &[Saved]) -> Result<(), Fault> {
        self.records.save(saved).map(|_revision| ())
    }

    fn reload(&mut self) -> Result<(), Fault> {
        let loaded = load(&mut self.records, self.seed)?;
        *self.inventory.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        // This ends the connections; the next ones begin with a whole report.
        self.hosts.values_mut().for_each(|outbox| outbox.messages = None);
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { host, message } => {
                let Some(outbox) = self.hosts.get_mut(&host) else {
                    return;
                };
                if outbox.messages.as_ref().is_some_and(|it| it.try_send(message).is_err()) {
                    // It is gone, or so far behind that asking again later is cheaper.
                    outbox.messages = None;
                }
            }
            Action::HangUp(host) => {
                if let Some(outbox) = self.hosts.get_mut(&host) {
                    outbox.messages = None;
                }
            }
        }
    }
}
