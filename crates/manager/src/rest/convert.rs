//! From records to what is shown, as far as several kinds need it.

use racknest_api::page::{LIMIT_DEFAULT, LIMIT_MAX, Page};
use racknest_api::reference::Reference;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;
use racknest_types::id::DatacenterId;
use racknest_types::time::Timestamp;
use std::fmt::Display;
use std::str::FromStr;

/// A point in time, as JSON has it.
pub(super) fn time(at: Timestamp) -> jiff::Timestamp {
    i64::try_from(at.millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

/// A point in time, as the inventory has it; what was before 1970 counts as 1970.
pub(super) fn moment(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// A mention of an object.
pub(super) fn reference<I: Copy + Into<EntityRef>>(inventory: &Inventory, id: I) -> Reference<I> {
    Reference { id, name: inventory.name(id.into()) }
}

/// A mention of an object of any kind.
pub(super) fn mention(inventory: &Inventory, entity: EntityRef) -> Reference<String> {
    Reference { id: entity.to_string(), name: inventory.name(entity) }
}

/// The datacenter that an object is in.
///
/// # Panics
/// It is in none: only folders of datacenters can be.
pub(super) fn datacenter(
    inventory: &Inventory,
    entity: impl Into<EntityRef>,
) -> Reference<DatacenterId> {
    let mut at = entity.into();
    loop {
        if let EntityRef::Datacenter(id) = at {
            return reference(inventory, id);
        }
        at = inventory.parent(at).expect("a VM, host, datastore or network is in a datacenter");
    }
}

/// A number of things, as JSON has it.
pub(super) fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Whether a name fits a pattern in which `*` stands for any letters, and `?` for one.
pub(super) fn fits(pattern: Option<&str>, name: &str) -> bool {
    pattern.is_none_or(|pattern| glob(pattern, name))
}

fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where to go on when what followed the last star did not fit.
    let mut retry: Option<(usize, usize)> = None;
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                retry = Some((at + 1, place));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[place] => {
                at += 1;
                place += 1;
            }
            Some(_) | None => {
                let Some((behind_star, tried)) = retry else { return false };
                retry = Some((behind_star, tried + 1));
                at = behind_star;
                place = tried + 1;
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}

/// Which part of a list is wanted.
pub(super) struct Cut<I> {
    limit: usize,
    after: Option<I>,
}

impl<I: FromStr<Err: Display> + Ord + Display + Copy> Cut<I> {
    /// From a query's `limit` and `after`.
    ///
    /// # Errors
    /// One of them cannot be.
    pub(super) fn new(limit: Option<u32>, after: Option<&str>) -> Result<Self, Fault> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(Fault::invalid(format!("limit={limit} cannot be; give 1 to {LIMIT_MAX}")));
        }
        let after = after.map(str::parse).transpose();
        let after = after.map_err(|error| Fault::invalid(format!("after: {error}")))?;
        Ok(Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), after })
    }

    /// That part of items in rising order of their ids.
    pub(super) fn rising<R, A>(
        &self,
        items: impl Iterator<Item = R>,
        id: fn(&R) -> I,
        show: impl FnMut(R) -> A,
    ) -> Page<A> {
        let items = items.filter(|item| self.after.is_none_or(|after| id(item) > after));
        self.take(items, id, show)
    }

    /// That part of items in falling order of their ids: the latest first.
    pub(super) fn falling<R, A>(
        &self,
        items: impl Iterator<Item = R>,
        id: fn(&R) -> I,
        show: impl FnMut(R) -> A,
    ) -> Page<A> {
        let items = items.filter(|item| self.after.is_none_or(|after| id(item) < after));
        self.take(items, id, show)
    }

    fn take<R, A>(
        &self,
        items: impl Iterator<Item = R>,
        id: fn(&R) -> I,
        show: impl FnMut(R) -> A,
    ) -> Page<A> {
        let mut page: Vec<R> = items.take(self.limit + 1).collect();
        let has_more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| has_more).map(|last| id(last).to_string());
        Page { items: page.into_iter().map(show).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use racknest_types::id::VmId;

    use super::*;

    #[test]
    fn a_pattern_fits_as_a_shell_would_have_it() {
        for (pattern, name, is_fit) in [
            ("vm*", "vm01", true),
            ("*1", "vm01", true),
            ("v*0*1", "vm001", true),
            ("vm?1", "vm01", true),
            ("vm", "vm01", false),
            ("*2", "vm01", false),
            ("", "", true),
            ("***", "x", true),
        ] {
            assert_eq!(glob(pattern, name), is_fit, "{pattern} {name}");
        }
        assert!(fits(None, "anything"));
    }

    #[test]
    fn pages_join_to_the_whole_list() {
        let ids: Vec<VmId> = (1..=25).map(VmId::from_raw).collect();
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let cut = Cut::new(Some(10), after.as_deref()).unwrap();
            let page = cut.rising(ids.iter().copied(), |id| *id, |id| id);
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn a_limit_that_cannot_be_is_refused() {
        for limit in [0, LIMIT_MAX + 1] {
            assert!(Cut::<VmId>::new(Some(limit), None).is_err());
        }
        assert!(Cut::<VmId>::new(None, Some("host-1")).is_err());
    }
}
