//! The delay line: packets that are on their way over slow cables.
//!
//! One task delivers them all, in the order in which they arrive; two that arrive at one moment
//! come as they were put in. (A timer of its own for each packet would mix up those of one
//! millisecond.)

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How many packets may be on their way: about 100 MB of full frames. Whatever comes then is lost.
const PACKETS_MAX: usize = 65_536;

/// Packets with the time of their arrival.
#[derive(Debug)]
pub struct DelayLine {
    start: Instant,
    // Guards a heap; held for one push or pop.
    packets: Mutex<Packets>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Packets {
    heap: BinaryHeap<Packet>,
    ever: u64,
}

/// What is done at the end of the way.
type Deliver = Box<dyn FnOnce() + Send>;

struct Packet {
    arrival: u64,
    number: u64,
    deliver: Deliver,
}

impl DelayLine {
    /// An empty one, at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), packets: Mutex::default(), sooner: Notify::new() }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// When that is for a timer.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_micros(at)
    }

    /// Puts a packet in, which `deliver` hands over when it arrives; whether there was room.
    pub fn put(&self, arrival: u64, deliver: impl FnOnce() + Send + 'static) -> bool {
        let mut packets = self.packets();
        if packets.heap.len() >= PACKETS_MAX {
            return false;
        }
        packets.ever += 1;
        let number = packets.ever;
        let is_soonest = packets.heap.peek().is_none_or(|soonest| arrival < soonest.arrival);
        packets.heap.push(Packet { arrival, number, deliver: Box::new(deliver) });
        drop(packets);
        if is_soonest {
            self.sooner.notify_one();
        }
        true
    }

    /// Delivers for as long as it is polled.
    pub async fn run(&self) {
        loop {
            let next = self.packets().heap.peek().map(|packet| packet.arrival);
            match next {
                None => self.sooner.notified().await,
                Some(arrival) if arrival > self.now() => tokio::select! {
                    () = sleep_until(self.instant(arrival)) => {}
                    () = self.sooner.notified() => {}
                },
                Some(_) => self.deliver_due(),
            }
        }
    }

    fn deliver_due(&self) {
        let now = self.now();
        loop {
            let mut packets = self.packets();
            if packets.heap.peek().is_none_or(|packet| packet.arrival > now) {
                return;
            }
            let packet = packets.heap.pop();
            drop(packets);
            if let Some(packet) = packet {
                (packet.deliver)();
            }
        }
    }

    fn packets(&self) -> MutexGuard<'_, Packets> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for DelayLine {
    fn default() -> Self {
        Self::new()
    }
}

/// The heap gives the greatest first, so sooner is greater.
impl Ord for Packet {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrival, other.number).cmp(&(self.arrival, self.number))
    }
}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Packet {}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet").field("arrival", &self.arrival).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn packets_arrive_at_their_time_and_in_order() {
        let line = Arc::new(DelayLine::new());
        let runner = Arc::clone(&line);
        let running = tokio::spawn(async move { runner.run().await });
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        for (at, name) in [(50_000, "late"), (20_000, "first"), (20_000, "second"), (0, "at once")]
        {
            let (arrived, clock) = (arrived.clone(), Arc::clone(&line));
            assert!(line.put(at, move || arrived.send((clock.now() / 1000, name)).unwrap()));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(arrivals.recv().await.unwrap());
        }
        let names: Vec<&str> = seen.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, ["at once", "first", "second", "late"]);
        let near = |found: u64, wanted: u64| (wanted..=wanted + 2).contains(&found);
        assert!(near(seen[1].0, 20) && near(seen[2].0, 20) && near(seen[3].0, 50), "{seen:?}");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_takes_no_more() {
        let line = DelayLine::new();
        for _ in 0..PACKETS_MAX {
            assert!(line.put(1, || {}));
        }
        assert!(!line.put(1, || {}));
    }
}
