//! Admission control: what is kept free for failures is not given to VMs that are powered on.
//!
//! The policies and their figures are [`crate::drs::admission`]'s. They are asked on the cluster as it
//! would be with the VM running, so a refusal tells the figures that speak against it. HA's own
//! restarts are not asked: that is what the room was kept for.

use alloc::format;

use racknest_types::fault::{Fault, FaultCode};

use crate::drs::admission::standing;
use crate::inventory::Inventory;
use crate::record::ha::AdmissionPolicy;
use crate::record::vm::VmRecord;

impl Inventory {
    /// Whether the cluster keeps free what it should with this VM running.
    ///
    /// # Errors
    /// It would not; the fault names the policy and its figures.
    pub(in crate::inventory) fn check_admission(&self, vm: &VmRecord) -> Result<(), Fault> {
        let host = self.host(vm.host)?;
        let record = self.cluster(host.cluster)?;
        if !record.ha.enabled {
            return Ok(());
        }
        let refused = |policy: &str, why: &str| {
            Fault::new(
                FaultCode::InsufficientResources,
                format!(
                    "admission control of cluster '{}' ({policy}) refuses to power on VM '{}': {why}",
                    record.name, vm.name
                ),
            )
        };
        let policy = match &record.ha.admission {
            AdmissionPolicy::Off => return Ok(()),
            AdmissionPolicy::FailoverHosts(names) => {
                // That the others run nothing is not this VM's doing.
                if !names.contains(&host.name) {
                    return Ok(());
                }
                let why = format!("host '{}' is kept free; move it to another", host.name);
                return Err(refused("failover hosts", &why));
            }
            AdmissionPolicy::Slots { .. } => "slots",
            AdmissionPolicy::Percentage { .. } => "percentage",
        };
        let mut cluster = self.drs_cluster(record.id)?;
        if let Some(vm) = cluster.vm_mut(vm.id) {
            vm.is_powered_on = true;
        }
        let found = standing(&record.ha.admission, &cluster);
        if found.is_met {
            return Ok(());
        }
        Err(refused(policy, &format!("with it, {}", found.told)))
    }
}
