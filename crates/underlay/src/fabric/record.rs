//! What was done to the cables, as it is kept in `links.json`.
//!
//! Only damage is kept: whatever is not in the file is plugged and whole. So the file stays small,
//! and losing it means that all cables are back, which is what someone who deletes it expects.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::whole_file;
use crate::wire::port_setup::PortSetup;
use crate::wire::{MachineName, NicName, StorageState};
use racknest_types::impairment::LinkFaults;

/// The version of the file. An older program must not guess what a newer one meant.
const VERSION: u32 = 3;

/// The oldest version that is read: it knows cut cables alone.
const VERSION_MIN: u32 = 1;

/// The machines that reach only each other. Machines in none reach only those in none.
pub(crate) type Group = BTreeSet<MachineName>;

/// All that is wrong with the cables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    cut: BTreeSet<Cable>,
    faults: BTreeMap<Cable, LinkFaults>,
    storage: BTreeMap<MachineName, StorageState>,
    groups: Vec<Group>,
    ports: BTreeMap<Cable, PortSetup>,
}

/// The cable of one card.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cable {
    pub(crate) machine: MachineName,
    pub(crate) nic: NicName,
}

/// A cable that is not whole.
#[derive(Serialize, Deserialize)]
struct Faulty {
    #[serde(flatten)]
    cable: Cable,
    faults: LinkFaults,
}

/// A port of the physical switch that does not carry all.
#[derive(Serialize, Deserialize)]
struct Port {
    #[serde(flatten)]
    cable: Cable,
    setup: PortSetup,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    cut: BTreeSet<Cable>,
    #[serde(default)]
    faults: Vec<Faulty>,
    #[serde(default)]
    storage: BTreeMap<MachineName, StorageState>,
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    ports: Vec<Port>,
}

/// Why it could not be read what is wrong with the cables.
#[derive(Debug, thiserror::Error)]
pub enum LoadLinksError {
    /// The file is there and cannot be read.
    #[error("cannot read which cables are cut")]
    Read {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what this program writes.
    #[error(
        "{} is damaged ({message}); mend it, or remove it to have all cables plugged",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The file was written by another version.
    #[error(
        "{} has version {found}, this program reads versions to {VERSION}; use the racknest that \
         wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Damage {
    /// Reads the file. No file means that all is whole.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadLinksError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(LoadLinksError::Read { source }),
        };
        let file: File = serde_json::from_slice(&text).map_err(|error| {
            LoadLinksError::Damaged { path: path.into(), message: error.to_string() }
        })?;
        if !(VERSION_MIN..=VERSION).contains(&file.version) {
            return Err(LoadLinksError::Version { path: path.into(), found: file.version });
        }
        let faults = file.faults.into_iter().map(|faulty| (faulty.cable, faulty.faults)).collect();
        let ports = file.ports.into_iter().map(|port| (port.cable, port.setup)).collect();
        let File { cut, storage, groups, .. } = file;
        Ok(Self { cut, faults, storage, groups, ports })
    }

    /// Writes the file so that a crash leaves the former or the next one, never half of it.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let Self { cut, faults, storage, groups, ports } = self.clone();
        let faults = faults.into_iter().map(|(cable, faults)| Faulty { cable, faults }).collect();
        let ports = ports.into_iter().map(|(cable, setup)| Port { cable, setup }).collect();
        let file = File { version: VERSION, cut, faults, storage, groups, ports };
        let text = serde_json::to_vec_pretty(&file)?;
        whole_file::replace(path, &text)
    }

    pub(crate) fn is_cut(&self, cable: &Cable) -> bool {
        self.cut.contains(cable)
    }

    pub(crate) fn faults(&self, cable: &Cable) -> LinkFaults {
        self.faults.get(cable).copied().unwrap_or_default()
    }

    pub(crate) fn storage(&self, machine: &MachineName) -> StorageState {
        self.storage.get(machine).copied().unwrap_or_default()
    }

    /// The number of the group of a machine; 0 is that of all machines in none.
    pub(crate) fn group(&self, machine: &MachineName) -> u32 {
        let index = self.groups.iter().position(|group| group.contains(machine));
        index.and_then(|index| u32::try_from(index + 1).ok()).unwrap_or(0)
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The same with one cable cut or plugged.
    pub(crate) fn with_cable(&self, cable: Cable, is_cut: bool) -> Self {
        let mut next = self.clone();
        if is_cut {
            next.cut.insert(cable);
        } else {
            next.cut.remove(&cable);
        }
        next
    }

    /// The same with other faults of one cable.
    pub(crate) fn with_faults(&self, cable: Cable, faults: LinkFaults) -> Self {
        let mut next = self.clone();
        if faults.is_none() {
            next.faults.remove(&cable);
        } else {
            next.faults.insert(cable, faults);
        }
        next
    }

    pub(crate) fn port(&self, cable: &Cable) -> PortSetup {
        self.ports.get(cable).cloned().unwrap_or_default()
    }

    /// The same with another port at the end of a cable.
    pub(crate) fn with_port(&self, cable: Cable, setup: PortSetup) -> Self {
        let mut next = self.clone();
        if setup.is_open() {
            next.ports.remove(&cable);
        } else {
            next.ports.insert(cable, setup);
        }
        next
    }

    /// The same with the way to a machine's storage in another state.
    pub(crate) fn with_storage(&self, machine: MachineName, state: StorageState) -> Self {
        let mut next = self.clone();
        if state == StorageState::Connected {
            next.storage.remove(&machine);
        } else {
            next.storage.insert(machine, state);
        }
        next
    }

    /// The same with the machines split into these groups.
    pub(crate) fn with_groups(&self, groups: Vec<Group>) -> Self {
        Self { groups, ..self.clone() }
    }

    /// The same without a machine.
    pub(crate) fn without_machine(&self, machine: &MachineName) -> Self {
        let mut next = self.clone();
        next.cut.retain(|cable| cable.machine != *machine);
        next.faults.retain(|cable, _| cable.machine != *machine);
        next.ports.retain(|cable, _| cable.machine != *machine);
        next.storage.remove(machine);
        for group in &mut next.groups {
            group.remove(machine);
        }
        next.groups.retain(|group| !group.is_empty());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racknest_types::impairment::Impairment;

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    #[test]
    fn damage_is_read_as_it_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links.json");
        assert_eq!(Damage::load(&path).unwrap(), Damage::default());

        let cable = Cable { machine: name("esx01"), nic: "vmnic0".parse().unwrap() };
        let inward = Impairment { delay_us: 50_000, ..Impairment::default() };
        let faults = LinkFaults { inward, ..LinkFaults::default() };
        let damage = Damage::default()
            .with_cable(cable.clone(), true)
            .with_faults(cable.clone(), faults)
            .with_port(cable.clone(), PortSetup { vlans: Some(vec![(10, 19)]), mtu: 1_500 })
            .with_storage(name("esx01"), StorageState::AllPathsDown)
            .with_groups(vec![[name("esx02")].into(), [name("esx01")].into()]);
        damage.save(&path).unwrap();
        let loaded = Damage::load(&path).unwrap();
        assert_eq!(loaded, damage);
        assert!(loaded.is_cut(&cable));
        assert_eq!(loaded.faults(&cable), faults);
        assert_eq!(
            (loaded.port(&cable).carries(10), loaded.port(&cable).carries(20)),
            (true, false)
        );
        assert_eq!(loaded.storage(&name("esx01")), StorageState::AllPathsDown);
        assert_eq!((loaded.group(&name("esx01")), loaded.group(&name("vcenter"))), (2, 0));

        let others = Damage::default().with_groups(vec![[name("esx02")].into()]);
        assert_eq!(damage.without_machine(&cable.machine), others);
        let mended = damage
            .with_cable(cable.clone(), false)
            .with_port(cable.clone(), PortSetup::default())
            .with_faults(cable, LinkFaults::default())
            .with_storage(name("esx01"), StorageState::Connected)
            .with_groups(vec![]);
        assert_eq!(mended, Damage::default());
    }

    #[test]
    fn a_file_of_cut_cables_alone_is_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links.json");
        let text = r#"{"version": 1, "cut": [{"machine": "esx01", "nic": "vmnic0"}]}"#;
        fs::write(&path, text).unwrap();
        let cable = Cable { machine: name("esx01"), nic: "vmnic0".parse().unwrap() };
        assert!(Damage::load(&path).unwrap().is_cut(&cable));
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("links.json");
        fs::write(&path, "{").unwrap();
        assert!(matches!(Damage::load(&path), Err(LoadLinksError::Damaged { .. })));
        fs::write(&path, r#"{"version": 4, "cut": []}"#).unwrap();
        assert!(matches!(Damage::load(&path), Err(LoadLinksError::Version { found: 4, .. })));
    }
}
