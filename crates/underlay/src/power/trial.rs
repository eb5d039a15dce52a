//! Another program for a machine: on trial until somebody keeps it, else the old one is put back.
//!
//! ```text
//!             saved            asked to end, started anew          kept in time
//!  try ──► program, trial ──► the new one runs ──────────────────────────────────► it stays
//!                                   │
//!                                   └── ends again and again, or is not kept in time: put back
//! ```
//!
//! Whoever asked for the trial may die during it, the box too: the machine then has the program back
//! that it had before, by itself.
//!
//! **Invariant:** what a machine is to run is on disk before its process is touched.

use std::sync::Weak;
use std::time::Duration;

use racknest_types::fault::Fault;
use tokio::time::timeout;

use super::record::{Seat, Trial};
use super::{Plugged, Power, Shared};
use crate::power::outlet::Command;
use crate::wire::{MachineName, ProgramName, PutBack, WHY_LEN_MAX};

/// A program on trial that has ended by itself this often is not waited for any longer.
const FAILURES_MAX: u32 = 2;

impl Power {
    /// Runs this program as a machine's process, on trial; returns when the one before it has ended.
    /// The machine's guests run on. A program that the machine runs already is left alone.
    ///
    /// # Errors
    /// There is no such machine or program, its process is shared with others, or it cannot be saved.
    pub async fn try_program(
        &self,
        machine: &MachineName,
        program: &ProgramName,
        limit: Duration,
    ) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        let plugged = self.own_process(machine)?;
        let seat = self.seat(machine);
        if seat.program.as_ref() == Some(program) {
            return Ok(());
        }
        let path = self.shared.config.programs.join(program.as_str());
        if !path.is_file() {
            return Err(Fault::not_found(format!("agent '{program}'")));
        }
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let trial = Some(Trial { before: seat.program, limit_ms });
        let next = Seat { program: Some(program.clone()), trial, put_back: None };
        self.set_seat(machine, next).await?;
        let replaced = plugged.tell(|done| Command::Replace(path.into(), done)).await;
        self.watch_trial(machine.clone(), program.clone(), limit);
        replaced
    }

    /// Keeps the program that is on trial.
    ///
    /// # Errors
    /// The machine does not run it (any more), or it cannot be saved.
    pub async fn keep_program(
        &self,
        machine: &MachineName,
        program: &ProgramName,
    ) -> Result<(), Fault> {
        let _changes = self.shared.changes.lock().await;
        self.find(machine)?;
        let seat = self.seat(machine);
        if seat.program.as_ref() != Some(program) {
            let why = seat.put_back.map_or_else(String::new, |it| format!(": {}", it.why));
            return Err(Fault::state(format!(
                "machine {machine} does not run agent '{program}' any more{why}"
            )));
        }
        self.set_seat(machine, Seat { trial: None, ..seat }).await
    }

    pub(super) fn seat(&self, machine: &MachineName) -> Seat {
        self.shared.kept.borrow().seats.get(machine).cloned().unwrap_or_default()
    }

    async fn set_seat(&self, machine: &MachineName, seat: Seat) -> Result<(), Fault> {
        self.keep(|kept| {
            if seat == Seat::default() {
                kept.seats.remove(machine);
            } else {
                kept.seats.insert(machine.clone(), seat);
            }
        })
        .await
    }

    /// Puts the old program back unless this one is kept in time.
    pub(super) fn watch_trial(&self, machine: MachineName, program: ProgramName, limit: Duration) {
        let Some(mut news) = self.watch(&machine) else { return };
        let shared = std::sync::Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let before = news.borrow().restarts;
            let gives_up =
                news.wait_for(|state| state.restarts.saturating_sub(before) >= FAILURES_MAX);
            let why = match timeout(limit, gives_up).await {
                Ok(Ok(state)) => {
                    let how = state.last_exit.clone().unwrap_or_else(|| "ended".to_owned());
                    format!("it {how}, again and again")
                }
                // The box ends; the next one gives it time again.
                Ok(Err(_)) => return,
                Err(_) => format!("it was not up within {} s", limit.as_secs_f32()),
            };
            let why = why.chars().take(WHY_LEN_MAX).collect();
            if let Some(power) = Self::upgrade(&shared) {
                power.put_back(&machine, PutBack { program, why }).await;
            }
        });
    }

    fn upgrade(shared: &Weak<Shared>) -> Option<Self> {
        shared.upgrade().map(|shared| Self { shared })
    }

    /// Ends a trial that has not been ended otherwise.
    async fn put_back(&self, machine: &MachineName, put_back: PutBack) {
        let _changes = self.shared.changes.lock().await;
        let seat = self.seat(machine);
        let (Some(trial), true) = (seat.trial, seat.program.as_ref() == Some(&put_back.program))
        else {
            return;
        };
        let Ok(plugged @ Plugged::Process { .. }) = self.find(machine) else { return };
        let Plugged::Process { own, .. } = &plugged else { return };
        let path = match &trial.before {
            Some(program) => self.shared.config.programs.join(program.as_str()).into(),
            None => own.clone(),
        };
        tracing::warn!(%machine, program = %put_back.program, why = put_back.why, "put back");
        let next = Seat { program: trial.before, trial: None, put_back: Some(put_back) };
        let done = match self.set_seat(machine, next).await {
            Ok(()) => plugged.tell(|done| Command::Replace(path, done)).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = done {
            tracing::error!(%machine, %fault, "its old program could not be put back");
        }
    }
}
