//! Subnets: runs of IPv4 addresses that one network has.

use alloc::string::String;
use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The addresses that begin with the same bits (RFC 4632).
///
/// ```
/// use racknest_types::subnet::Subnet;
///
/// let subnet: Subnet = "10.1.0.0/24".parse()?;
/// assert!(subnet.contains([10, 1, 0, 7].into()));
/// assert_eq!(subnet.mask().to_string(), "255.255.255.0");
/// # Ok::<(), racknest_types::subnet::ParseSubnetError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The subnet of this address whose first `prefix` bits count; more than 32 are 32.
    #[must_use]
    pub const fn of(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        let bits = address.to_bits() & mask_of(prefix);
        Self { address: Ipv4Addr::from_bits(bits), prefix }
    }

    /// Its first address, which stands for all of it.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many bits its addresses have in common.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Those bits, as a mask.
    #[must_use]
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask_of(self.prefix))
    }

    /// Its last address, by which all are meant.
    #[must_use]
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask_of(self.prefix))
    }

    /// Whether an address is one of them.
    #[must_use]
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask_of(self.prefix) == self.address.to_bits()
    }

    /// Whether a machine may have this address: one of them, neither the first nor the last.
    #[must_use]
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && address != self.address && address != self.broadcast()
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// Also right for a prefix that was read from elsewhere and is too long.
const fn mask_of(prefix: u8) -> u32 {
    match prefix {
        0 => 0,
        1..=31 => u32::MAX << (32 - prefix),
        _ => u32::MAX,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Text that is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no subnet; write its first address and its length, as in 10.1.0.0/24")]
pub struct ParseSubnetError {
    text: String,
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    /// Reads `10.1.0.0/24`. An address within the subnet is refused: it may be meant as something else.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSubnetError { text: text.into() };
        let (address, prefix) = text.trim().split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(error)?;
        let subnet = Self::of(address, prefix);
        if subnet.address == address { Ok(subnet) } else { Err(error()) }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_has_the_addresses_that_begin_as_it_does() {
        let lab = subnet("10.1.0.0/24");
        assert!(lab.contains([10, 1, 0, 255].into()) && !lab.contains([10, 1, 1, 0].into()));
        assert!(lab.has_host([10, 1, 0, 1].into()));
        assert!(!lab.has_host([10, 1, 0, 0].into()) && !lab.has_host([10, 1, 0, 255].into()));
        assert_eq!(lab.broadcast(), Ipv4Addr::new(10, 1, 0, 255));
        assert_eq!(lab.to_string(), "10.1.0.0/24");
        assert!(subnet("0.0.0.0/0").contains([8, 8, 8, 8].into()));
        assert!(subnet("10.1.2.3/32").contains([10, 1, 2, 3].into()));
        assert_eq!(Subnet::of([10, 1, 0, 7].into(), 24), lab);
    }

    #[test]
    fn two_overlap_if_one_is_within_the_other() {
        let lab = subnet("10.1.0.0/24");
        assert!(lab.overlaps(subnet("10.0.0.0/8")) && subnet("10.0.0.0/8").overlaps(lab));
        assert!(lab.overlaps(lab) && !lab.overlaps(subnet("10.1.1.0/24")));
    }

    #[test]
    fn text_that_is_no_subnet_is_refused_with_how_to_write_it() {
        for text in ["", "10.1.0.0", "10.1.0.0/33", "10.1.0.7/24", "10.1/16", "::/0"] {
            let error = text.parse::<Subnet>().unwrap_err().to_string();
            assert!(error.contains("10.1.0.0/24"), "{error}");
        }
    }
}
