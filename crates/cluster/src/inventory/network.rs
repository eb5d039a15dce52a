//! Networks: port groups.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{FolderId, NetworkId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::record::network::NetworkRecord;
use crate::record::vm::VmRecord;

/// The highest VLAN: 4095 means all of them, and 0 none.
pub const VLAN_MAX: u16 = 4094;

/// A change to a network; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditNetwork {
    /// Its name.
    pub name: Option<String>,
    /// Its VLAN.
    pub vlan: Option<u16>,
}

impl Inventory {
    /// Makes a port group that spans all hosts.
    ///
    /// # Errors
    /// The name or the VLAN cannot be used.
    pub fn network_create(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        name: &str,
        vlan: u16,
    ) -> Result<NetworkId, Fault> {
        let folder = self.folder_or_default(folder, FolderKind::Networks)?;
        self.check_name(folder.into(), name)?;
        check_vlan(name, vlan)?;
        let id = NetworkId::from_raw(self.next_id());
        self.networks.insert(id, NetworkRecord { id, name: name.into(), folder, vlan });
        self.index.put_name(folder.into(), name, id);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        Ok(id)
    }

    /// Changes a port group.
    ///
    /// # Errors
    /// The name or VLAN cannot be used, or VMs that run would change their VLAN under way.
    pub fn network_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: NetworkId,
        edit: EditNetwork,
    ) -> Result<(), Fault> {
        let old = self.network(id)?.clone();
        let mut new = old.clone();
        if let Some(name) = edit.name.filter(|name| *name != old.name) {
            self.check_name(old.folder.into(), &name)?;
            new.name = name;
        }
        if let Some(vlan) = edit.vlan.filter(|vlan| *vlan != old.vlan) {
            check_vlan(&old.name, vlan)?;
            self.check_network_unused(id, "given another VLAN")?;
            new.vlan = vlan;
        }
        if new == old {
            return Ok(());
        }
        self.index.drop_name(old.folder.into(), &old.name);
        self.index.put_name(old.folder.into(), &new.name, id);
        self.networks.insert(id, new);
        self.touch(id);
        self.record_event(now, user, id, EventKind::Reconfigured, "");
        Ok(())
    }

    /// Deletes a port group that no VM is attached to.
    ///
    /// # Errors
    /// A VM is.
    pub fn network_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        id: NetworkId,
    ) -> Result<(), Fault> {
        let record = self.network(id)?.clone();
        self.check_network_unused(id, "deleted")?;
        self.record_event(now, user, id, EventKind::Removed, "");
        self.index.drop_name(record.folder.into(), &record.name);
        self.networks.remove(&id);
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
        Ok(())
    }

    /// The VMs with an adapter on a network.
    pub fn vms_attached(&self, id: NetworkId) -> impl Iterator<Item = &VmRecord> {
        self.vms.values().filter(move |vm| vm.config.nics.iter().any(|nic| nic.network == id))
    }

    fn check_network_unused(&self, id: NetworkId, verb: &str) -> Result<(), Fault> {
        match self.vms_attached(id).next() {
            None => Ok(()),
            Some(vm) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "VM '{}' is attached to {}; it cannot be {verb}",
                    vm.name,
                    self.describe(id.into())
                ),
            )),
        }
    }
}

fn check_vlan(name: &str, vlan: u16) -> Result<(), Fault> {
    if vlan > VLAN_MAX {
        return Err(Fault::invalid(format!(
            "network '{name}': a VLAN is from 1 to {VLAN_MAX}, or 0 for untagged, not {vlan}"
        )));
    }
    Ok(())
}
