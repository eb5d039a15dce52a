//! Live migration of a QEMU: memory flows to the QEMU of another host while the guest runs.
//!
//! Both QEMUs have the disks open; only one has them active. The source's gives them up with its last
//! byte, and the target's takes them when the guest is let run and not before
//! (`late-block-activate`), so a target that never gets the word has touched nothing.
//!
//! ```text
//! source: running ─migrate─► running, memory flows ─► held (pre-switchover) ─► sent (postmigrate)
//!            ▲                      │                        │                       │
//!            └──────cancel──────────┴────────────────────────┘◄────────cont──────────┘
//! target: inmigrate ─all of it is there─► paused ─cont─► running
//! ```
//!
//! QEMU's own answer to a broken stream is to let the guest run on at the source. So the target may
//! let it run only once the source's QEMU stands in `postmigrate`, which nothing but `cont` ends.

use std::path::PathBuf;
use std::time::Duration;

use qapi::qmp::{cont, migrate_cancel};
use racknest_cluster::record::migration::{MigrationFigures, MigrationLimits};
use racknest_cluster::wire::VmSpec;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::time::{Interval, MissedTickBehavior};

use super::machine::Machine;
use super::power::not_running;
use super::process::log_tail;
use super::qmp::QmpError;
use super::qmp::wire::{
    AnnounceSelf, MigrateContinue, MigrateIncoming, MigrateSetCapabilities, MigrateSetParameters,
    QueryMigrate,
};
use super::record::Luggage;
use super::{Machines, QemuDriver, connect};
use crate::clock::Stopwatch;
use crate::vm::migrate::{Migrate, Standing};
use crate::vm::{Course, Duplex};
use crate::whole_file;

/// Between two looks at how far it is: the guest may stand still in between.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// A migration of which not a byte arrives for this long is given up.
const STALLED_MAX: Duration = Duration::from_secs(30);

/// How a guest is slowed down that is to be: each second round in which it changed more of what was
/// sent than this, in per cent, takes that much more of its time, until a hundredth is left. QEMU's
/// own steps are half as large, and begin at twice the change; over a thin link that takes minutes.
const SLOWED_AT_PERCENT: u8 = 25;
const SLOWED_FIRST_PERCENT: u8 = 30;
const SLOWED_MORE_PERCENT: u8 = 20;

/// How often what has changed is sent again before a move is given up: a guest has a tenth of its
/// time left after some twenty rounds and a hundredth later, and the others show whether that helps.
const ROUNDS_MAX: u64 = 60;

/// The same for a guest that is not to be slowed down: what a dozen rounds have not made smaller,
/// more will not.
const ROUNDS_UNSLOWED_MAX: u64 = 12;

/// The longest that a QEMU takes to say how a move ended that was cancelled or is all sent.
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// QEMU's highest limit, for "as fast as it goes".
const BYTES_PER_SECOND_MAX: u64 = 16 << 30;

/// How much of a stream is moved at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The most of what the serial port has printed that goes along.
const SERIAL_BYTES_MAX: usize = 64 << 10;

impl Migrate for QemuDriver {
    async fn layout(&self, spec: &VmSpec) -> Result<String, Fault> {
        let machine = self.machines.needed(spec).await?;
        let log = fs_err::tokio::read(self.machines.layout.serial_log(spec.id)).await;
        let log = log.unwrap_or_default();
        let tail = &log[log.len().saturating_sub(SERIAL_BYTES_MAX)..];
        let luggage = Luggage {
            accelerator: self.machines.verdict.accelerator,
            qemu: self.machines.verdict.qemu().to_owned(),
            hardware: machine.hardware().clone(),
            serial: String::from_utf8_lossy(tail).into_owned(),
        };
        Ok(serde_json::to_string(&luggage).expect("luggage is plain data"))
    }

    async fn send_memory(
        &self,
        spec: &VmSpec,
        limits: MigrationLimits,
        door: Box<dyn Duplex>,
        course: Course,
    ) -> Result<(), Fault> {
        let machine = self.machines.needed(spec).await?;
        let sent = match self.machines.begin_sending(&machine, limits, door).await {
            Ok(()) => wait_until_held(&machine, limits, &course).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = sent {
            take_back(&machine).await?;
            return Err(fault);
        }
        Ok(())
    }

    async fn switch_over(&self, spec: &VmSpec) -> Result<MigrationFigures, Fault> {
        let machine = self.machines.needed(spec).await?;
        let on = MigrateContinue(json!({ "state": "pre-switchover" }));
        machine.qmp.execute(on).await.map_err(|error| error.fault(&machine.name))?;
        let state = settled(&machine).await?;
        if word(&state) != "completed" {
            return Err(failure(&machine, &state));
        }
        // It ends when the target has the VM.
        machine.expect_end();
        Ok(figures(&state))
    }

    async fn take_back(&self, spec: &VmSpec) -> Result<(), Fault> {
        take_back(&*self.machines.needed(spec).await?).await
    }

    async fn standing(&self, spec: &VmSpec) -> Result<Standing, Fault> {
        let Some(machine) = self.machines.found(spec).await? else { return Ok(Standing::Gone) };
        if machine.status().await? == "finish-migrate" {
            let state = query(&machine).await?;
            if word(&state) == "pre-switchover" {
                return Ok(Standing::Here);
            }
            settled(&machine).await?;
        }
        Ok(if machine.status().await? == "postmigrate" { Standing::Sent } else { Standing::Here })
    }

    async fn let_go(&self, vm: VmId) -> Result<(), Fault> {
        self.machines.stop(vm).await?;
        self.machines.clear_logs(vm)?;
        self.machines.known().homes.remove(&vm);
        Ok(())
    }

    async fn expect(&self, spec: &VmSpec, layout: &str) -> Result<(), Fault> {
        let luggage: Luggage = serde_json::from_str(layout)
            .map_err(|error| Fault::invalid(format!("{} was offered badly: {error}", spec.name)))?;
        self.machines.check_luggage(spec, &luggage)?;
        // What an earlier try has left.
        self.machines.stop(spec.id).await?;
        self.machines.note(spec);
        let machine = self.machines.launch_expecting(spec, &luggage).await?;
        let late = json!({
            "capabilities": [{ "capability": "late-block-activate", "state": true }],
        });
        let fault = |error: QmpError| error.fault(&machine.name);
        machine.qmp.execute(MigrateSetCapabilities(late)).await.map_err(fault)?;
        let door = json!({ "uri": address(&self.machines.memory_socket(spec.id)) });
        machine.qmp.execute(MigrateIncoming(door)).await.map(drop).map_err(fault)
    }

    async fn memory_door(&self, vm: VmId) -> Result<Box<dyn Duplex>, Fault> {
        let machine = self.running(vm)?;
        let stream = connect(&self.machines.memory_socket(vm), &machine.name).await?;
        Ok(Box::new(stream))
    }

    async fn arrived(&self, spec: &VmSpec) -> Result<(), Fault> {
        let machine = self.machines.machine(spec.id).ok_or_else(|| not_running(spec))?;
        let watch = Stopwatch::start();
        let mut look = looks();
        loop {
            look.tick().await;
            if machine.has_ended() {
                return Err(failure(&machine, &Value::Null));
            }
            match machine.status().await {
                Ok(status) if status == "inmigrate" => {}
                Ok(_) => return Ok(()),
                // It is ending, and its log says why.
                Err(_) if machine.has_ended() => {}
                Err(fault) => return Err(fault),
            }
            if watch.elapsed() > SETTLED_MAX {
                let line = format!("the memory of {} did not arrive", spec.name);
                return Err(Fault::new(FaultCode::Timedout, line));
            }
        }
    }

    async fn take_over(&self, spec: &VmSpec) -> Result<(), Fault> {
        let machine = self.machines.machine(spec.id).ok_or_else(|| not_running(spec))?;
        self.machines.connect_cables(spec, &machine).await?;
        machine.watch_end();
        match machine.qmp.execute(cont {}).await {
            Ok(_) => {}
            Err(error @ QmpError::Refused { .. }) => {
                machine.expect_end();
                return Err(error.fault(&spec.name));
            }
            // It may have run for a moment: then it is ours, and its end is an event like any.
            Err(QmpError::Lost { .. }) => return Ok(()),
        }
        if let Err(fault) = settle_in(&machine).await {
            tracing::warn!(vm = %spec.id, %fault, "a VM that moved here runs, but not all is set up");
        }
        Ok(())
    }
}

impl Machines {
    fn memory_socket(&self, vm: VmId) -> PathBuf {
        self.layout.vm_run(vm).join("memory")
    }

    /// Whether a machine built like this can run here.
    fn check_luggage(&self, spec: &VmSpec, luggage: &Luggage) -> Result<(), Fault> {
        if luggage.accelerator != self.verdict.accelerator {
            return Err(Fault::unsupported(format!(
                "VM '{}' runs by {}, and this host has {}: a running guest cannot change that",
                spec.name, luggage.accelerator, self.verdict.accelerator
            )));
        }
        if luggage.qemu != self.verdict.qemu() {
            return Err(Fault::unsupported(format!(
                "VM '{}' runs in {}, and this host has {}: a running guest cannot change that",
                spec.name,
                luggage.qemu,
                self.verdict.qemu()
            )));
        }
        Ok(())
    }

    /// Connects a machine with the way to the other host, and begins to send.
    async fn begin_sending(
        &self,
        machine: &Machine,
        limits: MigrationLimits,
        mut door: Box<dyn Duplex>,
    ) -> Result<(), Fault> {
        let fault = |error: QmpError| error.fault(&machine.name);
        let socket = self.memory_socket(machine.vm);
        whole_file::remove(&socket).map_err(|error| Fault::system(error.to_string()))?;
        let listener =
            UnixListener::bind(&socket).map_err(|error| Fault::system(error.to_string()))?;
        machine.qmp.execute(capabilities(true, limits.auto_converge)).await.map_err(fault)?;
        let rate = limits.mib_per_second.map_or(BYTES_PER_SECOND_MAX, |mib| u64::from(mib) << 20);
        let parameters = json!({
            "max-bandwidth": rate,
            "downtime-limit": limits.downtime_ms,
            "throttle-trigger-threshold": SLOWED_AT_PERCENT,
            "cpu-throttle-initial": SLOWED_FIRST_PERCENT,
            "cpu-throttle-increment": SLOWED_MORE_PERCENT,
        });
        machine.qmp.execute(MigrateSetParameters(parameters)).await.map_err(fault)?;
        let start = qapi::qmp::migrate {
            channels: None,
            detach: None,
            resume: None,
            uri: Some(address(&socket)),
        };
        machine.qmp.execute(start).await.map_err(fault)?;
        let accepted = tokio::time::timeout(STALLED_MAX, listener.accept()).await;
        let (mut memory, _) = accepted
            .map_err(|_| Fault::new(FaultCode::Timedout, "QEMU does not send"))?
            .map_err(|error| Fault::system(error.to_string()))?;
        // It ends with either end; what that means, QEMU says.
        tokio::spawn(async move {
            let copied = tokio::io::copy_bidirectional_with_sizes(
                &mut memory,
                &mut door,
                CHUNK_BYTES,
                CHUNK_BYTES,
            );
            if let Err(error) = copied.await {
                tracing::debug!(%error, "the way of a VM's memory broke");
            }
        });
        Ok(())
    }
}

/// Waits until the guest is held and only the last of its memory is left.
async fn wait_until_held(
    machine: &Machine,
    limits: MigrationLimits,
    course: &Course,
) -> Result<(), Fault> {
    let mut look = looks();
    let (mut sent, mut since) = (0, Stopwatch::start());
    loop {
        look.tick().await;
        if *course.cancelled.borrow() {
            let line = format!("the move of {} was cancelled; it runs on here", machine.name);
            return Err(Fault::new(FaultCode::RequestCanceled, line));
        }
        let state = query(machine).await?;
        match word(&state) {
            "pre-switchover" => return Ok(()),
            "failed" | "cancelled" | "cancelling" | "completed" => {
                return Err(failure(machine, &state));
            }
            _ => tell(course, &state),
        }
        if let Some(fault) = outrun(machine, &state, limits) {
            return Err(fault);
        }
        let now = state["ram"]["transferred"].as_u64().unwrap_or_default();
        if now != sent {
            (sent, since) = (now, Stopwatch::start());
        } else if since.elapsed() > STALLED_MAX {
            let line = format!(
                "the memory of {} does not get through; look at the cables of both hosts",
                machine.name
            );
            return Err(Fault::new(FaultCode::Timedout, line));
        }
    }
}

/// Why a move is given up whose guest changes its memory faster than it is sent; `None` while it may
/// still end.
fn outrun(machine: &Machine, state: &Value, limits: MigrationLimits) -> Option<Fault> {
    let ram = &state["ram"];
    let rounds = ram["dirty-sync-count"].as_u64().unwrap_or_default();
    let most = if limits.auto_converge { ROUNDS_MAX } else { ROUNDS_UNSLOWED_MAX };
    if rounds <= most {
        return None;
    }
    let page = ram["page-size"].as_u64().unwrap_or(4096);
    let changed = ram["dirty-pages-rate"].as_u64().unwrap_or_default() * page;
    let sent = (ram["mbps"].as_f64().unwrap_or_default() / 8.0).round();
    let way_out = if limits.auto_converge {
        "allow it a longer downtime, or give the hosts a faster link"
    } else {
        "let it be slowed down (auto-converge), allow it a longer downtime, or give the hosts a \
         faster link"
    };
    Some(Fault::new(
        FaultCode::Timedout,
        format!(
            "{} changes its memory faster than it is sent: {} a second, and {sent} MB a second get \
             through; after {rounds} rounds what is left still takes more than {} ms; {way_out}",
            machine.name,
            Bytes::new(changed),
            limits.downtime_ms
        ),
    ))
}

/// Waits until QEMU has made up its mind.
async fn settled(machine: &Machine) -> Result<Value, Fault> {
    let watch = Stopwatch::start();
    let mut look = looks();
    loop {
        let state = query(machine).await?;
        if matches!(word(&state), "completed" | "failed" | "cancelled" | "") {
            return Ok(state);
        }
        if watch.elapsed() > SETTLED_MAX {
            let line = format!("the QEMU of {} does not end its move", machine.name);
            return Err(Fault::new(FaultCode::Timedout, line));
        }
        look.tick().await;
    }
}

/// Ends what is under way and lets the guest run.
async fn take_back(machine: &Machine) -> Result<(), Fault> {
    machine.watch_end();
    if !matches!(word(&query(machine).await?), "completed" | "failed" | "cancelled" | "") {
        // Refused if it ended a moment ago.
        let _ = machine.qmp.execute(migrate_cancel {}).await;
        settled(machine).await?;
    }
    let fault = |error: QmpError| error.fault(&machine.name);
    machine.qmp.execute(capabilities(false, false)).await.map_err(fault)?;
    // QEMU itself lets it run after a cancel, a moment later.
    if machine.status().await? != "running" {
        machine.resume().await?;
    }
    Ok(())
}

/// What a machine that moved here is told once it runs.
async fn settle_in(machine: &Machine) -> Result<(), Fault> {
    let fault = |error: QmpError| error.fault(&machine.name);
    // The guest's frames come from another place than before, and the switches should know at once.
    let announce = json!({ "initial": 20, "max": 500, "rounds": 5, "step": 100 });
    machine.qmp.execute(AnnounceSelf(announce)).await.map_err(fault)?;
    machine.qmp.execute(super::power::memory_poll()).await.map(drop).map_err(fault)
}

async fn query(machine: &Machine) -> Result<Value, Fault> {
    if machine.has_ended() {
        return Err(failure(machine, &Value::Null));
    }
    let state = machine.qmp.execute(QueryMigrate(json!({}))).await;
    state.map_err(|error| error.fault(&machine.name))
}

fn word(state: &Value) -> &str {
    state["status"].as_str().unwrap_or_default()
}

fn figures(state: &Value) -> MigrationFigures {
    let ram = &state["ram"];
    MigrationFigures {
        bytes: ram["transferred"].as_u64().unwrap_or_default(),
        rounds: ram["dirty-sync-count"]
            .as_u64()
            .and_then(|rounds| u32::try_from(rounds).ok())
            .unwrap_or_default(),
        ..MigrationFigures::default()
    }
}

fn failure(machine: &Machine, state: &Value) -> Fault {
    let own = state["error-desc"].as_str().unwrap_or("its QEMU stopped it");
    let words = log_tail(&machine.log).unwrap_or_default();
    Fault::system(format!("cannot move {}: {own} {words}", machine.name).trim_end().to_owned())
}

fn capabilities(hold: bool, converge: bool) -> MigrateSetCapabilities {
    MigrateSetCapabilities(json!({
        "capabilities": [
            { "capability": "pause-before-switchover", "state": hold },
            { "capability": "auto-converge", "state": converge },
        ],
    }))
}

/// Has a machine write its memory without stopping before the end, as for an image.
pub(super) async fn hold_no_more(machine: &Machine) -> Result<(), QmpError> {
    machine.qmp.execute(capabilities(false, false)).await.map(drop)
}

fn tell(course: &Course, state: &Value) {
    let ram = &state["ram"];
    if let (Some(total), Some(left)) = (ram["total"].as_u64(), ram["remaining"].as_u64()) {
        let percent = (total.saturating_sub(left) * 100).checked_div(total).unwrap_or(0);
        // Nobody may be listening any more.
        let _ = course.percent.send(u8::try_from(percent.min(99)).unwrap_or(99));
    }
}

fn address(socket: &std::path::Path) -> String {
    format!("unix:{}", socket.display())
}

fn looks() -> Interval {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}
