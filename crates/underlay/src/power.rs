//! Power: starts the machines of a box, watches them, and takes their power away.
//!
//! A machine is a process. One that ends by itself is started again; one whose power was taken
//! stays off, also over a restart of the box. Losing power is sudden: the process is killed, and
//! then its guests, without a word to either. The machines outlive the box process: a box that is
//! killed and started again finds them running.
//!
//! **Invariant:** which machines are off is on disk before any of them is touched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fs_err as fs;
use racknest_types::fault::{Fault, FaultCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::power::outlet::{Command, Keeper};
use crate::power::process::Census;
use crate::power::record::Kept;
use crate::wire::{MachineName, OutletState, PowerState};

mod outlet;
mod process;
mod program;
mod record;
mod trial;

pub use outlet::Outlet;
pub use record::LoadPowerError;

/// Commands that may wait for one outlet.
const COMMANDS_MAX: usize = 8;

/// What the power of a box keeps.
#[derive(Clone, Debug)]
pub struct PowerConfig {
    /// Where the pid files are: `NAME.pid`.
    pub run: PathBuf,
    /// Which machines are off and what each runs, kept over restarts.
    pub state_file: PathBuf,
    /// Where programs are that were put in place as agents.
    pub programs: PathBuf,
    /// What tells this box's own program from another. When it has changed, all machines run the box's
    /// own again: a box that was replaced is not to go on with the agents of the one before.
    pub own: String,
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
    /// Which machines are to be off, and what each runs, as it is saved.
    kept: watch::Sender<Kept>,
    // Held while a change is saved and done, so that changes cannot overtake each other.
    changes: tokio::sync::Mutex<()>,
    is_stopped: watch::Sender<bool>,
}

/// How a machine gets its power.
#[derive(Clone, Debug)]
enum Plugged {
    /// By a process of its own.
    Process {
        state: watch::Receiver<OutletState>,
        commands: mpsc::Sender<Command>,
        /// The box's own program for it.
        own: OsString,
    },
    /// With others in the process of this machine. Without power it is kept off the wires, and its
    /// process is told.
    Carried { by: MachineName },
}

impl Power {
    /// Switches the power on: no machine yet.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn start(config: PowerConfig) -> Result<Self, StartPowerError> {
        let mut kept = record::load(&config.state_file).map_err(StartPowerError::Load)?;
        if kept.own != config.own && !kept.seats.is_empty() {
            tracing::info!("the box has another program; its machines run that one from now on");
            kept.seats.clear();
        }
        kept.own.clone_from(&config.own);
        fs::create_dir_all(&config.run).map_err(|source| StartPowerError::Prepare { source })?;
        let census = Census::take().map_err(|source| StartPowerError::Census { source })?;
        let shared = Shared {
            config,
            census,
            outlets: Mutex::default(),
            kept: watch::Sender::new(kept),
            changes: tokio::sync::Mutex::new(()),
            is_stopped: watch::Sender::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Plugs a machine in. It is found if it runs, else started, unless it is to be off.
    ///
    /// # Errors
    /// When a machine of that name is plugged in, or the box is being stopped.
    pub async fn plug(&self, mut outlet: Outlet) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        let machine = outlet.machine.clone();
        self.check_free(&machine)?;
        let own = outlet.argv.first().cloned().unwrap_or_default();
        let seat = self.seat(&machine);
        if let (Some(program), Some(word)) = (&seat.program, outlet.argv.first_mut()) {
            *word = self.shared.config.programs.join(program.as_str()).into();
        }
        let is_on = !self.is_off(&machine);
        let power = if is_on { PowerState::Restarting } else { PowerState::Off };
        let (state, news) = watch::channel(OutletState {
            machine: machine.clone(),
            power,
            is_hung: false,
            restarts: 0,
            last_exit: None,
            program: None,
            put_back: None,
        });
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let remembered = self.shared.census.find(&outlet.argv);
        let pid_file = self.shared.config.run.join(format!("{machine}.pid"));
        tokio::spawn(Keeper::new(outlet, pid_file, remembered, state, inbox).run(is_on));
        self.outlets().insert(machine.clone(), Plugged::Process { state: news, commands, own });
        if let (Some(program), Some(trial)) = (seat.program, seat.trial) {
            // The former box did not live to see its end; this one gives it the same time.
            self.watch_trial(machine, program, Duration::from_millis(trial.limit_ms));
        }
        Ok(())
    }

    /// Plugs a machine in that lives in the process of another, with many like it (simulated
    /// hosts). Its process learns by [`crate::Underlay::powered`] when its power is taken.
    ///
    /// # Errors
    /// When a machine of that name is plugged in, or the other one is not.
    pub async fn plug_carried(&self, machine: MachineName, by: &MachineName) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        self.check_free(&machine)?;
        if let Plugged::Carried { .. } = self.find(by)? {
            return Err(Fault::invalid(format!("machine {by} has no process of its own")));
        }
        self.outlets().insert(machine, Plugged::Carried { by: by.clone() });
        Ok(())
    }

    /// Takes a machine's power away, and forgets the machine.
    ///
    /// # Errors
    /// As for [`Power::off`].
    pub async fn unplug(&self, machine: &MachineName) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        self.find(machine)?.tell(Command::Off).await?;
        self.keep(|kept| {
            kept.off.remove(machine);
            kept.seats.remove(machine);
        })
        .await?;
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

    /// Stops a machine's process where it is (SIGSTOP), or lets it run on. Its guests run on either
    /// way; a box that is started again finds the process as it is.
    ///
    /// # Errors
    /// There is no such machine, its process is shared with others, or it does not run.
    pub async fn hang(&self, machine: &MachineName, is_hung: bool) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        self.own_process(machine)?.tell(|done| Command::Hang(is_hung, done)).await
    }

    /// Kills a machine's process; it is started again. Its guests run on.
    ///
    /// # Errors
    /// As for [`Power::hang`].
    pub async fn kill(&self, machine: &MachineName) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        self.own_process(machine)?.tell(Command::Kill).await
    }

    /// All machines, in order of name.
    #[must_use]
    pub fn list(&self) -> Vec<OutletState> {
        let (outlets, kept) = (self.outlets(), self.shared.kept.borrow());
        let mut states = Vec::new();
        for (machine, plugged) in &*outlets {
            let process = match plugged {
                Plugged::Carried { by } => outlets.get(by),
                Plugged::Process { .. } => Some(plugged),
            };
            let Some(Plugged::Process { state, .. }) = process else { continue };
            let mut state = state.borrow().clone();
            state.machine = machine.clone();
            // One that is carried goes off although its process stays on.
            if matches!(plugged, Plugged::Carried { .. }) && kept.off.contains(machine) {
                state.power = PowerState::Off;
            }
            if let Some(seat) = kept.seats.get(machine) {
                state.program.clone_from(&seat.program);
                state.put_back.clone_from(&seat.put_back);
            }
            states.push(state);
        }
        states
    }

    /// The state of a machine with a process of its own, and news of it.
    #[must_use]
    pub fn watch(&self, machine: &MachineName) -> Option<watch::Receiver<OutletState>> {
        match self.outlets().get(machine)? {
            Plugged::Process { state, .. } => Some(state.clone()),
            Plugged::Carried { .. } => None,
        }
    }

    /// Asks all machines and their guests to end, ends those that do not, and returns when all are
    /// gone. What was on is on again with the next box.
    ///
    /// # Errors
    /// When one of them could not be ended.
    pub async fn stop(&self) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
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

    /// Returns once this machine is to be off; at once if it is.
    pub(crate) async fn wait_off(&self, machine: &MachineName) {
        let mut kept = self.shared.kept.subscribe();
        let told = kept.wait_for(|kept| kept.off.contains(machine)).await;
        told.expect("the sender is in what this handle shares");
    }

    pub(crate) fn is_off(&self, machine: &MachineName) -> bool {
        self.shared.kept.borrow().off.contains(machine)
    }

    async fn switch(&self, machine: &MachineName, is_on: bool) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        let plugged = self.find(machine)?;
        self.keep(|kept| {
            if is_on {
                kept.off.remove(machine);
            } else {
                kept.off.insert(machine.clone());
            }
        })
        .await?;
        plugged.tell(if is_on { Command::On } else { Command::Off }).await
    }

    /// Changes what is kept: saves it first, then lets it be known.
    async fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), Fault> {
        let before = self.shared.kept.borrow().clone();
        let mut next = before.clone();
        change(&mut next);
        if next == before {
            return Ok(());
        }
        let (path, saving) = (self.shared.config.state_file.clone(), next.clone());
        let saved = tokio::task::spawn_blocking(move || record::save(&path, &saving)).await;
        saved
            .map_err(io::Error::from)
            .flatten()
            .map_err(|error| Fault::system(format!("the power was left as it was: {error}")))?;
        self.shared.kept.send_replace(next);
        Ok(())
    }

    fn check_free(&self, machine: &MachineName) -> Result<(), Fault> {
        if *self.shared.is_stopped.borrow() {
            return Err(Fault::state("the box is being stopped"));
        }
        if self.outlets().contains_key(machine) {
            let message = format!("machine {machine} has power already");
            return Err(Fault::new(FaultCode::DuplicateName, message));
        }
        Ok(())
    }

    /// A machine whose process is nobody else's.
    fn own_process(&self, machine: &MachineName) -> Result<Plugged, Fault> {
        match self.find(machine)? {
            Plugged::Carried { .. } => Err(Fault::unsupported(format!(
                "machine {machine} shares its process with other simulated hosts: stopping it alone"
            ))),
            plugged @ Plugged::Process { .. } => Ok(plugged),
        }
    }

    fn find(&self, machine: &MachineName) -> Result<Plugged, Fault> {
        let plugged = self.outlets().get(machine).cloned();
        plugged.ok_or_else(|| Fault::not_found(format!("machine {machine}")))
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
        let Self::Process { commands, .. } = self else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        // An outlet that ended drops the command, and the answer with it.
        drop(commands.send(command(done)).await);
        answer.await.unwrap_or_else(|_| Err(Fault::state("the box is being stopped")))
    }
}
