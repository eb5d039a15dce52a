//! A simulated guest moves to another datastore: nothing is copied, but it takes the time that
//! copying would, on a model of a datastore that writes 2 GiB a second.

use std::time::Duration;

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::record::vm::PowerState;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};

use super::Simulated;
use crate::vm::Course;
use crate::vm::relocate::{Relocate, Relocation};

/// What the modelled datastore writes in a second.
const MIB_PER_SECOND: u64 = 2048;

/// In so many parts the time is told.
const PARTS: u8 = 10;

impl Simulated {
    fn power_of(&self, way: &Relocation) -> Result<PowerState, Fault> {
        self.describe(way.from.id, |guest| guest.power)
    }
}

impl Relocate for Simulated {
    async fn copy_home(&self, way: &Relocation, mut course: Course) -> Result<Bytes, Fault> {
        let vm = way.from.id;
        let bytes = self.describe(vm, |guest| self.disk_used(vm.raw(), guest))?;
        let rate = way.limits.mib_per_second.map_or(MIB_PER_SECOND, u64::from).max(1);
        let part = Duration::from_millis(bytes.mib() * 1000 / rate) / u32::from(PARTS);
        for number in 1..=PARTS {
            tokio::select! {
                () = tokio::time::sleep(part) => {}
                Ok(_) = course.cancelled.wait_for(|cancelled| *cancelled) => {
                    let line =
                        format!("the move of {} was cancelled; it is where it was", way.from.name);
                    return Err(Fault::new(FaultCode::RequestCanceled, line));
                }
            }
            // Nobody may be listening any more.
            let _ = course.percent.send(number * (99 / PARTS));
        }
        Ok(bytes)
    }

    async fn switch_home(&self, _way: &Relocation) -> Result<(), Fault> {
        Ok(())
    }

    async fn is_switched(&self, _way: &Relocation) -> Result<bool, Fault> {
        // It has no disks.
        Ok(false)
    }

    async fn run_at_new_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        self.power_of(way)
    }

    async fn give_up_home(&self, way: &Relocation) -> Result<PowerState, Fault> {
        self.power_of(way)
    }

    async fn clear_home(&self, _home: &DatastorePath) -> Result<(), Fault> {
        Ok(())
    }
}
