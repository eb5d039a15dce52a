//! The cable plant: which machines there are, their cables, and the physical switch between them.
//!
//! Cables change one at a time, and a change is saved before it is done: a box that is killed in
//! between comes back with the cable as it was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use racknest_types::fault::Fault;
use racknest_types::impairment::LinkFaults;
use racknest_types::time::Timestamp;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::timeout;

use crate::clock::{self, Stopwatch};
use crate::fabric::buffers::Buffers;
use crate::fabric::delay_line::DelayLine;
use crate::fabric::ethernet::PhysicalSwitch;
use crate::fabric::link::Link;
use crate::fabric::machine::Machine;
use crate::fabric::record::{Cable, Damage, Group};
use crate::power::Power;
use crate::wire::port_setup::PortSetup;
use crate::wire::{
    LinkState, MachineName, NICS_MAX, NicName, Refusal, STORAGE_ADAPTER, StorageLink, StorageState,
};

/// How long after the start of a fabric a machine may still be on its way: twice the longest pause
/// between two attempts to connect.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How often the wall clock is looked at while no schedule turns: it may have been set.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// Everything between the machines.
#[derive(Debug)]
pub(crate) struct Plant {
    // Guards the table of machines; held for a lookup or an insertion, never across an await.
    machines: RwLock<BTreeMap<MachineName, Arc<Machine>>>,
    /// Where the frames of guests go.
    pub(crate) switch: PhysicalSwitch,
    /// For whatever is carried.
    pub(crate) buffers: Buffers,
    /// Packets on slow cables.
    pub(crate) line: DelayLine,
    // Held while a change of cables is saved and done, so that changes cannot overtake each other.
    damage: Mutex<Damage>,
    links_file: PathBuf,
    power: watch::Sender<Option<Power>>,
    arrivals: watch::Sender<()>,
    /// There are faults with another schedule.
    scheduled: Notify,
    clock: Stopwatch,
}

impl Plant {
    pub(crate) fn new(damage: Damage, links_file: PathBuf) -> Self {
        Self {
            machines: RwLock::default(),
            switch: PhysicalSwitch::default(),
            buffers: Buffers::default(),
            line: DelayLine::new(),
            damage: Mutex::new(damage),
            links_file,
            power: watch::Sender::new(None),
            arrivals: watch::Sender::new(()),
            scheduled: Notify::new(),
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
        let damage = self.damage.lock().await;
        let machine = self.machine_or_new(name, &damage);
        let has_same = {
            let cabling = machine.cabling();
            let cabling = cabling.borrow();
            cabling.links.iter().map(|link| link.nic()).eq(nics)
        };
        if !has_same {
            self.scheduled.notify_one();
            let links = nics.iter().map(|nic| {
                machine.link(nic).unwrap_or_else(|| {
                    let cable = Cable { machine: name.clone(), nic: nic.clone() };
                    let link = Link::new(name.clone(), nic.clone(), !damage.is_cut(&cable));
                    let faults = damage.faults(&cable);
                    link.set_faults(faults, faults.phase(clock::now()).is_on);
                    link.set_port(damage.port(&cable));
                    Arc::new(link)
                })
            });
            machine.set_links(links.collect());
        }
        Ok(machine)
    }

    /// Takes a machine away for good.
    pub(crate) async fn unplug(&self, name: &MachineName) -> Result<(), Fault> {
        let mut damage = self.damage.lock().await;
        let machine = self.find(name)?;
        if machine.is_on() {
            return Err(Fault::state(format!(
                "machine {name} is connected; power it off, then remove it"
            )));
        }
        let next = damage.without_machine(name);
        self.save(&mut damage, next).await?;
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
        if nic.as_str() == STORAGE_ADAPTER {
            let cut = StorageState::AllPathsDown;
            let state = if is_up { StorageState::Connected } else { cut };
            return self.set_storage(name, state).await;
        }
        let mut damage = self.damage.lock().await;
        let (machine, link) = self.find_link(name, nic)?;
        let cable = Cable { machine: name.clone(), nic: nic.clone() };
        let next = damage.with_cable(cable, !is_up);
        self.save(&mut damage, next).await?;
        machine.set_link_up(&link, is_up);
        self.switch.set_link(&link);
        tracing::info!(machine = %name, nic = %nic, up = is_up, "cable changed");
        Ok(())
    }

    /// Makes a cable faulty, or whole. Doing it twice is fine.
    pub(crate) async fn set_faults(
        &self,
        name: &MachineName,
        nic: &NicName,
        faults: LinkFaults,
    ) -> Result<(), Fault> {
        faults.check().map_err(|error| Fault::invalid(error.to_string()))?;
        if nic.as_str() == STORAGE_ADAPTER {
            return Err(Fault::unsupported(format!(
                "{STORAGE_ADAPTER} of {name} can be cut, and not be slow: only NICs can"
            )));
        }
        let mut damage = self.damage.lock().await;
        let (machine, link) = self.find_link(name, nic)?;
        let cable = Cable { machine: name.clone(), nic: nic.clone() };
        let next = damage.with_faults(cable, faults);
        self.save(&mut damage, next).await?;
        machine.set_link_faults(&link, faults, faults.phase(clock::now()).is_on);
        self.switch.set_link(&link);
        self.scheduled.notify_one();
        tracing::info!(machine = %name, nic = %nic, %faults, "cable changed");
        Ok(())
    }

    /// Has faults come and go by their schedules, for as long as it is polled. Those that are gone for
    /// good are forgotten.
    pub(crate) async fn follow_schedules(&self) {
        loop {
            let next = self.apply_schedules().await;
            let pause = next.map(|at| at.since(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(pause.unwrap_or(IDLE_PAUSE).min(IDLE_PAUSE)) => {}
                () = self.scheduled.notified() => {}
            }
        }
    }

    /// Brings all cables in line with their schedules; when the next of them turns.
    async fn apply_schedules(&self) -> Option<Timestamp> {
        let now = clock::now();
        let mut next: Option<Timestamp> = None;
        let mut over = Vec::new();
        for (machine, link) in self.all_links() {
            let faults = link.faults();
            let phase = faults.phase(now);
            if machine.set_link_active(&link, phase.is_on) {
                self.switch.set_link(&link);
                let (nic, is_on) = (link.nic(), phase.is_on);
                tracing::info!(machine = %machine.name(), %nic, %faults, is_on, "cable changed");
            }
            match phase.until {
                Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                None if !phase.is_on => over.push((machine, link)),
                None => {}
            }
        }
        for (machine, link) in over {
            let whole = LinkFaults::default();
            // Until it could be saved it is only not there.
            let _ = self.set_faults(machine.name(), link.nic(), whole).await;
        }
        next
    }

    fn all_links(&self) -> Vec<(Arc<Machine>, Arc<Link>)> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        let links = machines.values().flat_map(|machine| {
            let links = machine.cabling().borrow().links.clone();
            links.iter().map(|link| (Arc::clone(machine), Arc::clone(link))).collect::<Vec<_>>()
        });
        links.filter(|(_, link)| link.faults().schedule.is_some()).collect()
    }

    /// Sets up the port of the physical switch at the end of a cable. Doing it twice is fine.
    pub(crate) async fn set_port(
        &self,
        name: &MachineName,
        nic: &NicName,
        setup: PortSetup,
    ) -> Result<(), Fault> {
        setup.check()?;
        let mut damage = self.damage.lock().await;
        let (machine, link) = self.find_link(name, nic)?;
        let cable = Cable { machine: name.clone(), nic: nic.clone() };
        let next = damage.with_port(cable, setup.clone());
        self.save(&mut damage, next).await?;
        link.set_port(setup);
        self.switch.set_port(&link);
        machine.look_at_ports();
        tracing::info!(machine = %name, nic = %nic, "the port of the physical switch changed");
        Ok(())
    }

    /// Cuts the way to a machine's storage, or restores it. Doing it twice is fine.
    pub(crate) async fn set_storage(
        &self,
        name: &MachineName,
        state: StorageState,
    ) -> Result<(), Fault> {
        let mut damage = self.damage.lock().await;
        let machine = self.find(name)?;
        let next = damage.with_storage(name.clone(), state);
        self.save(&mut damage, next).await?;
        machine.set_storage(state);
        tracing::info!(machine = %name, ?state, "storage adapter changed");
        Ok(())
    }

    /// Splits the machines: those of a group reach only each other, and so do those in none. No
    /// group joins all again.
    pub(crate) async fn partition(&self, groups: Vec<Group>) -> Result<(), Fault> {
        let mut damage = self.damage.lock().await;
        let mut seen = BTreeSet::new();
        for machine in groups.iter().flatten() {
            self.find(machine)?;
            if !seen.insert(machine) {
                return Err(Fault::invalid(format!("machine {machine} is in two groups")));
            }
        }
        let groups = groups.into_iter().filter(|group| !group.is_empty()).collect();
        let next = damage.with_groups(groups);
        self.save(&mut damage, next).await?;
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        for machine in machines.values() {
            machine.set_group(damage.group(machine.name()));
        }
        tracing::info!(groups = ?damage.groups(), "machines were split or joined");
        Ok(())
    }

    /// The groups that the machines are split into.
    pub(crate) async fn groups(&self) -> Vec<Group> {
        self.damage.lock().await.groups().to_vec()
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

    /// All storage adapters, in order of machine.
    pub(crate) fn storage_links(&self) -> Vec<StorageLink> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        let adapters = machines.values().map(|machine| StorageLink {
            machine: machine.name().clone(),
            state: *machine.storage().borrow(),
            is_machine_on: machine.is_on(),
        });
        adapters.collect()
    }

    fn find_link(
        &self,
        name: &MachineName,
        nic: &NicName,
    ) -> Result<(Arc<Machine>, Arc<Link>), Fault> {
        let machine = self.find(name)?;
        let link = machine.link(nic).ok_or_else(|| {
            let links = machine.cabling().borrow().links.clone();
            let names = links.iter().map(|link| link.nic().as_str()).chain([STORAGE_ADAPTER]);
            let names: Vec<&str> = names.collect();
            Fault::not_found(format!("NIC {nic} of {name} (it has {})", names.join(", ")))
        })?;
        Ok((machine, link))
    }

    fn find(&self, name: &MachineName) -> Result<Arc<Machine>, Fault> {
        self.machine(name.as_str()).ok_or_else(|| Fault::not_found(format!("machine {name}")))
    }

    fn machine_or_new(&self, name: &MachineName, damage: &Damage) -> Arc<Machine> {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        let machine = machines.entry(name.clone()).or_insert_with(|| {
            let machine = Machine::new(name.clone(), damage.storage(name));
            machine.set_group(damage.group(name));
            Arc::new(machine)
        });
        self.arrivals.send_replace(());
        Arc::clone(machine)
    }

    /// Saves what is to be, if that is news.
    async fn save(&self, damage: &mut Damage, next: Damage) -> Result<(), Fault> {
        if next == *damage {
            return Ok(());
        }
        let (saving, path) = (next.clone(), self.links_file.clone());
        let saved = tokio::task::spawn_blocking(move || saving.save(&path)).await;
        match saved {
            Ok(Ok(())) => {
                *damage = next;
                Ok(())
            }
            Ok(Err(error)) => Err(Fault::system(format!("the cable was left as it was: {error}"))),
            Err(error) => Err(Fault::system(format!("the cable was left as it was: {error}"))),
        }
    }
}
