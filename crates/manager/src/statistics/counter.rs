//! What is counted: the one table of counters, under the names that vSphere gives them.
//!
//! A value is kept as 32 bits in a step of its own for each counter (memory in pages of 4 KiB, so
//! that 16 TiB fit) and shown in vSphere's unit. Latency is the exception: vSphere's milliseconds
//! would show every SSD as zero, so it is in microseconds, and says so.

/// How many counters there are.
pub const COUNTERS: usize = 16;

/// One value for each counter, in the order of [`Counter::ALL`], each in its own step.
pub(super) type Values = [u32; COUNTERS];

/// In [`Values`]: there is no value.
pub(super) const ABSENT: u32 = u32::MAX;

/// Something that is counted about a VM, a host or a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// CPU used, of what there is.
    CpuUsage,
    /// CPU used.
    CpuUsageMhz,
    /// Memory that guests believe they have.
    MemoryGranted,
    /// Memory really taken from the box.
    MemoryConsumed,
    /// Memory that guests actively use.
    MemoryActive,
    /// Disk reads.
    DiskReads,
    /// Disk writes.
    DiskWrites,
    /// Time that a disk operation takes.
    DiskLatency,
    /// Disk space taken.
    DiskUsed,
    /// Network traffic received.
    NetworkReceived,
    /// Network traffic sent.
    NetworkTransmitted,
    /// Memory that the balloons of guests hold.
    MemoryBallooned,
    /// Memory of guests that the machine has put on its disk.
    MemorySwapped,
    /// How short of memory a host is.
    MemoryState,
    /// Memory of the machine that the host really runs on.
    MachineMemory,
    /// Memory that this machine has left.
    MachineMemoryAvailable,
}

/// The unit a counter is shown in, by vSphere's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Hundredths of a per cent: 10,000 is all there is.
    Percent,
    /// Megahertz.
    MegaHertz,
    /// 1024 bytes.
    KiloBytes,
    /// A number, here: operations a second.
    Number,
    /// Microseconds.
    Microsecond,
    /// 1000 bytes a second.
    KiloBytesPerSecond,
}

impl Unit {
    /// vSphere's name of the unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::MegaHertz => "megaHertz",
            Self::KiloBytes => "kiloBytes",
            Self::Number => "number",
            Self::Microsecond => "microsecond",
            Self::KiloBytesPerSecond => "kiloBytesPerSecond",
        }
    }
}

/// What one value says about its interval, by vSphere's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollup {
    /// The mean over the interval.
    Average,
    /// How it was at the end of the interval.
    Latest,
}

impl Rollup {
    /// vSphere's name of the rollup.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Latest => "latest",
        }
    }
}

/// What a cluster's value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Combine {
    /// The sum over its hosts.
    Sum,
    /// The largest of its hosts': what they have in common, or the worst of them.
    Largest,
    /// The mean over its hosts, each by the CPU it has.
    MeanByCapacity,
    /// The mean over its hosts, each by its disk operations.
    MeanByOperations,
}

/// How a counter is shown to Prometheus: in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metric {
    /// The end of its name, with its unit.
    pub(super) name: &'static str,
    /// What a step is multiplied by.
    pub(super) multiply: u64,
    /// The decimals that the product has.
    pub(super) decimals: usize,
}

/// A line of the table.
struct Definition {
    counter: Counter,
    name: &'static str,
    unit: Unit,
    rollup: Rollup,
    combine: Combine,
    /// What is shown is the steps times the first, divided by the second.
    scale: (u64, u64),
    metric: Metric,
    description: &'static str,
}

/// Bytes in a step of a memory counter.
pub(super) const MEMORY_STEP: u64 = 4 << 10;

/// Bytes in a step of disk space.
pub(super) const DISK_STEP: u64 = 64 << 10;

const fn metric(name: &'static str, multiply: u64, decimals: usize) -> Metric {
    Metric { name, multiply, decimals }
}

use Combine::{Largest, MeanByCapacity, MeanByOperations, Sum};
use Rollup::{Average, Latest};

static TABLE: [Definition; COUNTERS] = [
    Definition {
        counter: Counter::CpuUsage,
        name: "cpu.usage.average",
        unit: Unit::Percent,
        rollup: Average,
        combine: MeanByCapacity,
        scale: (1, 1),
        metric: metric("cpu_usage_ratio", 1, 4),
        description: "CPU used, as a part of what there is",
    },
    Definition {
        counter: Counter::CpuUsageMhz,
        name: "cpu.usagemhz.average",
        unit: Unit::MegaHertz,
        rollup: Average,
        combine: Sum,
        scale: (1, 1),
        metric: metric("cpu_usage_hertz", 1_000_000, 0),
        description: "CPU used",
    },
    Definition {
        counter: Counter::MemoryGranted,
        name: "mem.granted.average",
        unit: Unit::KiloBytes,
        rollup: Average,
        combine: Sum,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("memory_granted_bytes", MEMORY_STEP, 0),
        description: "Memory that guests believe they have",
    },
    Definition {
        counter: Counter::MemoryConsumed,
        name: "mem.consumed.average",
        unit: Unit::KiloBytes,
        rollup: Average,
        combine: Sum,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("memory_consumed_bytes", MEMORY_STEP, 0),
        description: "Memory really taken from the box",
    },
    Definition {
        counter: Counter::MemoryActive,
        name: "mem.active.average",
        unit: Unit::KiloBytes,
        rollup: Average,
        combine: Sum,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("memory_active_bytes", MEMORY_STEP, 0),
        description: "Memory that guests actively use",
    },
    Definition {
        counter: Counter::DiskReads,
        name: "disk.numberReadAveraged.average",
        unit: Unit::Number,
        rollup: Average,
        combine: Sum,
        scale: (1, 1),
        metric: metric("disk_reads_per_second", 1, 0),
        description: "Disk reads a second",
    },
    Definition {
        counter: Counter::DiskWrites,
        name: "disk.numberWriteAveraged.average",
        unit: Unit::Number,
        rollup: Average,
        combine: Sum,
        scale: (1, 1),
        metric: metric("disk_writes_per_second", 1, 0),
        description: "Disk writes a second",
    },
    Definition {
        counter: Counter::DiskLatency,
        name: "disk.totalLatency.average",
        unit: Unit::Microsecond,
        rollup: Average,
        combine: MeanByOperations,
        scale: (1, 1),
        metric: metric("disk_latency_seconds", 1, 6),
        description: "Mean time that a disk operation takes",
    },
    Definition {
        counter: Counter::DiskUsed,
        name: "disk.used.latest",
        unit: Unit::KiloBytes,
        rollup: Latest,
        combine: Sum,
        scale: (DISK_STEP, 1 << 10),
        metric: metric("disk_used_bytes", DISK_STEP, 0),
        description: "Disk space that the files of VMs take",
    },
    Definition {
        counter: Counter::NetworkReceived,
        name: "net.received.average",
        unit: Unit::KiloBytesPerSecond,
        rollup: Average,
        combine: Sum,
        scale: (1, 8),
        metric: metric("network_received_bytes_per_second", 125, 0),
        description: "Network traffic received",
    },
    Definition {
        counter: Counter::NetworkTransmitted,
        name: "net.transmitted.average",
        unit: Unit::KiloBytesPerSecond,
        rollup: Average,
        combine: Sum,
        scale: (1, 8),
        metric: metric("network_transmitted_bytes_per_second", 125, 0),
        description: "Network traffic sent",
    },
    Definition {
        counter: Counter::MemoryBallooned,
        name: "mem.vmmemctl.average",
        unit: Unit::KiloBytes,
        rollup: Average,
        combine: Sum,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("memory_ballooned_bytes", MEMORY_STEP, 0),
        description: "Memory that the balloons of guests hold",
    },
    Definition {
        counter: Counter::MemorySwapped,
        name: "mem.swapped.average",
        unit: Unit::KiloBytes,
        rollup: Average,
        combine: Sum,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("memory_swapped_bytes", MEMORY_STEP, 0),
        description: "Memory of guests that the machine has put on its disk",
    },
    Definition {
        counter: Counter::MemoryState,
        name: "mem.state.latest",
        unit: Unit::Number,
        rollup: Latest,
        combine: Largest,
        scale: (1, 1),
        metric: metric("memory_state", 1, 0),
        description: "How short of memory a host is: 0 high, 1 soft, 2 hard, 3 low",
    },
    Definition {
        counter: Counter::MachineMemory,
        name: "mem.machineTotal.latest",
        unit: Unit::KiloBytes,
        rollup: Latest,
        combine: Largest,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("machine_memory_bytes", MEMORY_STEP, 0),
        description: "Memory of the machine that the host really runs on",
    },
    Definition {
        counter: Counter::MachineMemoryAvailable,
        name: "mem.machineAvailable.latest",
        unit: Unit::KiloBytes,
        rollup: Latest,
        combine: Largest,
        scale: (MEMORY_STEP, 1 << 10),
        metric: metric("machine_memory_available_bytes", MEMORY_STEP, 0),
        description: "Memory that this machine has left",
    },
];

impl Counter {
    /// Every counter.
    pub const ALL: [Self; COUNTERS] = {
        let mut all = [Self::CpuUsage; COUNTERS];
        let mut at = 0;
        while at < COUNTERS {
            all[at] = TABLE[at].counter;
            at += 1;
        }
        all
    };

    /// Its place in [`Self::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    const fn definition(self) -> &'static Definition {
        &TABLE[self.index()]
    }

    /// Its name, as vSphere has it: group, name and rollup.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.definition().name
    }

    /// The counter of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|counter| counter.name() == name)
    }

    /// The unit that its values are shown in.
    #[must_use]
    pub const fn unit(self) -> Unit {
        self.definition().unit
    }

    /// What one value says about its interval.
    #[must_use]
    pub const fn rollup(self) -> Rollup {
        self.definition().rollup
    }

    /// What it counts, for people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.definition().description
    }

    pub(super) const fn combine(self) -> Combine {
        self.definition().combine
    }

    pub(super) const fn metric(self) -> Metric {
        self.definition().metric
    }

    /// A number of steps in the counter's unit, rounded.
    pub(super) const fn show(self, steps: u64) -> u64 {
        let (multiply, divide) = self.definition().scale;
        (steps.saturating_mul(multiply) + divide / 2) / divide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_counters() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter.index(), index);
            assert_eq!(Counter::from_name(counter.name()), Some(counter));
            assert!(counter.name().ends_with(counter.rollup().name()), "{}", counter.name());
        }
        assert_eq!(Counter::from_name("cpu.idle.summation"), None);
    }

    #[test]
    fn a_value_is_shown_in_its_unit() {
        assert_eq!(Counter::MemoryConsumed.show(1), 4);
        assert_eq!(Counter::DiskUsed.show(2), 128);
        assert_eq!(Counter::NetworkReceived.show(100), 13);
        assert_eq!(Counter::CpuUsage.show(1234), 1234);
    }
}
