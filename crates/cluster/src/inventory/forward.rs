//! Forwards: ports of the machine that the box runs on, which lead to ports of guests.
//!
//! The manager listens, because it stays where it is while VMs move: whoever connects is led to the
//! host on which the VM runs at that moment. See decision 0018.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, NetworkId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::event::EventKind;
use crate::record::network::NetworkRecord;
use crate::record::services::{Forward, Protocol};
use crate::record::vm::{Nic, PowerState, VmRecord};

/// The most forwards of one network: each holds a socket of the manager.
const FORWARDS_MAX: usize = 256;

/// Where nothing is said, port 80 of a guest is port 10080 here: what is below 1024 is not for
/// ordinary users to listen on.
const LISTEN_ABOVE: u16 = 10_000;

/// A forward to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewForward {
    /// The VM.
    pub vm: VmId,
    /// The network by which it is reached; `None` for the first of its own that has a subnet.
    pub network: Option<NetworkId>,
    /// The port of its guest.
    pub port: u16,
    /// Where the manager listens; `None` for a free port of 127.0.0.1.
    pub listen: Option<SocketAddrV4>,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Where a forward leads at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The host of the VM.
    pub host: HostId,
    /// The network.
    pub network: NetworkId,
    /// The address of the VM there.
    pub address: Ipv4Addr,
}

impl Inventory {
    /// Every forward, with the network that it leads into.
    pub fn forwards(&self) -> impl Iterator<Item = (NetworkId, &Forward)> {
        self.networks.values().flat_map(|it| it.forwards.iter().map(|forward| (it.id, forward)))
    }

    /// Makes a forward to a port of a guest.
    ///
    /// # Errors
    /// The VM has no address on such a network, or the port is listened on already.
    pub fn network_forward(
        &mut self,
        now: Timestamp,
        user: &str,
        new: NewForward,
    ) -> Result<Forward, Fault> {
        let vm = self.vm(new.vm)?;
        if new.port == 0 || new.listen.is_some_and(|listen| listen.port() == 0) {
            return Err(Fault::invalid(format!("VM '{}': a port is from 1 to 65535", vm.name)));
        }
        if new.protocol == Protocol::Icmp {
            return Err(Fault::invalid("forwards are of tcp or udp"));
        }
        let network = self.reached_by(vm, new.network)?;
        let listen = self.free_listener(new)?;
        let name = vm.name.clone();
        if self.network(network)?.forwards.len() >= FORWARDS_MAX {
            return Err(Fault::new(
                FaultCode::InsufficientResources,
                format!(
                    "{} has {FORWARDS_MAX} forwards, which is the most",
                    self.describe(network.into())
                ),
            ));
        }
        let number = self.next_id();
        let NewForward { vm, port, protocol, .. } = new;
        let forward = Forward { number, listen, protocol, vm, port };
        if let Some(record) = self.networks.get_mut(&network) {
            record.forwards.push(forward);
        }
        self.touch(network);
        let detail = format!("{listen} leads to port {port} of VM '{name}'");
        self.record_event(now, user, network, EventKind::Reconfigured, detail);
        Ok(forward)
    }

    /// Removes a forward.
    ///
    /// # Errors
    /// There is none of that number.
    pub fn network_unforward(
        &mut self,
        now: Timestamp,
        user: &str,
        number: u64,
    ) -> Result<(), Fault> {
        let found = self.forwards().find(|(_, forward)| forward.number == number);
        let (network, forward) = found
            .map(|(network, forward)| (network, *forward))
            .ok_or_else(|| Fault::not_found(format!("forward {number}")))?;
        if let Some(record) = self.networks.get_mut(&network) {
            record.forwards.retain(|it| it.number != number);
        }
        self.touch(network);
        let detail = format!("{} leads nowhere any more", forward.listen);
        self.record_event(now, user, network, EventKind::Reconfigured, detail);
        Ok(())
    }

    /// Where a forward leads at the moment.
    ///
    /// # Errors
    /// The VM does not run, or has left the network.
    pub fn forward_target(&self, network: NetworkId, to: &Forward) -> Result<ForwardTarget, Fault> {
        let vm = self.vm(to.vm)?;
        if vm.power != PowerState::On {
            return Err(Fault::new(
                FaultCode::InvalidPowerState,
                format!("VM '{}' is off, and {} leads to it", vm.name, to.listen),
            ));
        }
        let address = address_on(vm, network).ok_or_else(|| self.no_address(vm, Some(network)))?;
        Ok(ForwardTarget { host: vm.host, network, address })
    }

    pub(super) fn drop_forwards_to(&mut self, vm: VmId) {
        let leads = |network: &&mut NetworkRecord| network.forwards.iter().any(|it| it.vm == vm);
        let mut changed = Vec::new();
        for network in self.networks.values_mut().filter(leads) {
            network.forwards.retain(|it| it.vm != vm);
            changed.push(network.id);
        }
        changed.into_iter().for_each(|network| self.touch(network));
    }

    fn reached_by(&self, vm: &VmRecord, wanted: Option<NetworkId>) -> Result<NetworkId, Fault> {
        let has_address = |nic: &&Nic| nic.address.is_some();
        let mut nics = vm.config.nics.iter().filter(has_address);
        let nic = nics.find(|nic| wanted.is_none_or(|wanted| nic.network == wanted));
        nic.map(|nic| nic.network).ok_or_else(|| self.no_address(vm, wanted))
    }

    fn no_address(&self, vm: &VmRecord, network: Option<NetworkId>) -> Fault {
        let place = network.map_or_else(
            || "a network that has a subnet".into(),
            |network| self.describe(network.into()),
        );
        Fault::state(format!(
            "VM '{}' has no address on {place}; give its network one: racknest network edit \
             NETWORK --subnet 10.1.0.0/24",
            vm.name
        ))
    }

    fn free_listener(&self, new: NewForward) -> Result<SocketAddrV4, Fault> {
        let same = self.forwards().filter(|(_, it)| it.protocol == new.protocol);
        let taken = same.map(|(_, it)| it.listen).collect::<Vec<_>>();
        if let Some(listen) = new.listen {
            let clashes = |other: &&SocketAddrV4| {
                let is_any = other.ip().is_unspecified() || listen.ip().is_unspecified();
                other.port() == listen.port() && (is_any || other.ip() == listen.ip())
            };
            return match taken.iter().find(clashes) {
                None => Ok(listen),
                Some(other) => Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!("{other} is listened on for another forward; choose another port"),
                )),
            };
        }
        let ports = taken.iter().map(SocketAddrV4::port).collect::<BTreeSet<_>>();
        let usual = LISTEN_ABOVE.checked_add(new.port);
        let free = usual.into_iter().chain(LISTEN_ABOVE..).find(|port| !ports.contains(port));
        let free = free.ok_or_else(|| {
            Fault::new(FaultCode::InsufficientResources, "every port is forwarded already")
        })?;
        Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, free))
    }
}

/// A network to which forwards lead keeps its subnet.
pub(super) fn check_forwards(network: &NetworkRecord) -> Result<(), Fault> {
    if network.services.is_some() || network.forwards.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::ResourceInUse,
        format!(
            "network '{}' cannot lose its subnet: forwards lead to its guests; remove them first",
            network.name
        ),
    ))
}

fn address_on(vm: &VmRecord, network: NetworkId) -> Option<Ipv4Addr> {
    vm.config.nics.iter().find(|nic| nic.network == network)?.address
}
