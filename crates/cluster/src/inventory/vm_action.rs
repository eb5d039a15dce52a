//! What may be done with a VM right now, and why the rest may not.
//!
//! Computed here once; every face shows this one answer (DESIGN.md, rule 9), and every request
//! checks it before it begins.

use alloc::format;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;

use super::Inventory;
use crate::record::host::Maintenance;
use crate::record::vm::{PowerState, VmRecord};

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident $name:literal;)*) => {
        /// Something that can be done with a VM.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum VmAction {
            $($(#[$doc])* $variant,)*
        }

        impl VmAction {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on every face.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

actions! {
    /// Start it, or continue it where it was suspended.
    PowerOn "power_on";
    /// Stop it at once.
    PowerOff "power_off";
    /// Ask its guest to shut down.
    Shutdown "shutdown";
    /// Restart it at once.
    Reset "reset";
    /// Save its memory and stop it.
    Suspend "suspend";
    /// Take a snapshot.
    SnapshotCreate "snapshot_create";
    /// Go back to a snapshot.
    SnapshotRevert "snapshot_revert";
    /// Delete a snapshot.
    SnapshotDelete "snapshot_delete";
    /// Change what it is made of.
    Edit "edit";
    /// Give it another name or folder.
    Rename "rename";
    /// Make a copy of it.
    Clone "clone";
    /// Make it a template.
    MarkTemplate "mark_template";
    /// Make a template a VM again.
    MarkVm "mark_vm";
    /// Move it to another host.
    Move "move";
    /// Open its console.
    Console "console";
    /// Take it out of the inventory, and keep its files.
    Unregister "unregister";
    /// Delete it with its files.
    Delete "delete";
}

/// An action, and whether it may be done now or why not.
pub type Verdict = (VmAction, Result<(), Fault>);

impl Inventory {
    /// Every action, and whether it may be done now.
    ///
    /// # Errors
    /// The VM is not there.
    pub fn vm_actions(&self, id: VmId) -> Result<Vec<Verdict>, Fault> {
        let vm = self.vm(id)?;
        Ok(VmAction::ALL.iter().map(|&action| (action, self.judge(vm, action))).collect())
    }

    /// Whether this may be done with the VM now.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn check_vm_action(&self, id: VmId, action: VmAction) -> Result<(), Fault> {
        self.judge(self.vm(id)?, action)
    }

    /// Whether a VM could be started now, were it not for what others take: admission control and
    /// its pool are not asked.
    ///
    /// # Errors
    /// It could not, and why.
    pub(super) fn check_could_start(&self, vm: &VmRecord) -> Result<(), Fault> {
        self.judge_any(vm, VmAction::PowerOn)?;
        self.judge_start(vm)
    }

    fn judge(&self, vm: &VmRecord, action: VmAction) -> Result<(), Fault> {
        self.judge_any(vm, action)?;
        self.judge_one(vm, action)
    }

    /// What speaks against many actions.
    fn judge_any(&self, vm: &VmRecord, action: VmAction) -> Result<(), Fault> {
        use VmAction as Do;
        if !matches!(action, Do::Console | Do::Rename | Do::Clone) {
            check_not_busy(vm)?;
        }
        // Clones are made by the hosts that they go to.
        let needs_host = !matches!(action, Do::Rename | Do::MarkTemplate | Do::MarkVm | Do::Clone);
        if needs_host {
            self.check_connected(vm.host)?;
        }
        let suits_templates = matches!(
            action,
            Do::Rename | Do::Clone | Do::MarkVm | Do::Unregister | Do::Delete | Do::Move
        );
        if vm.is_template && !suits_templates {
            return Err(Fault::state(format!(
                "'{}' is a template; clone it, or make it a VM first",
                vm.name
            )));
        }
        Ok(())
    }

    fn judge_one(&self, vm: &VmRecord, action: VmAction) -> Result<(), Fault> {
        use VmAction as Do;
        match action {
            Do::PowerOn => self.judge_power_on(vm),
            Do::PowerOff | Do::Shutdown | Do::Reset | Do::Suspend => {
                check_power(vm, &[PowerState::On])
            }
            Do::Console => check_power(vm, &[PowerState::On]),
            Do::SnapshotCreate => check_power(vm, &[PowerState::On, PowerState::Off]),
            Do::SnapshotRevert | Do::SnapshotDelete => {
                if self.snapshots_of(vm.id).next().is_none() {
                    return Err(Fault::state(format!("VM '{}' has no snapshot", vm.name)));
                }
                Ok(())
            }
            Do::Edit => check_power(vm, &[PowerState::On, PowerState::Off]),
            Do::Rename => Ok(()),
            Do::Clone => Ok(()),
            Do::MarkTemplate => {
                check_power(vm, &[PowerState::Off])?;
                self.check_no_snapshots(vm)
            }
            Do::MarkVm => {
                if !vm.is_template {
                    return Err(Fault::state(format!("'{}' is not a template", vm.name)));
                }
                self.check_no_clones(vm, "become a VM that writes to them")
            }
            Do::Move => Ok(()),
            Do::Unregister => {
                check_power(vm, &[PowerState::Off])?;
                self.check_no_clones(vm, "leave the inventory")
            }
            Do::Delete => {
                check_power(vm, &[PowerState::Off, PowerState::Suspended])?;
                self.check_no_clones(vm, "be deleted")
            }
        }
    }

    fn judge_power_on(&self, vm: &VmRecord) -> Result<(), Fault> {
        self.judge_start(vm)?;
        self.check_pool_gives(vm, &vm.config)?;
        self.check_admission(vm)
    }

    fn judge_start(&self, vm: &VmRecord) -> Result<(), Fault> {
        check_power(vm, &[PowerState::Off, PowerState::Suspended])?;
        let host = self.host(vm.host)?;
        if host.maintenance != Maintenance::Off && !self.drs_places(vm) {
            return Err(Fault::state(format!(
                "host '{}' is in maintenance; move VM '{}' to another host first",
                host.name, vm.name
            )));
        }
        Ok(())
    }

    fn check_no_snapshots(&self, vm: &VmRecord) -> Result<(), Fault> {
        match self.snapshots_of(vm.id).next() {
            None => Ok(()),
            Some(snapshot) => Err(Fault::state(format!(
                "VM '{}' has snapshot '{}'; delete its snapshots first",
                vm.name, snapshot.name
            ))),
        }
    }

    /// Linked clones stand on its disks, which must stay as they are then.
    pub(super) fn check_no_clones(&self, vm: &VmRecord, what: &str) -> Result<(), Fault> {
        let layers =
            vm.config.disks.iter().flat_map(|disk| disk.backing.iter().chain([&disk.file]));
        let own = |layer: &&crate::record::datastore::DatastorePath| self.is_own_layer(vm, layer);
        let clones: u32 =
            layers.filter(own).map(|layer| self.index.other_users(vm, layer)).max().unwrap_or(0);
        if clones == 0 {
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::ResourceInUse,
            format!(
                "'{}' cannot {what}: {} on its disks; delete them first",
                vm.name,
                clones_stand(clones)
            ),
        ))
    }
}

/// So many clones, as a sentence says it.
pub(super) fn clones_stand(clones: u32) -> alloc::string::String {
    match clones {
        1 => "a linked clone stands".into(),
        clones => format!("{clones} linked clones stand"),
    }
}

fn check_not_busy(vm: &VmRecord) -> Result<(), Fault> {
    match &vm.pending {
        None => Ok(()),
        Some(pending) => Err(Fault::new(
            FaultCode::TaskInProgress,
            format!("VM '{}' is busy with {}; wait for it or cancel it", vm.name, pending.task),
        )),
    }
}

fn check_power(vm: &VmRecord, wanted: &[PowerState]) -> Result<(), Fault> {
    if wanted.contains(&vm.power) {
        return Ok(());
    }
    let is = match vm.power {
        PowerState::Off => "powered off",
        PowerState::On => "powered on",
        PowerState::Suspended => "suspended",
    };
    Err(Fault::new(FaultCode::InvalidPowerState, format!("VM '{}' is {is}", vm.name)))
}
