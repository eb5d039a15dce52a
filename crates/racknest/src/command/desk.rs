//! Power and cables by hand: what can be done at the desk of a box while its manager is dead.
//!
//! The manager checks names and privileges, and writes down what is done. Without it whoever may
//! open the box's socket is its owner, and the socket knows machines by name.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use racknest_api::v1::drill::{DrillKind, NewDrill};
use racknest_api::v1::host::{LinkCutting, LinkSlowing, LinkWay};
use racknest_types::fault::Fault;
use racknest_types::impairment::Schedule;
use racknest_underlay::{
    Control, Impairment, LinkFaults, MachineName, NicName, PowerState, StorageState,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::boxes::supervise::MANAGER;
use crate::boxes::{BoxHome, ask};
use crate::client::{CallError, Client};
use crate::{clock, print};

/// The desk of a box on this machine.
#[derive(Debug)]
pub(crate) struct Desk {
    control: Control,
}

impl Desk {
    /// The desk of the box that the client's profile is of, if it is one of this machine and runs.
    pub(crate) fn of(client: &Client) -> anyhow::Result<Option<Self>> {
        let Some(directory) = &client.profile.directory else { return Ok(None) };
        let home = BoxHome::new(directory)?;
        if !home.is_running()? {
            return Ok(None);
        }
        Ok(home.load()?.map(|file| Self { control: file.control() }))
    }

    /// The desk, if the error is that the manager is not reached and the box is there.
    pub(crate) fn instead(client: &Client, error: &CallError) -> anyhow::Result<Option<Self>> {
        match error {
            CallError::Unreachable { .. } => Self::of(client),
            CallError::Fault(_) | CallError::Answer { .. } => Ok(None),
        }
    }

    /// Does what an operation would do; false if it is none of power and cables.
    pub(crate) fn carry_out(&self, id: &str, names: &[&str], body: &Value) -> anyhow::Result<bool> {
        let Some(host) = names.first() else { return Ok(false) };
        let machine = || host.parse::<MachineName>();
        match id {
            "host_fail" => ask(self.control.power_off(&machine()?))?,
            "host_recover" => ask(self.control.power_on(&machine()?))?,
            "host_hang" => ask(self.control.hang(&machine()?, true))?,
            "host_unhang" => ask(self.control.hang(&machine()?, false))?,
            "link_cut" | "link_restore" | "link_slow" => {
                let nic: NicName = names.get(1).context("a NIC is named")?.parse()?;
                ask(self.change_link(id, &machine()?, &nic, body))?;
            }
            _ => return Ok(false),
        }
        let what = names.join(" ");
        print::note(format!("{what}: done at the box; the manager is dead and will not know"));
        Ok(true)
    }

    async fn change_link(
        &self,
        id: &str,
        machine: &MachineName,
        nic: &NicName,
        body: &Value,
    ) -> Result<(), Fault> {
        let control = &self.control;
        match id {
            "link_cut" if body["permanent"] == true => {
                control.set_storage(machine, StorageState::DeviceLost).await
            }
            "link_cut" => {
                let cutting: LinkCutting = read(body)?;
                match schedule(cutting.after_us, cutting.for_us, cutting.every_us, cutting.times)? {
                    None => control.cut(machine, nic).await,
                    schedule @ Some(_) => {
                        let (is_unplugged, whole) = (true, LinkFaults::default());
                        let faults = LinkFaults { is_unplugged, schedule, ..whole };
                        control.impair(machine, nic, faults).await
                    }
                }
            }
            "link_restore" => {
                control.restore(machine, nic).await?;
                if nic.as_str() == racknest_underlay::STORAGE_ADAPTER {
                    return Ok(());
                }
                control.impair(machine, nic, LinkFaults::default()).await
            }
            _ => {
                let slowing: LinkSlowing = read(body)?;
                let LinkSlowing { after_us, for_us, every_us, times, .. } = slowing;
                let schedule = schedule(after_us, for_us, every_us, times)?;
                let faults = LinkFaults { schedule, ..faults(&slowing) };
                control.impair(machine, nic, faults).await
            }
        }
    }

    /// Sets a drill off, or undoes it.
    pub(crate) fn drill(&self, drill: &NewDrill, is_on: bool) -> anyhow::Result<()> {
        if drill.rack.is_some() {
            bail!("only the manager knows what stands in a rack, and it is dead: name the hosts");
        }
        let machines = drill.hosts.iter().map(|host| host.parse());
        let machines: Vec<MachineName> = machines.collect::<Result<_, _>>()?;
        ask(async {
            if drill.kind == DrillKind::Partition {
                let group: BTreeSet<MachineName> = machines.into_iter().collect();
                return self.control.partition(if is_on { vec![group] } else { vec![] }).await;
            }
            for machine in &machines {
                self.drill_one(drill, machine, is_on).await?;
            }
            Ok(())
        })
    }

    async fn drill_one(
        &self,
        drill: &NewDrill,
        machine: &MachineName,
        is_on: bool,
    ) -> Result<(), Fault> {
        let control = &self.control;
        let state = |lost| if is_on { lost } else { StorageState::Connected };
        match drill.kind {
            DrillKind::FailHost | DrillKind::RackPower if is_on => control.power_off(machine).await,
            DrillKind::FailHost | DrillKind::RackPower => control.power_on(machine).await,
            DrillKind::HangAgent => control.hang(machine, is_on).await,
            DrillKind::StorageCut => {
                control.set_storage(machine, state(StorageState::AllPathsDown)).await
            }
            DrillKind::StorageLost => {
                control.set_storage(machine, state(StorageState::DeviceLost)).await
            }
            DrillKind::IsolateHost | DrillKind::SlowLink | DrillKind::LossyLink => {
                let links = control.links().await?;
                for link in links.iter().filter(|link| link.machine == *machine) {
                    self.drill_link(drill, machine, &link.nic, is_on).await?;
                }
                Ok(())
            }
            DrillKind::Partition | DrillKind::KillManager => Ok(()),
        }
    }

    async fn drill_link(
        &self,
        drill: &NewDrill,
        machine: &MachineName,
        nic: &NicName,
        is_on: bool,
    ) -> Result<(), Fault> {
        let is_meant = drill.nics.is_empty() || drill.nics.iter().any(|name| name == nic.as_str());
        match drill.kind {
            _ if !is_meant => Ok(()),
            DrillKind::IsolateHost if is_on => self.control.cut(machine, nic).await,
            DrillKind::IsolateHost => self.control.restore(machine, nic).await,
            DrillKind::FailHost
            | DrillKind::RackPower
            | DrillKind::Partition
            | DrillKind::StorageCut
            | DrillKind::StorageLost
            | DrillKind::KillManager
            | DrillKind::HangAgent => Ok(()),
            DrillKind::SlowLink | DrillKind::LossyLink => {
                let one = Impairment {
                    delay_us: drill.delay_us.unwrap_or_default(),
                    jitter_us: drill.jitter_us.unwrap_or_default(),
                    loss_ppm: drill.loss_ppm.unwrap_or_default(),
                    rate_bps: drill.rate_bps.unwrap_or_default(),
                    ..Impairment::default()
                };
                let faults =
                    LinkFaults { inward: one, outward: one, seed: 0, ..LinkFaults::default() };
                let faults = if is_on { faults } else { LinkFaults::default() };
                self.control.impair(machine, nic, faults).await
            }
        }
    }

    /// Gives the manager its power back, if that was taken; whether it was.
    pub(crate) fn revive_manager(&self) -> anyhow::Result<bool> {
        let manager: MachineName = MANAGER.parse()?;
        let outlets = ask(self.control.power())?;
        let is_off =
            outlets.iter().any(|one| one.machine == manager && one.power == PowerState::Off);
        if is_off {
            ask(self.control.power_on(&manager))?;
        }
        Ok(is_off)
    }
}

/// Puts the agent in place that is named by a file, and names it in the request instead. A host that
/// is upgraded gets this program if none is named.
pub(crate) fn place_agent(client: &Client, id: &str, body: &mut Value) -> anyhow::Result<()> {
    let path = match body["agent"].as_str() {
        Some(agent) if agent.contains('/') => std::path::absolute(agent)?,
        None if id == "host_upgrade" => std::env::current_exe()?,
        Some(_) | None => return Ok(()),
    };
    let Some(desk) = Desk::of(client)? else {
        bail!(
            "an agent is put in place on the machine of the box, by who owns it: do that there, and \
             name it here as 'racknest host list' shows it"
        );
    };
    let staged = ask(desk.control.stage_program(&path))?;
    body["agent"] = Value::String(staged.name.into());
    Ok(())
}

fn read<T: DeserializeOwned>(body: &Value) -> Result<T, Fault> {
    serde_json::from_value(body.clone()).map_err(|error| Fault::invalid(error.to_string()))
}

/// When a fault is there, as the manager would say it.
fn schedule(
    after_us: Option<u64>,
    for_us: Option<u64>,
    every_us: Option<u64>,
    times: Option<u32>,
) -> Result<Option<Schedule>, Fault> {
    if [after_us, for_us, every_us].iter().all(Option::is_none) && times.is_none() {
        return Ok(None);
    }
    let ms = |us: u64| us / 1_000;
    let start = clock::now() + Duration::from_micros(after_us.unwrap_or_default());
    let (on_ms, every_ms) = (for_us.map(ms), every_us.map(ms));
    let schedule = Schedule { start, on_ms, every_ms, times };
    schedule.check().map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(Some(schedule))
}

fn faults(slowing: &LinkSlowing) -> LinkFaults {
    let one = Impairment {
        is_cut: slowing.cut,
        delay_us: slowing.delay_us.unwrap_or_default(),
        jitter_us: slowing.jitter_us.unwrap_or_default(),
        loss_ppm: slowing.loss_ppm.unwrap_or_default(),
        duplicate_ppm: slowing.duplicate_ppm.unwrap_or_default(),
        reorder_ppm: slowing.reorder_ppm.unwrap_or_default(),
        rate_bps: slowing.rate_bps.unwrap_or_default(),
    };
    let (none, seed) = (Impairment::default(), slowing.seed.unwrap_or_default());
    match slowing.one_way {
        None => LinkFaults { inward: one, outward: one, seed, ..LinkFaults::default() },
        Some(LinkWay::In) => {
            LinkFaults { inward: one, outward: none, seed, ..LinkFaults::default() }
        }
        Some(LinkWay::Out) => {
            LinkFaults { inward: none, outward: one, seed, ..LinkFaults::default() }
        }
    }
}
