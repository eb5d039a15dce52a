//! The machine that a host really runs on: how much memory it has left.
//!
//! Hosts claim what the cluster is to believe. What is really there is told by the kernel of the
//! machine below all of them, and when that runs out the kernel ends processes, not VMs in good
//! order. So it is asked before a VM is started, and with every sample.

use std::path::{Path, PathBuf};

use racknest_cluster::memory;
use racknest_cluster::wire::memory::{MachineMemory, MemoryMarks, MemoryState};
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;

/// What a VM takes while it starts, before its guest has done anything: a QEMU with its firmware.
const START_NEEDS: Bytes = Bytes::from_mib(64);

/// A machine's memory, and where it counts as short.
#[derive(Clone, Debug)]
pub struct Machine {
    meminfo: PathBuf,
    marks: MemoryMarks,
}

impl Machine {
    /// The machine that this process runs on.
    #[must_use]
    pub fn here(marks: MemoryMarks) -> Self {
        Self::told_by(Path::new("/proc/meminfo"), marks)
    }

    /// The machine of which this file tells, in the form of `/proc/meminfo`.
    #[must_use]
    pub fn told_by(meminfo: &Path, marks: MemoryMarks) -> Self {
        Self { meminfo: meminfo.to_owned(), marks }
    }

    /// Where it counts as short.
    #[must_use]
    pub const fn marks(&self) -> MemoryMarks {
        self.marks
    }

    /// What it has and what is left; `None` where the kernel does not tell.
    #[must_use]
    pub fn memory(&self) -> Option<MachineMemory> {
        let text = fs_err::read_to_string(&self.meminfo).ok()?;
        let told = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(Bytes::from_kib(kib))
        };
        Some(MachineMemory { total: told("MemTotal")?, available: told("MemAvailable")? })
    }

    /// Whether a VM of this size may be started here.
    ///
    /// # Errors
    /// The machine would run out of memory.
    pub(crate) fn admit(&self, size: Bytes) -> Result<(), Fault> {
        // What is not known is no reason to refuse.
        let Some(memory) = self.memory() else { return Ok(()) };
        let state = memory::admit(&self.marks, memory, START_NEEDS.min(size))?;
        if state > MemoryState::High {
            tracing::warn!(
                "this machine runs short of memory: {} of {} are left",
                memory.available,
                memory.total
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_an_unreadable_one_says_nothing() {
        let memory = Machine::here(MemoryMarks::MACHINE).memory().unwrap();
        assert!(memory.available > Bytes::ZERO && memory.available <= memory.total, "{memory:?}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meminfo");
        let machine = Machine::told_by(&path, MemoryMarks::MACHINE);
        for text in ["", "MemTotal: 1000 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n"] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(machine.memory(), None, "{text}");
            machine.admit(Bytes::from_gib(1)).unwrap();
        }
    }
}
