//! The hosts of a box as their agents take them.

use anyhow::Context as _;
use racknest_host::{Claim, DriverKind, HostConfig, QemuOptions};

use super::BoxHome;
use super::config::{BoxFile, HostEntry};
use crate::deployment::config::DriverName;

/// The name of the process that is all hosts.
pub(crate) const ALL: &str = "all-hosts";

/// Up to so many simulated hosts have a process each, which can be killed like a real one's.
pub(crate) const PROCESSES_MAX: usize = 32;

/// Runs the agent of one host.
pub(crate) fn run_one(home: &BoxHome, file: &BoxFile, name: &str) -> anyhow::Result<()> {
    let entry = file.hosts.iter().find(|entry| entry.name == name);
    let entry = entry.with_context(|| format!("the box has no host '{name}'"))?;
    racknest_host::run(config(home, file, entry)?)
}

/// Runs the agents of all hosts.
pub(crate) fn run_all(home: &BoxHome, file: &BoxFile) -> anyhow::Result<()> {
    let configs = file.hosts.iter().map(|entry| config(home, file, entry));
    racknest_host::run_many(configs.collect::<anyhow::Result<_>>()?)
}

/// The name under which this program was put in place as an agent; empty if it was not.
fn agent_name(home: &BoxHome) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.strip_prefix(home.agents()).ok().and_then(std::path::Path::to_str);
    name.unwrap_or_default().to_owned()
}

fn config(home: &BoxHome, file: &BoxFile, entry: &HostEntry) -> anyhow::Result<HostConfig> {
    let config = HostConfig {
        name: entry.name.clone(),
        claim: Claim { cores: entry.cores, core_mhz: entry.core_mhz, memory: entry.memory.0 },
        driver: match file.driver {
            DriverName::Qemu => DriverKind::Qemu,
            DriverName::Simulated => DriverKind::Simulated,
        },
        nics: entry.nics.clone(),
        state: home.host(&entry.name),
        run: file.host_run(&entry.name),
        underlay: file.underlay(),
        agent: agent_name(home),
        hooks: Some(home.hooks()),
        seed: 0,
        memory: file.memory.marks(),
        qemu: QemuOptions {
            merge_pages: file.options.page_merging,
            randomize_addresses: file.options.address_randomisation,
            share_memory: file.options.fast_network,
            // The hosts of a box are one machine: one of them tries the accelerator.
            verdict_file: Some(home.directory().join("accelerator.json")),
        },
    };
    if !file.share_process {
        fs_err::create_dir_all(&config.state)?;
        fs_err::create_dir_all(&config.run)?;
    }
    Ok(config)
}
