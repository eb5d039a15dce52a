//! Networks: port groups.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{FolderId, NetworkId, SwitchId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::forward::check_forwards;
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::record::network::{
    Binding, NetworkPolicy, NetworkRecord, PrivatePart, Shaping, Teaming,
};
use crate::record::services::Services;
use crate::record::vm::VmRecord;

/// The highest VLAN: 4095 means all of them, and 0 none.
pub const VLAN_MAX: u16 = 4094;

/// The smallest payload that IPv4 asks of a link, and the largest that switches carry, in bytes.
pub(super) const MTU_RANGE: core::ops::RangeInclusive<u16> = 576..=9_000;

/// A change to a network; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditNetwork {
    /// Its name.
    pub name: Option<String>,
    /// Its VLAN.
    pub vlan: Option<u16>,
    /// What holds for its ports.
    pub policy: Option<NetworkPolicy>,
    /// What it does for its guests; the inner `None` for nothing.
    pub services: Option<Option<Services>>,
    /// When its ports come to be.
    pub binding: Option<Binding>,
}

/// A fenced copy of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyNetwork<'a> {
    /// The original.
    pub source: NetworkId,
    /// The folder it goes to; `None` for the original's.
    pub folder: Option<FolderId>,
    /// Its name.
    pub name: &'a str,
    /// Its VLAN; `None` for the lowest that is free.
    pub vlan: Option<u16>,
}

/// A network to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// The network folder it goes to; `None` for its switch's, or the only datacenter's.
    pub folder: Option<FolderId>,
    /// The VLAN its frames carry between hosts; 0 for untagged.
    pub vlan: u16,
    /// The switch that it is a part of; `None` for the one that takes all hosts.
    pub switch: Option<SwitchId>,
    /// When its ports come to be.
    pub binding: Binding,
}

impl Inventory {
    /// Makes a port group that spans all hosts of its datacenter.
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
        let new = NewNetwork { name: name.into(), folder, vlan, ..NewNetwork::default() };
        self.network_create_on(now, user, new)
    }

    /// Makes a port group of a switch.
    ///
    /// # Errors
    /// The name, the VLAN or the number of ports cannot be used, or the switch is in another
    /// datacenter.
    pub fn network_create_on(
        &mut self,
        now: Timestamp,
        user: &str,
        new: NewNetwork,
    ) -> Result<NetworkId, Fault> {
        let NewNetwork { name, folder, vlan, switch, binding } = new;
        let folder = match (folder, switch) {
            (None, Some(switch)) => self.switch(switch)?.folder,
            (folder, _) => self.folder_or_default(folder, FolderKind::Networks)?,
        };
        if let Some(switch) = switch {
            self.check_same_datacenter(folder.into(), self.switch(switch)?.folder.into())?;
        }
        self.check_name(folder.into(), &name)?;
        check_vlan(&name, vlan)?;
        let policy = NetworkPolicy::default();
        let mut record = NetworkRecord {
            // The last id of all: it is taken once nothing is wrong any more.
            id: NetworkId::from_raw(u64::MAX),
            name,
            folder,
            vlan,
            policy,
            switch,
            binding,
            services: None,
            forwards: Vec::new(),
        };
        self.check_binding(&record)?;
        self.check_policy_of_switch(&record)?;
        record.switch = switch.or_else(|| Some(self.default_switch(now, user, folder)));
        let id = NetworkId::from_raw(self.next_id());
        record.id = id;
        self.index.put_name(folder.into(), &record.name, id);
        self.switch_changed(record.switch);
        self.networks.insert(id, record);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        self.networks_stale = true;
        Ok(id)
    }

    /// Makes a fenced copy of a port group: the same policy, addresses and services on another VLAN,
    /// and no way to the original, so that copies of its guests can have the addresses that they had.
    ///
    /// # Errors
    /// The name or the VLAN cannot be used, or the original is a part of a private VLAN.
    pub fn network_copy(
        &mut self,
        now: Timestamp,
        user: &str,
        copy: CopyNetwork<'_>,
    ) -> Result<NetworkId, Fault> {
        let source = self.network(copy.source)?.clone();
        Self::check_copied(&source)?;
        let vlan = copy.vlan.map_or_else(|| self.free_vlan(), Ok)?;
        let uses = self.networks.values().find(|other| other.vlan == vlan);
        if let Some(other) = uses {
            return Err(Fault::invalid(format!(
                "network '{}' has VLAN {vlan}: a copy of '{}' there would not be fenced; choose \
                 another",
                other.name, source.name
            )));
        }
        let folder = copy.folder.unwrap_or(source.folder);
        let new = NewNetwork {
            name: copy.name.into(),
            folder: Some(folder),
            vlan,
            switch: source.switch,
            binding: source.binding,
        };
        let id = self.network_create_on(now, user, new)?;
        if let Some(record) = self.networks.get_mut(&id) {
            record.policy = source.policy;
            record.services = source.services.map(|it| Services { routed: false, ..it });
        }
        Ok(id)
    }

    /// A part of a private VLAN means nothing without the others.
    pub(super) fn check_copied(source: &NetworkRecord) -> Result<(), Fault> {
        match source.policy.private {
            None => Ok(()),
            Some(_) => Err(Fault::invalid(format!(
                "network '{}' is a part of a private VLAN and cannot be copied",
                source.name
            ))),
        }
    }

    fn free_vlan(&self) -> Result<u16, Fault> {
        self.free_vlans().next().ok_or_else(|| {
            Fault::new(FaultCode::InsufficientResources, "every VLAN is some network's")
        })
    }

    /// The VLANs that are no network's.
    pub(super) fn free_vlans(&self) -> impl Iterator<Item = u16> {
        let parts = self.networks.values().filter_map(|it| match it.policy.private {
            Some(PrivatePart::Isolated(vlan) | PrivatePart::Community(vlan)) => Some(vlan),
            Some(PrivatePart::Promiscuous) | None => None,
        });
        let taken = self.networks.values().map(|it| it.vlan).chain(parts).collect::<BTreeSet<_>>();
        (1..=VLAN_MAX).filter(move |vlan| !taken.contains(vlan))
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
        let new = self.edited_network(id, edit)?;
        let old = self.network(id)?.clone();
        if new == old {
            return Ok(());
        }
        let is_other_binding = new.binding != old.binding;
        let is_settled = old.services == new.services;
        self.index.drop_name(old.folder.into(), &old.name);
        self.index.put_name(old.folder.into(), &new.name, id);
        self.switch_changed(new.switch);
        self.networks.insert(id, new);
        if is_other_binding {
            self.number_ports_of(id);
        }
        self.touch(id);
        self.record_event(now, user, id, EventKind::Reconfigured, "");
        if !is_settled {
            self.settle_network(id);
        }
        self.send_networks();
        Ok(())
    }

    /// A network as it is after a change, which is looked at and not made.
    pub(super) fn edited_network(
        &self,
        id: NetworkId,
        edit: EditNetwork,
    ) -> Result<NetworkRecord, Fault> {
        let old = self.network(id)?;
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
        if let Some(policy) = edit.policy {
            new.policy = policy;
        }
        if let Some(services) = edit.services {
            new.services = services;
        }
        new.binding = edit.binding.unwrap_or(old.binding);
        self.check_network_policy(&new)?;
        self.check_policy_of_switch(&new)?;
        self.check_binding(&new)?;
        self.check_services(&new)?;
        check_forwards(&new)?;
        Ok(new)
    }

    /// Whether its switch carries what a network asks for.
    fn check_policy_of_switch(&self, network: &NetworkRecord) -> Result<(), Fault> {
        let Some(switch) = network.switch.and_then(|id| self.switches.get(&id)) else {
            return Ok(());
        };
        if network.policy.mtu > switch.mtu {
            return Err(Fault::invalid(format!(
                "network '{}': an MTU of {} does not pass by switch '{}', whose MTU is {}; make that \
                 larger first",
                network.name, network.policy.mtu, switch.name, switch.mtu
            )));
        }
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
        self.network(id)?;
        self.check_network_unused(id, "deleted")?;
        self.check_no_adapter(id)?;
        self.check_not_in_rules(id)?;
        self.remove_network(now, user, id);
        self.send_networks();
        Ok(())
    }

    pub(super) fn remove_network(&mut self, now: Timestamp, user: &str, id: NetworkId) {
        self.record_event(now, user, id, EventKind::Removed, "");
        if let Some(record) = self.networks.remove(&id) {
            self.index.drop_name(record.folder.into(), &record.name);
            self.switch_changed(record.switch);
        }
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
    }

    /// Refuses a policy that no switch could keep.
    fn check_network_policy(&self, network: &NetworkRecord) -> Result<(), Fault> {
        let NetworkRecord { name, vlan, policy, .. } = network;
        let refuse = |why: String| Err(Fault::invalid(format!("network '{name}': {why}")));
        if !MTU_RANGE.contains(&policy.mtu) {
            let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
            return refuse(format!("an MTU is from {least} to {most} bytes, not {}", policy.mtu));
        }
        if policy.broadcast_limit == Some(0) || policy.multicast_limit == Some(0) {
            return refuse("a limit is 1 frame a second or more".into());
        }
        for shaping in policy.shaping_in.iter().chain(&policy.shaping_out) {
            let Shaping { average_kbps, peak_kbps, burst_kib } = *shaping;
            if average_kbps == 0 || burst_kib == 0 || peak_kbps < average_kbps {
                return refuse(
                    "shaping needs an average and a burst above 0, and a peak not below the average"
                        .into(),
                );
            }
        }
        let is_bad = |(first, last): &(u16, u16)| *first == 0 || first > last || *last > VLAN_MAX;
        if policy.trunk.iter().any(is_bad) {
            return refuse(format!("a trunk's VLANs are from 1 to {VLAN_MAX}"));
        }
        if let Some(part) = policy.private {
            if *vlan == 0 || !policy.trunk.is_empty() {
                return refuse("a private VLAN needs a VLAN of its own and is no trunk".into());
            }
            self.check_part(network, part)?;
        }
        let Teaming { active, standby, .. } = &policy.teaming;
        match active.iter().find(|nic| standby.contains(nic)) {
            Some(nic) => refuse(format!("NIC '{nic}' is either active or standby")),
            None => Ok(()),
        }
    }

    /// The VLAN of a part belongs to one private VLAN, and to no other network.
    fn check_part(&self, network: &NetworkRecord, part: PrivatePart) -> Result<(), Fault> {
        let (PrivatePart::Isolated(own) | PrivatePart::Community(own)) = part else {
            return Ok(());
        };
        check_vlan(&network.name, own)?;
        let is_other = |other: &&NetworkRecord| {
            if other.id == network.id {
                return false;
            }
            match other.policy.private {
                Some(PrivatePart::Isolated(theirs) | PrivatePart::Community(theirs)) => {
                    other.vlan == own || (theirs == own && other.vlan != network.vlan)
                }
                Some(PrivatePart::Promiscuous) | None => other.vlan == own,
            }
        };
        let is_itself = own == 0 || own == network.vlan;
        let other = self.networks.values().find(is_other).filter(|_| !is_itself);
        if is_itself || other.is_some() {
            let whose = other.map_or_else(
                || "it is the private VLAN itself".into(),
                |other| format!("network '{}' has it", other.name),
            );
            return Err(Fault::invalid(format!(
                "network '{}': VLAN {own} cannot be a part of private VLAN {}: {whose}",
                network.name, network.vlan
            )));
        }
        Ok(())
    }

    /// The VMs with an adapter on a network.
    pub fn vms_attached(&self, id: NetworkId) -> impl Iterator<Item = &VmRecord> {
        self.vms.values().filter(move |vm| vm.config.nics.iter().any(|nic| nic.network == id))
    }

    fn check_no_adapter(&self, id: NetworkId) -> Result<(), Fault> {
        match self.vmkernel_on(id) {
            None => Ok(()),
            Some((host, adapter)) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{adapter} of host '{host}' is attached to {}; it cannot be deleted",
                    self.describe(id.into())
                ),
            )),
        }
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
