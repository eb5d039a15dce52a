//! Doing what a plan says, step by step, over REST.
//!
//! Steps are done in their order and the first that fails ends it: what was done stays, and the next
//! plan begins where this one stopped. Only hosts are more than REST: their agents are processes of
//! the box, which are started on its own machine.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use racknest_api::v1::cluster::{ClusterCreate, NewCluster};
use racknest_api::v1::datacenter::{DatacenterCreate, NewDatacenter};
use racknest_api::v1::datastore::{DatastoreCreate, DatastoreDelete, NewDatastore};
use racknest_api::v1::ha::{ClusterHaEdit, VmHaPatch};
use racknest_api::v1::host::{Driver, HostAdd, HostConnection, HostRemove, NewHost};
use racknest_api::v1::network::{
    NetworkCreate, NetworkDelete, NetworkEdit, NetworkPatch, NewNetwork,
};
use racknest_api::v1::rule::{
    ClusterGroupCreate, ClusterGroupEdit, ClusterRuleCreate, ClusterRuleDelete,
};
use racknest_api::v1::task::Task;
use racknest_api::v1::vm::{
    CloneMode, NewVm, VmClone, VmCloneSpec, VmCreate, VmDelete, VmEdit, VmHaEdit, VmMarkTemplate,
    VmPatch, VmPowerOff, VmPowerOn,
};
use racknest_api::v1::vm_config::{Boot, NewDisk, NewNic};

use super::config::{BootName, DatastoreEntry, DriverName};
use super::guest::Guest;
use super::plan::{Plan, Step};
use super::{Deployment, Host, Template, Vms, actual, availability};
use crate::boxes::BoxHome;
use crate::boxes::config::HostEntry;
use crate::client::{CallError, Client};
use crate::clock::{Stopwatch, pause};
use crate::command::task::{finish, wait_for_all};
use crate::print::Progress;

/// Requests that are asked for side by side: the manager saves those of one moment together.
const REQUESTS_MAX: usize = 16;

/// How long hosts may take to connect. A first start tries which accelerator works, which takes
/// seconds, and a thousand of them start on two cores.
const CONNECT_MAX: Duration = Duration::from_secs(120);

/// From one look at the hosts to the next.
const LOOK: Duration = Duration::from_millis(50);

/// What a plan is applied with.
#[derive(Debug)]
pub(crate) struct Applier<'a> {
    /// The way to the box.
    pub(crate) client: &'a Client,
    /// What the box is to become.
    pub(crate) wanted: &'a Deployment,
    /// The box itself, if it is on this machine.
    pub(crate) home: Option<&'a BoxHome>,
}

impl Applier<'_> {
    /// Does what the plan says.
    ///
    /// # Errors
    /// The plan has conflicts, so that nothing is done; or a step fails.
    pub(crate) fn apply(&self, plan: &Plan) -> anyhow::Result<()> {
        if !plan.conflicts.is_empty() {
            bail!("nothing was done: {}", plan.conflicts.join("; "));
        }
        plan.steps.iter().try_for_each(|step| self.step(step).with_context(|| step.to_string()))
    }

    fn step(&self, step: &Step) -> anyhow::Result<()> {
        let label = step.to_string();
        let client = self.client;
        match step {
            Step::DeleteVms(names) | Step::DeleteTemplates(names) => self.delete(&label, names),
            Step::CreateDatacenter(name) => once(&label, || {
                let new = NewDatacenter { name: name.clone(), folder: None };
                client.send::<DatacenterCreate>(&[], &new)
            }),
            Step::CreateCluster { name, datacenter } => once(&label, || {
                let new = NewCluster { name: name.clone(), folder: Some(datacenter.clone()) };
                client.send::<ClusterCreate>(&[], &new)
            }),
            Step::AddHosts { cluster, hosts } => self.add_hosts(&label, cluster, hosts),
            Step::CreateDatastore(entry) => self.create_datastore(&label, entry),
            Step::CreateNetwork(entry) => once(&label, || {
                let folder = Some(self.wanted.datacenter.clone());
                let new = NewNetwork {
                    name: entry.name.clone(),
                    folder,
                    vlan: entry.vlan,
                    ..NewNetwork::default()
                };
                client.send::<NetworkCreate>(&[], &new)
            }),
            Step::SetVlan(entry) => once(&label, || {
                let patch = NetworkPatch { vlan: Some(entry.vlan), ..NetworkPatch::default() };
                client.send::<NetworkEdit>(&[&entry.name], &patch)
            }),
            Step::CreateTemplate(template) => self.create_template(&label, template),
            Step::MarkTemplate(name) => {
                once(&label, || client.get::<VmMarkTemplate>(&[name.as_str()]))
            }
            Step::EditTemplate(template) => {
                let patch = VmPatch {
                    vcpus: Some(template.vcpus),
                    memory_mib: Some(template.memory.mib()),
                    cpu_allocation: template.cpu_allocation,
                    memory_allocation: template.memory_allocation,
                    ..VmPatch::default()
                };
                self.wait(&label, vec![client.send::<VmEdit>(&[&template.name], &patch)?])
            }
            Step::Deploy(vms) => self.deploy(&label, vms),
            Step::SetBoot { names, boot } => self.set_boot(&label, names, *boot),
            Step::PowerOn { names, batch } => self.power_on(&label, names, *batch),
            Step::Availability { cluster, step } => {
                once(&label, || self.set_availability(cluster, step))
            }
            Step::RemoveHosts(names) => self.remove_hosts(&label, names),
            Step::DeleteNetworks(names) => {
                side_by_side(&label, names, |name| client.get::<NetworkDelete>(&[name]).map(drop))
            }
            Step::RemoveDatastores(names) => {
                side_by_side(&label, names, |name| client.get::<DatastoreDelete>(&[name]).map(drop))
            }
        }
    }

    fn wait(&self, label: &str, tasks: Vec<Task>) -> anyhow::Result<()> {
        wait_for_all(self.client, label, tasks).map(drop)
    }

    fn delete(&self, label: &str, names: &[String]) -> anyhow::Result<()> {
        let running = actual::read(self.client)?.vms;
        let is_on =
            |name: &&String| running.get(*name).is_some_and(|vm| !vm.is_off && !vm.is_template);
        let on: Vec<String> = names.iter().filter(is_on).cloned().collect();
        if !on.is_empty() {
            let tasks = ask_all(&on, |name| self.client.get::<VmPowerOff>(&[name]))?;
            self.wait("power off", tasks)?;
        }
        self.wait(label, ask_all(names, |name| self.client.get::<VmDelete>(&[name]))?)
    }

    fn add_hosts(&self, label: &str, cluster: &str, hosts: &[Host]) -> anyhow::Result<()> {
        if let Some(home) = self.home {
            start_hosts(home, hosts)?;
        }
        let driver = match self.wanted.driver {
            DriverName::Qemu => Driver::Qemu,
            DriverName::Simulated => Driver::Simulated,
        };
        let add = |host: &Host| {
            let new = NewHost {
                name: host.name.clone(),
                cluster: Some(cluster.to_owned()),
                rack: host.rack.clone(),
                nics: host.nic_names(),
                cores: host.cores,
                core_mhz: host.core_mhz,
                memory_mib: host.memory.mib(),
                driver,
            };
            self.client.send::<HostAdd>(&[], &new).map(drop)
        };
        let progress = Progress::start(label, count(hosts.len()));
        ask_all(hosts, add)?;
        self.wait_connected(hosts, &progress)?;
        progress.finish(&format!("{} connected", hosts.len()));
        Ok(())
    }

    /// Waits until the manager reaches these hosts.
    fn wait_connected(&self, hosts: &[Host], progress: &Progress) -> anyhow::Result<()> {
        let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
        wait_connected(self.client, &names, |connected| progress.set(connected))?;
        Ok(())
    }

    fn create_datastore(&self, label: &str, entry: &DatastoreEntry) -> anyhow::Result<()> {
        let directory = match (&entry.directory, self.home) {
            (Some(directory), _) => directory.clone(),
            (None, Some(home)) => {
                let directory = home.datastore(&entry.name);
                fs_err::create_dir_all(&directory)?;
                directory.to_str().context("a box's directory has a name of plain text")?.to_owned()
            }
            (None, None) => bail!(
                "name its directory on the hosts: the box of profile '{}' is not on this machine",
                self.client.name
            ),
        };
        let folder = Some(self.wanted.datacenter.clone());
        let new = NewDatastore { name: entry.name.clone(), directory, folder };
        once(label, || self.client.send::<DatastoreCreate>(&[], &new))
    }

    fn create_template(&self, label: &str, template: &Template) -> anyhow::Result<()> {
        let new = NewVm {
            name: template.name.clone(),
            folder: Some(self.wanted.datacenter.clone()),
            pool: Some(self.wanted.cluster.clone()),
            host: None,
            datastore: Some(template.datastore.clone()),
            vcpus: template.vcpus,
            memory_mib: template.memory.mib(),
            disks: vec![NewDisk { capacity_bytes: template.disk.get() }],
            nics: vec![NewNic { network: template.network.clone(), mac: None }],
            boot: self.boot(template.boot, &template.datastore)?,
            annotation: "made by racknest up or apply".to_owned(),
            workload: None,
            cpu_allocation: template.cpu_allocation,
            memory_allocation: template.memory_allocation,
            power_on: false,
            is_template: true,
        };
        self.wait(label, vec![self.client.send::<VmCreate>(&[], &new)?])
    }

    fn boot(&self, boot: BootName, datastore: &str) -> anyhow::Result<Boot> {
        match boot {
            BootName::Bios => Ok(Boot::Bios),
            BootName::Live => Guest::find()?.bring(self.client, datastore),
        }
    }

    fn deploy(&self, label: &str, vms: &Vms) -> anyhow::Result<()> {
        let names = &vms.names;
        let clone = VmCloneSpec {
            networks: Vec::new(),
            name: format!("{}{}", names.prefix, "#".repeat(usize::from(names.digits))),
            count: names.count,
            first: names.first,
            mode: CloneMode::Linked,
            batch: vms.batch,
            power_on: vms.power_on,
            folder: Some(self.wanted.datacenter.clone()),
            pool: Some(self.wanted.cluster.clone()),
            host: None,
        };
        self.wait(label, vec![self.client.send::<VmClone>(&[&vms.template], &clone)?])
    }

    fn set_boot(&self, label: &str, names: &[String], boot: BootName) -> anyhow::Result<()> {
        let datastore = self.wanted.templates.iter().find(|template| template.boot == boot);
        let datastore = datastore.map_or("", |template| template.datastore.as_str());
        let patch = VmPatch { boot: Some(self.boot(boot, datastore)?), ..VmPatch::default() };
        let vms = actual::read(self.client)?.vms;
        let is_on = |name: &&String| vms.get(*name).is_some_and(|vm| !vm.is_off);
        let on: Vec<String> = names.iter().filter(is_on).cloned().collect();
        if !on.is_empty() {
            let off = ask_all(&on, |name| self.client.get::<VmPowerOff>(&[name]))?;
            self.wait("power off", off)?;
        }
        self.wait(label, ask_all(names, |name| self.client.send::<VmEdit>(&[name], &patch))?)?;
        if !on.is_empty() {
            let on = ask_all(&on, |name| self.client.get::<VmPowerOn>(&[name]))?;
            self.wait("power on", on)?;
        }
        Ok(())
    }

    fn power_on(&self, label: &str, names: &[String], batch: u32) -> anyhow::Result<()> {
        for names in names.chunks(usize::try_from(batch).unwrap_or(usize::MAX)) {
            let tasks = ask_all(names, |name| self.client.get::<VmPowerOn>(&[name]))?;
            self.wait(label, tasks)?;
        }
        Ok(())
    }

    fn set_availability(&self, cluster: &str, step: &availability::Step) -> anyhow::Result<()> {
        use availability::Step as Do;
        let client = self.client;
        let of_vms = |names: &[String], patch: VmHaPatch| {
            ask_all(names, |name| client.send::<VmHaEdit>(&[name], &patch)).map(drop)
        };
        match step {
            Do::SetHa(entry) => {
                let patch = availability::ha_patch(entry)?;
                client.send::<ClusterHaEdit>(&[cluster], &patch).map(drop)?;
            }
            Do::CreateGroup(group) => {
                client.send::<ClusterGroupCreate>(&[cluster], group).map(drop)?;
            }
            Do::EditGroup(name, patch) => {
                client.send::<ClusterGroupEdit>(&[cluster, name], patch).map(drop)?;
            }
            Do::CreateRule(rule) => {
                client.send::<ClusterRuleCreate>(&[cluster], rule).map(drop)?;
            }
            Do::ReplaceRule(rule) => {
                client.get::<ClusterRuleDelete>(&[cluster, &rule.name])?;
                client.send::<ClusterRuleCreate>(&[cluster], rule).map(drop)?;
            }
            Do::SetPriority(names, priority) => {
                of_vms(names, availability::priority_patch(*priority))?;
            }
            Do::SetDependencies(names, on) => {
                let patch = VmHaPatch { depends_on: Some(on.clone()), ..VmHaPatch::default() };
                of_vms(names, patch)?;
            }
        }
        Ok(())
    }

    fn remove_hosts(&self, label: &str, names: &[String]) -> anyhow::Result<()> {
        side_by_side(label, names, |name| self.client.get::<HostRemove>(&[name]).map(drop))?;
        let Some(home) = self.home else { return Ok(()) };
        let mut file = home.load()?.context("the box's file is gone")?;
        file.hosts.retain(|entry| !names.contains(&entry.name));
        home.save(&file)?;
        home.reload(&file)
    }
}

/// Has the box's own machine start the agents of hosts that it does not run yet.
fn start_hosts(home: &BoxHome, hosts: &[Host]) -> anyhow::Result<()> {
    let mut file = home.load()?.context("the box's file is gone")?;
    let is_known = |host: &&Host| file.hosts.iter().any(|entry| entry.name == host.name);
    let unknown: Vec<HostEntry> =
        hosts.iter().filter(|host| !is_known(host)).map(HostEntry::from).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    file.hosts.extend(unknown);
    home.save(&file)?;
    home.reload(&file)
}

/// Waits until the manager reaches these hosts; tells how many it does.
///
/// # Errors
/// Some of them do not connect in time: their names, and where their logs are.
pub(crate) fn wait_connected(
    client: &Client,
    names: &[String],
    mut on_progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let clock = Stopwatch::start();
    loop {
        let hosts = actual::hosts(client)?;
        let is_missing = |host: &&racknest_api::v1::host::Host| {
            host.connection == HostConnection::NotResponding && names.contains(&host.name)
        };
        let missing: Vec<&str> =
            hosts.iter().filter(is_missing).map(|host| host.name.as_str()).collect();
        on_progress(count(names.len().saturating_sub(missing.len())));
        match missing.first() {
            None => return Ok(()),
            Some(first) if clock.has_passed(CONNECT_MAX) => bail!(
                "{} of {} hosts do not connect, {first} among them: see `racknest status` and log/{first}.log in \
                 the box's directory",
                missing.len(),
                names.len()
            ),
            Some(_) => pause(LOOK),
        }
    }
}

fn once<T, E>(label: &str, work: impl FnOnce() -> Result<T, E>) -> anyhow::Result<()>
where
    anyhow::Error: From<E>,
{
    let progress = Progress::start(label, 1);
    work()?;
    progress.finish("done");
    Ok(())
}

fn side_by_side(
    label: &str,
    names: &[String],
    work: impl Fn(&str) -> Result<(), CallError> + Sync,
) -> anyhow::Result<()> {
    let progress = Progress::start(label, count(names.len()));
    ask_all(names, |name: &String| work(name))?;
    progress.finish("done");
    Ok(())
}

/// Asks for one thing for each item, some side by side; the answers are in the order of the items.
///
/// # Errors
/// Those that were refused, each by its own reason; the others were done.
fn ask_all<I: Sync, T: Send>(
    items: &[I],
    ask: impl Fn(&I) -> Result<T, CallError> + Sync,
) -> anyhow::Result<Vec<T>> {
    // Guards the place in the list that the next thread takes; nothing waits inside.
    let next = Mutex::new(0);
    let (answer, answers) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..REQUESTS_MAX.min(items.len()) {
            let (answer, next, ask) = (answer.clone(), &next, &ask);
            scope.spawn(move || {
                loop {
                    let place = {
                        let mut next = next.lock().expect("no thread panics with the lock");
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = items.get(place) else { return };
                    if answer.send((place, ask(item))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(answer);
    let mut answers: Vec<(usize, Result<T, CallError>)> = answers.into_iter().collect();
    answers.sort_by_key(|(place, _)| *place);
    let (mut done, mut refused) = (vec![], vec![]);
    for (_, answer) in answers {
        match answer {
            Ok(answer) => done.push(answer),
            Err(error) => refused.push((String::new(), error.to_string())),
        }
    }
    finish(refused)?;
    Ok(done)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
