//! Discovery: the host says on each of its physical NICs who it is, and hears who is there.

use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::record::switching::{Discovery, DiscoveryProtocol};
use racknest_cluster::wire::switching::SwitchNeighbour;
use racknest_switch::neighbour::{self, Identity, Neighbour, Protocol, is_link_local};
use racknest_switch::offload::Offload;
use racknest_switch::{Frame, MacAddress, PortId, VlanId};
use racknest_underlay::{FRAME_MAX, NicName};

use super::Watch;
use crate::net::panel::{Exit, Panel};
use crate::net::{Sent, Shared};

/// Header and tag, which are not payload.
const HEADER_LEN: usize = 18;

impl Watch {
    /// Takes in an announcement that came by an uplink; any other frame is fine.
    pub(in crate::net) fn hear(&mut self, now_ms: u64, port: PortId, bytes: &[u8]) {
        let is_one =
            bytes.first_chunk().is_some_and(|address| is_link_local(MacAddress::new(*address)));
        if !is_one || !self.settings.discovery.mode.listens() {
            return;
        }
        let announced = Frame::parse(bytes).ok().and_then(|frame| neighbour::parse(&frame));
        if let Some(Ok(neighbour)) = announced {
            self.neighbours.hear(now_ms, port, neighbour);
        }
    }

    /// A port has no link any more.
    pub(in crate::net) fn forget_port(&mut self, port: PortId) {
        self.neighbours.forget_port(port);
    }

    /// The address that stands for the host.
    pub(in crate::net) fn address(&self) -> MacAddress {
        address(&self.name, "")
    }

    /// What is said on a NIC; the last that is said there, if that is for good.
    fn announcement(&self, nic: &NicName, is_goodbye: bool) -> Vec<u8> {
        let protocol = protocol(self.settings.discovery);
        let chassis = address(&self.name, "");
        let identity = Identity {
            system: self.name.clone(),
            description: concat!("racknest ", env!("CARGO_PKG_VERSION")).to_owned(),
            platform: "racknest host".to_owned(),
            port: nic.to_string(),
            port_description: "uplink of the virtual switch".to_owned(),
            mtu: u16::try_from(FRAME_MAX - HEADER_LEN).ok(),
            is_bridge: true,
            ..Identity::new(chassis)
        };
        let ttl_s = if is_goodbye { 0 } else { protocol.ttl_s() };
        neighbour::announcement(protocol, address(&self.name, nic.as_str()), &identity, ttl_s)
    }
}

const fn protocol(discovery: Discovery) -> Protocol {
    match discovery.protocol {
        DiscoveryProtocol::Lldp => Protocol::Lldp,
        DiscoveryProtocol::Cdp => Protocol::Cdp,
    }
}

/// A locally administered address of the host or of one of its NICs, which have none: always the
/// same for the same names (FNV-1a).
fn address(host: &str, nic: &str) -> MacAddress {
    let bytes = host.bytes().chain([0]).chain(nic.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    MacAddress::new([0x02, a, b, c, d, e])
}

impl Panel {
    /// Says on each uplink that works who the host is, if that is wanted.
    pub(super) fn announce_host(
        &self,
        is_goodbye: bool,
        mut send: impl FnMut(Exit<'_>, &Offload, [&[u8]; 3]) -> Sent,
    ) {
        for (place, (nic, port)) in self.uplinks.iter().enumerate() {
            if self.switch.is_open(*port) {
                // Lost like any frame; it is said again.
                let frame = self.watch.announcement(nic, is_goodbye);
                let _ = send(Exit::Uplink(place), &Offload::NONE, [&frame, &[], &[]]);
            }
        }
    }

    /// Who is at the other ends of the uplinks.
    pub(in crate::net) fn neighbours(&self, now_ms: u64) -> Vec<SwitchNeighbour> {
        let heard = self.watch.neighbours.iter(now_ms);
        heard.filter_map(|(port, it)| self.neighbour(port, it)).collect()
    }

    fn neighbour(&self, port: PortId, neighbour: &Neighbour) -> Option<SwitchNeighbour> {
        let identity = neighbour.identity.clone();
        Some(SwitchNeighbour {
            end: self.end_of(port)?,
            protocol: neighbour.protocol.to_string(),
            system: identity.system,
            description: identity.description,
            platform: identity.platform,
            chassis: identity.chassis.bytes(),
            port: identity.port,
            port_description: identity.port_description,
            management: identity.management,
            vlan: identity.vlan.map(VlanId::get),
            mtu: identity.mtu,
            is_bridge: identity.is_bridge,
            is_router: identity.is_router,
            ttl_seconds: neighbour.ttl_s,
        })
    }
}

impl Shared {
    /// Says who the host is: again and again, and when a link came up.
    pub(in crate::net) async fn announce(self: Arc<Self>) {
        loop {
            let discovery = self.panel().watch.settings.discovery;
            if discovery.mode.advertises() {
                self.panel()
                    .announce_host(false, |exit, offload, pieces| self.send(exit, offload, pieces));
            }
            let interval = Duration::from_secs(protocol(discovery).interval_s().into());
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.fresh.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use racknest_cluster::record::switching::{DiscoveryMode, SwitchSettings};

    use super::*;
    use crate::layout::Layout;

    #[test]
    fn a_host_is_heard_as_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path().join("run"));
        let mut watch = Watch::load("esx01", &layout);
        let bytes = watch.announcement(&"vmnic1".parse().unwrap(), false);
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.source(), address("esx01", "vmnic1"));
        assert_ne!(frame.source(), address("esx01", "vmnic0"));
        let heard = neighbour::parse(&frame).unwrap().unwrap();
        assert_eq!((&*heard.identity.system, &*heard.identity.port), ("esx01", "vmnic1"));

        let port = racknest_switch::Switch::default().add_port(racknest_switch::PortMode::trunk());
        watch.hear(0, port, &bytes);
        assert_eq!(watch.neighbours.on(1, port).count(), 1);
        let goodbye = watch.announcement(&"vmnic1".parse().unwrap(), true);
        watch.hear(2, port, &goodbye);
        assert_eq!(watch.neighbours.on(3, port).count(), 0);
        let mut settings = SwitchSettings::default();
        settings.discovery.mode = DiscoveryMode::Advertise;
        watch.set(settings);
        watch.hear(4, port, &bytes);
        assert_eq!(watch.neighbours.on(5, port).count(), 0, "it does not listen");
    }
}
