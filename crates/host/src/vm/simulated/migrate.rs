//! A simulated guest moves: nothing is sent, but it takes the time that sending would.
//!
//! The model is a link of 10 Gbit/s that carries what the guest has touched, twice over for what it
//! changes meanwhile. A guest's figures follow from its id, so they go on alike on the other host.

use std::time::Duration;

use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::VmSpec;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;

use super::guest::Guest;
use super::workload::{self, Shape};
use super::{Simulated, clock};
use crate::vm::migrate::{Migrate, Standing};
use crate::vm::{Course, Duplex};

/// What the modelled link carries in a second.
const MIB_PER_SECOND: u64 = 1192;

/// In so many parts the time is told.
const PARTS: u8 = 20;

/// How often memory is sent: once whole, once what changed, once what is left.
const ROUNDS: u32 = 3;

impl Simulated {
    /// The memory that a move of this guest sends.
    fn memory_to_send(&self, vm: VmId) -> Result<Bytes, Fault> {
        self.describe(vm, |guest| {
            let seed = workload::seed_of(self.seed, vm.raw());
            let shape = Shape { seed, memory: guest.memory };
            let load = workload::load(shape, &guest.workload, clock::now());
            load.memory_touched + load.memory_active
        })
    }

    fn hold(&self, vm: VmId, power: PowerState) -> Result<(), Fault> {
        let mut guests = self.guests();
        let guest = guests.get_mut(&vm.raw());
        let guest = guest.ok_or_else(|| Fault::not_found(format_args!("{vm} on this host")))?;
        guest.power = power;
        Ok(())
    }
}

impl Migrate for Simulated {
    async fn layout(&self, _spec: &VmSpec) -> Result<String, Fault> {
        Ok("simulated".to_owned())
    }

    async fn send_memory(
        &self,
        spec: &VmSpec,
        limits: MigrationLimits,
        door: Box<dyn Duplex>,
        mut course: Course,
    ) -> Result<(), Fault> {
        drop(door);
        let rate = limits.mib_per_second.map_or(MIB_PER_SECOND, u64::from).max(1);
        let millis = self.memory_to_send(spec.id)?.mib() * 1000 / rate;
        let part = Duration::from_millis(millis) / u32::from(PARTS);
        for number in 1..=PARTS {
            tokio::select! {
                () = tokio::time::sleep(part) => {}
                Ok(_) = course.cancelled.wait_for(|cancelled| *cancelled) => {
                    let line = format!("the move of {} was cancelled; it runs on here", spec.name);
                    return Err(Fault::new(FaultCode::RequestCanceled, line));
                }
            }
            // Nobody may be listening any more.
            let _ = course.percent.send(number * (99 / PARTS));
        }
        Ok(())
    }

    async fn switch_over(&self, spec: &VmSpec) -> Result<MigrationFigures, Fault> {
        let bytes = self.memory_to_send(spec.id)?.get();
        self.hold(spec.id, PowerState::Off)?;
        Ok(MigrationFigures { bytes, rounds: ROUNDS, ..MigrationFigures::default() })
    }

    async fn take_back(&self, spec: &VmSpec) -> Result<(), Fault> {
        self.hold(spec.id, PowerState::On)
    }

    async fn standing(&self, spec: &VmSpec) -> Result<Standing, Fault> {
        // Its guests end with the agent.
        let is_here = self.guests().contains_key(&spec.id.raw());
        Ok(if is_here { Standing::Here } else { Standing::Gone })
    }

    async fn let_go(&self, vm: VmId) -> Result<(), Fault> {
        self.guests().remove(&vm.raw());
        Ok(())
    }

    async fn expect(&self, spec: &VmSpec, _layout: &str) -> Result<(), Fault> {
        self.guests().insert(spec.id.raw(), Guest::new(spec, PowerState::Off));
        Ok(())
    }

    async fn memory_door(&self, _vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        Ok(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())))
    }

    async fn arrived(&self, _spec: &VmSpec) -> Result<(), Fault> {
        Ok(())
    }

    async fn take_over(&self, spec: &VmSpec) -> Result<(), Fault> {
        self.hold(spec.id, PowerState::On)
    }
}
