//! Sizes of memory and disks.

use alloc::string::String;
use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Sub};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes.
///
/// ```
/// use racknest_types::bytes::Bytes;
///
/// let claim: Bytes = "8 GiB".parse()?;
/// assert_eq!(claim, Bytes::from_gib(8));
/// assert_eq!(Bytes::from_mib(512).to_string(), "512 MiB");
/// # Ok::<(), racknest_types::bytes::ParseBytesError>(())
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

const UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// This many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many KiB.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// This many MiB.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// This many GiB.
    #[must_use]
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole MiB, rounded down.
    #[must_use]
    pub const fn mib(self) -> u64 {
        self.0 >> 20
    }
}

impl fmt::Display for Bytes {
    /// The largest unit of which there is at least one, with one decimal where it is not whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in UNITS {
            if self.0 >= size {
                let tenths = self.0 % size * 10 / size;
                return match tenths {
                    0 => write!(f, "{} {unit}", self.0 / size),
                    _ => write!(f, "{}.{tenths} {unit}", self.0 / size),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a size; write for example 512MiB, 8GiB or 1.5TiB")]
pub struct ParseBytesError {
    text: String,
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Reads `512 MiB`, `8G`, `1.5TiB`, `4096`. Units are binary whether written `G`, `GB` or `GiB`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseBytesError { text: text.into() };
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(error()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole: u64 = whole.parse().map_err(|_| error())?;
        // Four decimals are enough for any size a person writes, and cannot overflow below.
        let fraction: u64 = alloc::format!("{fraction:0<4.4}").parse().map_err(|_| error())?;
        let unit_size = 1_u128 << shift;
        let total = u128::from(whole) * unit_size + u128::from(fraction) * unit_size / 10_000;
        u64::try_from(total).map(Self).map_err(|_| error())
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, rest: Self) -> Self {
        Self(self.0.saturating_add(rest.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, rest: Self) {
        *self = *self + rest;
    }
}

impl Sub for Bytes {
    type Output = Self;

    /// Stops at zero: sizes are never negative.
    fn sub(self, rest: Self) -> Self {
        Self(self.0.saturating_sub(rest.0))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_size_is_read_in_the_ways_people_write_it() {
        for (text, size) in [
            ("4096", Bytes::from_kib(4)),
            ("512MiB", Bytes::from_mib(512)),
            ("512 mb", Bytes::from_mib(512)),
            ("8G", Bytes::from_gib(8)),
            ("1.5 TiB", Bytes::from_gib(1536)),
            (" 0 ", Bytes::ZERO),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in ["", "G", "-1", "1.2.3G", "8 X", "99999999999TiB", "1e3"] {
            let error = text.parse::<Bytes>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_unit() {
        for (size, text) in [
            (Bytes::new(999), "999 B"),
            (Bytes::from_mib(1536), "1.5 GiB"),
            (Bytes::from_gib(64), "64 GiB"),
            (Bytes::ZERO, "0 B"),
        ] {
            assert_eq!(size.to_string(), text);
        }
    }
}
