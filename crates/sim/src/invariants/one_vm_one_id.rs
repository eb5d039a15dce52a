//! The id of a VM is never given to another: files, leases and hosts know a VM by it, and would take
//! the one for the other.

use std::collections::BTreeMap;

use racknest_types::id::VmId;

use super::Invariant;
use crate::fact::Fact;
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct OneVmOneId {
    made: BTreeMap<VmId, u128>,
}

impl Invariant for OneVmOneId {
    fn name(&self) -> &'static str {
        "one_vm_one_id"
    }

    fn observe(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Made { vm, uuid } = *fact else { return Ok(()) };
        match self.made.insert(vm, uuid) {
            Some(other) if other != uuid => {
                Err(format!("{vm} was made twice: as {other:032x} and as {uuid:032x}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
