//! Taking a switch to another inventory, or back to what it was: with its port groups and policies.
//!
//! What is brought is made or changed until it is as it was written down; what is there besides
//! stays. So bringing it twice is bringing it once.
//!
//! It is played through on a copy first, which tells what would change and what would not work. Only
//! then is it done, so that an import that cannot be finished has changed nothing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::Fault;
use racknest_types::id::{FolderId, HostId, SwitchId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::network::{EditNetwork, NewNetwork};
use super::switch::{EditSwitch, NewSwitch};
use crate::record::Record;
use crate::record::entity::EntityRef;
use crate::record::folder::FolderKind;
use crate::record::network::{Binding, NetworkPolicy, NetworkRecord};
use crate::record::vm::VmRecord;

/// A switch as it is written down. Objects have their names, because ids mean nothing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchTemplate {
    /// Its name.
    pub name: String,
    /// The host whose standard switch it is; `None` for a distributed one.
    pub host: Option<String>,
    /// The largest payload that it carries, in bytes.
    pub mtu: u16,
    /// The names of its uplinks.
    pub uplinks: Vec<String>,
    /// Whether it takes all hosts and NICs that are free.
    pub takes_all: bool,
    /// Whether its uplinks are probed.
    pub health_check: bool,
    /// Its hosts, and the NIC behind each uplink: `uplink1=vmnic0`.
    pub members: Vec<(String, Vec<String>)>,
    /// Its port groups.
    pub networks: Vec<NetworkTemplate>,
}

/// A port group as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkTemplate {
    /// Its name.
    pub name: String,
    /// Its VLAN.
    pub vlan: u16,
    /// When its ports come to be.
    pub binding: Binding,
    /// What holds for its ports.
    pub policy: NetworkPolicy,
}

impl Inventory {
    /// A switch, written down.
    ///
    /// # Errors
    /// It is not there.
    pub fn switch_export(&self, id: SwitchId) -> Result<SwitchTemplate, Fault> {
        let switch = self.switch(id)?;
        let members = switch.members.iter().map(|(host, member)| {
            let nics = member.nics.iter().map(|(uplink, nic)| format!("{uplink}={nic}"));
            (self.name((*host).into()), nics.collect())
        });
        let networks = self.networks_of(id).map(|network| NetworkTemplate {
            name: network.name.clone(),
            vlan: network.vlan,
            binding: network.binding,
            policy: network.policy.clone(),
        });
        Ok(SwitchTemplate {
            name: switch.name.clone(),
            host: switch.host.map(|host| self.name(host.into())),
            mtu: switch.mtu,
            uplinks: switch.uplinks.clone(),
            takes_all: switch.takes_all,
            health_check: switch.health_check,
            members: members.collect(),
            networks: networks.collect(),
        })
    }

    /// Makes a switch what was written down, or only says what that would change. Answers one line
    /// for each change; none, if it is so already.
    ///
    /// # Errors
    /// Something in it cannot be made here; then nothing is changed.
    pub fn switch_import(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        template: &SwitchTemplate,
        preview: bool,
    ) -> Result<Vec<String>, Fault> {
        let changes = self.copy_of_networks()?.bring(now, user, folder, template)?;
        if preview || changes.is_empty() {
            return Ok(changes);
        }
        self.bring(now, user, folder, template)
    }

    /// A copy with all that switches depend on.
    fn copy_of_networks(&self) -> Result<Self, Fault> {
        let entities = core::iter::once(EntityRef::Meta)
            .chain(self.folders.keys().map(|id| (*id).into()))
            .chain(self.datacenters.keys().map(|id| (*id).into()))
            .chain(self.clusters.keys().map(|id| (*id).into()))
            .chain(self.pools.keys().map(|id| (*id).into()))
            .chain(self.hosts.keys().map(|id| (*id).into()))
            .chain(self.vms.keys().map(|id| (*id).into()))
            .chain(self.networks.keys().map(|id| (*id).into()))
            .chain(self.switches.keys().map(|id| (*id).into()));
        let records = entities.filter_map(|entity| self.record(entity));
        let idle = records.map(|record| {
            if let Record::Vm(vm) = record {
                // Its task is not copied.
                return Record::Vm(VmRecord { pending: None, ..vm });
            }
            record
        });
        Self::load(idle, 0).map_err(|error| Fault::system(format!("the inventory: {error}")))
    }

    fn bring(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: Option<FolderId>,
        template: &SwitchTemplate,
    ) -> Result<Vec<String>, Fault> {
        let mut changes = Vec::new();
        let host = template.host.as_ref().map(|name| self.find_host(name)).transpose()?;
        let folder = match host {
            Some(_) => folder,
            None => Some(self.folder_or_default(folder, FolderKind::Networks)?),
        };
        let id = match self.switch_of(host, folder, &template.name) {
            Some(id) => id,
            None => {
                changes.push(format!("create switch '{}'", template.name));
                self.switch_create(now, user, new_switch(template, host, folder))?
            }
        };
        let (edit, absent) = self.edit_towards(id, template)?;
        let absent = absent.into_iter().map(|host| format!("leave out host '{host}', not here"));
        let before = self.switch(id)?.clone();
        // What is too large for the switch as it will be is made smaller before it.
        let wide = edit.mtu.max(Some(before.mtu));
        let edit = EditSwitch { mtu: wide, ..edit };
        let is_news = self.edited_switch(id, edit.clone())? != before || before.mtu != template.mtu;
        if is_news && changes.is_empty() {
            changes.push(format!("change switch '{}'", template.name));
        }
        self.switch_edit(now, user, id, edit)?;
        for network in &template.networks {
            changes.extend(self.bring_network(now, user, id, network)?);
        }
        let mtu = Some(template.mtu);
        self.switch_edit(now, user, id, EditSwitch { mtu, ..EditSwitch::default() })?;
        // Without any change there is nothing to say: it was left out the last time, too.
        if !changes.is_empty() {
            changes.extend(absent);
        }
        Ok(changes)
    }

    fn switch_of(
        &self,
        host: Option<HostId>,
        folder: Option<FolderId>,
        name: &str,
    ) -> Option<SwitchId> {
        let parent = host.map(EntityRef::from).or_else(|| folder.map(EntityRef::from))?;
        let EntityRef::Switch(id) = self.index.child(parent, name)? else { return None };
        Some(id)
    }

    /// What makes a switch what was written down; and the hosts that are not here.
    fn edit_towards(
        &self,
        id: SwitchId,
        template: &SwitchTemplate,
    ) -> Result<(EditSwitch, Vec<String>), Fault> {
        let switch = self.switch(id)?;
        let mut edit = EditSwitch {
            mtu: Some(template.mtu),
            health_check: Some(template.health_check),
            ..EditSwitch::default()
        };
        if switch.host.is_none() {
            edit.uplinks = Some(template.uplinks.clone());
            edit.takes_all = Some(template.takes_all);
        }
        let mut absent = Vec::new();
        for (name, nics) in &template.members {
            match self.find_host(name) {
                Ok(host) if switch.host.is_none() => edit.put_hosts.push((host, nics.clone())),
                Ok(_) => {}
                Err(_) => absent.push(name.clone()),
            }
        }
        Ok((edit, absent))
    }

    fn bring_network(
        &mut self,
        now: Timestamp,
        user: &str,
        switch: SwitchId,
        template: &NetworkTemplate,
    ) -> Result<Option<String>, Fault> {
        let folder = self.switch(switch)?.folder;
        let NetworkTemplate { name, vlan, binding, policy } = template.clone();
        let edit = EditNetwork {
            name: None,
            vlan: Some(vlan),
            policy: Some(policy),
            binding: Some(binding),
            services: None,
        };
        let here = self.index.child(folder.into(), &name);
        let Some(EntityRef::Network(id)) = here else {
            let new = NewNetwork {
                name: name.clone(),
                folder: Some(folder),
                vlan,
                switch: Some(switch),
                binding,
            };
            let id = self.network_create_on(now, user, new)?;
            self.network_edit(now, user, id, edit)?;
            return Ok(Some(format!("create network '{name}'")));
        };
        let before = self.network(id)?.clone();
        if before.switch != Some(switch) {
            let whose = before.switch.map(|id| self.describe(id.into())).unwrap_or_default();
            return Err(Fault::invalid(format!(
                "network '{name}' is one of {whose}; rename it, or the one in the file"
            )));
        }
        let after = self.edited_network(id, edit.clone())?;
        self.network_edit(now, user, id, edit)?;
        Ok((before != after).then(|| format!("change network '{name}': {}", told(&before, &after))))
    }
}

fn new_switch(
    template: &SwitchTemplate,
    host: Option<HostId>,
    folder: Option<FolderId>,
) -> NewSwitch {
    NewSwitch {
        name: template.name.clone(),
        folder: folder.filter(|_| host.is_none()),
        host,
        nics: if host.is_some() { template.uplinks.clone() } else { Vec::new() },
        mtu: Some(template.mtu),
        uplinks: template.uplinks.clone(),
    }
}

/// What is different between two, in words.
fn told(before: &NetworkRecord, after: &NetworkRecord) -> String {
    let mut words = Vec::new();
    if before.vlan != after.vlan {
        words.push(format!("VLAN {} to {}", before.vlan, after.vlan));
    }
    if before.binding != after.binding {
        words.push("its ports".into());
    }
    if before.policy.teaming != after.policy.teaming {
        words.push("its teaming".into());
    }
    let rest = |policy: &NetworkPolicy| NetworkPolicy {
        teaming: crate::record::network::Teaming::default(),
        ..policy.clone()
    };
    if rest(&before.policy) != rest(&after.policy) {
        words.push("its policy".into());
    }
    words.join(", ")
}
