//! What the host used: the sum over its guests, and the agent's own.

use std::time::Duration;

use racknest_cluster::memory::Target;
use racknest_cluster::record::host::Claim;
use racknest_cluster::wire::memory::MemoryState;
use racknest_cluster::wire::{FromHost, HostSample, VmSample};
use racknest_types::bytes::Bytes;

use super::balloons::Balloons;
use super::book::Book;
use crate::clock::{self, Stopwatch};
use crate::machine::Machine;
use crate::own_usage::OwnUsage;

/// Turns the driver's figures into the samples that the manager is sent.
#[derive(Debug)]
pub(super) struct Sampling {
    claim: Claim,
    usage: OwnUsage,
    since: Stopwatch,
    cpu_time: Duration,
    balloons: Balloons,
}

impl Sampling {
    pub(super) fn new(claim: Claim, usage: OwnUsage, machine: Option<Machine>) -> Self {
        let cpu_time = usage.cpu_time();
        let balloons = Balloons::new(claim, machine);
        Self { claim, usage, since: Stopwatch::start(), cpu_time, balloons }
    }

    /// The samples of this moment, and the guests that get another size for what they show.
    pub(super) fn collect(
        &mut self,
        mut vms: Vec<VmSample>,
        book: &Book,
    ) -> (FromHost, Vec<Target>) {
        for sample in vms.iter_mut().filter(|sample| sample.guest_address.is_none()) {
            let vm = racknest_types::id::VmId::from_raw(sample.vm);
            sample.guest_address = book.address(vm);
        }
        let mut host = sum(&vms);
        host.memory_granted = book.running().map(|spec| spec.config.memory).sum();
        host.cpu_mhz = host.cpu_mhz.saturating_add(self.own_mhz());
        host.memory_consumed += self.usage.memory();
        let targets = self.balloons.judge(&mut host, &vms, book);
        (FromHost::Samples { at: clock::now(), host, vms }, targets)
    }

    /// CPU the agent took since the last samples, in MHz of the claim.
    fn own_mhz(&mut self) -> u32 {
        let (cpu_time, elapsed) = (self.usage.cpu_time(), self.since.elapsed());
        let taken = cpu_time.saturating_sub(self.cpu_time);
        self.cpu_time = cpu_time;
        self.since = Stopwatch::start();
        let mhz = taken.as_micros() * u128::from(self.claim.core_mhz) / elapsed.as_micros().max(1);
        u32::try_from(mhz).unwrap_or(u32::MAX)
    }
}

/// The sum over guests; latency is the mean over their operations.
fn sum(vms: &[VmSample]) -> HostSample {
    let figure = |of: fn(&VmSample) -> u32| {
        let total: u64 = vms.iter().map(|vm| u64::from(of(vm))).sum();
        u32::try_from(total).unwrap_or(u32::MAX)
    };
    let bytes = |of: fn(&VmSample) -> Bytes| vms.iter().map(of).sum();
    let operations = |vm: &VmSample| u64::from(vm.disk_read_iops) + u64::from(vm.disk_write_iops);
    let waited: u64 =
        vms.iter().map(|vm| operations(vm).saturating_mul(u64::from(vm.disk_latency_us))).sum();
    let latency = waited.checked_div(vms.iter().map(operations).sum()).unwrap_or_default();
    HostSample {
        cpu_mhz: figure(|vm| vm.cpu_mhz),
        memory_granted: Bytes::ZERO,
        memory_consumed: bytes(|vm| vm.memory_consumed),
        memory_active: bytes(|vm| vm.memory_active),
        memory_ballooned: bytes(|vm| vm.memory_ballooned),
        memory_swapped: bytes(|vm| vm.memory_swapped),
        memory_state: MemoryState::High,
        machine: None,
        disk_read_iops: figure(|vm| vm.disk_read_iops),
        disk_write_iops: figure(|vm| vm.disk_write_iops),
        disk_latency_us: u32::try_from(latency).unwrap_or(u32::MAX),
        network_rx_kbps: figure(|vm| vm.network_rx_kbps),
        network_tx_kbps: figure(|vm| vm.network_tx_kbps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_sum_of_its_guests_and_latency_their_mean() {
        let vm = |iops, latency| VmSample {
            cpu_mhz: 100,
            disk_read_iops: iops,
            disk_latency_us: latency,
            memory_active: Bytes::from_mib(10),
            ..VmSample::default()
        };
        let host = sum(&[vm(30, 1000), vm(10, 5000), vm(0, 0)]);
        assert_eq!((host.cpu_mhz, host.disk_read_iops), (300, 40));
        assert_eq!(host.memory_active, Bytes::from_mib(30));
        assert_eq!(host.disk_latency_us, 2000);
        assert_eq!(sum(&[]), HostSample::default());
    }
}
