//! One simulated guest: its power, and what it needs to remember to make its figures up.
//!
//! A process holds 100,000 of these, so it keeps only what the figures need; the rest of a VM's
//! configuration stays in the registry.

use std::net::Ipv4Addr;

use racknest_cluster::record::vm::{PowerState, VmConfig, Workload};
use racknest_cluster::wire::{Request, VmReport, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;

/// A guest that is not there.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) name: Box<str>,
    pub(super) power: PowerState,
    pub(super) vcpus: u16,
    /// What it was powered on with, which a running machine cannot do without.
    vcpus_min: u16,
    has_network: bool,
    pub(super) memory: Bytes,
    memory_min: Bytes,
    pub(super) ballooned: Bytes,
    pub(super) disks: Bytes,
    pub(super) workload: Workload,
}

impl Guest {
    pub(super) fn new(spec: &VmSpec, power: PowerState) -> Self {
        let VmConfig { vcpus, memory, disks, nics, workload, .. } = &spec.config;
        Self {
            name: spec.name.as_str().into(),
            power,
            vcpus: *vcpus,
            vcpus_min: *vcpus,
            has_network: nics.iter().any(|nic| nic.connected),
            memory: *memory,
            memory_min: *memory,
            ballooned: Bytes::ZERO,
            disks: disks.iter().map(|disk| disk.capacity).sum(),
            workload: workload.clone(),
        }
    }

    /// The guest with this new shape, as far as a running machine can be changed.
    pub(super) fn reshape(&mut self, spec: &VmSpec) -> Result<(), Fault> {
        let new = Self::new(spec, self.power);
        if self.power == PowerState::Off {
            *self = new;
            return Ok(());
        }
        let Self { vcpus_min, memory_min, .. } = *self;
        if new.vcpus < vcpus_min || new.memory < memory_min {
            let message = format!(
                "{} is not powered off: of its vCPUs and memory, only what was added to the \
                 {vcpus_min} and {memory_min} that it started with can be taken away",
                self.name
            );
            return Err(Fault::new(FaultCode::InvalidPowerState, message));
        }
        let ballooned = self.ballooned.min(new.memory);
        *self = Self { ballooned, vcpus_min, memory_min, ..new };
        Ok(())
    }

    /// The state after a power request; those that change shape are not for here.
    pub(super) fn power_after(&self, request: &Request) -> Result<PowerState, Fault> {
        let needs_on = |after, what| {
            let is_on = self.power == PowerState::On;
            is_on.then_some(after).ok_or_else(|| {
                let message = format!("{} cannot be {what}: it is not powered on", self.name);
                Fault::new(FaultCode::InvalidPowerState, message)
            })
        };
        match request {
            Request::PowerOff => Ok(PowerState::Off),
            Request::Suspend if self.power == PowerState::Suspended => Ok(PowerState::Suspended),
            Request::Suspend => needs_on(PowerState::Suspended, "suspended"),
            Request::Reset => needs_on(PowerState::On, "reset"),
            Request::Delete { .. } | Request::Unregister if self.power == PowerState::On => {
                let message = format!("{} is powered on; power it off first", self.name);
                Err(Fault::new(FaultCode::InvalidPowerState, message))
            }
            Request::Create { .. }
            | Request::Register(_)
            | Request::Delete { .. }
            | Request::Unregister
            | Request::Shutdown
            | Request::Migrate { .. }
            | Request::Relocate { .. }
            | Request::Snapshot { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Reconfigure { .. } => Ok(self.power),
            Request::PowerOn(_) => Ok(PowerState::On),
            Request::Revert { memory: Some(_), .. } => Ok(PowerState::On),
            Request::Revert { memory: None, .. } => Ok(PowerState::Off),
        }
    }

    /// The address it would have: made from its number, below 10.0.0.0/8.
    pub(super) fn address(&self, vm: u64) -> Option<String> {
        let [.., a, b, c] = vm.to_be_bytes();
        let is_there = self.has_network && self.power == PowerState::On;
        is_there.then(|| Ipv4Addr::new(10, a, b, c).to_string())
    }

    pub(super) fn report(&self, vm: VmId) -> VmReport {
        let guest_address = self.address(vm.raw());
        VmReport { guest_address, ..VmReport::new(vm, self.power) }
    }
}
