//! Switches: making, changing and deleting them, and which NIC of which host is which uplink.
//!
//! Each datacenter has a switch that takes all: every host is a member of it, with all NICs that no
//! other switch has. It is made with the first network, so that whoever wants one flat network need
//! not know that there are switches.
//!
//! **Invariant:** a NIC of a host is an uplink of one switch at most.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{ClusterId, FolderId, HostId, NetworkId, SwitchId, VmId};
use racknest_types::time::Timestamp;

use super::network::MTU_RANGE;
use super::nic::NewNic;
use super::{Inventory, NAME_BYTES_MAX};
use crate::record::event::EventKind;
use crate::record::folder::FolderKind;
use crate::record::host::HostRecord;
use crate::record::network::{MTU, NetworkRecord};
use crate::record::switch::{Member, SwitchRecord, Uplink};
use crate::record::vm::{Nic, VmRecord};

/// What the switch is called that takes all: vSphere's own default.
const DEFAULT_NAME: &str = "DSwitch";

/// The most uplinks of a switch on one host; vSphere's own limit.
pub const UPLINKS_MAX: usize = 32;

/// The largest payload that any switch carries, in bytes.
const MTU_MAX: u16 = *MTU_RANGE.end();

/// A switch to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSwitch {
    /// Its name.
    pub name: String,
    /// The network folder it goes to; `None` for the only datacenter's, or that of its host.
    pub folder: Option<FolderId>,
    /// The host whose standard switch it becomes; `None` for a distributed one.
    pub host: Option<HostId>,
    /// The NICs of that host that become its uplinks.
    pub nics: Vec<String>,
    /// The largest payload that it carries, in bytes.
    pub mtu: Option<u16>,
    /// The names of its uplinks; two if there is none. A standard switch has its NICs' names.
    pub uplinks: Vec<String>,
}

/// A change of a switch; what is `None` or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditSwitch {
    /// Its name.
    pub name: Option<String>,
    /// The largest payload that it carries, in bytes.
    pub mtu: Option<u16>,
    /// The names of its uplinks.
    pub uplinks: Option<Vec<String>>,
    /// Whether it takes all hosts and NICs that are free.
    pub takes_all: Option<bool>,
    /// Whether its uplinks are probed.
    pub health_check: Option<bool>,
    /// Hosts that become members, or get other NICs: `vmnic1`, or `uplink2=vmnic1`.
    pub put_hosts: Vec<(HostId, Vec<String>)>,
    /// Hosts that are members no more.
    pub drop_hosts: Vec<HostId>,
}

impl Inventory {
    /// Makes a switch.
    ///
    /// # Errors
    /// Something in it cannot be used, or a NIC is another switch's.
    pub fn switch_create(
        &mut self,
        now: Timestamp,
        user: &str,
        new: NewSwitch,
    ) -> Result<SwitchId, Fault> {
        let folder = match (new.folder, new.host) {
            (None, Some(host)) => self.network_folder_of(host)?,
            (folder, _) => self.folder_or_default(folder, FolderKind::Networks)?,
        };
        let uplinks = match (new.host, new.uplinks) {
            (Some(_), _) => new.nics.clone(),
            (None, names) if names.is_empty() => ["uplink1", "uplink2"].map(String::from).into(),
            (None, names) => names,
        };
        let mut record = SwitchRecord {
            // The last id of all: it is taken once nothing is wrong any more.
            id: SwitchId::from_raw(u64::MAX),
            name: new.name,
            folder,
            host: new.host,
            mtu: new.mtu.unwrap_or(MTU),
            uplinks,
            takes_all: false,
            members: BTreeMap::new(),
            generation: 1,
            health_check: false,
        };
        match new.host {
            Some(host) => {
                let member = self.member(&record, host, &new.nics)?;
                record.members.insert(host, member);
            }
            None if !new.nics.is_empty() => {
                return Err(Fault::invalid(format!(
                    "switch '{}': NICs are given to a standard switch, of one host; say which, or \
                     add hosts to a distributed switch when it is made",
                    record.name
                )));
            }
            None => {}
        }
        self.check_name(record.parent(), &record.name)?;
        self.check_switch(&record)?;
        record.id = SwitchId::from_raw(self.next_id());
        Ok(self.add_switch(now, user, record))
    }

    fn add_switch(&mut self, now: Timestamp, user: &str, record: SwitchRecord) -> SwitchId {
        let id = record.id;
        self.index.put_name(record.parent(), &record.name, id);
        self.switches.insert(id, record);
        self.touch_created(id);
        self.record_event(now, user, id, EventKind::Created, "");
        self.send_networks();
        id
    }

    /// Changes a switch, and tells its hosts.
    ///
    /// # Errors
    /// Something in it cannot be used, or VMs need what would go.
    pub fn switch_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        id: SwitchId,
        edit: EditSwitch,
    ) -> Result<(), Fault> {
        let new = self.edited_switch(id, edit)?;
        let old = self.switch(id)?.clone();
        if new == old {
            return Ok(());
        }
        self.index.drop_name(old.parent(), &old.name);
        self.index.put_name(new.parent(), &new.name, id);
        self.switches.insert(id, new);
        self.touch(id);
        self.switch_changed(Some(id));
        self.record_event(now, user, id, EventKind::Reconfigured, "");
        self.send_networks();
        for cluster in self.clusters.keys().copied().collect::<Vec<_>>() {
            self.ha_changed(cluster);
        }
        Ok(())
    }

    /// A switch as it is after a change, which is looked at and not made.
    pub(super) fn edited_switch(
        &self,
        id: SwitchId,
        edit: EditSwitch,
    ) -> Result<SwitchRecord, Fault> {
        let old = self.switch(id)?;
        let mut new = old.clone();
        if let Some(name) = edit.name.filter(|name| *name != old.name) {
            self.check_name(old.parent(), &name)?;
            new.name = name;
        }
        new.mtu = edit.mtu.unwrap_or(old.mtu);
        new.health_check = edit.health_check.unwrap_or(old.health_check);
        if let Some(takes_all) = edit.takes_all
            && takes_all != old.takes_all
        {
            self.set_takes_all(&mut new, takes_all)?;
        }
        if let Some(uplinks) = edit.uplinks {
            check_not_standard(old, "its uplinks have the names of its NICs")?;
            new.uplinks = uplinks;
        }
        for host in edit.drop_hosts {
            self.drop_member(&mut new, host)?;
        }
        for (host, nics) in edit.put_hosts {
            if new.host.is_some() {
                new.uplinks.clone_from(&nics);
            }
            let member = self.member(&new, host, &nics)?;
            new.members.insert(host, member);
        }
        self.check_switch(&new)?;
        Ok(new)
    }

    /// Deletes a switch without port groups.
    ///
    /// # Errors
    /// It has port groups.
    pub fn switch_delete(&mut self, now: Timestamp, user: &str, id: SwitchId) -> Result<(), Fault> {
        let name = self.switch(id)?.name.clone();
        if let Some(network) = self.networks_of(id).next() {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "switch '{name}' has network '{}'; delete its networks first",
                    network.name
                ),
            ));
        }
        self.remove_switch(now, user, id);
        self.send_networks();
        Ok(())
    }

    /// Whether nothing is in a datacenter's network folder but the switch that takes all, which goes
    /// with it.
    pub(super) fn check_networks_gone(&self, folder: FolderId) -> Result<Option<SwitchId>, Fault> {
        let only = self.switch_that_takes_all(folder);
        let mut inside = self.children(folder.into()).map(|(_, entity)| entity);
        match (only, inside.next(), inside.next()) {
            (Some(only), Some(first), None) if first == only.into() => {
                match self.networks_of(only).next() {
                    None => Ok(Some(only)),
                    Some(_) => self.check_empty(folder.into()).map(|()| None),
                }
            }
            _ => self.check_empty(folder.into()).map(|()| None),
        }
    }

    pub(super) fn remove_switch(&mut self, now: Timestamp, user: &str, id: SwitchId) {
        self.record_event(now, user, id, EventKind::Removed, "");
        if let Some(record) = self.switches.remove(&id) {
            self.index.drop_name(record.parent(), &record.name);
        }
        self.drop_permissions_on(id.into());
        self.touch_deleted(id);
    }

    /// The port groups of a switch.
    pub fn networks_of(&self, switch: SwitchId) -> impl Iterator<Item = &NetworkRecord> {
        self.networks.values().filter(move |network| network.switch == Some(switch))
    }

    /// The uplinks of a switch on a host, in the switch's order; `None` if it is no member.
    #[must_use]
    pub fn uplinks_on(&self, switch: &SwitchRecord, host: &HostRecord) -> Option<Vec<Uplink>> {
        if let Some(own) = switch.own_uplinks(host) {
            return Some(own);
        }
        if !self.is_member(switch, host.id) {
            return None;
        }
        let taken = self.switches.values().filter(|other| other.id != switch.id);
        let taken = taken.filter_map(|other| other.members.get(&host.id));
        let taken = taken.flat_map(|member| member.nics.values()).collect::<BTreeSet<_>>();
        let nics = host.nics.iter().enumerate().filter(|(_, nic)| !taken.contains(nic));
        let uplink = |(place, nic): (usize, &String)| Uplink {
            name: switch.uplink_name(place),
            nic: nic.clone(),
        };
        Some(nics.map(uplink).collect())
    }

    /// Whether a host is a member of a switch.
    #[must_use]
    pub fn is_member(&self, switch: &SwitchRecord, host: HostId) -> bool {
        switch.members.contains_key(&host)
            || (switch.takes_all
                && self.datacenter_of(host.into()) == self.datacenter_of(switch.folder.into()))
    }

    /// The hosts that are members of a switch.
    pub fn members_of(&self, switch: &SwitchRecord) -> impl Iterator<Item = &HostRecord> {
        self.hosts.values().filter(move |host| self.is_member(switch, host.id))
    }

    /// Whether a VM can be attached to these networks where it is.
    pub(super) fn check_nics_on(
        &self,
        vm: &VmRecord,
        kept: &[Nic],
        made: &[NewNic],
    ) -> Result<(), Fault> {
        let host = self.host(vm.host)?;
        let had = |id: &NetworkId| vm.config.nics.iter().any(|nic| nic.network == *id);
        let wanted = kept.iter().map(|nic| nic.network).chain(made.iter().map(|nic| nic.network));
        match wanted.filter(|id| !had(id)).find_map(|id| self.why_not_on(id, host)) {
            None => Ok(()),
            Some(why) => Err(Fault::state(format!("VM '{}': {why}", vm.name))),
        }
    }

    /// Why a network is not there for the VMs of a host; `None` if it is.
    pub(super) fn why_not_on(&self, network: NetworkId, host: &HostRecord) -> Option<String> {
        let network = self.networks.get(&network)?;
        let switch = self.switches.get(&network.switch?)?;
        if self.is_member(switch, host.id) {
            return None;
        }
        let (host, name) = (&host.name, &network.name);
        Some(match switch.host {
            Some(own) => format!(
                "host '{host}' has no network '{name}', which is one of {}'s alone",
                self.describe(own.into())
            ),
            None => format!(
                "host '{host}' has no network '{name}': it is no member of switch '{}'",
                switch.name
            ),
        })
    }

    /// The VMs of a cluster that would miss a network on some of its hosts, and on which.
    pub(super) fn hosts_without_networks(&self, id: ClusterId) -> Vec<(VmId, Vec<HostId>)> {
        let hosts = self.hosts_of(id).collect::<Vec<_>>();
        let partly = self.networks.keys().filter_map(|network| {
            let lacks = |host: &&&HostRecord| self.why_not_on(*network, host).is_some();
            let without = hosts.iter().filter(lacks).map(|host| host.id).collect::<Vec<_>>();
            (!without.is_empty()).then_some((*network, without))
        });
        let partly = partly.collect::<BTreeMap<_, _>>();
        if partly.is_empty() {
            return Vec::new();
        }
        let vms = hosts.iter().flat_map(|host| self.vms_on(host.id));
        let of = |vm: &VmRecord| {
            let nics = vm.config.nics.iter();
            let without = nics.filter_map(|nic| partly.get(&nic.network)).flatten().copied();
            (vm.id, without.collect::<Vec<_>>())
        };
        vms.map(of).filter(|(_, without)| !without.is_empty()).collect()
    }

    /// A VM may be on other networks than before: HA is to know where those are, if they are not
    /// everywhere.
    pub(super) fn note_networks(&mut self, host: HostId, before: &[Nic], after: &[Nic]) {
        let networks = |nics: &[Nic]| nics.iter().map(|nic| nic.network).collect::<BTreeSet<_>>();
        let (before, after) = (networks(before), networks(after));
        let is_partly = |id: &NetworkId| {
            let switch = self.networks.get(id).and_then(|it| self.switches.get(&it.switch?));
            switch.is_some_and(|switch| !switch.takes_all)
        };
        if before.symmetric_difference(&after).any(is_partly) {
            self.ha_changed_at(host);
        }
    }

    /// The switch of a new network of which nothing is said: the one that takes all. It is made if
    /// its datacenter has none.
    pub(super) fn default_switch(
        &mut self,
        now: Timestamp,
        user: &str,
        folder: FolderId,
    ) -> SwitchId {
        match self.switch_that_takes_all(folder) {
            Some(id) => id,
            None => {
                let record = self.new_default_switch(folder);
                self.add_switch(now, user, record)
            }
        }
    }

    fn switch_that_takes_all(&self, folder: FolderId) -> Option<SwitchId> {
        let there = self.datacenter_of(folder.into());
        let is_it = |switch: &&SwitchRecord| {
            switch.takes_all && self.datacenter_of(switch.folder.into()) == there
        };
        self.switches.values().find(is_it).map(|switch| switch.id)
    }

    fn new_default_switch(&mut self, folder: FolderId) -> SwitchRecord {
        let numbered = (2..).map(|number| format!("{DEFAULT_NAME} {number}"));
        let mut names = core::iter::once(String::from(DEFAULT_NAME)).chain(numbered);
        let is_free = |name: &String| self.index.child(folder.into(), name).is_none();
        let name = names.find(is_free).unwrap_or_else(|| String::from(DEFAULT_NAME));
        SwitchRecord {
            id: SwitchId::from_raw(self.next_id()),
            name,
            folder,
            host: None,
            // What a network's policy may ask for, because none was refused before.
            mtu: MTU_MAX,
            uplinks: (1..=2).map(|number| format!("uplink{number}")).collect(),
            takes_all: true,
            members: BTreeMap::new(),
            generation: 1,
            health_check: false,
        }
    }

    /// Networks of a store of before there were switches are on the one that takes all, where they
    /// are what they were.
    pub(super) fn give_old_networks_a_switch(&mut self) {
        let old = self.networks.values().filter(|network| network.switch.is_none());
        for (id, folder) in old.map(|it| (it.id, it.folder)).collect::<Vec<_>>() {
            let switch = self.switch_that_takes_all(folder).unwrap_or_else(|| {
                let record = self.new_default_switch(folder);
                let id = record.id;
                self.index.put_name(record.parent(), &record.name, id);
                self.switches.insert(id, record);
                self.touch_created(id);
                id
            });
            if let Some(network) = self.networks.get_mut(&id) {
                network.switch = Some(switch);
            }
            self.touch(id);
        }
    }

    /// Counts a change of a switch or of its port groups.
    pub(super) fn switch_changed(&mut self, id: Option<SwitchId>) {
        if let Some(switch) = id.and_then(|id| self.switches.get_mut(&id)) {
            switch.generation += 1;
            let id = switch.id;
            self.touch(id);
        }
    }

    /// A host goes for good: its standard switches go with it, and no switch counts on it.
    pub(super) fn host_leaves_switches(&mut self, now: Timestamp, user: &str, host: HostId) {
        let own = self.switches.values().filter(|switch| switch.host == Some(host));
        for switch in own.map(|switch| switch.id).collect::<Vec<_>>() {
            for network in self.networks_of(switch).map(|it| it.id).collect::<Vec<_>>() {
                self.remove_network(now, user, network);
            }
            self.remove_switch(now, user, switch);
        }
        let joined = self.switches.values().filter(|switch| switch.members.contains_key(&host));
        for id in joined.map(|switch| switch.id).collect::<Vec<_>>() {
            if let Some(switch) = self.switches.get_mut(&id) {
                switch.members.remove(&host);
            }
            self.touch(id);
        }
        self.forget_told_networks(host);
        self.switch_sync.health.remove(&host);
    }

    fn network_folder_of(&self, host: HostId) -> Result<FolderId, Fault> {
        let there = self.datacenter_of(host.into());
        let datacenter = self.datacenters.values().find(|it| Some(it.id.into()) == there);
        let folder = datacenter.map(|datacenter| datacenter.network_folder);
        folder
            .ok_or_else(|| Fault::state(format!("{} is in no datacenter", self.path(host.into()))))
    }

    /// Which NIC becomes which uplink of a host: as it is said, else in order.
    fn member(
        &self,
        switch: &SwitchRecord,
        host: HostId,
        nics: &[String],
    ) -> Result<Member, Fault> {
        let record = self.host(host)?;
        if let Some(other) = switch.host.filter(|other| *other != host) {
            return Err(Fault::invalid(format!(
                "switch '{}' is one of {}'s alone; host '{}' cannot join it",
                switch.name,
                self.describe(other.into()),
                record.name
            )));
        }
        let mut member = Member::default();
        for text in nics {
            let (uplink, nic) = match text.split_once('=') {
                Some((uplink, nic)) => (String::from(uplink), nic),
                None => {
                    let is_free = |name: &&String| !member.nics.contains_key(*name);
                    let free = switch.uplinks.iter().find(is_free).cloned();
                    let full = || {
                        Fault::invalid(format!(
                            "switch '{}' has {} uplinks; more NICs of host '{}' do not fit",
                            switch.name,
                            switch.uplinks.len(),
                            record.name
                        ))
                    };
                    (free.ok_or_else(full)?, text.as_str())
                }
            };
            if let Some(before) = member.nics.insert(uplink.clone(), nic.into()) {
                return Err(Fault::invalid(format!(
                    "host '{}': {uplink} cannot be both {before} and {nic}",
                    record.name
                )));
            }
        }
        Ok(member)
    }

    /// Turns "all hosts" into their names, or back.
    fn set_takes_all(&self, switch: &mut SwitchRecord, takes_all: bool) -> Result<(), Fault> {
        if takes_all {
            check_not_standard(switch, "it is one host's alone")?;
            if let Some(other) = self.switch_that_takes_all(switch.folder) {
                return Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!(
                        "{} takes all hosts of the datacenter; only one switch can",
                        self.describe(other.into())
                    ),
                ));
            }
            switch.takes_all = true;
            return Ok(());
        }
        for host in self.members_of(switch).map(|host| host.id).collect::<Vec<_>>() {
            let uplinks = self.uplinks_on(switch, self.host(host)?).unwrap_or_default();
            for uplink in &uplinks {
                if !switch.uplinks.contains(&uplink.name) {
                    switch.uplinks.push(uplink.name.clone());
                }
            }
            let nics = uplinks.into_iter().map(|uplink| (uplink.name, uplink.nic)).collect();
            switch.members.insert(host, Member { nics });
        }
        switch.takes_all = false;
        Ok(())
    }

    fn drop_member(&self, switch: &mut SwitchRecord, host: HostId) -> Result<(), Fault> {
        let name = &self.host(host)?.name;
        check_not_standard(switch, "it is one host's alone; delete it instead")?;
        if switch.takes_all {
            return Err(Fault::state(format!(
                "switch '{0}' takes all hosts; end that first with 'racknest switch edit {0} \
                 --all-hosts false'",
                switch.name
            )));
        }
        if switch.members.remove(&host).is_none() {
            return Err(Fault::not_found(format!(
                "host '{name}' as a member of switch '{}'",
                switch.name
            )));
        }
        let networks = self.networks_of(switch.id).map(|it| it.id).collect::<BTreeSet<_>>();
        let adapters = &self.host(host)?.adapters;
        let is_on_it = |id: NetworkId| networks.contains(&id);
        if let Some(adapter) = adapters.iter().find(|it| it.network.is_some_and(is_on_it)) {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{} of host '{name}' is attached to a network of switch '{}'; attach it to \
                     another first",
                    adapter.name, switch.name
                ),
            ));
        }
        let mut on_it = self.vms_on(host).flat_map(|vm| {
            vm.config
                .nics
                .iter()
                .map(move |nic| (vm, nic))
                .filter(|(_, nic)| networks.contains(&nic.network))
        });
        match on_it.next() {
            None => Ok(()),
            Some((vm, nic)) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "VM '{}' on host '{name}' is attached to network '{}' of switch '{}'; move it or \
                     attach it to another first",
                    vm.name,
                    self.name(nic.network.into()),
                    switch.name
                ),
            )),
        }
    }

    /// Refuses a switch that hosts could not make.
    pub(super) fn check_switch(&self, switch: &SwitchRecord) -> Result<(), Fault> {
        let name = &switch.name;
        let refuse = |why: String| Err(Fault::invalid(format!("switch '{name}': {why}")));
        if !MTU_RANGE.contains(&switch.mtu) {
            let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
            return refuse(format!("an MTU is from {least} to {most} bytes, not {}", switch.mtu));
        }
        if let Some(network) = self.networks_of(switch.id).find(|it| it.policy.mtu > switch.mtu) {
            return refuse(format!(
                "network '{}' has an MTU of {}; make that smaller first",
                network.name, network.policy.mtu
            ));
        }
        if switch.uplinks.len() > UPLINKS_MAX {
            return refuse(format!("it has {UPLINKS_MAX} uplinks at most"));
        }
        let names = switch.uplinks.iter().collect::<BTreeSet<_>>();
        let is_bad = |name: &&&String| {
            name.trim() != name.as_str()
                || name.is_empty()
                || name.len() > NAME_BYTES_MAX
                || name.contains(['=', ',', '/'])
        };
        if let Some(bad) = names.iter().find(is_bad) {
            return refuse(format!("'{bad}' is no name of an uplink"));
        }
        if names.len() != switch.uplinks.len() {
            return refuse("two uplinks have one name".into());
        }
        switch
            .members
            .iter()
            .try_for_each(|(host, member)| self.check_member(switch, *host, member, &names))
    }

    fn check_member(
        &self,
        switch: &SwitchRecord,
        host: HostId,
        member: &Member,
        names: &BTreeSet<&String>,
    ) -> Result<(), Fault> {
        let record = self.host(host)?;
        let (host_name, name) = (&record.name, &switch.name);
        self.check_same_datacenter(host.into(), switch.folder.into())?;
        if let Some((uplink, nic)) = member.nics.iter().find(|(uplink, _)| !names.contains(uplink))
        {
            return Err(Fault::invalid(format!(
                "switch '{name}' has no {uplink}, which {nic} of host '{host_name}' is to be"
            )));
        }
        for (place, nic) in member.nics.values().enumerate() {
            if !record.nics.contains(nic) {
                let has = record.nics.join(", ");
                let what = format!("NIC '{nic}' of host '{host_name}' (it has {has})");
                return Err(Fault::not_found(what));
            }
            let others = self.switches.values().filter(|other| other.id != switch.id);
            let mut others = others.filter(|other| {
                let theirs = other.members.get(&host);
                theirs.is_some_and(|theirs| theirs.nics.values().any(|it| it == nic))
            });
            if let Some(other) = others.next() {
                return Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!(
                        "{nic} of host '{host_name}' is an uplink of switch '{}'; take it from \
                         there first",
                        other.name
                    ),
                ));
            }
            if member.nics.values().skip(place + 1).any(|other| other == nic) {
                return Err(Fault::invalid(format!(
                    "host '{host_name}': {nic} can be one uplink of switch '{name}' only"
                )));
            }
        }
        Ok(())
    }
}

fn check_not_standard(switch: &SwitchRecord, why: &str) -> Result<(), Fault> {
    match switch.host {
        None => Ok(()),
        Some(_) => {
            Err(Fault::unsupported(format!("switch '{}' is a standard switch: {why}", switch.name)))
        }
    }
}
