//! Names that count on: `vm01`, `vm02`, `vm03`.
//!
//! The first name gives the prefix, the first number and how many digits there are at least, so a
//! group of VMs is written as one name and a count.

use std::fmt;

/// A run of names that share a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// What all names begin with.
    pub(crate) prefix: String,
    /// The first number.
    pub(crate) first: u32,
    /// Digits, padded with zeros; 0 for a single name without a number.
    pub(crate) digits: u8,
    /// How many names.
    pub(crate) count: u32,
}

impl Series {
    /// `count` names of which this is the first.
    ///
    /// # Errors
    /// More than one name is asked for and the first does not end with a number that counts that
    /// far.
    pub(crate) fn new(first_name: &str, count: u32) -> Result<Self, String> {
        let prefix = first_name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = &first_name[prefix.len()..];
        let single = Self { prefix: first_name.to_owned(), first: 0, digits: 0, count };
        if number.is_empty() {
            return match count {
                0 | 1 => Ok(single),
                _ => Err(format!(
                    "{count} names cannot count on from '{first_name}': end it with a number, as \
                     in '{first_name}01'"
                )),
            };
        }
        let first = number.parse::<u32>().ok().filter(|first| first.checked_add(count).is_some());
        match (first, u8::try_from(number.len())) {
            (Some(first), Ok(digits)) => {
                Ok(Self { prefix: prefix.to_owned(), first, digits, count })
            }
            _ if count <= 1 => Ok(single),
            _ => Err(format!("the number at the end of '{first_name}' is too large to count on")),
        }
    }

    /// The name at this place, counted from 0.
    pub(crate) fn name(&self, place: u32) -> String {
        match self.digits {
            0 => self.prefix.clone(),
            digits => {
                let number = u64::from(self.first) + u64::from(place);
                format!("{}{number:0width$}", self.prefix, width = usize::from(digits))
            }
        }
    }

    /// Every name, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(|place| self.name(place))
    }

    /// The names at places `from..to`, as a series of their own.
    pub(crate) fn part(&self, from: u32, to: u32) -> Self {
        Self { first: self.first + from, count: to - from, ..self.clone() }
    }

    /// The runs of neighbouring names that `keep` picks.
    pub(crate) fn runs(&self, mut keep: impl FnMut(&str) -> bool) -> Vec<Self> {
        let mut runs = vec![];
        let mut begun = None;
        for place in 0..self.count {
            match (keep(&self.name(place)), begun) {
                (true, None) => begun = Some(place),
                (false, Some(from)) => {
                    runs.push(self.part(from, place));
                    begun = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        runs.extend(begun.map(|from| self.part(from, self.count)));
        runs
    }
}

impl fmt::Display for Series {
    /// `vm01`, `vm01 and vm02`, `vm01 to vm60`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => f.write_str("nothing"),
            1 => f.write_str(&self.name(0)),
            2 => write!(f, "{} and {}", self.name(0), self.name(1)),
            count => write!(f, "{} to {}", self.name(0), self.name(count - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(first: &str, count: u32) -> String {
        Series::new(first, count).map_or_else(|why| why, |series| series.to_string())
    }

    #[test]
    fn names_count_on_from_the_first() {
        assert_eq!(shown("vm01", 60), "vm01 to vm60");
        assert_eq!(shown("vm99", 2), "vm99 and vm100");
        assert_eq!(shown("router", 1), "router");
        assert_eq!(shown("vm000001", 100_000), "vm000001 to vm100000");
        assert_eq!(shown("7", 3), "7 to 9");
    }

    #[test]
    fn names_that_cannot_count_on_are_refused() {
        assert!(shown("router", 2).contains("'router01'"));
        assert!(shown("vm99999999999", 2).contains("too large"));
        assert!(shown("vm4294967295", 2).contains("too large"));
        assert_eq!(shown("vm99999999999", 1), "vm99999999999");
    }

    #[test]
    fn what_is_missing_is_found_in_runs() {
        let series = Series::new("vm1", 9).unwrap();
        let runs = series.runs(|name| !matches!(name, "vm1" | "vm4" | "vm5"));
        let shown: Vec<String> = runs.iter().map(Series::to_string).collect();
        assert_eq!(shown, ["vm2 and vm3", "vm6 to vm9"]);
    }
}
