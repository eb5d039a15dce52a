//! The numbered changes, for everything that watches: server-sent events, statistics, host links.
//!
//! A watcher gives the last number it has seen and gets everything after it. The newest
//! [`KEPT_MAX`] changes are kept in memory for those who come back; who was away for longer, or
//! reads too slowly, is told so and reads the inventory again.
//!
//! **Invariant:** a watcher sees every change after its number once and in order, or is told that
//! it missed some.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use racknest_cluster::inventory::Change;
use tokio::sync::watch;

/// Kept for watchers: 24 bytes each.
const KEPT_MAX: usize = 64 * 1024;

/// Handed out at once, so that nobody holds the lock for long.
const PAGE_MAX: usize = 1024;

/// The changes that were saved lately. Clones share them.
#[derive(Clone, Debug)]
pub struct ChangeFeed {
    /// Guards the queue; nothing awaits inside.
    kept: Arc<Mutex<VecDeque<Change>>>,
    /// The number of the newest change.
    newest: watch::Sender<u64>,
}

/// One place in the feed.
#[derive(Debug)]
pub struct Watcher {
    feed: ChangeFeed,
    newest: watch::Receiver<u64>,
    seen: u64,
}

/// The changes after a watcher's number are no longer kept. It goes on after the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes were missed; read the inventory again, it is as of change {newest} or later")]
pub struct MissedChanges {
    /// Where the watcher goes on.
    pub newest: u64,
}

impl ChangeFeed {
    pub(super) fn new(last_change: u64) -> Self {
        Self { kept: Arc::default(), newest: watch::Sender::new(last_change) }
    }

    pub(super) fn publish(&self, changes: &[Change]) {
        let Some(last) = changes.last() else {
            return;
        };
        {
            let mut kept = self.lock();
            kept.extend(changes);
            let surplus = kept.len().saturating_sub(KEPT_MAX);
            kept.drain(..surplus);
        }
        self.newest.send_replace(last.number);
    }

    /// The number of the newest change.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Everything after the change with this number.
    #[must_use]
    pub fn watch_after(&self, seen: u64) -> Watcher {
        Watcher { feed: self.clone(), newest: self.newest.subscribe(), seen }
    }

    /// Everything from here on.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        self.watch_after(self.newest())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after(&self, seen: u64, newest: u64) -> Result<Vec<Change>, MissedChanges> {
        let kept = self.lock();
        // A number from the future is from before a restore of the store: that watcher too has
        // seen what is not so.
        let is_kept = kept.front().is_some_and(|oldest| oldest.number <= seen + 1);
        if seen > newest || (seen < newest && !is_kept) {
            return Err(MissedChanges { newest });
        }
        let start = kept.partition_point(|change| change.number <= seen);
        Ok(kept.range(start..).take(PAGE_MAX).copied().collect())
    }
}

impl Watcher {
    /// The next changes, at least one; waits for it. `None` when the core has ended.
    ///
    /// # Errors
    /// Some were missed.
    pub async fn next(&mut self) -> Option<Result<Vec<Change>, MissedChanges>> {
        loop {
            let newest = *self.newest.borrow_and_update();
            match self.feed.after(self.seen, newest) {
                Err(missed) => {
                    self.seen = missed.newest;
                    return Some(Err(missed));
                }
                Ok(changes) => {
                    if let Some(last) = changes.last() {
                        self.seen = last.number;
                        return Some(Ok(changes));
                    }
                }
            }
            self.newest.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use racknest_cluster::inventory::ChangeKind;
    use racknest_cluster::record::entity::EntityRef;

    use super::*;

    fn changes(numbers: impl Iterator<Item = u64>) -> Vec<Change> {
        let change = |number| Change { number, entity: EntityRef::Meta, kind: ChangeKind::Updated };
        numbers.map(change).collect()
    }

    fn numbers(next: Option<Result<Vec<Change>, MissedChanges>>) -> Vec<u64> {
        next.unwrap().unwrap().iter().map(|change| change.number).collect()
    }

    #[tokio::test]
    async fn a_watcher_resumes_after_the_number_it_has_seen() {
        let feed = ChangeFeed::new(10);
        feed.publish(&changes(11..=13));
        assert_eq!(numbers(feed.watch_after(10).next().await), [11, 12, 13]);
        assert_eq!(numbers(feed.watch_after(12).next().await), [13]);
        let mut watcher = feed.watch();
        feed.publish(&changes(14..=14));
        assert_eq!(numbers(watcher.next().await), [14]);
    }

    #[tokio::test]
    async fn a_watcher_waits_for_the_next_change() {
        let feed = ChangeFeed::new(0);
        let mut watcher = feed.watch();
        let waiting = tokio::spawn(async move { watcher.next().await });
        feed.publish(&changes(1..=1));
        assert_eq!(numbers(waiting.await.unwrap()), [1]);
    }

    #[tokio::test]
    async fn a_watcher_that_missed_changes_is_told_and_goes_on() {
        let feed = ChangeFeed::new(10);
        for seen in [4, 99] {
            let mut watcher = feed.watch_after(seen);
            assert_eq!(watcher.next().await, Some(Err(MissedChanges { newest: 10 })));
        }
        let mut slow = feed.watch();
        let many = u64::try_from(KEPT_MAX).unwrap() + 100;
        feed.publish(&changes(11..=10 + many));
        assert_eq!(slow.next().await, Some(Err(MissedChanges { newest: 10 + many })));
        feed.publish(&changes(11 + many..=11 + many));
        assert_eq!(numbers(slow.next().await), [11 + many]);
    }

    #[tokio::test]
    async fn many_changes_come_in_pages() {
        let feed = ChangeFeed::new(0);
        feed.publish(&changes(1..=2500));
        let mut watcher = feed.watch_after(0);
        let mut seen = Vec::new();
        while seen.len() < 2500 {
            let page = numbers(watcher.next().await);
            assert!(page.len() <= PAGE_MAX);
            seen.extend(page);
        }
        assert!(seen.into_iter().eq(1..=2500));
    }
}
