//! VMkernel adapters: by which networks hosts themselves speak.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{HostId, NetworkId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::network::MTU_RANGE;
use crate::record::event::EventKind;
use crate::record::vmkernel::{VmkernelAdapter, VmkernelService};

/// The most adapters of a host; vSphere's own limit for most versions.
pub const ADAPTERS_MAX: usize = 32;

/// A VMkernel adapter to make, or a change of one; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditVmkernel {
    /// The network that it is attached to; the inner `None` is all NICs of the host.
    pub network: Option<Option<NetworkId>>,
    /// Its address and prefix; the inner `None` takes it away.
    pub address: Option<Option<String>>,
    /// The largest payload of a frame, in bytes.
    pub mtu: Option<u16>,
    /// What it carries.
    pub services: Option<BTreeSet<VmkernelService>>,
}

impl Inventory {
    /// Gives a host an adapter; answers its name.
    ///
    /// # Errors
    /// Something in it cannot be used, or the host has as many as it can have.
    pub fn vmkernel_create(
        &mut self,
        now: Timestamp,
        user: &str,
        host: HostId,
        edit: EditVmkernel,
    ) -> Result<String, Fault> {
        let record = self.host(host)?;
        let taken = record.adapters.iter().map(|it| it.name.as_str()).collect::<BTreeSet<_>>();
        let names = (0..ADAPTERS_MAX).map(|number| format!("vmk{number}"));
        let name = names.into_iter().find(|name| !taken.contains(name.as_str()));
        let name = name.ok_or_else(|| {
            Fault::invalid(format!(
                "host '{}' has {ADAPTERS_MAX} VMkernel adapters; delete one first",
                record.name
            ))
        })?;
        let first = VmkernelAdapter::first();
        let adapter = VmkernelAdapter { name: name.clone(), services: BTreeSet::new(), ..first };
        let adapter = edited(adapter, edit);
        self.check_vmkernel(host, &adapter)?;
        self.put_adapters(now, user, host, format!("{name} was made"), |all| all.push(adapter));
        Ok(name)
    }

    /// Changes an adapter of a host.
    ///
    /// # Errors
    /// Something in it cannot be used, or nothing would carry the host's management any more.
    pub fn vmkernel_edit(
        &mut self,
        now: Timestamp,
        user: &str,
        host: HostId,
        name: &str,
        edit: EditVmkernel,
    ) -> Result<(), Fault> {
        let old = self.vmkernel(host, name)?.clone();
        let new = edited(old.clone(), edit);
        if new == old {
            return Ok(());
        }
        self.check_vmkernel(host, &new)?;
        if !new.is_for_management() {
            self.check_other_management(host, name, "carry something else than management")?;
        }
        self.put_adapters(now, user, host, format!("{name} was changed"), |all| {
            all.iter_mut().filter(|it| it.name == new.name).for_each(|it| it.clone_from(&new));
        });
        Ok(())
    }

    /// Takes an adapter from a host.
    ///
    /// # Errors
    /// It is the last one for management.
    pub fn vmkernel_delete(
        &mut self,
        now: Timestamp,
        user: &str,
        host: HostId,
        name: &str,
    ) -> Result<(), Fault> {
        self.vmkernel(host, name)?;
        self.check_other_management(host, name, "be deleted")?;
        self.put_adapters(now, user, host, format!("{name} was deleted"), |all| {
            all.retain(|it| it.name != name);
        });
        Ok(())
    }

    /// An adapter of a host.
    ///
    /// # Errors
    /// It has none of that name.
    pub fn vmkernel(&self, host: HostId, name: &str) -> Result<&VmkernelAdapter, Fault> {
        let record = self.host(host)?;
        record.adapters.iter().find(|it| it.name == name).ok_or_else(|| {
            Fault::not_found(format!("VMkernel adapter '{name}' of host '{}'", record.name))
        })
    }

    fn put_adapters(
        &mut self,
        now: Timestamp,
        user: &str,
        host: HostId,
        detail: String,
        change: impl FnOnce(&mut Vec<VmkernelAdapter>),
    ) {
        if let Some(record) = self.hosts.get_mut(&host) {
            change(&mut record.adapters);
            record.network_version += 1;
        }
        self.touch(host);
        self.record_event(now, user, host, EventKind::Reconfigured, detail);
        self.send_networks_to(host);
    }

    fn check_vmkernel(&self, host: HostId, adapter: &VmkernelAdapter) -> Result<(), Fault> {
        let record = self.host(host)?;
        let VmkernelAdapter { name, mtu, .. } = adapter;
        let refuse =
            |why: String| Err(Fault::invalid(format!("{name} of host '{}': {why}", record.name)));
        if !MTU_RANGE.contains(mtu) {
            let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
            return refuse(format!("an MTU is from {least} to {most} bytes, not {mtu}"));
        }
        if let Some(id) = adapter.network {
            let network = self.network(id)?;
            if let Some(why) = self.why_not_on(id, record) {
                return refuse(why);
            }
            if *mtu > network.policy.mtu {
                return refuse(format!(
                    "network '{}' carries payloads of {} bytes, not {mtu}",
                    network.name, network.policy.mtu
                ));
            }
        }
        let Some(text) = &adapter.address else { return Ok(()) };
        let Some(address) = address_of(text) else {
            return refuse(format!(
                "'{text}' is no address of an adapter; write it with its prefix, as in 10.0.0.5/24"
            ));
        };
        let all =
            self.hosts.values().flat_map(|host| host.adapters.iter().map(move |it| (host, it)));
        let mut others = all.filter(|(other, it)| other.id != host || it.name != *name);
        let is_it =
            |it: &VmkernelAdapter| it.address.as_deref().and_then(address_of) == Some(address);
        match others.find(|(_, it)| is_it(it)) {
            None => Ok(()),
            Some((other, it)) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{name} of host '{}': {address} is the address of {} of host '{}'",
                    record.name, it.name, other.name
                ),
            )),
        }
    }

    /// Without an adapter for management nobody could give the host one again.
    fn check_other_management(&self, host: HostId, name: &str, verb: &str) -> Result<(), Fault> {
        let record = self.host(host)?;
        let others = record.adapters.iter().filter(|it| it.name != name);
        let is_last = !others.into_iter().any(VmkernelAdapter::is_for_management);
        if is_last && self.vmkernel(host, name)?.is_for_management() {
            return Err(Fault::state(format!(
                "{name} is the last adapter of host '{}' for management and cannot {verb}; give \
                 another one that service first",
                record.name
            )));
        }
        Ok(())
    }

    /// The adapter of a host that is attached to a network.
    pub(super) fn vmkernel_on(&self, network: NetworkId) -> Option<(String, String)> {
        self.hosts.values().find_map(|host| {
            let adapter = host.adapters.iter().find(|it| it.network == Some(network))?;
            Some((host.name.clone(), adapter.name.clone()))
        })
    }
}

fn edited(adapter: VmkernelAdapter, edit: EditVmkernel) -> VmkernelAdapter {
    VmkernelAdapter {
        network: edit.network.unwrap_or(adapter.network),
        address: edit.address.unwrap_or(adapter.address),
        mtu: edit.mtu.unwrap_or(adapter.mtu),
        services: edit.services.unwrap_or(adapter.services),
        name: adapter.name,
    }
}

/// The address in `10.0.0.5/24`; `None` if that is not what it is.
fn address_of(text: &str) -> Option<IpAddr> {
    let (address, prefix) = text.split_once('/')?;
    let address = address.parse::<IpAddr>().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse::<u8>().ok().filter(|prefix| (1..=longest).contains(prefix))?;
    let is_usable = !address.is_multicast() && !address.is_unspecified();
    (is_usable && prefix > 0).then_some(address)
}
