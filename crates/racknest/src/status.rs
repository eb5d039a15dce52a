//! `racknest status`, and the table at the end of `racknest up`: what runs, what it costs, what is
//! wrong.
//!
//! What the inventory believes comes from the manager. What the box really takes is read from the
//! machine itself, so that it is right even where the manager is wrong or dead.

use std::time::Duration;

use anyhow::bail;
use racknest_api::v1::about::{BoxHealth, Health, Summary};
use racknest_api::v1::host::{Host, HostConnection, HostPower};
use racknest_types::bytes::Bytes;
use racknest_underlay::{OutletState, PowerState};
use serde_json::{Value, json};

use crate::boxes::config::BoxFile;
use crate::boxes::process::{self, Role};
use crate::boxes::{BoxHome, ask, cost};
use crate::client::Client;
use crate::command::Setting;
use crate::deployment::actual;
use crate::deployment::config::DriverName;
use crate::print::{self, Format};
use crate::profile::Profiles;
use crate::profile::config::Profile;

/// A process that was started again this often has a problem of its own.
const RESTARTS_MANY: u32 = 3;

/// How the manager begins what it says about a raised alarm.
const ALARM: &str = "alarm ";

/// `racknest status`: of the box on this machine, or of the rack behind the profile.
pub(crate) fn status(setting: &Setting) -> anyhow::Result<()> {
    let profiles = Profiles::load()?;
    let (name, profile) = profiles.choose(setting.profile.as_deref())?;
    let client = Client::new(name, profile)?;
    let local = match &profile.directory {
        Some(directory) => {
            let home = BoxHome::new(directory)?;
            home.load()?.map(|file| (home, file))
        }
        None => None,
    };
    let is_well = match local {
        Some((home, file)) => show(&home, &file, &client, setting.format, None)?,
        None => show_remote(&client, setting.format)?,
    };
    if is_well { Ok(()) } else { bail!("rack '{name}' is not well") }
}

/// Shows a box of this machine, and answers whether it is well.
pub(crate) fn show(
    home: &BoxHome,
    file: &BoxFile,
    client: &Client,
    format: Format,
    took: Option<Duration>,
) -> anyhow::Result<bool> {
    let seen = Seen::look(home, file, client)?;
    match format {
        Format::Json => print::json(&seen.json(took)),
        Format::Name => print::line(&file.name),
        Format::Table => seen.table(took),
    }
    if format == Format::Table {
        seen.alarms.iter().for_each(|alarm| print::note(format!("note: {alarm}")));
        seen.problems.iter().for_each(|problem| print::note(format!("wrong: {problem}")));
    }
    Ok(seen.problems.is_empty())
}

/// What there is to see of a box.
struct Seen<'a> {
    home: &'a BoxHome,
    file: &'a BoxFile,
    profile: &'a Profile,
    /// What the manager says, if it answers.
    manager: Option<(Summary, Health, Vec<Host>)>,
    memory: Vec<(Role, u32, Bytes)>,
    disk_used: Bytes,
    problems: Vec<String>,
    /// What the alarms say, which is about what the box is used for and not about the box.
    alarms: Vec<String>,
}

impl<'a> Seen<'a> {
    fn look(home: &'a BoxHome, file: &'a BoxFile, client: &'a Client) -> anyhow::Result<Self> {
        let processes = process::find(home.directory(), &file.run)?;
        let memory = process::memory(&processes);
        let mut problems = vec![];
        if home.is_running()? {
            match ask(file.control().power()) {
                Ok(outlets) => problems.extend(outlets.iter().filter_map(|o| trouble(o, home))),
                Err(error) => problems.push(format!("the box's cables: {error:#}")),
            }
        } else if processes.is_empty() {
            problems.push("the box is down: start it with `racknest up`".to_owned());
        } else {
            problems.push(format!(
                "the box process is gone and {} others run on: repair it with `racknest up`",
                processes.len()
            ));
        }
        let manager = if home.is_running()? { ask_manager(client, &mut problems) } else { None };
        // A host in standby has no power because nobody needs it.
        let asleep = manager.iter().flat_map(|(_, _, hosts)| hosts);
        let asleep = asleep.filter(|host| host.power == HostPower::Standby);
        for host in asleep {
            let off = format!("{} has no power", host.name);
            problems.retain(|problem| !problem.starts_with(&off));
        }
        let (alarms, problems) = problems.into_iter().partition(|line| line.starts_with(ALARM));
        Ok(Self {
            home,
            file,
            profile: &client.profile,
            manager,
            memory: memory.into_iter().map(|(role, (count, pss))| (role, count, pss)).collect(),
            disk_used: cost::disk_used(&home.directory().join("datastores")),
            problems,
            alarms,
        })
    }

    fn memory_used(&self) -> Bytes {
        self.memory.iter().map(|(_, _, pss)| *pss).sum()
    }

    fn table(&self, took: Option<Duration>) {
        let mut rows =
            vec![("box", format!("{} in {}", self.file.name, self.home.directory().display()))];
        if let Some((summary, _, hosts)) = &self.manager {
            rows.push(("hosts", hosts_text(summary, hosts)));
            rows.push(("VMs", vms_text(summary, self.file.driver)));
        }
        rows.push(("memory", self.memory_text()));
        rows.push(("disk", self.disk_text()));
        if let Some(took) = took {
            rows.push(("took", format!("{:.1} s", took.as_secs_f64())));
        }
        rows.push(("manager", self.profile.address.clone()));
        let password = self.home.password();
        rows.push(("log in", format!("user administrator, password in {}", password.display())));
        rows.push(("next", "racknest vm list, racknest host list, racknest status".to_owned()));
        print::pairs_table(&rows);
    }

    fn memory_text(&self) -> String {
        let parts = self.memory.iter().map(|(role, count, pss)| match count {
            1 => format!("{} {pss}", role.name()),
            _ => format!("{count} {} {pss}", role.name()),
        });
        let parts = parts.collect::<Vec<_>>().join(", ");
        if parts.is_empty() {
            return "nothing runs".to_owned();
        }
        let used = format!("{} really used ({parts})", self.memory_used());
        match &self.manager {
            Some((summary, _, _)) => format!(
                "{} claimed by the hosts, {} granted to VMs, {used}{}",
                Bytes::new(summary.memory_claimed_bytes),
                Bytes::new(summary.memory_granted_bytes),
                machine_text(summary)
            ),
            None => used,
        }
    }

    fn disk_text(&self) -> String {
        let used = format!("{} really used", self.disk_used);
        match &self.manager {
            Some((summary, _, _)) => {
                format!("{} provisioned, {used}", Bytes::new(summary.disk_provisioned_bytes))
            }
            None => used,
        }
    }

    fn json(&self, took: Option<Duration>) -> Value {
        let roles = self.memory.iter().map(|(role, count, pss)| {
            let part = json!({ "processes": count, "memory_bytes": pss.get() });
            (role.name().to_owned(), part)
        });
        let summary = self.manager.as_ref().map(|(summary, _, _)| summary);
        json!({
            "name": self.file.name,
            "directory": self.home.directory(),
            "address": self.profile.address,
            "is_well": self.problems.is_empty(),
            "problems": self.problems,
            "alarms": self.alarms,
            "summary": summary,
            "processes": roles.collect::<serde_json::Map<_, _>>(),
            "memory_really_used_bytes": self.memory_used().get(),
            "disk_really_used_bytes": self.disk_used.get(),
            "took_seconds": took.map(|took| took.as_secs_f64()),
        })
    }
}

/// What the machine below the hosts has left, after a comma.
fn machine_text(summary: &Summary) -> String {
    let machine = summary.memory_machine_available_bytes.zip(summary.memory_machine_bytes);
    machine.map_or_else(String::new, |(left, all)| {
        format!(", {} of this machine's {} left", Bytes::new(left), Bytes::new(all))
    })
}

/// What is wrong with a machine's power.
fn trouble(outlet: &OutletState, home: &BoxHome) -> Option<String> {
    let machine = outlet.machine.as_str();
    let log = home.log(machine);
    let last = outlet.last_exit.as_deref().unwrap_or("it ended");
    match outlet.power {
        PowerState::On { .. } if outlet.restarts >= RESTARTS_MANY => Some(format!(
            "{machine} was started again {} times ({last}): see {}",
            outlet.restarts,
            log.display()
        )),
        PowerState::On { .. } => None,
        PowerState::Restarting => {
            Some(format!("{machine} is being started again ({last}): see {}", log.display()))
        }
        PowerState::Off => Some(format!(
            "{machine} has no power: give it back with `racknest host recover {machine}`"
        )),
    }
}

fn ask_manager(
    client: &Client,
    problems: &mut Vec<String>,
) -> Option<(Summary, Health, Vec<Host>)> {
    let answer = || -> anyhow::Result<_> {
        let summary = actual::summary(client)?;
        Ok((summary, client.get::<BoxHealth>(&[])?, actual::hosts(client)?))
    };
    match answer() {
        Ok((summary, health, hosts)) => {
            problems.extend(health.problems.iter().cloned());
            Some((summary, health, hosts))
        }
        Err(error) => {
            problems.push(format!("the manager: {error:#}"));
            None
        }
    }
}

fn hosts_text(summary: &Summary, hosts: &[Host]) -> String {
    let mut text = format!("{} connected of {}", summary.hosts_connected, summary.hosts);
    if summary.hosts_in_maintenance > 0 {
        text.push_str(&format!(", {} in maintenance", summary.hosts_in_maintenance));
    }
    let asleep = hosts.iter().filter(|host| host.power == HostPower::Standby).count();
    if asleep > 0 {
        text.push_str(&format!(", {asleep} in standby"));
    }
    let connected = hosts.iter().find(|host| host.connection == HostConnection::Connected);
    match connected.filter(|host| !host.accelerator.is_empty()) {
        Some(host) => format!("{text} ({})", host.accelerator),
        None => text,
    }
}

fn vms_text(summary: &Summary, driver: DriverName) -> String {
    let mut text = format!("{} on of {}", summary.vms_powered_on, summary.vms);
    if summary.vms_suspended > 0 {
        text.push_str(&format!(", {} suspended", summary.vms_suspended));
    }
    let templates = if summary.templates == 1 { "template" } else { "templates" };
    text.push_str(&format!(", {} {templates}", summary.templates));
    if driver == DriverName::Simulated {
        text.push_str(" (simulated: no guest really runs)");
    }
    text
}

/// Shows a rack of another machine: what its manager says.
fn show_remote(client: &Client, format: Format) -> anyhow::Result<bool> {
    let mut problems = vec![];
    let Some((summary, health, hosts)) = ask_manager(client, &mut problems) else {
        bail!("{}", problems.join("; "));
    };
    match format {
        Format::Json => print::json(&json!({ "summary": summary, "health": health })),
        Format::Name => print::line(&client.name),
        Format::Table => print::pairs_table(&[
            ("rack", format!("{} at {}", client.name, client.base())),
            ("hosts", hosts_text(&summary, &hosts)),
            ("VMs", vms_text(&summary, DriverName::Qemu)),
            (
                "memory",
                format!(
                    "{} claimed, {} really used",
                    Bytes::new(summary.memory_claimed_bytes),
                    Bytes::new(summary.memory_used_bytes)
                ),
            ),
            (
                "disk",
                format!(
                    "{} provisioned, {} really used",
                    Bytes::new(summary.disk_provisioned_bytes),
                    Bytes::new(summary.disk_used_bytes)
                ),
            ),
        ]),
    }
    let (alarms, problems): (Vec<String>, Vec<String>) =
        problems.into_iter().partition(|line| line.starts_with(ALARM));
    alarms.iter().for_each(|alarm| print::note(format!("note: {alarm}")));
    problems.iter().for_each(|problem| print::note(format!("wrong: {problem}")));
    Ok(problems.is_empty())
}
