//! Guests that are not there: for a data centre of 100,000 VMs in one process.
//!
//! A simulated guest is a power state and a workload; its figures are made up from a seed when they
//! are asked for. It has no disks, no console and no network traffic, and wherever it shows it says
//! that it is simulated.
//!
//! **Invariant:** nothing that a guest cannot do is answered with an invented success: its console
//! and serial port are refused.

mod guest;
mod migrate;
mod relocate;
mod screen;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use racknest_cluster::record::host::{Claim, DriverKind};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, Request, VmReport, VmSample, VmSpec};
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;
use racknest_types::time::Timestamp;
use tokio::sync::mpsc;

use self::guest::Guest;
use self::workload::{Load, Shape};
use crate::clock;
use crate::vm::{Course, Driver, Duplex, VmEvent};

/// What part of their size simulated disks take, per mille, before a VM's own deviation.
const DISK_USED_PERMILLE: u64 = 50;

/// The driver of a simulated host.
#[derive(Debug)]
pub struct Simulated {
    seed: u64,
    claim: Claim,
    guests: Mutex<BTreeMap<u64, Guest>>,
    events: mpsc::UnboundedSender<VmEvent>,
    happened: tokio::sync::Mutex<mpsc::UnboundedReceiver<VmEvent>>,
}

impl Simulated {
    /// A host without guests. The same seed gives the same figures, on whichever host a VM is.
    #[must_use]
    pub fn new(seed: u64, claim: Claim) -> Self {
        let (events, happened) = mpsc::unbounded_channel();
        Self { seed, claim, guests: Mutex::default(), events, happened: happened.into() }
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<u64, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(
        &self,
        vm: VmId,
        current: Option<&VmSpec>,
        request: &Request,
    ) -> Result<PowerState, Fault> {
        let mut guests = self.guests();
        if let Some(spec) = brings(request).or(current) {
            guests.entry(vm.raw()).or_insert_with(|| Guest::new(spec, PowerState::Off));
        }
        if matches!(request, Request::Delete { .. } | Request::Unregister)
            && !guests.contains_key(&vm.raw())
        {
            return Ok(PowerState::Off);
        }
        let guest = guests
            .get_mut(&vm.raw())
            .ok_or_else(|| Fault::not_found(format_args!("{vm} on this host")))?;
        let after = guest.power_after(request)?;
        match request {
            Request::Delete { .. } | Request::Unregister => {
                guests.remove(&vm.raw());
                return Ok(PowerState::Off);
            }
            Request::Shutdown if guest.power == PowerState::On => self.shut_down(vm, guest),
            Request::Reconfigure { spec, .. } => guest.reshape(spec)?,
            Request::Revert { spec, .. } | Request::PowerOn(spec) => {
                *guest = Guest::new(spec, after);
            }
            Request::Create { .. }
            | Request::Register(_)
            | Request::PowerOff
            | Request::Shutdown
            | Request::Reset
            | Request::Suspend
            | Request::Migrate { .. }
            | Request::Relocate { .. }
            | Request::Snapshot { .. }
            | Request::DeleteSnapshot { .. } => guest.power = after,
        }
        Ok(after)
    }

    /// The guest does as it was asked; the agent hears of it as of a real guest.
    fn shut_down(&self, vm: VmId, guest: &mut Guest) {
        guest.power = PowerState::Off;
        let reason = "the simulated guest shut down".to_owned();
        let event = VmEvent::PowerChanged { report: guest.report(vm), died: false, reason };
        // Nobody listens while the agent ends, and nobody needs to.
        let _ = self.events.send(event);
    }

    /// What each running guest uses at this time. Guests that want more CPU than the host claims
    /// share it in proportion.
    fn sample_at(&self, at: Timestamp) -> Vec<VmSample> {
        let guests = self.guests();
        let running = guests.iter().filter(|(_, guest)| guest.power == PowerState::On);
        let loads: Vec<_> = running
            .map(|(&vm, guest)| {
                let seed = workload::seed_of(self.seed, vm);
                let shape = Shape { seed, memory: guest.memory };
                (vm, guest, workload::load(shape, &guest.workload, at))
            })
            .collect();
        let core_mhz = u64::from(self.claim.core_mhz);
        let wanted: u64 = loads
            .iter()
            .map(|(_, guest, load)| u64::from(guest.vcpus) * core_mhz * load.cpu_permille / 1000)
            .sum();
        let claimed = u64::from(self.claim.cores) * core_mhz;
        let granted_permille = if wanted > claimed { claimed * 1000 / wanted } else { 1000 };
        loads
            .into_iter()
            .map(|(vm, guest, load)| {
                let cpu_permille = load.cpu_permille * granted_permille / 1000;
                let cpu_mhz = u64::from(guest.vcpus) * core_mhz * cpu_permille / 1000;
                self.sample_of(vm, guest, &load, cpu_permille, cpu_mhz)
            })
            .collect()
    }

    fn sample_of(
        &self,
        vm: u64,
        guest: &Guest,
        load: &Load,
        cpu_permille: u64,
        cpu_mhz: u64,
    ) -> VmSample {
        // What its balloon holds it cannot touch.
        let size = Bytes::new(guest.memory.get().saturating_sub(guest.ballooned.get()));
        VmSample {
            vm,
            cpu_mhz: figure(cpu_mhz),
            cpu_permille: u16::try_from(cpu_permille).unwrap_or(1000),
            memory_consumed: load.memory_touched.min(size),
            memory_active: load.memory_active.min(size),
            memory_ballooned: guest.ballooned,
            memory_swapped: Bytes::ZERO,
            has_balloon: true,
            disk_read_iops: figure(load.read_iops),
            disk_write_iops: figure(load.write_iops),
            disk_latency_us: figure(load.disk_latency_us),
            disk_used: self.disk_used(vm, guest),
            network_rx_kbps: figure(load.rx_kbps),
            network_tx_kbps: figure(load.tx_kbps),
            guest_address: guest.address(vm),
        }
    }

    fn disk_used(&self, vm: u64, guest: &Guest) -> Bytes {
        let own = workload::seed_of(self.seed, vm) % 100;
        workload::per_mille(guest.disks, DISK_USED_PERMILLE + own)
    }

    fn describe<T>(&self, vm: VmId, describe: impl FnOnce(&Guest) -> T) -> Result<T, Fault> {
        let guests = self.guests();
        let guest = guests.get(&vm.raw());
        guest.map(describe).ok_or_else(|| Fault::not_found(format_args!("{vm} on this host")))
    }

    fn refusal(&self, vm: VmId, what: &str) -> Fault {
        match self.describe(vm, |guest| guest.name.clone()) {
            Ok(name) => Fault::unsupported(format!("{name} is simulated and has no {what}")),
            Err(fault) => fault,
        }
    }
}

/// The VM that a request brings along, for those requests that may be the first of a VM.
fn brings(request: &Request) -> Option<&VmSpec> {
    match request {
        Request::Create { spec, .. } | Request::Register(spec) | Request::PowerOn(spec) => {
            Some(spec)
        }
        Request::Delete { .. }
        | Request::Unregister
        | Request::PowerOff
        | Request::Shutdown
        | Request::Reset
        | Request::Suspend
        | Request::Migrate { .. }
        | Request::Relocate { .. }
        | Request::Snapshot { .. }
        | Request::Revert { .. }
        | Request::DeleteSnapshot { .. }
        | Request::Reconfigure { .. } => None,
    }
}

fn figure(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const fn power_word(power: PowerState) -> &'static str {
    match power {
        PowerState::Off => "powered off",
        PowerState::On => "powered on",
        PowerState::Suspended => "suspended",
    }
}

impl Driver for Simulated {
    fn kind(&self) -> DriverKind {
        DriverKind::Simulated
    }

    fn accelerator(&self) -> String {
        "simulated: guests are made up from a seed, no guest code runs".to_owned()
    }

    async fn adopt(&self, known: Vec<Registration>) -> Vec<VmReport> {
        let mut guests = self.guests();
        let adopt = |Registration { spec, power }: Registration| {
            // None runs that was not started: that takes a lease.
            let power = if power == PowerState::On { PowerState::Off } else { power };
            let guest = guests.entry(spec.id.raw()).or_insert_with(|| Guest::new(&spec, power));
            guest.report(spec.id)
        };
        known.into_iter().map(adopt).collect()
    }

    async fn perform(
        &self,
        vm: VmId,
        current: Option<VmSpec>,
        request: Request,
        _course: Course,
    ) -> Result<PowerState, Fault> {
        let power_on = matches!(request, Request::Create { power_on: true, .. });
        let power = self.apply(vm, current.as_ref(), &request)?;
        match brings(&request) {
            Some(spec) if power_on => {
                self.apply(vm, current.as_ref(), &Request::PowerOn(spec.clone()))
            }
            Some(_) | None => Ok(power),
        }
    }

    async fn kill(&self, vm: VmId) -> Result<(), Fault> {
        if let Some(guest) = self.guests().get_mut(&vm.raw()) {
            guest.power = PowerState::Off;
        }
        Ok(())
    }

    fn runs(&self, vm: VmId) -> bool {
        self.guests().get(&vm.raw()).is_some_and(|guest| guest.power == PowerState::On)
    }

    async fn disk_in_use(&self, _spec: &VmSpec) -> Result<bool, Fault> {
        // It has no disks.
        Ok(false)
    }

    async fn next_event(&self) -> VmEvent {
        match self.happened.lock().await.recv().await {
            Some(event) => event,
            // This struct holds a sender, so that the channel never ends.
            None => std::future::pending().await,
        }
    }

    async fn sample(&self) -> Vec<VmSample> {
        self.sample_at(clock::now())
    }

    async fn balloon(&self, vm: VmId, size: Bytes) -> Result<(), Fault> {
        let mut guests = self.guests();
        let guest = guests.get_mut(&vm.raw()).filter(|guest| guest.power == PowerState::On);
        let guest = guest.ok_or_else(|| {
            Fault::new(FaultCode::InvalidPowerState, format!("{vm} is not powered on"))
        })?;
        guest.ballooned = Bytes::new(guest.memory.get().saturating_sub(size.get()));
        Ok(())
    }

    async fn console(&self, vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        Err(self.refusal(vm, "console; ask for its screenshot"))
    }

    async fn serial(&self, vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        Err(self.refusal(vm, "serial port; ask for its serial log"))
    }

    async fn serial_log(&self, vm: VmId) -> Result<Vec<u8>, Fault> {
        self.describe(vm, |guest| {
            let (name, power) = (&guest.name, power_word(guest.power));
            let (vcpus, memory) = (guest.vcpus, guest.memory);
            format!(
                "racknest simulated guest: {name} ({vm})\r\n\
                 no guest code runs; its figures are made up from a seed\r\n\
                 {vcpus} vCPU, {memory}, {power}\r\n"
            )
            .into_bytes()
        })
    }

    async fn storage_changed(&self) {
        // Guests without disks wait for none.
    }

    async fn screenshot(&self, vm: VmId) -> Result<Vec<u8>, Fault> {
        let (name, power) = self.describe(vm, |guest| (guest.name.clone(), guest.power))?;
        screen::draw(&["simulated: no guest code runs", "", &name, power_word(power)])
    }
}

#[cfg(test)]
mod tests;
