//! Admission control: what is kept free for failures is not given to VMs that are powered on.
//!
//! The policies and their figures are [`crate::drs::admission`]'s. They are asked on the cluster as it
//! would be with the VM running, so a refusal tells the figures that speak against it. HA's own
//! restarts are not asked: that is what the room was kept for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, PoolId, VmId};

use crate::drs::Cluster;
use crate::drs::admission::standing;
use crate::inventory::Inventory;
use crate::record::cluster::ClusterRecord;
use crate::record::ha::AdmissionPolicy;
use crate::record::vm::{VmConfig, VmRecord};

/// A cluster whose policy was not met, and how it would stand.
struct Refusal {
    policy: &'static str,
    told: String,
}

impl Inventory {
    /// Whether the cluster keeps free what it should with this VM running.
    ///
    /// # Errors
    /// It would not; the fault names the policy and its figures.
    pub(in crate::inventory) fn check_admission(&self, vm: &VmRecord) -> Result<(), Fault> {
        self.check_admission_at(vm, vm.host)
    }

    /// The same, with the VM on this host, which may be one of another cluster.
    ///
    /// # Errors
    /// As [`Self::check_admission`].
    pub(in crate::inventory) fn check_admission_at(
        &self,
        vm: &VmRecord,
        host: HostId,
    ) -> Result<(), Fault> {
        let host = self.host(host)?;
        let record = self.cluster(host.cluster)?;
        self.check_kept_free(record, host.id, &vm.name)?;
        let Some(mut cluster) = self.admission_snapshot(record)? else { return Ok(()) };
        match cluster.vm_mut(vm.id) {
            Some(vm) => vm.is_powered_on = true,
            None => {
                let newcomer = self.drs_newcomer(record, host.id, None, &vm.config);
                cluster.vms.push(crate::drs::Vm { is_powered_on: true, ..newcomer });
            }
        }
        refusal(record, &cluster).map_or(Ok(()), |why| Err(refused(record, &vm.name, &why)))
    }

    /// Whether a VM that is made like this may be started at once: what is reserved for it is to be
    /// had, and the cluster keeps free what it should.
    ///
    /// # Errors
    /// It may not; the fault tells the figures.
    pub(in crate::inventory) fn check_start(
        &self,
        name: &str,
        pool: PoolId,
        host: HostId,
        config: &VmConfig,
    ) -> Result<(), Fault> {
        self.check_pool(name, None, pool, config)?;
        let record = self.cluster(self.host(host)?.cluster)?;
        self.check_kept_free(record, host, name)?;
        let Some(mut cluster) = self.admission_snapshot(record)? else { return Ok(()) };
        let newcomer = self.drs_newcomer(record, host, Some(pool), config);
        cluster.vms.push(crate::drs::Vm { is_powered_on: true, ..newcomer });
        refusal(record, &cluster).map_or(Ok(()), |why| Err(refused(record, name, &why)))
    }

    /// How many of `count` VMs that are made like this may run, beside those that do.
    ///
    /// # Errors
    /// Not all of them; the fault tells how many, and the figures with all.
    pub(in crate::inventory) fn check_start_of_many(
        &self,
        id: ClusterId,
        host: HostId,
        config: &VmConfig,
        count: u32,
    ) -> Result<(), Fault> {
        let record = self.cluster(id)?;
        let Some(cluster) = self.admission_snapshot(record)? else { return Ok(()) };
        let newcomer = self.drs_newcomer(record, host, None, config);
        let newcomer = crate::drs::Vm { is_powered_on: true, ..newcomer };
        let mut room = Room { record, cluster, there: 0, newcomer };
        room.there = room.cluster.vms.len();
        let Some(why) = room.refuses(count) else { return Ok(()) };
        let (mut fit, mut too_many) = (0, count);
        while too_many - fit > 1 {
            let half = fit + (too_many - fit) / 2;
            match room.refuses(half) {
                None => fit = half,
                Some(_) => too_many = half,
            }
        }
        Err(Fault::new(
            FaultCode::InsufficientResources,
            format!(
                "admission control of cluster '{}' ({}) refuses to power on {count} VMs: with them, \
                 {}; {fit} of them would be admitted: make fewer, or leave them powered off",
                record.name, why.policy, why.told
            ),
        ))
    }

    /// The VMs of a list that may run together with all that do, taken in this order, and why not
    /// the others.
    pub(in crate::inventory) fn admit_in_order(
        &self,
        id: ClusterId,
        vms: &[VmId],
    ) -> Result<Vec<(VmId, Fault)>, Fault> {
        let record = self.cluster(id)?;
        let mut out = Vec::new();
        let Some(mut cluster) = self.admission_snapshot(record)? else { return Ok(out) };
        for vm in vms {
            let set = |cluster: &mut Cluster, on| {
                cluster.vm_mut(*vm).into_iter().for_each(|vm| vm.is_powered_on = on);
            };
            set(&mut cluster, true);
            if let Some(why) = refusal(record, &cluster) {
                set(&mut cluster, false);
                out.push((*vm, refused(record, &self.name((*vm).into()), &why)));
            }
        }
        Ok(out)
    }

    /// Nothing starts on a host that is kept free before others fail.
    fn check_kept_free(&self, record: &ClusterRecord, host: HostId, vm: &str) -> Result<(), Fault> {
        let host = self.host(host)?;
        let AdmissionPolicy::FailoverHosts(names) = &record.ha.admission else { return Ok(()) };
        if !record.ha.enabled || !names.contains(&host.name) {
            return Ok(());
        }
        let told = format!("host '{}' is kept free; move it to another", host.name);
        Err(refused(record, vm, &Refusal { policy: "failover hosts", told }))
    }

    /// The cluster, if its policy depends on what runs.
    fn admission_snapshot(&self, record: &ClusterRecord) -> Result<Option<Cluster>, Fault> {
        match &record.ha.admission {
            AdmissionPolicy::Slots { .. } | AdmissionPolicy::Percentage { .. }
                if record.ha.enabled =>
            {
                self.drs_cluster(record.id).map(Some)
            }
            // That failover hosts run something is no other VM's doing.
            AdmissionPolicy::Slots { .. }
            | AdmissionPolicy::Percentage { .. }
            | AdmissionPolicy::Off
            | AdmissionPolicy::FailoverHosts(_) => Ok(None),
        }
    }
}

/// A cluster, and how many equal VMs it would admit.
struct Room<'a> {
    record: &'a ClusterRecord,
    cluster: Cluster,
    there: usize,
    newcomer: crate::drs::Vm,
}

impl Room<'_> {
    fn refuses(&mut self, count: u32) -> Option<Refusal> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.cluster.vms.resize(self.there.saturating_add(count), self.newcomer.clone());
        refusal(self.record, &self.cluster)
    }
}

fn refusal(record: &ClusterRecord, cluster: &Cluster) -> Option<Refusal> {
    let policy = match &record.ha.admission {
        AdmissionPolicy::Slots { .. } => "slots",
        AdmissionPolicy::Percentage { .. } => "percentage",
        AdmissionPolicy::Off | AdmissionPolicy::FailoverHosts(_) => return None,
    };
    let found = standing(&record.ha.admission, cluster);
    (!found.is_met).then_some(Refusal { policy, told: found.told })
}

fn refused(record: &ClusterRecord, vm: &str, why: &Refusal) -> Fault {
    let with = if why.policy == "failover hosts" { "" } else { "with it, " };
    Fault::new(
        FaultCode::InsufficientResources,
        format!(
            "admission control of cluster '{}' ({}) refuses to power on VM '{vm}': {with}{}",
            record.name, why.policy, why.told
        ),
    )
}
