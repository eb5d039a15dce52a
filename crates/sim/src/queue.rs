//! What is still to happen, in the order of virtual time.
//!
//! **Invariant:** two things planned for one millisecond happen in the order in which they were
//! planned, so that a seed gives one run and not several.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Things planned, each for a point in virtual time.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Planned<T>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }
}

impl<T> Queue<T> {
    /// Plans something for this millisecond.
    pub fn plan(&mut self, at: u64, what: T) {
        self.heap.push(Planned { at, number: self.planned, what });
        self.planned += 1;
    }

    /// The next thing, and when it happens.
    pub fn take(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|planned| (planned.at, planned.what))
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|planned| planned.at)
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The heap gives its greatest first, and the earliest is wanted.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_first_happens_first() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.plan(at, what);
        }
        let order = std::iter::from_fn(|| queue.take()).map(|(_, what)| what).collect::<String>();
        assert_eq!(order, "abcd");
    }
}
