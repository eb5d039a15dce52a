//! Hosts: adding, removing, maintenance, and whether they answer.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, HostId};
use racknest_types::time::Timestamp;

use super::{Action, Inventory, check_name_form};
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::ha::HostHa;
use crate::record::host::{
    Claim, DriverKind, HostAbout, HostConnection, HostPower, HostRecord, Maintenance,
};
use crate::record::vmkernel::VmkernelAdapter;

/// A host to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddHost {
    /// Its name, which is its address on the underlay.
    pub name: String,
    /// The cluster it joins; `None` for the only one.
    pub cluster: Option<ClusterId>,
    /// What it says it has; its agent says it again when it connects.
    pub claim: Claim,
    /// What runs its VMs.
    pub driver: DriverKind,
    /// Its physical NICs.
    pub nics: Vec<String>,
    /// The rack it stands in.
    pub rack: String,
}

impl Inventory {
    /// Adds a host to a cluster. The manager connects to it from then on.
    ///
    /// # Errors
    /// The name is taken or cannot be an address, or it claims nothing.
    pub fn host_add(&mut self, now: Timestamp, user: &str, add: AddHost) -> Result<HostId, Fault> {
        let cluster = self.cluster_or_default(add.cluster)?;
        check_name_form(&add.name)?;
        if let Some(other) = self.hosts.values().find(|host| host.name == add.name) {
            return Err(Fault::new(
                FaultCode::DuplicateName,
                format!("host '{}' exists already ({})", add.name, self.path(other.id.into())),
            ));
        }
        self.check_name(cluster.into(), &add.name)?;
        if add.claim.cores == 0 || add.claim.core_mhz == 0 || add.claim.memory.mib() == 0 {
            return Err(Fault::invalid(format!(
                "host '{}' claims no CPU or no memory; give at least one core and 1 MiB",
                add.name
            )));
        }
        let id = HostId::from_raw(self.next_id());
        let record = HostRecord {
            id,
            name: add.name.clone(),
            cluster,
            claim: add.claim,
            driver: add.driver,
            nics: add.nics,
            rack: add.rack,
            datastores: self.datastores.keys().copied().collect(),
            connection: HostConnection::NotResponding,
            connection_changed: now,
            maintenance: Maintenance::Off,
            about: HostAbout::default(),
            evacuated: Vec::new(),
            ha: HostHa::default(),
            power: HostPower::On,
            power_changed: now,
            ailing: BTreeMap::new(),
            adapters: [VmkernelAdapter::first()].into(),
            network_version: 0,
        };
        self.index.put_host(&record);
        self.hosts.insert(id, record);
        self.index.put_name(cluster.into(), &add.name, id);
        self.touch_created(id);
        self.ha_changed(cluster);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    /// Removes a host that has no VMs.
    ///
    /// # Errors
    /// VMs are registered on it.
    pub fn host_remove(&mut self, now: Timestamp, user: &str, id: HostId) -> Result<(), Fault> {
        let record = self.host(id)?.clone();
        if let Some(vm) = self.vms_on(id).next() {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "VM '{}' is registered on host '{}'; move or delete its VMs first",
                    vm.name, record.name
                ),
            ));
        }
        self.end_maintenance_task(now, id, &Fault::state("the host was removed"));
        self.end_power_task(now, id, Err(Fault::state("the host was removed")));
        self.record_event(now, user, id, EventKind::Removed, "");
        self.host_leaves_switches(now, user, id);
        self.index.drop_name(record.cluster.into(), &record.name);
        self.hosts.remove(&id);
        self.index.drop_host(id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        self.forget_host_in_groups(record.cluster, id);
        self.ha_forget_told(id);
        self.ha_changed(record.cluster);
        Ok(())
    }

    /// Moves a host, which is in maintenance and without VMs, to another cluster.
    ///
    /// # Errors
    /// It runs, VMs are registered on it, or the cluster is in another datacenter.
    pub fn host_move(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        cluster: ClusterId,
    ) -> Result<(), Fault> {
        let host = self.host(id)?.clone();
        self.check_same_datacenter(id.into(), cluster.into())?;
        if host.cluster == cluster {
            return Ok(());
        }
        if host.maintenance != Maintenance::On {
            return Err(Fault::state(format!(
                "host '{0}' is not in maintenance; empty it with 'racknest host maintenance enter {0}' \
                 first",
                host.name
            )));
        }
        if let Some(vm) = self.vms_on(id).next() {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "VM '{}' is registered on host '{}', and stays in its cluster; move it to another \
                     host first",
                    vm.name, host.name
                ),
            ));
        }
        self.check_name(cluster.into(), &host.name)?;
        self.index.drop_name(host.cluster.into(), &host.name);
        self.index.drop_host(id);
        self.forget_host_in_groups(host.cluster, id);
        let moved = HostRecord { cluster, evacuated: Vec::new(), ..host.clone() };
        self.index.put_host(&moved);
        self.index.put_name(cluster.into(), &moved.name, id);
        self.hosts.insert(id, moved);
        self.touch(id);
        self.ha_forget_told(id);
        self.ha_changed(host.cluster);
        self.ha_joined(cluster);
        let detail = format!("to {}", self.describe(cluster.into()));
        self.record_event(now, user, id, EventKind::Moved, detail);
        Ok(())
    }

    /// Lets the manager go of a host: its VMs run on, unmanaged, until it is connected again.
    ///
    /// # Errors
    /// It is not there.
    pub fn host_disconnect(&mut self, now: Timestamp, user: &str, id: HostId) -> Result<(), Fault> {
        self.host(id)?;
        if self.set_connection(now, id, HostConnection::Disconnected) {
            self.actions.push_back(Action::HangUp(id));
            let detail = "disconnected by a user";
            self.record_event(now, user, id, EventKind::HostConnectionLost, detail);
        }
        Ok(())
    }

    /// Has the manager connect to a host that was disconnected.
    ///
    /// # Errors
    /// It is not there.
    pub fn host_connect(&mut self, now: Timestamp, user: &str, id: HostId) -> Result<(), Fault> {
        if self.host(id)?.connection == HostConnection::Disconnected {
            self.set_connection(now, id, HostConnection::NotResponding);
            self.record_event(now, user, id, EventKind::Reconfigured, "connecting");
        }
        Ok(())
    }

    pub(super) fn set_connection(
        &mut self,
        now: Timestamp,
        id: HostId,
        connection: HostConnection,
    ) -> bool {
        match self.hosts.get_mut(&id) {
            Some(host) if host.connection != connection => {
                host.connection = connection;
                host.connection_changed = now;
                self.touch(id);
                true
            }
            _ => false,
        }
    }

    /// Whether a host can be asked for something now.
    #[must_use]
    pub fn is_connected(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.connection == HostConnection::Connected)
    }

    pub(super) fn check_connected(&self, id: HostId) -> Result<(), Fault> {
        let host = self.host(id)?;
        match host.connection {
            HostConnection::Connected => Ok(()),
            HostConnection::NotResponding if host.power != HostPower::On => Err(Fault::new(
                FaultCode::HostNotConnected,
                format!(
                    "host '{0}' is in standby; power it on with 'racknest host power-on {0}'",
                    host.name
                ),
            )),
            HostConnection::NotResponding => Err(Fault::new(
                FaultCode::HostNotConnected,
                format!("host '{}' does not answer; look at its power and cables", host.name),
            )),
            HostConnection::Disconnected => Err(Fault::new(
                FaultCode::HostNotConnected,
                format!(
                    "host '{0}' is disconnected; connect it with 'racknest host connect {0}'",
                    host.name
                ),
            )),
        }
    }

    /// Writes down a drill that somebody ran on a host (`HostFailed`, `LinkCut` …).
    ///
    /// # Errors
    /// The host is not there.
    pub fn host_drill(
        &mut self,
        now: Timestamp,
        user: &str,
        id: HostId,
        kind: EventKind,
        detail: &str,
    ) -> Result<(), Fault> {
        self.host(id)?;
        self.record_event(now, user, EntityRef::Host(id), kind, detail);
        Ok(())
    }
}
