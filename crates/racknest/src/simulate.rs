//! `racknest simulate`: what years of failures would do to a cluster, in seconds.
//!
//! The cluster is the rack's own, a deployment file's, or one that is described by numbers. What
//! plays it is the simulator that tests racknest ([`racknest_sim::forecast`]), so the code that
//! restarts VMs here is the code that restarts them in the box. The same question with the same
//! seed has the same answer on every machine.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use racknest_sim::forecast::{FailureModel, Forecast, Question, forecast};
use racknest_sim::site::{Site, SiteHost, SiteVm};
use racknest_types::bytes::Bytes;
use serde_json::{Value, json};

use crate::command::Setting;
use crate::deployment::{self, actual};
use crate::print::{self, Format, Progress};

/// More hosts than this are more than a cluster has.
const HOSTS_MAX: u64 = 128;

/// More VMs than this would take hours.
const VMS_MAX: u64 = 4_000;

/// More years than this say nothing about hardware.
const YEARS_MAX: u64 = 10_000;

/// How quickly HA acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Timings {
    /// A host counts as dead 3 s after its last word
    Lab,
    /// vSphere's published timings: 18 s
    Vsphere,
}

/// The arguments of `racknest simulate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A deployment file; without it and without --hosts, the rack itself is simulated
    file: Option<PathBuf>,
    /// Describe the cluster: how many hosts
    #[arg(long, requires = "vms", conflicts_with = "file")]
    hosts: Option<u64>,
    /// Describe the cluster: how many VMs
    #[arg(long, requires = "hosts")]
    vms: Option<u64>,
    /// Describe the cluster: memory of each host
    #[arg(long, default_value = "8GiB", requires = "hosts")]
    host_memory: Bytes,
    /// Describe the cluster: memory of each VM
    #[arg(long, default_value = "512MiB", requires = "hosts")]
    vm_memory: Bytes,
    /// For how many years
    #[arg(long, default_value_t = 10)]
    years: u64,
    /// From where chance comes: the same seed gives the same answer
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How quickly HA acts
    #[arg(long, value_enum, default_value = "lab")]
    timings: Timings,
    /// Hours between two failures of one host
    #[arg(long, default_value_t = FailureModel::default().host_mtbf_hours)]
    host_mtbf: u64,
    /// Hours until a failed host is back
    #[arg(long, default_value_t = FailureModel::default().host_mttr_hours)]
    host_mttr: u64,
    /// Hours between two failures of one host's network; 0 for none
    #[arg(long, default_value_t = FailureModel::default().link_mtbf_hours)]
    link_mtbf: u64,
    /// Datagrams lost at all times, of a thousand
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=500))]
    link_loss: u64,
    /// Hours between two losses of one host's way to a datastore; 0 for none
    #[arg(long, default_value_t = FailureModel::default().storage_mtbf_hours)]
    storage_mtbf: u64,
    /// Hours between two crashes of one VM; 0 for none
    #[arg(long, default_value_t = FailureModel::default().vm_mtbf_hours)]
    vm_mtbf: u64,
    /// Mistakes of people with hosts in a year: the wrong plug, the wrong cable
    #[arg(long, default_value_t = FailureModel::default().human_errors_per_year)]
    human_errors: u64,
}

/// Plays the cluster, and again with one more host, and says what came of it.
pub(crate) fn simulate(args: &SimulateArgs, setting: &Setting) -> anyhow::Result<()> {
    let (site, datastores) = site(args, setting)?;
    check(args, &site)?;
    let question = Question {
        datastores,
        is_slow: args.timings == Timings::Vsphere,
        failures: model(args),
        years: args.years,
        seed: args.seed,
        site,
    };
    let now = play("as it is", &question)?;
    let more = Question { site: question.site.with_one_more_host(), ..question.clone() };
    let more = play("with one more host", &more)?;
    if setting.format == Format::Json {
        print::json(&json!({
            "hosts": question.site.hosts.len(),
            "vms": question.site.vms.len(),
            "years": question.years,
            "seed": question.seed,
            "as_it_is": as_json(&now),
            "with_one_more_host": as_json(&more),
        }));
    } else {
        show(&question, &now, &more);
    }
    Ok(())
}

fn model(args: &SimulateArgs) -> FailureModel {
    FailureModel {
        host_mtbf_hours: args.host_mtbf,
        host_mttr_hours: args.host_mttr,
        link_mtbf_hours: args.link_mtbf,
        storage_mtbf_hours: args.storage_mtbf,
        loss_permille: args.link_loss,
        human_errors_per_year: args.human_errors,
        vm_mtbf_hours: args.vm_mtbf,
        ..FailureModel::default()
    }
}

/// The cluster that is meant, and how many datastores it has.
fn site(args: &SimulateArgs, setting: &Setting) -> anyhow::Result<(Site, u64)> {
    if let Some(file) = &args.file {
        return of_file(file);
    }
    if let (Some(hosts), Some(vms)) = (args.hosts, args.vms) {
        if hosts > HOSTS_MAX || vms > VMS_MAX {
            bail!("a cluster of {hosts} hosts and {vms} VMs is too large to simulate: {MOST}");
        }
        return Ok((Site::uniform(hosts, args.host_memory, vms, args.vm_memory), 2));
    }
    let found = actual::read(&setting.client()?)?;
    let hosts = found.hosts.into_iter().map(|(name, host)| SiteHost {
        name,
        cores: host.cores,
        memory: host.memory,
    });
    let running = found.vms.into_iter().filter(|(_, vm)| !vm.is_template && !vm.is_off);
    let vms = running.map(|(name, vm)| SiteVm {
        name,
        vcpus: vm.vcpus,
        memory: vm.memory,
        priority: None,
    });
    let site = Site { hosts: hosts.collect(), vms: vms.collect() };
    Ok((site, u64::try_from(found.datastores.len()).unwrap_or(1)))
}

/// How large a cluster may be, for the error that says so.
const MOST: &str = "at most 128 hosts and 4000 VMs";

fn of_file(path: &Path) -> anyhow::Result<(Site, u64)> {
    let file = deployment::read(path)?;
    let wanted = deployment::check(&file).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let hosts = wanted.hosts.iter().map(|host| SiteHost {
        name: host.name.clone(),
        cores: host.cores,
        memory: host.memory,
    });
    let mut vms = vec![];
    for group in wanted.vms.iter().filter(|group| group.power_on) {
        let template = wanted.templates.iter().find(|it| it.name == group.template);
        let Some(template) = template else { continue };
        vms.extend(group.names.names().map(|name| SiteVm {
            name,
            vcpus: template.vcpus,
            memory: template.memory,
            priority: None,
        }));
    }
    let site = Site { hosts: hosts.collect(), vms };
    Ok((site, u64::try_from(wanted.datastores.len()).unwrap_or(1)))
}

fn check(args: &SimulateArgs, site: &Site) -> anyhow::Result<()> {
    if site.hosts.len() < 2 {
        bail!(
            "a cluster of {} hosts has nowhere to restart VMs; give at least 2",
            site.hosts.len()
        );
    }
    if site.vms.is_empty() {
        bail!("no VM runs, so none can fail; power some on, or use --hosts and --vms");
    }
    let too_many = |count: usize, most: u64| u64::try_from(count).is_ok_and(|it| it > most);
    if too_many(site.hosts.len(), HOSTS_MAX) || too_many(site.vms.len(), VMS_MAX) {
        let (hosts, vms) = (site.hosts.len(), site.vms.len());
        bail!("a cluster of {hosts} hosts and {vms} VMs is too large to simulate: {MOST}");
    }
    if args.years == 0 || args.years > YEARS_MAX {
        bail!("--years {}: give 1 to {YEARS_MAX}", args.years);
    }
    if !site.fits_without(&[]) {
        bail!("the VMs have more memory than the hosts; not all of them could run to begin with");
    }
    Ok(())
}

fn play(what: &str, question: &Question) -> anyhow::Result<Forecast> {
    let label = format!("{} years, {what}", question.years);
    let progress = Progress::start(label, 1_000);
    match forecast(question, |permille| progress.set(permille)) {
        Ok(forecast) => {
            let hours = forecast.simulated_ms / 3_600_000;
            progress.finish(&format!("{hours} hours of it beat by beat"));
            Ok(forecast)
        }
        Err(violation) => {
            progress.give_up();
            Err(anyhow!("{} did not hold: {}", violation.invariant, violation.what))
        }
    }
}

fn as_json(forecast: &Forecast) -> Value {
    let [hosts, links, storage, mistakes, vms] = forecast.failures;
    json!({
        "availability": availability(forecast),
        "availability_ppb": forecast.availability_ppb(),
        "failures": {
            "hosts": hosts, "links": links, "storage_paths": storage,
            "human_errors": mistakes, "vms": vms,
        },
        "outages": forecast.outages,
        "restarts": forecast.restarts,
        "down_ms": forecast.down_ms,
        "worst_outage_ms": forecast.worst_ms,
        "worst_outage_vm": forecast.worst_vm,
        "without_failover_capacity_ms": forecast.without_failover_ms,
        "without_room_ms": forecast.without_room_ms,
    })
}

fn show(question: &Question, now: &Forecast, more: &Forecast) {
    let (hosts, vms) = (question.site.hosts.len(), question.site.vms.len());
    print::line(format!(
        "{hosts} hosts, {vms} VMs, {} years, seed {}",
        question.years, question.seed
    ));
    let rows = |forecast: &Forecast| {
        let [hosts, links, storage, mistakes, guests] = forecast.failures;
        [
            ("availability", format!("{} ({} nines)", availability(forecast), nines(forecast))),
            ("outages of VMs", forecast.outages.to_string()),
            ("restarts", forecast.restarts.to_string()),
            ("mean outage", length(forecast.down_ms.checked_div(forecast.outages).unwrap_or(0))),
            ("worst outage", format!("{} ({})", length(forecast.worst_ms), forecast.worst_vm)),
            ("without failover capacity", length(forecast.without_failover_ms)),
            ("without room for all", length(forecast.without_room_ms)),
            (
                "failures",
                format!(
                    "{hosts} hosts, {links} links, {storage} storage paths, {mistakes} mistakes, \
                     {guests} VMs"
                ),
            ),
        ]
    };
    let (now, more) = (rows(now), rows(more));
    let table =
        now.into_iter().zip(more).map(|((what, now), (_, more))| [what.to_owned(), now, more]);
    print::table(&["", "AS IT IS", "WITH ONE MORE HOST"], table);
}

/// The part of the time that VMs were up, in per cent.
fn availability(forecast: &Forecast) -> String {
    let ppb = forecast.availability_ppb();
    format!("{}.{:07} %", ppb / 10_000_000, ppb % 10_000_000)
}

/// How many nines that is.
fn nines(forecast: &Forecast) -> u32 {
    let down = 1_000_000_000 - forecast.availability_ppb();
    (1..=9_u32).take_while(|nines| down < 10_u64.pow(9 - nines) + 1).last().unwrap_or(0)
}

/// A length of time in words.
fn length(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 if ms == 0 => "none".to_owned(),
        0..120 => format!("{seconds}.{} s", ms % 1_000 / 100),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_down(down_ms: u64) -> Forecast {
        Forecast {
            simulated_ms: 0,
            calendar_ms: 1_000_000,
            failures: [0; 5],
            restarts: 0,
            outages: 1,
            down_ms,
            worst_ms: 0,
            worst_vm: String::new(),
            without_failover_ms: 0,
            without_room_ms: 0,
            vms: 10,
        }
    }

    #[test]
    fn availability_is_told_in_per_cent_and_nines() {
        for (down, text, count) in [
            (0, "100.0000000 %", 9),
            (100, "99.9990000 %", 5),
            (1_000, "99.9900000 %", 4),
            (1_001, "99.9899900 %", 3),
            (10_000_000, "0.0000000 %", 0),
        ] {
            let forecast = with_down(down);
            assert_eq!((availability(&forecast).as_str(), nines(&forecast)), (text, count));
        }
    }

    #[test]
    fn lengths_are_told_in_the_unit_that_fits() {
        for (ms, text) in [
            (0, "none"),
            (8_400, "8.4 s"),
            (600_000, "10 min"),
            (14_400_000, "4 h"),
            (864_000_000, "10 d"),
        ] {
            assert_eq!(length(ms), text);
        }
    }
}
