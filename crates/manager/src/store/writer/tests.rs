//! The writer thread: order, merging, and what happens after a failed write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use racknest_cluster::record::Meta;
use racknest_cluster::record::entity::EntityRef;

use super::*;
use crate::store::watch::Watch;
use crate::store::{Entry, Outcome, Span, Store, Transaction};

/// A store that counts transactions, waits while it is shut, and fails when it is told to.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU64,
    commits: AtomicU64,
    is_failing: AtomicBool,
}

impl Gate {
    fn set_shut(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.changed.notify_all();
    }
}

#[derive(Debug)]
struct GatedStore(Arc<Gate>);

impl Store for GatedStore {
    fn range(
        &self,
        _: &Span,
        _: &mut dyn FnMut(Entry<'_>) -> Result<(), Fault>,
    ) -> Result<Revision, Fault> {
        Ok(self.0.commits.load(Ordering::Relaxed))
    }

    fn transact(&self, _: &Transaction) -> Result<Outcome, Fault> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let shut = self.0.is_shut.lock().unwrap();
        drop(self.0.changed.wait_while(shut, |shut| *shut).unwrap());
        if self.0.is_failing.load(Ordering::Relaxed) {
            return Err(Fault::system("the disk is broken"));
        }
        Ok(Outcome::Committed { revision: self.0.commits.fetch_add(1, Ordering::Relaxed) + 1 })
    }

    fn watch(&self, _: &str) -> Watch {
        unreachable!("nobody watches")
    }
}

fn writer() -> (Arc<Gate>, RecordWriter) {
    let gate = Arc::new(Gate::default());
    let records = Records::in_store(Arc::new(GatedStore(Arc::clone(&gate))));
    (gate, RecordWriter::start(records).unwrap())
}

fn change(number: u64) -> Vec<Saved> {
    let meta = Meta { next_id: number, last_change: number };
    vec![(EntityRef::Meta, Some(Record::Meta(meta)))]
}

#[tokio::test]
async fn changes_that_wait_for_the_disk_go_out_together() {
    let (gate, writer) = writer();
    gate.set_shut(true);
    let first = writer.begin_save(change(0));
    while gate.waiting.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let rest: Vec<Saving> = (1..=100).map(|number| writer.begin_save(change(number))).collect();
    gate.set_shut(false);
    assert_eq!(first.finish().await, Ok(1));
    for saving in rest {
        assert_eq!(saving.finish().await, Ok(2));
    }
    assert_eq!(gate.commits.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_until_the_records_were_loaded() {
    let (gate, writer) = writer();
    gate.is_failing.store(true, Ordering::Relaxed);
    let fault = writer.save(change(1)).await.expect_err("the disk is broken");
    gate.is_failing.store(false, Ordering::Relaxed);
    assert_eq!(writer.save(change(2)).await, Err(fault));
    assert_eq!(gate.commits.load(Ordering::Relaxed), 0);
    assert_eq!(writer.load().await, Ok(vec![]));
    assert_eq!(writer.save(change(3)).await, Ok(1));
}

#[tokio::test]
async fn what_was_handed_over_is_written_even_if_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inventory.redb");
    let writer = RecordWriter::start(Records::open(&path).unwrap()).unwrap();
    for number in 1..=50 {
        drop(writer.begin_save(change(number)));
    }
    let loaded = writer.load().await.unwrap();
    assert_eq!(loaded, [Record::Meta(Meta { next_id: 50, last_change: 50 })]);
}
