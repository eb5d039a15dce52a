//! What stands in a deployment file (`racknest.toml`), key by key.
//!
//! Every key has a default, so that a file says only what is special about its box; an empty file
//! is the lab. A key that is not known is refused: a typing error would otherwise build another box
//! than the one that was meant. What the keys mean together is checked in [`super`].

use std::num::NonZeroU32;

use racknest_api::v1::ha::{HaProfile, IsolationResponse, RestartPriority};
use racknest_api::v1::rule::{NewGroup, NewRule};
use racknest_api::v1::vm_config::VmAllocationPatch;
use racknest_host::MemoryMarks;
use racknest_types::bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A deployment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// The name of the box.
    pub(crate) name: String,
    /// What runs the VMs.
    pub(crate) driver: DriverName,
    /// The datacenter that everything is in.
    pub(crate) datacenter: String,
    /// The cluster of the hosts.
    pub(crate) cluster: String,
    /// What QEMU is asked to do to save memory.
    pub(crate) options: Options,
    /// How much of the machine's memory is left alone.
    pub(crate) memory: MemoryTable,
    /// Groups of hosts.
    pub(crate) hosts: Vec<HostGroup>,
    /// Datastores, each mounted on every host.
    pub(crate) datastores: Vec<DatastoreEntry>,
    /// Port groups.
    pub(crate) networks: Vec<NetworkEntry>,
    /// Templates.
    pub(crate) templates: Vec<TemplateEntry>,
    /// Groups of VMs.
    pub(crate) vms: Vec<VmGroup>,
    /// What the cluster wants of HA.
    pub(crate) ha: HaEntry,
    /// What HA does differently for some VMs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) restarts: Vec<RestartEntry>,
    /// Groups of VMs or hosts that rules speak of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<NewGroup>,
    /// Rules over where VMs run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<NewRule>,
}

/// What a cluster wants of HA. What is left out is as it is; of a new cluster, as is usual: on with
/// the lab's timings in a box of 2 to 64 hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HaEntry {
    /// Whether hosts watch each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enabled: Option<bool>,
    /// How long everything takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<HaProfile>,
    /// What a host does with its VMs when it is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) isolation_response: Option<IsolationResponse>,
    /// Machines that a host asks whether it is cut off; `gateway` is the box's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) isolation_addresses: Option<Vec<String>>,
    /// What is kept free for failures, as on the command line: `slots:1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admission: Option<String>,
}

/// What HA does differently for some VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestartEntry {
    /// The VMs.
    pub(crate) vms: Vec<String>,
    /// When they are restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<RestartPriority>,
    /// VMs that must be ready before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) depends_on: Vec<String>,
}

/// What runs the VMs of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DriverName {
    /// QEMU processes.
    #[default]
    Qemu,
    /// Seeded fake guests.
    Simulated,
}

/// How QEMU is run. What each saves and risks stands in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Let the kernel keep equal pages of VMs once (KSM).
    pub(crate) page_merging: bool,
    /// Load QEMU at random addresses. Off makes more pages equal, and attacks on QEMU easier.
    pub(crate) address_randomisation: bool,
    /// Let guests share their memory with the switches. Where pages are merged, they do not.
    pub(crate) fast_network: bool,
}

/// Where the memory of the machine below all hosts counts as short, in per cent of it that are
/// free. Hosts claim what they like; this is about what is really there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MemoryTable {
    /// From here on all is well again.
    pub(crate) high_percent: u16,
    /// Below it there is a warning, and guests are asked to give memory back.
    pub(crate) soft_percent: u16,
    /// Below it that was not enough.
    pub(crate) hard_percent: u16,
    /// Below it no VM is started.
    pub(crate) low_percent: u16,
}

impl MemoryTable {
    /// As the hosts take them.
    pub(crate) const fn marks(&self) -> MemoryMarks {
        MemoryMarks {
            high_permille: self.high_percent.saturating_mul(10),
            soft_permille: self.soft_percent.saturating_mul(10),
            hard_permille: self.hard_percent.saturating_mul(10),
            low_permille: self.low_percent.saturating_mul(10),
        }
    }
}

/// Hosts that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HostGroup {
    /// The first one's name; the others count on from the digits it ends with.
    pub(crate) name: String,
    /// How many.
    pub(crate) count: NonZeroU32,
    /// The memory each claims to have.
    pub(crate) memory: Size,
    /// The cores each claims to have.
    pub(crate) cores: NonZeroU32,
    /// The speed of each core, in MHz.
    pub(crate) core_mhz: NonZeroU32,
    /// The rack they stand in.
    pub(crate) rack: String,
    /// How many network cards each has.
    pub(crate) nics: NonZeroU32,
}

/// A datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatastoreEntry {
    /// Its name.
    pub(crate) name: String,
    /// Its directory; without it, one in the box's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
}

/// A port group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkEntry {
    /// Its name.
    pub(crate) name: String,
    /// Its VLAN; 0 is untagged.
    #[serde(default)]
    pub(crate) vlan: u16,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TemplateEntry {
    /// Its name.
    pub(crate) name: String,
    /// Virtual CPUs.
    pub(crate) vcpus: u16,
    /// Memory.
    pub(crate) memory: Size,
    /// The size of its disk, which is thin.
    pub(crate) disk: Size,
    /// What it boots.
    pub(crate) boot: BootName,
    /// The datastore it is on; without it, the file's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) datastore: Option<String>,
    /// The network its adapter is on; without it, the file's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    /// Its part of the CPU, in MHz: `{ reservation = 500, level = "high" }`.
    #[serde(skip_serializing_if = "is_unsaid")]
    pub(crate) cpu_allocation: VmAllocationPatch,
    /// Its part of the memory, in MiB.
    #[serde(skip_serializing_if = "is_unsaid")]
    pub(crate) memory_allocation: VmAllocationPatch,
}

fn is_unsaid(patch: &VmAllocationPatch) -> bool {
    *patch == VmAllocationPatch::default()
}

/// What a template boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BootName {
    /// The firmware, which stops where no disk boots.
    #[default]
    Bios,
    /// The small Linux guest that racknest builds.
    Live,
}

/// VMs that are made from one template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct VmGroup {
    /// The first one's name; the others count on from the digits it ends with.
    pub(crate) name: String,
    /// How many.
    pub(crate) count: u32,
    /// The template; without it, the file's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<String>,
    /// How many are made and started at once.
    pub(crate) batch: NonZeroU32,
    /// Whether they are powered on.
    pub(crate) power_on: bool,
    /// How many of them, from the first, boot the live guest.
    pub(crate) alive: u32,
}

/// A size, written `"8 GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) Bytes);

impl Size {
    const fn gib(gib: u64) -> Self {
        Self(Bytes::from_gib(gib))
    }
}

impl Serialize for Size {
    /// In the largest unit that says it exactly.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.get();
        let exact = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|&(_, shift)| bytes > 0 && bytes.trailing_zeros() >= shift);
        match exact {
            Some((unit, shift)) => {
                serializer.collect_str(&format_args!("{} {unit}", bytes >> shift))
            }
            None => serializer.collect_str(&format_args!("{bytes} B")),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// The lab of 2010: eight hosts that claim 64 GiB together, and sixty VMs, on one small machine.
impl Default for File {
    fn default() -> Self {
        Self {
            name: "lab".to_owned(),
            driver: DriverName::default(),
            datacenter: "datacenter1".to_owned(),
            cluster: "lab".to_owned(),
            options: Options::default(),
            memory: MemoryTable::default(),
            hosts: vec![HostGroup::default()],
            datastores: vec![DatastoreEntry { name: "datastore1".to_owned(), directory: None }],
            networks: vec![NetworkEntry { name: "VM Network".to_owned(), vlan: 0 }],
            templates: vec![TemplateEntry::default()],
            vms: vec![VmGroup::default()],
            ha: HaEntry::default(),
            restarts: vec![],
            groups: vec![],
            rules: vec![],
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { page_merging: false, address_randomisation: true, fast_network: true }
    }
}

impl Default for MemoryTable {
    fn default() -> Self {
        let marks = MemoryMarks::MACHINE;
        Self {
            high_percent: marks.high_permille / 10,
            soft_percent: marks.soft_permille / 10,
            hard_percent: marks.hard_permille / 10,
            low_percent: marks.low_permille / 10,
        }
    }
}

impl Default for HostGroup {
    fn default() -> Self {
        Self {
            name: "esx01".to_owned(),
            count: count(8),
            memory: Size::gib(8),
            cores: count(4),
            core_mhz: count(2000),
            rack: "rack1".to_owned(),
            nics: count(2),
        }
    }
}

impl Default for TemplateEntry {
    fn default() -> Self {
        Self {
            name: "template1".to_owned(),
            vcpus: 1,
            memory: Size(Bytes::from_mib(512)),
            disk: Size::gib(8),
            boot: BootName::default(),
            datastore: None,
            network: None,
            cpu_allocation: VmAllocationPatch::default(),
            memory_allocation: VmAllocationPatch::default(),
        }
    }
}

impl Default for VmGroup {
    fn default() -> Self {
        Self {
            name: "vm01".to_owned(),
            count: 60,
            template: None,
            batch: count(10),
            power_on: true,
            alive: 0,
        }
    }
}

const fn count(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).expect("the defaults are not zero")
}
