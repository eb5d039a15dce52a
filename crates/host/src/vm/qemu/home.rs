//! The directory of a VM, and the file in it that describes the VM.
//!
//! A directory may hold a VM that no inventory knows: an unregistered one, or one that was copied
//! there. Making a VM of that name must not take its disks over, nor delete them afterwards. So the
//! description is written first, and says whose the directory is; one that holds anything else is
//! left alone.

use std::ffi::OsStr;
use std::path::Path;

use racknest_cluster::wire::VmSpec;
use racknest_types::fault::{Fault, FaultCode};

use super::Machines;
use crate::{fault, whole_file};

/// What a VM is made of, in its directory: whoever mounts the datastore can register it from there.
pub(super) const DESCRIPTION: &str = "vm.json";

/// Its next version, while that is written.
const DESCRIPTION_NEW: &str = "vm.json.new";

impl Machines {
    /// Takes a directory for a VM that is made: nothing is in it, or the VM's own files are, because
    /// it is made again after a crash.
    pub(super) fn claim_home(&self, spec: &VmSpec) -> Result<(), Fault> {
        let home = self.mounts.resolve(&spec.home)?;
        let failed = |error: &_| fault::from_io(format_args!("make {}", spec.home), error);
        fs_err::create_dir_all(&home).map_err(|error| failed(&error))?;
        let owner = described(&home);
        if owner.as_ref().is_some_and(|owner| owner.uuid == spec.uuid) {
            return Ok(());
        }
        let mut names = fs_err::read_dir(&home).map_err(|error| failed(&error))?;
        let is_taken = names.any(|entry| {
            entry.map_or(true, |entry| entry.file_name() != OsStr::new(DESCRIPTION_NEW))
        });
        if is_taken {
            return Err(taken(spec, owner.as_ref()));
        }
        self.describe(spec)
    }

    /// Writes what the VM is made of into its directory.
    pub(super) fn describe(&self, spec: &VmSpec) -> Result<(), Fault> {
        let content = serde_json::to_vec_pretty(spec).expect("a VM is plain data");
        let file = self.mounts.resolve(&spec.home)?.join(DESCRIPTION);
        whole_file::replace(&file, &content).map_err(|error| {
            fault::from_io(format_args!("describe {} in its directory", spec.name), &error)
        })
    }
}

/// The VM that a directory describes.
fn described(home: &Path) -> Option<VmSpec> {
    let content = fs_err::read(home.join(DESCRIPTION)).ok()?;
    serde_json::from_slice(&content).ok()
}

fn taken(spec: &VmSpec, owner: Option<&VmSpec>) -> Fault {
    let home = &spec.home;
    let message = match owner {
        Some(owner) => format!(
            "{home} holds VM '{}', which is not in the inventory; take it in with 'racknest vm \
             register', delete the directory with 'racknest datastore remove', or give {} another \
             name",
            owner.name, spec.name
        ),
        None => format!(
            "{home} holds files already; delete them with 'racknest datastore remove', or give {} \
             another name",
            spec.name
        ),
    };
    Fault::new(FaultCode::ResourceInUse, message)
}
