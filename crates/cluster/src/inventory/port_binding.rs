//! Ports of port groups: which are taken, and which number a NIC gets.
//!
//! With static binding a NIC has its port from when it is attached until it is detached, whether its
//! VM runs or not; so the number is in the VM's record, and what is free is derived from all of them.
//! A number that another has meanwhile (of a snapshot that a VM goes back to) is exchanged for the
//! lowest that is free.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{NetworkId, VmId};

use super::Inventory;
use crate::record::network::{Binding, NetworkRecord, PORTS};
use crate::record::vm::{Nic, Step, VmConfig, VmRecord};

/// The most ports of a port group; vSphere's own limit for a distributed switch.
pub const PORTS_MAX: u32 = 60_000;

/// The ports of one network that are taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PortBook {
    /// NICs attached, with a number or without.
    nics: u32,
    /// By number. Two have one number only in a damaged store.
    used: BTreeSet<(u32, VmId, u32)>,
    /// Numbers below the highest that nobody has.
    gaps: BTreeSet<u32>,
}

impl PortBook {
    pub(super) fn attach(&mut self, vm: VmId, nic: &Nic) {
        self.nics += 1;
        let Some(port) = nic.port else { return };
        self.gaps.extend(self.next()..port);
        self.gaps.remove(&port);
        self.used.insert((port, vm, nic.key));
    }

    pub(super) fn detach(&mut self, vm: VmId, nic: &Nic) {
        self.nics = self.nics.saturating_sub(1);
        let Some(port) = nic.port else { return };
        self.used.remove(&(port, vm, nic.key));
        if !self.has(port) {
            self.gaps.insert(port);
        }
        let next = self.next();
        drop(self.gaps.split_off(&next));
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.nics == 0
    }

    fn has(&self, port: u32) -> bool {
        let first = (port, VmId::from_raw(0), 0);
        self.used.range(first..).next().is_some_and(|(number, ..)| *number == port)
    }

    /// The number after the highest that is taken.
    fn next(&self) -> u32 {
        self.used.last().map_or(0, |(port, ..)| port + 1)
    }

    /// Numbers that nobody has, lowest first.
    fn free(&self) -> impl Iterator<Item = u32> {
        self.gaps.iter().copied().chain(self.next()..)
    }
}

/// Gives each NIC of a VM that is in no book the number that it should have.
pub(super) fn number_ports(
    networks: &BTreeMap<NetworkId, NetworkRecord>,
    books: &BTreeMap<NetworkId, PortBook>,
    config: &mut VmConfig,
) {
    let mut given = BTreeSet::new();
    let empty = PortBook::default();
    for nic in &mut config.nics {
        let binding = networks.get(&nic.network).map(|network| network.binding);
        if !matches!(binding, Some(Binding::Static { .. })) {
            nic.port = None;
            continue;
        }
        let book = books.get(&nic.network).unwrap_or(&empty);
        let is_free = |port: &u32| !book.has(*port) && !given.contains(&(nic.network, *port));
        nic.port = nic.port.filter(is_free).or_else(|| book.free().find(is_free));
        given.extend(nic.port.map(|port| (nic.network, port)));
    }
}

impl Inventory {
    /// How many ports a network has: as many as are said, or more where it may grow; with ephemeral
    /// binding, one for each NIC.
    #[must_use]
    pub fn port_count(&self, network: &NetworkRecord) -> u32 {
        let nics = self.nics_attached(network.id);
        match network.binding {
            Binding::Static { ports, auto_expand: true } if nics > ports => {
                ports + (nics - ports).div_ceil(PORTS) * PORTS
            }
            Binding::Static { ports, .. } => ports,
            Binding::Ephemeral => nics,
        }
    }

    /// How many NICs are attached to a network.
    #[must_use]
    pub fn nics_attached(&self, network: NetworkId) -> u32 {
        self.index.ports.get(&network).map_or(0, |book| book.nics)
    }

    /// Whether a network has ports for so many NICs more of a VM; what tasks are about to attach is
    /// counted, too.
    pub(super) fn check_ports(
        &self,
        name: &str,
        vm: Option<&VmRecord>,
        nics: impl Iterator<Item = NetworkId>,
    ) -> Result<(), Fault> {
        let mut wanted = BTreeMap::<NetworkId, u32>::new();
        nics.for_each(|network| *wanted.entry(network).or_default() += 1);
        for (id, wanted) in wanted {
            let Binding::Static { ports, auto_expand: false } = self.network(id)?.binding else {
                continue;
            };
            let has = |vm: &VmRecord| on_network(&vm.config, id);
            let own = vm.map_or(0, has);
            let coming = self.vms_to_change().filter(|other| vm.is_none_or(|vm| vm.id != *other));
            let coming = coming.map(|vm| self.ports_to_come(vm, id)).sum::<u32>();
            let taken = self.nics_attached(id).saturating_sub(own) + coming;
            if wanted > own && taken + wanted > ports {
                return Err(no_port(name, &self.network(id)?.name, ports));
            }
        }
        Ok(())
    }

    /// How many NICs more a VM has on a network once what is pending is done.
    fn ports_to_come(&self, vm: VmId, network: NetworkId) -> u32 {
        let Some(vm) = self.vms.get(&vm) else { return 0 };
        match vm.pending.as_ref().map(|pending| &pending.step) {
            Some(Step::Reconfigure { config }) => {
                on_network(config, network).saturating_sub(on_network(&vm.config, network))
            }
            Some(_) | None => 0,
        }
    }

    /// Whether a network can have this binding with the NICs that it has.
    pub(super) fn check_binding(&self, network: &NetworkRecord) -> Result<(), Fault> {
        let Binding::Static { ports, auto_expand } = network.binding else { return Ok(()) };
        let NetworkRecord { id, name, .. } = network;
        if !(1..=PORTS_MAX).contains(&ports) {
            return Err(Fault::invalid(format!(
                "network '{name}': a port group has 1 to {PORTS_MAX} ports, not {ports}"
            )));
        }
        let nics = self.nics_attached(*id);
        if !auto_expand && nics > ports {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "network '{name}': {nics} adapters are attached, which do not fit on {ports} \
                     ports; detach some first, or let it grow (auto_expand)"
                ),
            ));
        }
        Ok(())
    }

    /// Gives new NICs of a VM their ports before its host hears of them: one that changed them later
    /// would be unplugged and plugged in again.
    pub(super) fn number_new_ports(&self, vm: &VmRecord, config: &mut VmConfig) {
        let is_own = |nic: &Nic| {
            let own = vm.config.nics.iter();
            own.filter(|own| own.key == nic.key).any(|own| own.port == nic.port)
        };
        let mut new = config.clone();
        new.nics.retain(|nic| !is_own(nic));
        number_ports(&self.networks, &self.index.ports, &mut new);
        for nic in &mut config.nics {
            let numbered = new.nics.iter().find(|it| it.key == nic.key);
            nic.port = numbered.map_or(nic.port, |numbered| numbered.port);
        }
    }

    /// Numbers the ports of a network anew, after its binding changed.
    pub(super) fn number_ports_of(&mut self, network: NetworkId) {
        let vms = self.vms_attached(network).map(|vm| vm.id).collect::<Vec<_>>();
        vms.into_iter().for_each(|vm| self.update_vm(vm, |_| ()));
    }

    /// Gives ports to NICs that were attached when ports had no numbers.
    pub(super) fn number_old_ports(&mut self) {
        let is_static = |nic: &Nic| {
            self.networks
                .get(&nic.network)
                .is_some_and(|it| matches!(it.binding, Binding::Static { .. }))
        };
        let lacks =
            |vm: &&VmRecord| vm.config.nics.iter().any(|nic| nic.port.is_none() && is_static(nic));
        let vms = self.vms.values().filter(lacks).map(|vm| vm.id).collect::<Vec<_>>();
        vms.into_iter().for_each(|vm| self.update_vm(vm, |_| ()));
    }
}

fn on_network(config: &VmConfig, network: NetworkId) -> u32 {
    let count = config.nics.iter().filter(|nic| nic.network == network).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn no_port(vm: &str, network: &str, ports: u32) -> Fault {
    Fault::new(
        FaultCode::ResourceInUse,
        format!(
            "VM '{vm}': the {ports} ports of network '{network}' are used up; detach an adapter, or \
             give it more with 'racknest network edit {network} --ports N' or --auto-expand true"
        ),
    )
}
