//! What holds for the switches of all hosts, and that every host is told.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::net::SocketAddr;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::HostId;
use racknest_types::time::Timestamp;

use super::Inventory;
use super::network::VLAN_MAX;
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;
use crate::record::switching::{
    FlowSettings, GuestWire, MirrorSession, MirrorTarget, SwitchSettings,
};
use crate::wire::ToHost;

/// The least and the most seconds after which a piece of a flow is told, or a silent one has ended.
const FLOW_SECONDS: core::ops::RangeInclusive<u32> = 1..=3_600;

/// The longest name of a mirror session, in bytes.
const MIRROR_NAME_MAX: usize = 40;

/// The smallest file of copies, in bytes.
const MIRROR_BYTES_MIN: u64 = 64 << 10;

impl Inventory {
    /// What holds for the switches of all hosts.
    #[must_use]
    pub const fn switch_settings(&self) -> &SwitchSettings {
        &self.meta.switching
    }

    /// Changes what holds for the switches of all hosts.
    ///
    /// # Errors
    /// No switch could keep it.
    pub fn switch_configure(
        &mut self,
        now: Timestamp,
        user: &str,
        settings: SwitchSettings,
    ) -> Result<(), Fault> {
        check_flows(&settings.flows)?;
        if settings == self.meta.switching {
            return Ok(());
        }
        self.meta.switching = settings;
        self.record_event(now, user, EntityRef::Meta, EventKind::Reconfigured, "switches");
        self.send_switching();
        Ok(())
    }

    /// Copies what passes by some ports from now on. The session gets its number here.
    ///
    /// # Errors
    /// Its name cannot be used or is taken, or what it copies or where to cannot be.
    pub fn mirror_create(
        &mut self,
        now: Timestamp,
        user: &str,
        session: MirrorSession,
    ) -> Result<u32, Fault> {
        check_mirror(&session)?;
        let mirrors = &self.meta.switching.mirrors;
        if mirrors.iter().any(|it| it.name == session.name) {
            let why = format!("there is a mirror session '{}' already", session.name);
            return Err(Fault::new(FaultCode::DuplicateName, why));
        }
        let number = mirrors.iter().map(|it| it.number).max().unwrap_or(0) + 1;
        let detail = format!("mirror session {}", session.name);
        self.meta.switching.mirrors.push(MirrorSession { number, ..session });
        self.record_event(now, user, EntityRef::Meta, EventKind::Reconfigured, detail);
        self.send_switching();
        Ok(number)
    }

    /// Copies no more.
    ///
    /// # Errors
    /// There is no such session.
    pub fn mirror_delete(&mut self, now: Timestamp, user: &str, name: &str) -> Result<(), Fault> {
        let mirrors = &mut self.meta.switching.mirrors;
        let place = mirrors.iter().position(|it| it.name == name);
        let place = place
            .ok_or_else(|| Fault::not_found(format!("mirror session '{}'", name.escape_debug())))?;
        mirrors.remove(place);
        let detail = format!("mirror session {name} has ended");
        self.record_event(now, user, EntityRef::Meta, EventKind::Reconfigured, detail);
        self.send_switching();
        Ok(())
    }

    /// Makes the wire of a guest's NIC faulty, or whole.
    ///
    /// # Errors
    /// The VM has no such NIC, or the faults cannot be.
    pub fn wire_impair(
        &mut self,
        now: Timestamp,
        user: &str,
        wire: GuestWire,
    ) -> Result<(), Fault> {
        let GuestWire { vm, nic, faults } = wire;
        let record = self.vm(vm)?;
        if !record.config.nics.iter().any(|it| it.key == nic) {
            return Err(Fault::not_found(format!("NIC {nic} of VM '{}'", record.name)));
        }
        faults.check().map_err(|error| Fault::invalid(format!("{error}")))?;
        let is_it = |it: &GuestWire| it.vm == vm && it.nic == nic;
        let mut wires = core::mem::take(&mut self.meta.switching.wires);
        let vms = &self.vms;
        wires.retain(|it| !is_it(it) && vms.contains_key(&it.vm) && !has_ended(it, now));
        if !faults.is_none() {
            wires.push(wire);
        }
        self.meta.switching.wires = wires;
        let (kind, detail) = match faults.is_none() {
            true => (EventKind::LinkRestored, format!("NIC {nic}")),
            false => (EventKind::LinkImpaired, format!("NIC {nic}: {faults}")),
        };
        self.record_event(now, user, vm, kind, detail);
        self.send_switching();
        Ok(())
    }

    /// The wires of guests that are not whole, of VMs that there are.
    pub fn guest_wires(&self) -> impl Iterator<Item = &GuestWire> {
        self.meta.switching.wires.iter().filter(|it| self.vms.contains_key(&it.vm))
    }

    /// Tells every host that answers.
    pub(super) fn send_switching(&mut self) {
        let connected = self.hosts.values().filter(|host| self.is_connected(host.id));
        for host in connected.map(|host| host.id).collect::<Vec<_>>() {
            self.send_switching_to(host);
        }
    }

    /// Tells a host, if its agent knows what that is.
    pub(super) fn send_switching_to(&mut self, host: HostId) {
        if self.hosts.get(&host).is_some_and(|host| host.about.takes_switching) {
            let settings = Box::new(self.meta.switching.clone());
            self.send(host, ToHost::Switching(settings));
        }
    }
}

fn check_mirror(session: &MirrorSession) -> Result<(), Fault> {
    let name = &session.name;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    // It is the name of a file.
    if !(1..=MIRROR_NAME_MAX).contains(&name.len()) || !name.bytes().all(is_plain) {
        return Err(Fault::invalid(format!(
            "'{}' cannot be the name of a mirror session: use 1 to {MIRROR_NAME_MAX} letters, \
             digits, dashes and underscores",
            name.escape_debug()
        )));
    }
    if session.vlan.is_some_and(|vlan| vlan > VLAN_MAX) {
        return Err(Fault::invalid(format!("mirror session '{name}': a VLAN is 0 to {VLAN_MAX}")));
    }
    match &session.target {
        MirrorTarget::Remote { address } if address.parse::<SocketAddr>().is_err() => {
            Err(Fault::invalid(format!(
                "'{}' is no address and port, as in 192.0.2.7:4789",
                address.escape_debug()
            )))
        }
        MirrorTarget::File { bytes_max } if *bytes_max < MIRROR_BYTES_MIN => {
            Err(Fault::invalid(format!("a file of copies has {MIRROR_BYTES_MIN} bytes or more")))
        }
        MirrorTarget::Guest { .. } | MirrorTarget::File { .. } | MirrorTarget::Remote { .. } => {
            Ok(())
        }
    }
}

/// Whether its faults are gone for good.
fn has_ended(wire: &GuestWire, now: Timestamp) -> bool {
    wire.faults.schedule.is_some_and(|schedule| schedule.is_over(now))
}

fn check_flows(flows: &FlowSettings) -> Result<(), Fault> {
    if flows.sampling == 0 {
        return Err(Fault::invalid(
            "sampling is 1 for every frame, or more; disable flows instead",
        ));
    }
    for seconds in [flows.active_seconds, flows.inactive_seconds] {
        if !FLOW_SECONDS.contains(&seconds) {
            let (least, most) = (FLOW_SECONDS.start(), FLOW_SECONDS.end());
            let why = format!("flows are told after {least} to {most} seconds, not {seconds}");
            return Err(Fault::invalid(why));
        }
    }
    match &flows.collector {
        Some(collector) if collector.parse::<SocketAddr>().is_err() => {
            Err(Fault::invalid(format!(
                "'{}' is no collector: write its address and port, as in 192.0.2.7:4739",
                collector.escape_debug()
            )))
        }
        Some(_) | None => Ok(()),
    }
}
