//! What VMs and hosts used in their latest samples, for the views of the other kinds.

use racknest_api::v1::host::{HostUsage, MemoryState};
use racknest_api::v1::vm::VmUsage;
use racknest_cluster::record::host::HostRecord;
use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use crate::clock;
use crate::measurement::GuestAddresses;
use crate::state::State;
use crate::statistics::counter::Counter;
use crate::statistics::{Sample, Statistics, Subject};

/// The latest samples, as of one moment.
pub(super) struct Usage<'a> {
    statistics: &'a Statistics,
    guests: &'a GuestAddresses,
    now: Timestamp,
}

impl<'a> Usage<'a> {
    /// As of this moment.
    pub(super) fn of(state: &'a State) -> Self {
        Self { statistics: &state.statistics, guests: &state.guests, now: clock::now() }
    }

    /// What a VM used.
    pub(super) fn of_vm(&self, vm: VmId) -> Option<VmUsage> {
        let sample = self.statistics.latest(self.now, Subject::Vm(vm))?;
        let value = |counter| sample.value(counter).unwrap_or(0);
        Some(VmUsage {
            cpu_mhz: value(Counter::CpuUsageMhz),
            memory_consumed_mib: value(Counter::MemoryConsumed) >> 10,
            memory_active_mib: value(Counter::MemoryActive) >> 10,
            memory_ballooned_mib: value(Counter::MemoryBallooned) >> 10,
            memory_swapped_mib: value(Counter::MemorySwapped) >> 10,
            disk_used_bytes: value(Counter::DiskUsed) << 10,
        })
    }

    /// The network address that a VM's guest said.
    pub(super) fn guest_address(&self, vm: VmId) -> Option<String> {
        self.guests.of(vm)
    }

    /// What a host used.
    pub(super) fn of_host(&self, host: HostId) -> Option<HostUsage> {
        self.statistics.latest(self.now, Subject::Host(host)).as_ref().map(host_usage)
    }

    /// What several hosts used together; `None` if none has a sample.
    pub(super) fn of_hosts<'h>(
        &self,
        hosts: impl Iterator<Item = &'h HostRecord>,
    ) -> Option<HostUsage> {
        hosts.filter_map(|host| self.of_host(host.id)).reduce(|sum, host| HostUsage {
            cpu_mhz: sum.cpu_mhz + host.cpu_mhz,
            memory_consumed_mib: sum.memory_consumed_mib + host.memory_consumed_mib,
            memory_active_mib: sum.memory_active_mib + host.memory_active_mib,
            memory_ballooned_mib: sum.memory_ballooned_mib + host.memory_ballooned_mib,
            memory_swapped_mib: sum.memory_swapped_mib + host.memory_swapped_mib,
            memory_state: sum.memory_state.max(host.memory_state),
            // The hosts of a box have one machine below them.
            machine_memory_mib: sum.machine_memory_mib.max(host.machine_memory_mib),
            machine_memory_available_mib: sum
                .machine_memory_available_mib
                .max(host.machine_memory_available_mib),
        })
    }
}

fn host_usage(sample: &Sample) -> HostUsage {
    let value = |counter| sample.value(counter).unwrap_or(0);
    HostUsage {
        cpu_mhz: value(Counter::CpuUsageMhz),
        memory_consumed_mib: value(Counter::MemoryConsumed) >> 10,
        memory_active_mib: value(Counter::MemoryActive) >> 10,
        memory_ballooned_mib: value(Counter::MemoryBallooned) >> 10,
        memory_swapped_mib: value(Counter::MemorySwapped) >> 10,
        memory_state: match value(Counter::MemoryState) {
            0 => MemoryState::High,
            1 => MemoryState::Soft,
            2 => MemoryState::Hard,
            _ => MemoryState::Low,
        },
        machine_memory_mib: sample.value(Counter::MachineMemory).map(|kib| kib >> 10),
        machine_memory_available_mib: sample
            .value(Counter::MachineMemoryAvailable)
            .map(|kib| kib >> 10),
    }
}
