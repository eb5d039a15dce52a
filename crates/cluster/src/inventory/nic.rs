//! Network adapters of VMs, and the addresses that they have.
//!
//! An address is of one adapter only: of two on a network, one gets what is sent to the other. So an
//! address that a user chooses is refused while any VM has it or is about to, and those that are
//! chosen for them pass over it.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{NetworkId, VmId};

use super::Inventory;
use super::vm::NICS_MAX;
use crate::record::entity::EntityRef;
use crate::record::vm::{Nic, Step, VmConfig, VmRecord};

/// The address of an adapter.
pub type Mac = [u8; 6];

/// As many addresses as are chosen from: `00:50:56`, and 22 bits.
const ADDRESSES: u64 = 1 << 22;

/// The bit of an address that makes it one of many adapters.
const GROUP_BIT: u8 = 1;

/// A network adapter to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNic {
    /// The network it is attached to.
    pub network: NetworkId,
    /// Its address; one is chosen if `None`.
    pub mac: Option<Mac>,
}

/// A change of one network adapter; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeNic {
    /// Which one.
    pub key: u32,
    /// The network it is attached to.
    pub network: Option<NetworkId>,
    /// Its address.
    pub mac: Option<Mac>,
    /// Whether its cable is plugged in.
    pub connected: Option<bool>,
}

impl From<NetworkId> for NewNic {
    fn from(network: NetworkId) -> Self {
        Self { network, mac: None }
    }
}

impl Inventory {
    /// A network adapter, with the address that it was given or one that no other has.
    pub(super) fn new_nic(&mut self, key: u32, new: NewNic) -> Nic {
        let mac = new.mac.unwrap_or_else(|| self.free_mac());
        let vlan = self.networks.get(&new.network).map_or(0, |network| network.vlan);
        let (address, port) = (None, None);
        Nic { key, mac, network: new.network, vlan, connected: true, address, port }
    }

    /// `00:50:56` and 22 bits of a number that is never used twice, in the range that vSphere gives to
    /// addresses set by hand. A number whose address a user took before is passed over.
    fn free_mac(&mut self) -> Mac {
        let mut mac = made_of(self.next_id());
        for _ in 0..ADDRESSES {
            if self.mac_holder(None, mac).is_none() {
                break;
            }
            mac = made_of(self.next_id());
        }
        mac
    }

    /// Whether a VM can have these adapters, and those that are made for it besides; `vm` is the one
    /// that is there already.
    pub(super) fn check_nics(
        &self,
        name: &str,
        vm: Option<&VmRecord>,
        kept: &[Nic],
        made: &[NewNic],
    ) -> Result<(), Fault> {
        let count = kept.len() + made.len();
        if count > NICS_MAX {
            return Err(Fault::invalid(format!(
                "VM '{name}': {count} network adapters are more than {NICS_MAX}"
            )));
        }
        made.iter().try_for_each(|nic| self.network(nic.network).map(drop))?;
        let attached = kept.iter().map(|nic| nic.network);
        self.check_ports(name, vm, attached.chain(made.iter().map(|nic| nic.network)))?;
        let had = |mac: &Mac| vm.is_some_and(|vm| vm.config.nics.iter().any(|nic| nic.mac == *mac));
        let given = made.iter().filter_map(|nic| nic.mac);
        let macs = kept.iter().map(|nic| nic.mac).chain(given).collect::<Vec<_>>();
        for &mac in macs.iter().filter(|mac| !had(mac)) {
            self.check_mac(vm.map(|vm| vm.id), name, mac)?;
        }
        check_differ(name, macs)
    }

    /// Whether an adapter of this VM may have this address.
    fn check_mac(&self, vm: Option<VmId>, name: &str, mac: Mac) -> Result<(), Fault> {
        if mac[0] & GROUP_BIT != 0 {
            return Err(Fault::invalid(format!(
                "VM '{name}': {} is the address of a group, not of one adapter; choose one whose \
                 first byte is even, as in 02:00:00:00:00:01",
                shown(mac)
            )));
        }
        if mac == Mac::default() {
            return Err(Fault::invalid(format!(
                "VM '{name}': {} is no address; choose one as 02:00:00:00:00:01",
                shown(mac)
            )));
        }
        match self.mac_holder(vm, mac) {
            None => Ok(()),
            Some(holder) => Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "VM '{name}': the address {} is one of {}; choose another",
                    shown(mac),
                    self.describe(holder.into())
                ),
            )),
        }
    }

    /// The VM that has this address, or will have once what is pending is done; `but` is not asked.
    pub(super) fn mac_holder(&self, but: Option<VmId>, mac: Mac) -> Option<VmId> {
        let is_other = |vm: &VmId| Some(*vm) != but;
        let has = self.index.mac_holders(mac).find(is_other);
        has.or_else(|| self.vms_to_change().filter(is_other).find(|vm| self.will_have(*vm, mac)))
    }

    /// The VMs that tasks are about.
    pub(super) fn vms_to_change(&self) -> impl Iterator<Item = VmId> {
        let targets = self.index.running_tasks.iter().filter_map(|task| self.tasks.get(task));
        targets.filter_map(|task| if let EntityRef::Vm(vm) = task.target { Some(vm) } else { None })
    }

    fn will_have(&self, vm: VmId, mac: Mac) -> bool {
        let step = self.vms.get(&vm).and_then(|vm| vm.pending.as_ref()).map(|it| &it.step);
        matches!(step, Some(Step::Reconfigure { config })
            if config.nics.iter().any(|nic| nic.mac == mac))
    }

    /// Whether a VM can go back to adapters that it once had.
    pub(super) fn check_macs_free(&self, vm: VmId, then: &VmConfig) -> Result<(), Fault> {
        for nic in &then.nics {
            if let Some(holder) = self.mac_holder(Some(vm), nic.mac) {
                return Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!(
                        "network adapter {} had the address {} then, which is one of {} now; \
                         change that first",
                        nic.key,
                        shown(nic.mac),
                        self.describe(holder.into())
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn made_of(number: u64) -> Mac {
    let [.., high, middle, low] = (number % ADDRESSES).to_be_bytes();
    [0x00, 0x50, 0x56, high, middle, low]
}

fn check_differ(name: &str, mut macs: Vec<Mac>) -> Result<(), Fault> {
    macs.sort_unstable();
    match macs.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Fault::invalid(format!(
            "VM '{name}' would have the address {} twice; choose another",
            shown(pair[0])
        ))),
    }
}

/// As people write it.
pub(super) fn shown([a, b, c, d, e, f]: Mac) -> alloc::string::String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
