//! An outlet: keeps one machine's process running, until its power is taken away.
//!
//! ```text
//!            ┌── started ──► On ── ended by itself ──► Restarting ──┐
//!            │                │                            │        │ pause
//!            └────────────────┼────────────────────────────┼────────┘
//!                             └──────────── off ───────────┴──► Off ── on ──► On
//! ```
//!
//! One task owns the process. When the task is dropped (the box ends), the process stays, and the
//! next box's outlet finds it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use racknest_types::fault::Fault;
use rustix::process::{Pid, Signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::power::process::Process;
use crate::wire::{EXIT_LEN_MAX, MachineName, OutletState, PowerState};

/// The first pause before a process that ended is started again.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest: a machine that cannot start costs next to nothing, and is back soon once it can.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A process that ran this long was healthy: the next pause is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// How long a process may take to end when asked.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A machine of the box and the process that is it.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// The machine.
    pub machine: MachineName,
    /// Program and arguments. They must be like no other process's: an outlet whose pid file was
    /// lost finds its process by them.
    pub argv: Vec<OsString>,
    /// Where its output is appended.
    pub log: PathBuf,
    /// The directory of its guests' pid files (`vms/ID/pid` below it), if it has guests. They lose
    /// their power with it.
    pub guests: Option<PathBuf>,
}

/// What an outlet is told. Each is answered when it is done.
#[derive(Debug)]
pub(crate) enum Command {
    On(oneshot::Sender<Result<(), Fault>>),
    Off(oneshot::Sender<Result<(), Fault>>),
    /// The process is stopped where it is, or runs on.
    Hang(bool, oneshot::Sender<Result<(), Fault>>),
    /// The process is killed, and started again.
    Kill(oneshot::Sender<Result<(), Fault>>),
    /// The process is asked to end, and another program started in its place. Its guests run on.
    Replace(OsString, oneshot::Sender<Result<(), Fault>>),
    /// The end of the box: process and guests are asked to end.
    Stop(oneshot::Sender<Result<(), Fault>>),
}

/// The task behind an outlet.
#[derive(Debug)]
pub(crate) struct Keeper {
    outlet: Outlet,
    pid_file: PathBuf,
    /// A process that ran with the outlet's command line when the box was started.
    remembered: Option<Pid>,
    state: watch::Sender<OutletState>,
    commands: mpsc::Receiver<Command>,
    pause: Duration,
}

/// Why the keeper has nothing to keep for the moment.
enum Pause {
    /// Until it is told otherwise.
    Off,
    /// Until the time is over.
    Restart,
    /// For no time: another program takes its place.
    Start,
    /// For good.
    End,
}

impl Keeper {
    pub(crate) fn new(
        outlet: Outlet,
        pid_file: PathBuf,
        remembered: Option<Pid>,
        state: watch::Sender<OutletState>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self { outlet, pid_file, remembered, state, commands, pause: PAUSE_MIN }
    }

    /// Keeps the machine as it is to be, until the end of the box.
    pub(crate) async fn run(mut self, is_on: bool) {
        let mut next = if is_on {
            self.keep_running().await
        } else {
            // The box may have been killed while it took the power away.
            if let Err(fault) = self.take_power(None).await {
                tracing::error!(machine = %self.outlet.machine, %fault, "cannot take its power");
            }
            Pause::Off
        };
        loop {
            next = match next {
                Pause::End => return,
                Pause::Off => self.stay_off().await,
                Pause::Restart => self.wait_to_restart().await,
                Pause::Start => self.keep_running().await,
            };
        }
    }

    /// Starts the process or finds it, and watches it.
    async fn keep_running(&mut self) -> Pause {
        let mut process = match self.find_or_start() {
            Ok(process) => process,
            Err(error) => {
                tracing::warn!(machine = %self.outlet.machine, %error, "cannot start it");
                self.note_exit(format!("could not be started: {error}"));
                return Pause::Restart;
            }
        };
        let started = Instant::now();
        self.set_state(PowerState::On { pid: process.pid() });
        self.set_hung(process.is_stopped());
        loop {
            let command = tokio::select! {
                how = process.ended() => {
                    if started.elapsed() >= HEALTHY_AFTER {
                        self.pause = PAUSE_MIN;
                    }
                    tracing::warn!(machine = %self.outlet.machine, how, "its process ended");
                    self.note_exit(how);
                    return Pause::Restart;
                }
                command = self.commands.recv() => command,
            };
            match command {
                None => return Pause::End,
                Some(Command::On(done)) => answer(done, Ok(())),
                Some(Command::Hang(is_hung, done)) => {
                    let signal = if is_hung { Signal::STOP } else { Signal::CONT };
                    self.signal(&process, signal, done);
                }
                // That it ends is then seen as for any other process.
                Some(Command::Kill(done)) => self.signal(&process, Signal::KILL, done),
                Some(Command::Replace(program, done)) => {
                    return self.replace(process, program, done).await;
                }
                Some(Command::Off(done)) => return self.turn_off(Some(process), done).await,
                Some(Command::Stop(done)) => return self.stop(Some(process), done).await,
            }
        }
    }

    async fn stay_off(&mut self) -> Pause {
        self.set_state(PowerState::Off);
        match self.commands.recv().await {
            None => Pause::End,
            Some(Command::Off(done)) => self.turn_off(None, done).await,
            Some(Command::Stop(done)) => self.stop(None, done).await,
            Some(Command::Hang(_, done) | Command::Kill(done)) => {
                answer(done, Err(self.not_running()));
                Pause::Off
            }
            Some(Command::Replace(program, done)) => {
                self.set_program(program);
                answer(done, Ok(()));
                Pause::Off
            }
            Some(Command::On(done)) => {
                self.pause = PAUSE_MIN;
                answer(done, Ok(()));
                self.keep_running().await
            }
        }
    }

    async fn wait_to_restart(&mut self) -> Pause {
        self.set_state(PowerState::Restarting);
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        match timeout(pause, self.commands.recv()).await {
            Ok(None) => return Pause::End,
            Ok(Some(Command::Off(done))) => return self.turn_off(None, done).await,
            Ok(Some(Command::Stop(done))) => return self.stop(None, done).await,
            Ok(Some(Command::On(done))) => answer(done, Ok(())),
            Ok(Some(Command::Replace(program, done))) => {
                self.set_program(program);
                answer(done, Ok(()));
                return Pause::Start;
            }
            Ok(Some(Command::Hang(_, done) | Command::Kill(done))) => {
                answer(done, Err(self.not_running()));
            }
            Err(_) => {}
        }
        self.state.send_modify(|state| state.restarts += 1);
        self.keep_running().await
    }

    /// The process may take its leave, which is what lets nobody take it for dead.
    async fn replace(
        &mut self,
        mut process: Process,
        program: OsString,
        done: oneshot::Sender<Result<(), Fault>>,
    ) -> Pause {
        self.set_state(PowerState::Restarting);
        let stopped = process.stop(STOP_GRACE).await;
        self.forget_process();
        self.set_program(program);
        answer(done, stopped.map_err(|error| self.fault("stop", &error)));
        // Whatever was not stopped is found again by the next look.
        Pause::Start
    }

    fn set_program(&mut self, program: OsString) {
        if let Some(word) = self.outlet.argv.first_mut() {
            *word = program;
        }
        self.pause = PAUSE_MIN;
        self.state.send_modify(|state| state.last_exit = None);
    }

    async fn turn_off(
        &mut self,
        process: Option<Process>,
        done: oneshot::Sender<Result<(), Fault>>,
    ) -> Pause {
        let result = self.take_power(process).await;
        // Before the answer, so that whoever asked sees it.
        self.set_state(PowerState::Off);
        answer(done, result);
        Pause::Off
    }

    /// Ends process and guests at once. The process first, so that no guest is started any more.
    async fn take_power(&mut self, process: Option<Process>) -> Result<(), Fault> {
        let found = if process.is_none() { self.find() } else { Ok(process) };
        let failed = |error: io::Error| self.fault("take the power of", &error);
        let process = found.map_err(failed)?;
        if let Some(mut process) = process {
            process.kill().await.map_err(failed)?;
        }
        self.forget_process();
        if let Some(directory) = &self.outlet.guests {
            // A guest that forked while it was looked for is found in the next round.
            loop {
                let mut guests = Process::find_guests(directory).await.map_err(failed)?;
                if guests.is_empty() {
                    break;
                }
                for guest in &mut guests {
                    guest.kill().await.map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    async fn stop(
        &mut self,
        process: Option<Process>,
        done: oneshot::Sender<Result<(), Fault>>,
    ) -> Pause {
        let mut result = Ok(());
        if let Some(mut process) = process {
            result = process.stop(STOP_GRACE).await;
            self.forget_process();
        }
        if let Some(directory) = self.outlet.guests.clone()
            && result.is_ok()
        {
            result = stop_guests(&directory).await;
        }
        self.set_state(PowerState::Off);
        answer(done, result.map_err(|error| self.fault("stop", &error)));
        Pause::End
    }

    fn find_or_start(&mut self) -> io::Result<Process> {
        let process = match self.find()? {
            Some(process) => {
                tracing::info!(machine = %self.outlet.machine, pid = process.pid(), "found running");
                process
            }
            None => Process::start(&self.outlet.argv, &self.outlet.log)?,
        };
        if let Err(error) = process.write_file(&self.pid_file) {
            // It runs all the same, and the next box finds it by its command line.
            tracing::warn!(machine = %self.outlet.machine, %error, "cannot write its pid file");
        }
        Ok(process)
    }

    /// By the file, or by the command line if the former box was killed before it wrote the file.
    fn find(&mut self) -> io::Result<Option<Process>> {
        let remembered = self.remembered.take();
        if let Some(process) = Process::find_by_file(&self.pid_file)? {
            return Ok(Some(process));
        }
        remembered.map_or(Ok(None), |pid| Process::find_by_argv(pid, &self.outlet.argv))
    }

    fn forget_process(&self) {
        // A file that stays tells of a process that is gone, and is not believed.
        drop(fs_err::remove_file(&self.pid_file));
    }

    fn signal(&self, process: &Process, signal: Signal, done: oneshot::Sender<Result<(), Fault>>) {
        let sent = process.signal(signal);
        if sent.is_ok() {
            self.set_hung(signal == Signal::STOP);
        }
        answer(done, sent.map_err(|error| self.fault("signal", &error)));
    }

    fn not_running(&self) -> Fault {
        Fault::state(format!("machine {} does not run; power it on first", self.outlet.machine))
    }

    /// A process that does not run does not hang either.
    fn set_state(&self, power: PowerState) {
        self.state.send_modify(|state| {
            state.power = power;
            state.is_hung = false;
        });
    }

    fn set_hung(&self, is_hung: bool) {
        self.state
            .send_if_modified(|state| std::mem::replace(&mut state.is_hung, is_hung) != is_hung);
    }

    fn note_exit(&self, how: String) {
        let how = how.chars().take(EXIT_LEN_MAX).collect();
        self.state.send_modify(|state| state.last_exit = Some(how));
    }

    fn fault(&self, what: &str, error: &io::Error) -> Fault {
        Fault::system(format!("cannot {what} machine {}: {error}", self.outlet.machine))
    }
}

/// Asks all guests to end, all at once, and ends those that do not.
async fn stop_guests(directory: &std::path::Path) -> io::Result<()> {
    let guests = Process::find_guests(directory).await?;
    let mut stopping = tokio::task::JoinSet::new();
    for mut guest in guests {
        stopping.spawn(async move { guest.stop(STOP_GRACE).await });
    }
    for stopped in stopping.join_all().await {
        stopped?;
    }
    for mut late in Process::find_guests(directory).await? {
        late.kill().await?;
    }
    Ok(())
}

fn answer(done: oneshot::Sender<Result<(), Fault>>, result: Result<(), Fault>) {
    // Whoever asked may have gone; it is done all the same.
    drop(done.send(result));
}
