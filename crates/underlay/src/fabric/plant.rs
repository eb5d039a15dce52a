//! The cable plant: which machines there are, their cables, and the physical switch between them.
//!
//! Cables change one at a time, and a change is saved before it is done: a box that is killed in
//! between comes back with the cable as it was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use racknest_types::fault::Fault;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::clock::Stopwatch;
use crate::fabric::buffers::Buffers;
use crate::fabric::ethernet::PhysicalSwitch;
use crate::fabric::link::Link;
use crate::fabric::machine::Machine;
use crate::fabric::record::{Cable, CutCables};
use crate::power::Power;
use crate::wire::{LinkState, MachineName, NICS_MAX, NicName, Refusal};

/// How long after the start of a fabric a machine may still be on its way: twice the longest pause
/// between two attempts to connect.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Everything between the machines.
#[derive(Debug)]
pub(crate) struct Plant {
    // Guards the table of machines; held for a lookup or an insertion, never across an await.
    machines: RwLock<BTreeMap<MachineName, Arc<Machine>>>,
    /// Where the frames of guests go.
    pub(crate) switch: PhysicalSwitch,
    /// For whatever is carried.
    pub(crate) buffers: Buffers,
    // Held while a change of cables is saved and done, so that changes cannot overtake each other.
    cut: Mutex<CutCables>,
    links_file: PathBuf,
    power: watch::Sender<Option<Power>>,
    arrivals: watch::Sender<()>,
    clock: Stopwatch,
}

impl Plant {
    pub(crate) fn new(cut: CutCables, links_file: PathBuf) -> Self {
        Self {
            machines: RwLock::default(),
            switch: PhysicalSwitch::default(),
            buffers: Buffers::default(),
            cut: Mutex::new(cut),
            links_file,
            power: watch::Sender::new(None),
            arrivals: watch::Sender::new(()),
            clock: Stopwatch::start(),
        }
    }

    /// Finds a machine, or waits for it while the fabric is young: after a restart the machines come
    /// back one by one, and one that is late is not unknown.
    pub(crate) async fn wait_known(&self, name: &str, patience: Duration) -> Option<Arc<Machine>> {
        let youth_left = SETTLED_AFTER.saturating_sub(Duration::from_millis(self.clock.millis()));
        let mut arrivals = self.arrivals.subscribe();
        let found = async {
            loop {
                if let Some(machine) = self.machine(name) {
                    return Some(machine);
                }
                arrivals.changed().await.ok()?;
            }
        };
        timeout(patience.min(youth_left), found).await.ok().flatten()
    }

    pub(crate) fn machine(&self, name: &str) -> Option<Arc<Machine>> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Makes a machine known with these cards, in place of those it had. Cables keep their state.
    pub(crate) async fn plug(
        &self,
        name: &MachineName,
        nics: &[NicName],
    ) -> Result<Arc<Machine>, Refusal> {
        let distinct: BTreeSet<&NicName> = nics.iter().collect();
        if !(1..=NICS_MAX).contains(&nics.len()) || distinct.len() != nics.len() {
            return Err(Refusal::BadNics);
        }
        let cut = self.cut.lock().await;
        let machine = self.machine_or_new(name);
        let has_same = {
            let cabling = machine.cabling();
            let cabling = cabling.borrow();
            cabling.links.iter().map(|link| link.nic()).eq(nics)
        };
        if !has_same {
            let links = nics.iter().map(|nic| {
                machine.link(nic).unwrap_or_else(|| {
                    let is_up = !cut.contains(name, nic);
                    Arc::new(Link::new(name.clone(), nic.clone(), is_up))
                })
            });
            machine.set_links(links.collect());
        }
        Ok(machine)
    }

    /// Takes a machine away for good.
    pub(crate) async fn unplug(&self, name: &MachineName) -> Result<(), Fault> {
        let mut cut = self.cut.lock().await;
        let machine = self.find(name)?;
        if machine.is_on() {
            return Err(Fault::state(format!(
                "machine {name} is connected; power it off, then remove it"
            )));
        }
        let next = cut.without_machine(name);
        if next != *cut {
            self.save(&next).await?;
            *cut = next;
        }
        self.machines.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    /// Pulls a cable or puts it back. Doing it twice is fine.
    pub(crate) async fn set_cable(
        &self,
        name: &MachineName,
        nic: &NicName,
        is_up: bool,
    ) -> Result<(), Fault> {
        let mut cut = self.cut.lock().await;
        let machine = self.find(name)?;
        let link = machine.link(nic).ok_or_else(|| {
            let links = machine.cabling().borrow().links.clone();
            let names: Vec<&str> = links.iter().map(|link| link.nic().as_str()).collect();
            Fault::not_found(format!("NIC {nic} of {name} (it has {})", names.join(", ")))
        })?;
        let cable = Cable { machine: name.clone(), nic: nic.clone() };
        let next = cut.with(cable, !is_up);
        if next != *cut {
            self.save(&next).await?;
            *cut = next;
        }
        machine.set_link_up(&link, is_up);
        self.switch.set_link(&link);
        tracing::info!(machine = %name, nic = %nic, up = is_up, "cable changed");
        Ok(())
    }

    /// The power of this box, if it has been connected to the desk.
    pub(crate) fn power(&self) -> Result<Power, Fault> {
        let power = self.power.borrow().clone();
        power.ok_or_else(|| Fault::unsupported("this box does not switch the power of machines"))
    }

    /// Connects the power to the desk.
    pub(crate) fn set_power(&self, power: Power) {
        self.power.send_replace(Some(power));
    }

    /// Whether this machine's power was taken.
    pub(crate) fn is_off(&self, machine: &MachineName) -> bool {
        self.power.borrow().as_ref().is_some_and(|power| power.is_off(machine))
    }

    /// Returns once this machine's power is taken.
    pub(crate) async fn wait_off(&self, machine: &MachineName) {
        let mut power = self.power.subscribe();
        let found = power.wait_for(Option::is_some).await.ok().and_then(|power| power.clone());
        let power = found.expect("this plant holds the sender, and a power was waited for");
        power.wait_off(machine).await;
    }

    /// All cables, in order of machine and card.
    pub(crate) fn links(&self) -> Vec<LinkState> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        let mut states = Vec::new();
        for machine in machines.values() {
            let is_on = machine.is_on();
            let cabling = machine.cabling();
            states.extend(cabling.borrow().links.iter().map(|link| link.state(is_on)));
        }
        states
    }

    fn find(&self, name: &MachineName) -> Result<Arc<Machine>, Fault> {
        self.machine(name.as_str()).ok_or_else(|| Fault::not_found(format!("machine {name}")))
    }

    fn machine_or_new(&self, name: &MachineName) -> Arc<Machine> {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        let machine =
            machines.entry(name.clone()).or_insert_with(|| Arc::new(Machine::new(name.clone())));
        self.arrivals.send_replace(());
        Arc::clone(machine)
    }

    async fn save(&self, next: &CutCables) -> Result<(), Fault> {
        let (next, path) = (next.clone(), self.links_file.clone());
        let saved = tokio::task::spawn_blocking(move || next.save(&path)).await;
        match saved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::system(format!("the cable was left as it was: {error}"))),
            Err(error) => Err(Fault::system(format!("the cable was left as it was: {error}"))),
        }
    }
}
