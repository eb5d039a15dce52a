//! What the agent itself takes of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procfs::process::Process;
use racknest_types::bytes::Bytes;

use crate::clock::Stopwatch;

/// How long a reading of the process's memory is good. Reading it walks all its pages, which takes
/// milliseconds in a process that holds a thousand hosts.
const MEMORY_AGE_MAX: Duration = Duration::from_secs(60);

/// The use of this process, shared evenly by the hosts in it.
#[derive(Clone, Debug)]
pub struct OwnUsage {
    hosts: u32,
    memory: Arc<Mutex<Option<(Stopwatch, Bytes)>>>,
}

impl OwnUsage {
    /// The use of a process with this many hosts.
    #[must_use]
    pub fn shared_by(hosts: u32) -> Self {
        Self { hosts: hosts.max(1), memory: Arc::default() }
    }

    /// CPU time that this host's share of the process has taken since its start.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Duration::new(seconds, nanos) / self.hosts
    }

    /// Memory of this host's share of the process (PSS).
    #[must_use]
    pub fn memory(&self) -> Bytes {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match *memory {
            Some((read, bytes)) if read.elapsed() < MEMORY_AGE_MAX => bytes,
            Some(_) | None => {
                let bytes = pss();
                *memory = Some((Stopwatch::start(), bytes));
                bytes
            }
        };
        Bytes::new(bytes.get() / u64::from(self.hosts))
    }
}

/// Zero where the kernel does not tell (it may be built without).
fn pss() -> Bytes {
    let Ok(rollup) = Process::myself().and_then(|process| process.smaps_rollup()) else {
        return Bytes::ZERO;
    };
    let maps = rollup.memory_map_rollup.iter();
    Bytes::new(maps.filter_map(|map| map.extension.map.get("Pss")).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something_and_hosts_share_it() {
        let alone = OwnUsage::shared_by(1);
        assert!(alone.memory() > Bytes::from_kib(100), "{}", alone.memory());
        assert!(alone.cpu_time() > Duration::ZERO);
        assert!(OwnUsage::shared_by(1000).memory() < alone.memory());
    }
}
