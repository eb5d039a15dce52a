//! Memory images: the memory and devices of a running VM as a file, and back.
//!
//! QEMU 7.2 has no way to write one by itself, so it pipes it through `cat`. The shell renames the
//! file when `cat` is done, because QEMU reports success while the last bytes are still in the pipe.
//! Beside each image lies the layout of the machine it fits.
//!
//! **Invariant:** an image has its name only once it is complete, on disk, and has its layout beside it.

use std::path::{Path, PathBuf};

use qapi::qmp::migrate_cancel;
use racknest_types::bytes::Bytes;
use racknest_types::fault::{Fault, FaultCode};
use serde_json::{Value, json};

use super::command_line::quote;
use super::machine::{LOOK_EVERY, Machine, load_hardware, save_hardware};
use super::migrate::hold_no_more;
use super::process::log_tail;
use super::qmp::wire::{MigrateSetParameters, QueryMigrate};
use super::record::Hardware;
use crate::datastore::space;
use crate::vm::Course;
use crate::whole_file;

/// The highest of QEMU's limits for writing an image: as fast as the disk takes it.
const BYTES_PER_SECOND_MAX: u64 = 16 << 30;

/// With less room than this a disk is full, whatever it says.
const ROOM_MIN: Bytes = Bytes::from_mib(1);

/// Writes the memory of a machine that stands still into `image`. It stands still afterwards.
pub(super) async fn save(machine: &Machine, image: &Path, course: &Course) -> Result<(), Fault> {
    if let Some(directory) = image.parent() {
        fs_err::create_dir_all(directory).map_err(|error| Fault::system(error.to_string()))?;
    }
    let saving = Saving::new(image);
    saving.clear()?;
    let written = saving.write(machine, course).await;
    if let Err(fault) = written {
        saving.clear()?;
        return Err(fault);
    }
    save_hardware(&layout_of(image), &machine.hardware())?;
    saving.finish().await
}

/// Deletes an image with its layout; one that is not there is fine.
pub(super) fn delete(image: &Path) -> Result<(), Fault> {
    // The image first: a layout alone is harmless.
    whole_file::remove(image)
        .and_then(|()| whole_file::remove(&layout_of(image)))
        .map_err(|error| Fault::system(format!("cannot delete a memory image: {error}")))
}

/// Copies an image with its layout.
pub(super) async fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    let layout = layout(from)?;
    save_hardware(&layout_of(to), &layout)?;
    let saving = Saving::new(to);
    saving.clear()?;
    fs_err::tokio::copy(from, &saving.whole).await.map_err(|error| full_or_system(&error))?;
    saving.finish().await
}

/// The layout of the machine that an image fits.
pub(super) fn layout(image: &Path) -> Result<Hardware, Fault> {
    load_hardware(&layout_of(image)).ok_or_else(|| {
        Fault::system(format!(
            "{} lacks the layout of its machine; power the VM off to give its memory up",
            image.display()
        ))
    })
}

fn layout_of(image: &Path) -> PathBuf {
    with_suffix(image, ".machine")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn full_or_system(error: &std::io::Error) -> Fault {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Fault::new(FaultCode::NoDiskSpace, format!("the datastore is full: {error}"));
    }
    Fault::system(error.to_string())
}

/// The names an image has on its way.
struct Saving {
    image: PathBuf,
    growing: PathBuf,
    whole: PathBuf,
    torn: PathBuf,
}

impl Saving {
    fn new(image: &Path) -> Self {
        Self {
            image: image.to_owned(),
            growing: with_suffix(image, ".new"),
            whole: with_suffix(image, ".whole"),
            torn: with_suffix(image, ".torn"),
        }
    }

    fn clear(&self) -> Result<(), Fault> {
        for file in [&self.growing, &self.whole, &self.torn] {
            whole_file::remove(file).map_err(|error| Fault::system(error.to_string()))?;
        }
        Ok(())
    }

    fn command(&self) -> String {
        let (growing, whole, torn) = (quote(&self.growing), quote(&self.whole), quote(&self.torn));
        format!("exec:cat > {growing} && mv {growing} {whole} || mv {growing} {torn}")
    }

    async fn write(&self, machine: &Machine, course: &Course) -> Result<(), Fault> {
        let fault = |error: super::qmp::QmpError| error.fault(&machine.name);
        hold_no_more(machine).await.map_err(fault)?;
        let fast = json!({ "max-bandwidth": BYTES_PER_SECOND_MAX });
        machine.qmp.execute(MigrateSetParameters(fast)).await.map_err(fault)?;
        let start = qapi::qmp::migrate {
            channels: None,
            detach: None,
            resume: None,
            uri: Some(self.command()),
        };
        machine.qmp.execute(start).await.map_err(fault)?;
        let sent = self.sent(machine, course).await;
        let settled = self.settled(machine).await;
        sent.and(settled)
    }

    /// Waits until QEMU has sent all of it.
    async fn sent(&self, machine: &Machine, course: &Course) -> Result<(), Fault> {
        let fault = |error: super::qmp::QmpError| error.fault(&machine.name);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if *course.cancelled.borrow() {
                machine.qmp.execute(migrate_cancel {}).await.map_err(fault)?;
                let line = format!("saving the memory of {} was cancelled", machine.name);
                return Err(Fault::new(FaultCode::RequestCanceled, line));
            }
            let state = machine.qmp.execute(QueryMigrate(json!({}))).await.map_err(fault)?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => return Err(self.failure(machine, &state)),
                _ => report(course, &state),
            }
        }
    }

    /// Waits until the last byte is in the file, and the shell that put it there is done.
    async fn settled(&self, machine: &Machine) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if self.whole.exists() {
                return Ok(());
            }
            if self.torn.exists() || machine.has_ended() {
                return Err(self.failure(machine, &Value::Null));
            }
        }
    }

    fn failure(&self, machine: &Machine, state: &Value) -> Fault {
        let own = state["error-desc"].as_str().unwrap_or("it was not written to the end");
        let words = log_tail(&machine.log).unwrap_or_default();
        // Where QEMU's log is on the full disk too, nothing tells so but the disk.
        let room = self.image.parent().and_then(|directory| space::free(directory).ok());
        let is_full = room.is_some_and(|room| room < ROOM_MIN);
        if is_full || words.contains("No space left on device") {
            let line = format!("no room for the memory of {}: the datastore is full", machine.name);
            return Fault::new(FaultCode::NoDiskSpace, line);
        }
        let words = if words.is_empty() { words } else { format!("; {words}") };
        Fault::system(format!("cannot save the memory of {}: {own}{words}", machine.name))
    }

    /// Brings the image to disk and gives it its name.
    async fn finish(&self) -> Result<(), Fault> {
        let (whole, image) = (self.whole.clone(), self.image.clone());
        let named = tokio::task::spawn_blocking(move || {
            fs_err::File::open(&whole)?.sync_all()?;
            fs_err::rename(&whole, &image)?;
            image.parent().map_or(Ok(()), whole_file::sync_directory)
        });
        named
            .await
            .unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))
            .map_err(|error| full_or_system(&error))
    }
}

fn report(course: &Course, state: &Value) {
    let ram = &state["ram"];
    if let (Some(total), Some(remaining)) = (ram["total"].as_u64(), ram["remaining"].as_u64()) {
        let percent = (total.saturating_sub(remaining) * 100).checked_div(total).unwrap_or(0);
        // Nobody may be listening any more.
        let _ = course.percent.send(u8::try_from(percent.min(99)).unwrap_or(99));
    }
}
