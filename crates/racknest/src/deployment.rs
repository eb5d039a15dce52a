//! A deployment: the box as it should be.
//!
//! A file ([`config`]) is read and checked here into a [`Deployment`], which cannot contradict
//! itself. [`plan`] compares it with the box as it is and says what to do; [`apply`] does it over
//! REST. Planning is pure, so `racknest diff` shows exactly what `racknest apply` would do.

pub(crate) mod actual;
pub(crate) mod apply;
pub(crate) mod availability;
pub(crate) mod config;
pub(crate) mod guest;
pub(crate) mod plan;
pub(crate) mod series;

use std::collections::BTreeSet;
use std::path::Path;

use racknest_api::v1::vm_config::VmAllocationPatch;
use racknest_types::bytes::Bytes;

use availability::Availability;
use config::{BootName, DriverName, File, MemoryTable, Options};
use series::Series;

/// Above this, one machine has been asked for a nation.
const HOSTS_MAX: u32 = 10_000;

/// Above this, one manager's memory is not enough on any machine we know.
const VMS_MAX: u32 = 1_000_000;

/// The longest name of anything, as in vSphere.
const NAME_LEN_MAX: usize = 80;

/// The manager's own name on the underlay, which no host can have.
const MANAGER: &str = "vcenter";

/// A box as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The name of the box.
    pub(crate) name: String,
    /// What runs the VMs.
    pub(crate) driver: DriverName,
    /// The datacenter.
    pub(crate) datacenter: String,
    /// The cluster of the hosts.
    pub(crate) cluster: String,
    /// What QEMU is asked to do to save memory.
    pub(crate) options: Options,
    /// How much of the machine's memory is left alone.
    pub(crate) memory: MemoryTable,
    /// Its hosts.
    pub(crate) hosts: Vec<Host>,
    /// Its datastores.
    pub(crate) datastores: Vec<config::DatastoreEntry>,
    /// Its port groups.
    pub(crate) networks: Vec<config::NetworkEntry>,
    /// Its templates, with those that its live VMs need.
    pub(crate) templates: Vec<Template>,
    /// Its VMs.
    pub(crate) vms: Vec<Vms>,
    /// What its cluster wants of HA, and of rules.
    pub(crate) availability: Availability,
}

/// A host as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its name.
    pub(crate) name: String,
    /// The memory it claims.
    pub(crate) memory: Bytes,
    /// The cores it claims.
    pub(crate) cores: u32,
    /// Their speed.
    pub(crate) core_mhz: u32,
    /// Its rack.
    pub(crate) rack: String,
    /// How many network cards it has.
    pub(crate) nics: u32,
}

impl Host {
    /// The names of its network cards.
    pub(crate) fn nic_names(&self) -> Vec<String> {
        (0..self.nics).map(|nic| format!("vmnic{nic}")).collect()
    }
}

/// A template as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// Its name.
    pub(crate) name: String,
    /// Virtual CPUs.
    pub(crate) vcpus: u16,
    /// Memory.
    pub(crate) memory: Bytes,
    /// The size of its disk.
    pub(crate) disk: Bytes,
    /// What it boots.
    pub(crate) boot: BootName,
    /// The datastore it is on.
    pub(crate) datastore: String,
    /// The network of its adapter.
    pub(crate) network: String,
    /// Its part of the CPU.
    pub(crate) cpu_allocation: VmAllocationPatch,
    /// Its part of the memory.
    pub(crate) memory_allocation: VmAllocationPatch,
}

/// VMs as they should be: neighbours that are made in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vms {
    /// Their names.
    pub(crate) names: Series,
    /// The template they are made from.
    pub(crate) template: String,
    /// How many are made and started at once.
    pub(crate) batch: u32,
    /// Whether they are powered on.
    pub(crate) power_on: bool,
}

/// What the command line says about a box, over what its file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    /// The name of the box.
    pub(crate) name: Option<String>,
    /// What runs the VMs.
    pub(crate) driver: Option<DriverName>,
    /// How many hosts.
    pub(crate) hosts: Option<u32>,
    /// How many VMs.
    pub(crate) vms: Option<u32>,
    /// How many of them boot the live guest.
    pub(crate) alive: Option<u32>,
    /// Whether equal pages are kept once.
    pub(crate) page_merging: Option<bool>,
    /// Whether QEMU is loaded at random addresses.
    pub(crate) address_randomisation: Option<bool>,
    /// Whether guests share their memory with the switches.
    pub(crate) fast_network: Option<bool>,
}

/// Reads a deployment file.
///
/// # Errors
/// One line that names the file, the line in it and what is wrong.
pub(crate) fn read(path: &Path) -> anyhow::Result<File> {
    let text = fs_err::read_to_string(path)?;
    parse(&text).map_err(|why| anyhow::anyhow!("{}:{why}", path.display()))
}

/// Reads a deployment file's text; an error begins with its line number.
pub(crate) fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| {
        let end = error.span().map_or(0, |span| span.start);
        let line = 1 + text[..end].matches('\n').count();
        let what = error.message().replace('\n', ", ");
        match text.lines().nth(line - 1).map(str::trim) {
            Some(words) if !words.is_empty() => format!("{line}: `{words}`: {what}"),
            Some(_) | None => format!("{line}: {what}"),
        }
    })
}

/// The file with all its defaults, as one would write it.
pub(crate) fn print(file: &File) -> String {
    toml::to_string(file).expect("a deployment file has text keys and comes before its tables")
}

impl Overrides {
    /// The file as the command line changes it.
    ///
    /// # Errors
    /// A count is given and the file has several groups, so that it is not clear which is meant.
    pub(crate) fn apply(&self, mut file: File) -> Result<File, String> {
        set(&mut file.name, self.name.clone());
        set(&mut file.driver, self.driver);
        set(&mut file.options.page_merging, self.page_merging);
        set(&mut file.options.address_randomisation, self.address_randomisation);
        set(&mut file.options.fast_network, self.fast_network);
        if let Some(hosts) = self.hosts {
            let group = only(&mut file.hosts, "--hosts", "hosts")?;
            group.count = hosts
                .try_into()
                .map_err(|_| "--hosts 0: a box has one host at least".to_owned())?;
            group.name = wide_enough(&group.name, hosts);
        }
        if let Some(vms) = self.vms {
            let group = only(&mut file.vms, "--vms", "vms")?;
            group.count = vms;
            group.name = wide_enough(&group.name, vms);
        }
        if let Some(alive) = self.alive {
            only(&mut file.vms, "--alive", "vms")?.alive = alive;
        }
        Ok(file)
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn only<'a, T>(groups: &'a mut [T], option: &str, key: &str) -> Result<&'a mut T, String> {
    let found = groups.len();
    match groups {
        [group] => Ok(group),
        _ => Err(format!(
            "{option} needs a file with one [[{key}]] group and this one has {found}: change the \
             count in the file"
        )),
    }
}

/// The first name with so many digits that all names are of one length, and sort as they count.
fn wide_enough(first_name: &str, count: u32) -> String {
    let prefix = first_name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = &first_name[prefix.len()..];
    let Ok(first) = number.parse::<u64>() else { return first_name.to_owned() };
    let last = first + u64::from(count.saturating_sub(1));
    let digits = number.len().max(last.to_string().len());
    format!("{prefix}{first:0digits$}")
}

/// The deployment that a file describes.
///
/// # Errors
/// What in the file does not fit together, in one line.
pub(crate) fn check(file: &File) -> Result<Deployment, String> {
    check_names(file)?;
    if !file.memory.marks().are_in_order() {
        return Err(
            "memory: the marks are per cent of the machine, each below the one before: high, soft, \
             hard, low"
                .to_owned(),
        );
    }
    let hosts = hosts(file)?;
    let datastore = first(&file.datastores, "datastores", |entry| &entry.name)?;
    let network = first(&file.networks, "networks", |entry| &entry.name)?;
    let template = first(&file.templates, "templates", |entry| &entry.name)?;
    let mut templates = vec![];
    for entry in &file.templates {
        templates.push(check_template(file, entry, datastore, network)?);
    }
    let vms = vms(file, template, &mut templates)?;
    Ok(Deployment {
        name: file.name.clone(),
        driver: file.driver,
        datacenter: file.datacenter.clone(),
        cluster: file.cluster.clone(),
        options: file.options,
        memory: file.memory,
        hosts,
        datastores: file.datastores.clone(),
        networks: file.networks.clone(),
        templates,
        availability: Availability::check(file, &vms)?,
        vms,
    })
}

fn check_names(file: &File) -> Result<(), String> {
    check_machine_name("box", &file.name)?;
    check_name("datacenter", &file.datacenter)?;
    check_name("cluster", &file.cluster)?;
    unique("datastore", file.datastores.iter().map(|entry| entry.name.clone()))?;
    unique("network", file.networks.iter().map(|entry| entry.name.clone()))?;
    for entry in &file.datastores {
        // The name stands in square brackets in every path on the datastore.
        if entry.name.contains([']', '[']) {
            return Err(format!("datastore '{}': a name has no square brackets", entry.name));
        }
        if entry.directory.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
            return Err(format!("datastore '{}': its directory is an absolute path", entry.name));
        }
    }
    match file.networks.iter().find(|entry| entry.vlan > 4094) {
        Some(entry) => {
            Err(format!("network '{}': VLAN {} is not 0 to 4094", entry.name, entry.vlan))
        }
        None => Ok(()),
    }
}

fn hosts(file: &File) -> Result<Vec<Host>, String> {
    let count: u64 = file.hosts.iter().map(|group| u64::from(group.count.get())).sum();
    if count == 0 || count > u64::from(HOSTS_MAX) {
        return Err(format!("a box has 1 to {HOSTS_MAX} hosts, and this one {count}"));
    }
    let mut hosts = vec![];
    for group in &file.hosts {
        if group.memory.0 < Bytes::from_mib(64) {
            return Err(format!("hosts '{}': a claim is 64 MiB of memory at least", group.name));
        }
        if group.nics.get() > 8 {
            return Err(format!("hosts '{}': a host has 1 to 8 network cards", group.name));
        }
        for name in Series::new(&group.name, group.count.get())?.names() {
            check_machine_name("host", &name)?;
            hosts.push(Host {
                name,
                memory: group.memory.0,
                cores: group.cores.get(),
                core_mhz: group.core_mhz.get(),
                rack: group.rack.clone(),
                nics: group.nics.get(),
            });
        }
    }
    unique("host", hosts.iter().map(|host| host.name.clone()))?;
    Ok(hosts)
}

fn check_template(
    file: &File,
    entry: &config::TemplateEntry,
    datastore: &str,
    network: &str,
) -> Result<Template, String> {
    let name = &entry.name;
    let datastore = entry.datastore.as_deref().unwrap_or(datastore);
    let network = entry.network.as_deref().unwrap_or(network);
    if !file.datastores.iter().any(|known| known.name == datastore) {
        return Err(format!("template '{name}': there is no datastore '{datastore}' in the file"));
    }
    if !file.networks.iter().any(|known| known.name == network) {
        return Err(format!("template '{name}': there is no network '{network}' in the file"));
    }
    if !(1..=128).contains(&entry.vcpus) {
        return Err(format!("template '{name}': a VM has 1 to 128 vCPUs"));
    }
    if entry.memory.0 < Bytes::from_mib(4) || !entry.memory.0.get().is_multiple_of(1 << 20) {
        return Err(format!("template '{name}': memory is whole MiB, 4 at least"));
    }
    if entry.disk.0 < Bytes::from_mib(1) || !entry.disk.0.get().is_multiple_of(1 << 20) {
        return Err(format!("template '{name}': a disk is whole MiB, 1 at least"));
    }
    Ok(Template {
        name: name.clone(),
        vcpus: entry.vcpus,
        memory: entry.memory.0,
        disk: entry.disk.0,
        boot: entry.boot,
        datastore: datastore.to_owned(),
        network: network.to_owned(),
        cpu_allocation: entry.cpu_allocation,
        memory_allocation: entry.memory_allocation,
    })
}

/// The groups, each split into those that live and the rest; a live part gets a template that
/// boots the live guest, which is made if its own does not.
fn vms(
    file: &File,
    first_template: &str,
    templates: &mut Vec<Template>,
) -> Result<Vec<Vms>, String> {
    let count: u64 = file.vms.iter().map(|group| u64::from(group.count)).sum();
    if count > u64::from(VMS_MAX) {
        return Err(format!("a box has at most {VMS_MAX} VMs, and this one {count}"));
    }
    let mut vms = vec![];
    for group in &file.vms {
        let of = group.template.as_deref().unwrap_or(first_template);
        let Some(template) = templates.iter().find(|known| known.name == of).cloned() else {
            return Err(format!("VMs '{}': there is no template '{of}' in the file", group.name));
        };
        if group.alive > group.count {
            return Err(format!(
                "VMs '{}': {} cannot be alive, there are only {}",
                group.name, group.alive, group.count
            ));
        }
        let names = Series::new(&group.name, group.count)?;
        let part = |from, to, template: &str| Vms {
            names: names.part(from, to),
            template: template.to_owned(),
            batch: group.batch.get(),
            power_on: group.power_on,
        };
        if group.alive > 0 && file.driver == DriverName::Simulated {
            return Err(format!(
                "VMs '{}': simulated guests do not boot: leave out alive, or use driver \"qemu\"",
                group.name
            ));
        }
        let alive = if template.boot == BootName::Live { 0 } else { group.alive };
        if alive > 0 {
            let live = live_template(&template);
            vms.push(part(0, alive, &live.name));
            if !templates.contains(&live) {
                templates.push(live);
            }
        }
        if group.count > alive {
            vms.push(part(alive, group.count, of));
        }
    }
    unique("template", templates.iter().map(|template| template.name.clone()))?;
    let names = vms.iter().flat_map(|group| group.names.names());
    let templates = templates.iter().map(|template| template.name.clone());
    unique("VM or template", templates.chain(names))?;
    Ok(vms)
}

fn live_template(template: &Template) -> Template {
    Template { name: format!("{}-live", template.name), boot: BootName::Live, ..template.clone() }
}

fn first<'a, T>(
    entries: &'a [T],
    key: &str,
    name: impl Fn(&'a T) -> &'a String,
) -> Result<&'a str, String> {
    entries.first().map(|entry| name(entry).as_str()).ok_or_else(|| {
        format!("{key} = []: a box has one at least; leave the key out for the lab's")
    })
}

fn unique(kind: &str, names: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(kind, &name)?;
        if let Some(twice) = seen.replace(name) {
            return Err(format!("there are two of the name '{twice}' ({kind}): names are unique"));
        }
    }
    Ok(())
}

fn check_name(kind: &str, name: &str) -> Result<(), String> {
    let is_good = (1..=NAME_LEN_MAX).contains(&name.len())
        && !name.contains(['/', '\\', '%'])
        && !name.chars().any(char::is_control)
        && name.trim() == name
        && name != "."
        && name != "..";
    if is_good {
        return Ok(());
    }
    Err(format!(
        "{kind} {name:?}: a name has 1 to {NAME_LEN_MAX} letters, without '/', '\\', '%' and \
         without spaces at its ends"
    ))
}

/// Hosts and boxes give their names to machines on the underlay and to directories.
fn check_machine_name(kind: &str, name: &str) -> Result<(), String> {
    check_name(kind, name)?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !name.bytes().all(is_letter) || name.starts_with(['.', '-']) {
        return Err(format!(
            "{kind} {name:?}: use letters, digits, dots, dashes and underscores, and begin with a \
             letter or digit"
        ));
    }
    if kind == "host" && name == MANAGER {
        return Err(format!("host '{MANAGER}': that is the manager's name; take another"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
