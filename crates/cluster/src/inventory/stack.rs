//! Stacks: VMs that belong together, cloned with copies of the networks between them.
//!
//! The clones are fenced: every network that one of them is attached to is a copy, on a VLAN of its
//! own and without a way to the original. So they can have the addresses and names of the originals,
//! and run beside them.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{NetworkId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::deploy::CloneVm;
use super::network::CopyNetwork;
use super::vm_action::VmAction;
use crate::record::task::NamePattern;

/// The most VMs of one stack.
pub const STACK_MAX: usize = 256;

/// A stack to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneStack {
    /// Its VMs.
    pub vms: Vec<VmId>,
    /// What the names of the copies have behind those of the originals, of VMs and networks.
    pub suffix: String,
    /// Whether the clones share the disks of their sources' current snapshots.
    pub linked: bool,
    /// Whether they are powered on when made.
    pub power_on: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClonedStack {
    /// Networks, and their copies.
    pub networks: Vec<(NetworkId, NetworkId)>,
    /// The VMs: the tasks that clone them, or why they are not cloned.
    pub vms: Vec<(VmId, Result<TaskId, Fault>)>,
}

impl Inventory {
    /// Clones a stack into fenced copies of its networks, where each VM has the addresses that it has.
    ///
    /// # Errors
    /// A VM cannot be cloned as it is, or a name is taken; then nothing is made. That a host has no
    /// room is told of each VM.
    pub fn vm_clone_stack(
        &mut self,
        now: Timestamp,
        user: &str,
        stack: &CloneStack,
    ) -> Result<ClonedStack, Fault> {
        let sources = self.check_stack(stack)?;
        let mut networks = Vec::new();
        for source in sources {
            let name = format!("{}{}", self.network(source)?.name, stack.suffix);
            let copy = CopyNetwork { source, folder: None, name: &name, vlan: None };
            networks.push((source, self.network_copy(now, user, copy)?));
        }
        let mut vms = Vec::new();
        for &vm in &stack.vms {
            let clone = self.clone_in_stack(vm, stack, &networks)?;
            vms.push((vm, self.vm_clone(now, user, clone)));
        }
        Ok(ClonedStack { networks, vms })
    }

    /// Whether the stack can be cloned; the networks that it is attached to.
    fn check_stack(&self, stack: &CloneStack) -> Result<BTreeSet<NetworkId>, Fault> {
        if stack.vms.is_empty() || stack.vms.len() > STACK_MAX || stack.suffix.is_empty() {
            return Err(Fault::invalid(format!(
                "a stack is 1 to {STACK_MAX} VMs, whose copies have something behind their names"
            )));
        }
        if stack.vms.iter().collect::<BTreeSet<_>>().len() < stack.vms.len() {
            return Err(Fault::invalid("a VM is named twice; each has one copy"));
        }
        let mut networks = BTreeSet::new();
        for &id in &stack.vms {
            let vm = self.vm(id)?;
            self.check_vm_action(id, VmAction::Clone)?;
            self.check_name(vm.folder.into(), &format!("{}{}", vm.name, stack.suffix))?;
            self.clone_disks(vm, stack.linked)?;
            networks.extend(vm.config.nics.iter().map(|nic| nic.network));
        }
        for &id in &networks {
            let network = self.network(id)?;
            self.check_name(network.folder.into(), &format!("{}{}", network.name, stack.suffix))?;
            Self::check_copied(network)?;
        }
        if self.free_vlans().take(networks.len()).count() < networks.len() {
            let why = "there are not as many free VLANs as networks to copy";
            return Err(Fault::new(FaultCode::InsufficientResources, why));
        }
        Ok(networks)
    }

    fn clone_in_stack(
        &self,
        source: VmId,
        stack: &CloneStack,
        networks: &[(NetworkId, NetworkId)],
    ) -> Result<CloneVm, Fault> {
        let vm = self.vm(source)?;
        let has = |network: NetworkId| vm.config.nics.iter().any(|nic| nic.network == network);
        let prefix = format!("{}{}", vm.name, stack.suffix);
        Ok(CloneVm {
            source,
            names: NamePattern { prefix, first: 1, digits: 0 },
            count: 1,
            batch: 1,
            linked: stack.linked,
            power_on: stack.power_on,
            folder: Some(vm.folder),
            pool: vm.pool,
            host: None,
            networks: networks.iter().copied().filter(|(from, _)| has(*from)).collect(),
        })
    }
}
