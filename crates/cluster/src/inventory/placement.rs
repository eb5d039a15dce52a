//! Where a new VM goes: the host that is least full with it, among those that can take it.
//!
//! A host is as full as the scarcer of its claimed cores and memory, by what is promised to the VMs
//! registered on it ([`crate::drs::placement`]). More may be promised than is claimed (that is what a
//! lab does), so no host is ever full; one VM alone must fit.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId, NetworkId, VmId};

use super::Inventory;
use super::drs::snapshot::is_kept_free;
use super::health::ailments;
use crate::drs::Load;
use crate::drs::placement as planner;
use crate::drs::rules::Rules;
use crate::record::host::{HostConnection, HostPower, HostRecord, Maintenance};
use crate::record::vm::VmConfig;

/// What a VM needs of a host.
#[derive(Clone, Debug)]
pub(super) struct Need<'a> {
    pub(super) cluster: ClusterId,
    pub(super) datastore: &'a str,
    pub(super) vcpus: u16,
    pub(super) memory: Bytes,
    /// The networks that its adapters are attached to.
    pub(super) networks: Vec<NetworkId>,
    /// It runs there: then it needs what it reserves, too.
    pub(super) runs: Option<Runs<'a>>,
}

/// A VM that runs where it is placed, or is to be started there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs<'a> {
    pub(super) name: &'a str,
    /// Its id, if it has one yet.
    pub(super) vm: Option<VmId>,
    pub(super) config: &'a VmConfig,
}

impl Inventory {
    /// The host with most room.
    ///
    /// # Errors
    /// None can take the VM; the fault says why the first of them cannot.
    pub(super) fn place(&self, need: &Need<'_>) -> Result<HostId, Fault> {
        let takes = |id: HostId| {
            self.hosts.get(&id).is_some_and(|host| self.obstacle(host, need).is_none())
        };
        let planned = planner::Need {
            // It has no id yet, so that no rule speaks of it.
            vm: VmId::from_raw(0),
            vcpus: need.vcpus.into(),
            memory_mib: need.memory.mib(),
            load: Load { cpu: need.vcpus.into(), memory: need.memory.mib() },
            guaranteed: Load::default(),
            datastores: Vec::new(),
        };
        let rooms = self.index.rooms(need.cluster);
        let ranked =
            rooms.map(|rooms| rooms.rank_among(&planned, &Rules::default(), &|_| None, &takes));
        match ranked {
            Some(Ok(ranked)) if !ranked.is_empty() => Ok(ranked[0].host),
            Some(Ok(_) | Err(_)) | None => Err(self.nowhere(need)),
        }
    }

    /// Whether this host can take the VM.
    ///
    /// # Errors
    /// It cannot, and why.
    pub(super) fn check_placement(&self, host: HostId, need: &Need<'_>) -> Result<(), Fault> {
        let host = self.host(host)?;
        if host.cluster != need.cluster {
            return Err(Fault::invalid(format!(
                "host '{}' is not in {}",
                host.name,
                self.describe(need.cluster.into())
            )));
        }
        match self.obstacle(host, need) {
            None => Ok(()),
            Some((code, reason)) => Err(Fault::new(code, reason)),
        }
    }

    fn obstacle(&self, host: &HostRecord, need: &Need<'_>) -> Option<(FaultCode, String)> {
        let name = &host.name;
        if host.power != HostPower::On {
            let reason = format!("host '{name}' is in standby");
            return Some((FaultCode::HostNotConnected, reason));
        }
        if host.connection != HostConnection::Connected {
            let reason = format!("host '{name}' does not answer");
            return Some((FaultCode::HostNotConnected, reason));
        }
        if host.maintenance != Maintenance::Off {
            return Some((FaultCode::InvalidState, format!("host '{name}' is in maintenance")));
        }
        if self.is_quarantined(host) {
            let reason = format!("host '{name}' is quarantined, because {}", ailments(host));
            return Some((FaultCode::InvalidState, reason));
        }
        if need.memory > host.claim.memory || u32::from(need.vcpus) > host.claim.cores {
            let reason = format!(
                "host '{name}' has {} cores and {}, the VM needs {} and {}",
                host.claim.cores, host.claim.memory, need.vcpus, need.memory
            );
            return Some((FaultCode::InsufficientResources, reason));
        }
        let mounted = |id| self.datastores.get(id).is_some_and(|it| it.name == need.datastore);
        if !host.datastores.iter().any(mounted) {
            let reason = format!("host '{name}' has not mounted datastore '{}'", need.datastore);
            return Some((FaultCode::InvalidState, reason));
        }
        if let Some(reason) = need.networks.iter().find_map(|id| self.why_not_on(*id, host)) {
            return Some((FaultCode::InvalidState, reason));
        }
        if self.clusters.get(&host.cluster).is_some_and(|it| is_kept_free(it, host)) {
            let reason = format!("host '{name}' is kept free for what fails elsewhere");
            return Some((FaultCode::InvalidState, reason));
        }
        let Runs { name, vm, config } = need.runs?;
        let fault = self.check_host_gives(name, vm, host.id, config).err()?;
        Some((fault.code, fault.message))
    }

    fn nowhere(&self, need: &Need<'_>) -> Fault {
        let cluster = self.describe(need.cluster.into());
        match self.hosts_of(need.cluster).find_map(|host| self.obstacle(host, need)) {
            None => Fault::new(
                FaultCode::InsufficientResources,
                format!("{cluster} has no hosts; add one first"),
            ),
            Some((_, reason)) => Fault::new(
                FaultCode::InsufficientResources,
                format!("no host of {cluster} can take the VM: {reason}"),
            ),
        }
    }
}
