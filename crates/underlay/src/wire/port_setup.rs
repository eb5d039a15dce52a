//! What a port of the physical switch carries, as whoever runs the switches has set it up.

use racknest_types::fault::Fault;
use serde::{Deserialize, Serialize};

/// The largest payload of a port of which nothing is said, in bytes: what jumbo frames have.
pub const PORT_MTU: u16 = 9_000;

/// The smallest payload that a port can be held to, in bytes: what IPv4 asks of a link.
const PORT_MTU_MIN: u16 = 576;

/// The most ranges of VLANs of a port: a page of ports is one packet.
pub(crate) const RANGES_MAX: usize = 16;

/// The highest VLAN.
const VLAN_MAX: u16 = 4_094;

/// What a port of the physical switch carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSetup {
    /// The VLANs that pass with their tag: first and last of each range; `None` for all. Untagged
    /// frames pass always.
    #[serde(default)]
    pub vlans: Option<Vec<(u16, u16)>>,
    /// The largest payload, in bytes.
    pub mtu: u16,
}

impl Default for PortSetup {
    fn default() -> Self {
        Self { vlans: None, mtu: PORT_MTU }
    }
}

impl PortSetup {
    /// Whether it is as if nothing had been said.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a VLAN passes; 0 is untagged.
    #[must_use]
    pub fn carries(&self, vlan: u16) -> bool {
        let is_in = |(first, last): &(u16, u16)| (*first..=*last).contains(&vlan);
        vlan == 0 || self.vlans.as_ref().is_none_or(|vlans| vlans.iter().any(is_in))
    }

    /// Whether a port can be like this.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn check(&self) -> Result<(), Fault> {
        let is_bad = |(first, last): &(u16, u16)| *first == 0 || first > last || *last > VLAN_MAX;
        if let Some((first, last)) = self.vlans.iter().flatten().find(|range| is_bad(range)) {
            return Err(Fault::invalid(format!(
                "{first}-{last} is no range of VLANs: they are from 1 to {VLAN_MAX}"
            )));
        }
        let ranges = self.vlans.as_ref().map_or(0, Vec::len);
        if ranges > RANGES_MAX {
            return Err(Fault::invalid(format!(
                "{ranges} ranges of VLANs are more than {RANGES_MAX}"
            )));
        }
        if !(PORT_MTU_MIN..=PORT_MTU).contains(&self.mtu) {
            return Err(Fault::invalid(format!(
                "a port carries payloads of {PORT_MTU_MIN} to {PORT_MTU} bytes, not {}",
                self.mtu
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_carries_what_it_was_set_up_for_and_untagged_frames() {
        let all = PortSetup::default();
        assert!(all.is_open() && all.carries(0) && all.carries(4_094));
        let some = PortSetup { vlans: Some(vec![(10, 10), (20, 29)]), mtu: 1_500 };
        let carried: Vec<u16> = (0..40).filter(|vlan| some.carries(*vlan)).collect();
        assert_eq!(carried, [0, 10, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
        assert_eq!(some.check(), Ok(()));
    }

    #[test]
    fn what_no_port_can_be_is_refused() {
        for vlans in [(0, 5), (7, 3), (4_000, 4_095)] {
            let setup = PortSetup { vlans: Some(vec![vlans]), ..PortSetup::default() };
            assert!(setup.check().unwrap_err().message.contains("VLANs"));
        }
        for mtu in [100, 9_001] {
            let setup = PortSetup { mtu, ..PortSetup::default() };
            assert!(setup.check().unwrap_err().message.contains("bytes"));
        }
    }
}
