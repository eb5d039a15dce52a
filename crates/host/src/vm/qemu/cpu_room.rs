//! Whether QEMU's emulation has room for another CPU.
//!
//! TCG keeps the code that it has translated in one buffer, cut into regions. A CPU fills one after
//! the other, and only when all are full is the buffer emptied. A CPU that is added needs a region of
//! its own at once; where none is left, QEMU does not refuse: it aborts, and the VM is gone. So the
//! guest is held, the buffer is looked at, and the CPU is added only where a region is free.

use qapi::qmp::human_monitor_command;
use racknest_types::fault::Fault;

use super::command_line::{ADDABLE_VCPUS, translation_mib};
use super::machine::Machine;
use super::record::Hardware;

/// Shows how full the buffer is: `gen code size       20335795/25104384`.
const SHOW_BUFFER: &str = "info jit";

/// What stands before the two numbers.
const FILLED: &str = "gen code size";

/// QEMU makes no smaller region, unless the CPUs are more than the regions would be.
const REGION_MIB: u64 = 2;

/// QEMU makes at most so many regions for each CPU.
const REGIONS_PER_CPU_MAX: u64 = 8;

/// What QEMU leaves free at the end of a region, in bytes.
const REGION_END: u64 = 1024;

/// Refuses CPUs for which no region is free. The guest is held, so that it fills no more of them.
pub(super) async fn check(machine: &Machine, cpus: u16) -> Result<(), Fault> {
    let command_line = SHOW_BUFFER.to_owned();
    let shown = machine.qmp.execute(human_monitor_command { command_line, cpu_index: None }).await;
    let shown = shown.map_err(|error| error.fault(&machine.name))?;
    let free = free_regions(&machine.hardware(), &shown);
    if free.is_some_and(|free| free >= u64::from(cpus)) {
        return Ok(());
    }
    let name = &machine.name;
    Err(Fault::unsupported(format!(
        "QEMU's emulation (TCG) has no room left for the code of more CPUs of {name}; try again \
         later, or power {name} off first"
    )))
}

/// How many regions no CPU has begun to fill, at least.
fn free_regions(hardware: &Hardware, shown: &str) -> Option<u64> {
    let line = shown.lines().find_map(|line| line.trim().strip_prefix(FILLED))?;
    let (filled, size) = line.trim().split_once('/')?;
    let (filled, size) = (filled.trim().parse::<u64>().ok()?, size.trim().parse::<u64>().ok()?);
    let cpus_max = u64::from(hardware.vcpus.max(ADDABLE_VCPUS));
    let regions = match translation_mib(hardware.memory.mib()) / REGION_MIB {
        few if few <= cpus_max => cpus_max,
        many => many.min(cpus_max * REGIONS_PER_CPU_MAX),
    };
    let region = (size / regions).saturating_sub(REGION_END).max(1);
    // Each CPU has one that it has begun, and the rest of what is filled are whole ones.
    let begun = filled / region + u64::from(hardware.vcpus_now());
    Some(regions.saturating_sub(begun))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use racknest_types::bytes::Bytes;

    use super::*;

    fn free(filled: u64, vcpus: u16) -> Option<u64> {
        let hardware = Hardware {
            machine: "pc".to_owned(),
            vcpus,
            added_vcpus: 0,
            memory: Bytes::from_mib(128),
            added_memory: Vec::new(),
            disk_slots: BTreeMap::new(),
            nic_slots: BTreeMap::new(),
            shares_memory: false,
        };
        let shown = format!("Translation buffer state:\ngen code size       {filled}/25104384\nTB");
        free_regions(&hardware, &shown)
    }

    #[test]
    fn regions_that_cpus_have_begun_are_not_free() {
        // 24 MiB in 12 regions.
        assert_eq!(free(0, 1), Some(11));
        assert_eq!(free(20_335_795, 1), Some(2));
        assert_eq!(free(24_900_000, 1), Some(0));
        assert_eq!(free(0, 8), Some(4));
        let shown = "no numbers here";
        assert_eq!(shown.lines().find_map(|line| line.strip_prefix(FILLED)), None);
    }
}
