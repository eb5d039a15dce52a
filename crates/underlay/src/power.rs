//! Power: starts the machines of a box, watches them, and takes their power away.
//!
//! A machine is a process. One that ends by itself is started again; one whose power was taken
//! stays off, also over a restart of the box. Losing power is sudden: the process is killed, and
//! then its guests, without a word to either. The machines outlive the box process: a box that is
//! killed and started again finds them running.
//!
//! **Invariant:** which machines are off is on disk before any of them is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use racknest_types::fault::{Fault, FaultCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::power::outlet::{Command, Keeper};
use crate::power::process::Census;
use crate::wire::{MachineName, OutletState, PowerState};

mod outlet;
mod process;
mod record;

pub use outlet::Outlet;
pub use record::LoadPowerError;

/// Commands that may wait for one outlet.
const COMMANDS_MAX: usize = 8;

/// What the power of a box keeps.
#[derive(Clone, Debug)]
pub struct PowerConfig {
    /// Where the pid files are: `NAME.pid`.
    pub run: PathBuf,
    /// Which machines are off, kept over restarts.
    pub state_file: PathBuf,
}

/// Why the power could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum StartPowerError {
    /// It cannot be told which machines are off.
    #[error(transparent)]
    Load(LoadPowerError),
    /// The directory of the pid files could not be made.
    #[error("cannot make the run directory")]
    Prepare {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The processes of this machine could not be listed.
    #[error("cannot look for machines that run already")]
    Census {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The power of a box. Clones are the same power. When the last one is dropped, the machines run
/// on, unwatched, until another box finds them.
#[derive(Clone, Debug)]
pub struct Power {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: PowerConfig,
    /// What ran when the power was switched on; some of it may be machines of a former box.
    census: Census,
    // Guards the table of outlets; held for a lookup or a change, never across an await.
    outlets: Mutex<BTreeMap<MachineName, Plugged>>,
    // Held while a change is saved and done, so that changes cannot overtake each other.
    off: tokio::sync::Mutex<BTreeSet<MachineName>>,
    is_stopped: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Plugged {
    state: watch::Receiver<OutletState>,
    commands: mpsc::Sender<Command>,
}

impl Power {
    /// Switches the power on: no machine yet.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn start(config: PowerConfig) -> Result<Self, StartPowerError> {
        let off = record::load(&config.state_file).map_err(StartPowerError::Load)?;
        fs::create_dir_all(&config.run).map_err(|source| StartPowerError::Prepare { source })?;
        let census = Census::take().map_err(|source| StartPowerError::Census { source })?;
        let shared = Shared {
            config,
            census,
            outlets: Mutex::default(),
            off: tokio::sync::Mutex::new(off),
            is_stopped: watch::Sender::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Plugs a machine in. It is found if it runs, else started, unless it is to be off.
    ///
    /// # Errors
    /// When a machine of that name is plugged in, or the box is being stopped.
    pub async fn plug(&self, outlet: Outlet) -> Result<(), Fault> {
        let off = self.shared.off.lock().await;
        let machine = outlet.machine.clone();
        let mut outlets = self.outlets();
        if *self.shared.is_stopped.borrow() {
            return Err(Fault::state("the box is being stopped"));
        }
        if outlets.contains_key(&machine) {
            let message = format!("machine {machine} has power already");
            return Err(Fault::new(FaultCode::DuplicateName, message));
        }
        let is_on = !off.contains(&machine);
        let power = if is_on { PowerState::Restarting } else { PowerState::Off };
        let (state, news) = watch::channel(OutletState {
            machine: machine.clone(),
            power,
            restarts: 0,
            last_exit: None,
        });
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let remembered = self.shared.census.find(&outlet.argv);
        let pid_file = self.shared.config.run.join(format!("{machine}.pid"));
        tokio::spawn(Keeper::new(outlet, pid_file, remembered, state, inbox).run(is_on));
        outlets.insert(machine, Plugged { state: news, commands });
        Ok(())
    }

    /// Takes a machine's power away, and forgets the machine.
    ///
    /// # Errors
    /// As for [`Power::off`].
    pub async fn unplug(&self, machine: &MachineName) -> Result<(), Fault> {
        let mut off = self.shared.off.lock().await;
        self.tell(machine, Command::Off).await?;
        let mut next = off.clone();
        if next.remove(machine) {
            self.save(&next).await?;
            *off = next;
        }
        self.outlets().remove(machine);
        Ok(())
    }

    /// Takes a machine's power away, its guests' with it; returns when all are gone. It stays off
    /// until it is switched on.
    ///
    /// # Errors
    /// When there is no such machine, or it cannot be done.
    pub async fn off(&self, machine: &MachineName) -> Result<(), Fault> {
        self.switch(machine, false).await
    }

    /// Gives a machine power; returns when that is decided, not when it has started. A machine that
    /// waits to be started again is started at once.
    ///
    /// # Errors
    /// When there is no such machine, or it cannot be saved.
    pub async fn on(&self, machine: &MachineName) -> Result<(), Fault> {
        self.switch(machine, true).await
    }

    /// All machines, in order of name.
    #[must_use]
    pub fn list(&self) -> Vec<OutletState> {
        self.outlets().values().map(|plugged| plugged.state.borrow().clone()).collect()
    }

    /// The state of one machine, and news of it.
    #[must_use]
    pub fn watch(&self, machine: &MachineName) -> Option<watch::Receiver<OutletState>> {
        self.outlets().get(machine).map(|plugged| plugged.state.clone())
    }

    /// Asks all machines and their guests to end, ends those that do not, and returns when all are
    /// gone. What was on is on again with the next box.
    ///
    /// # Errors
    /// When one of them could not be ended.
    pub async fn stop(&self) -> Result<(), Fault> {
        let _off = self.shared.off.lock().await;
        self.shared.is_stopped.send_replace(true);
        let outlets = std::mem::take(&mut *self.outlets());
        let mut stopping = tokio::task::JoinSet::new();
        for plugged in outlets.into_values() {
            stopping.spawn(async move { plugged.tell(Command::Stop).await });
        }
        stopping.join_all().await.into_iter().collect()
    }

    /// Returns once somebody asked the box to stop.
    pub async fn stopped(&self) {
        let mut is_stopped = self.shared.is_stopped.subscribe();
        let told = is_stopped.wait_for(|&is_stopped| is_stopped).await;
        told.expect("the sender is in what this handle shares");
    }

    async fn switch(&self, machine: &MachineName, is_on: bool) -> Result<(), Fault> {
        let mut off = self.shared.off.lock().await;
        self.find(machine)?;
        let mut next = off.clone();
        let is_news = if is_on { next.remove(machine) } else { next.insert(machine.clone()) };
        if is_news {
            self.save(&next).await?;
            *off = next;
        }
        self.tell(machine, if is_on { Command::On } else { Command::Off }).await
    }

    async fn tell(
        &self,
        machine: &MachineName,
        command: impl FnOnce(oneshot::Sender<Result<(), Fault>>) -> Command,
    ) -> Result<(), Fault> {
        let plugged = self.find(machine)?;
        plugged.tell(command).await
    }

    fn find(&self, machine: &MachineName) -> Result<Plugged, Fault> {
        let plugged = self.outlets().get(machine).cloned();
        plugged.ok_or_else(|| Fault::not_found(format!("machine {machine}")))
    }

    async fn save(&self, off: &BTreeSet<MachineName>) -> Result<(), Fault> {
        let (path, off) = (self.shared.config.state_file.clone(), off.clone());
        let saved = tokio::task::spawn_blocking(move || record::save(&path, &off)).await;
        let failed =
            |error: String| Fault::system(format!("the power was left as it was: {error}"));
        saved.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    fn outlets(&self) -> MutexGuard<'_, BTreeMap<MachineName, Plugged>> {
        self.shared.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugged {
    async fn tell(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Fault>>) -> Command,
    ) -> Result<(), Fault> {
        let (done, answer) = oneshot::channel();
        // An outlet that ended drops the command, and the answer with it.
        drop(self.commands.send(command(done)).await);
        answer.await.unwrap_or_else(|_| Err(Fault::state("the box is being stopped")))
    }
}
