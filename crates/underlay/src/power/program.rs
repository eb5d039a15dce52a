//! Programs put in place as agents: copies in a directory of the box, each under a name of its own.
//!
//! A copy never changes: its name holds its version and a number of its content. So what a machine runs
//! is what was checked, whatever becomes of the file it was copied from.

use std::fs::Permissions;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fs_err as fs;
use racknest_types::fault::Fault;
use tokio::time::timeout;

use super::Power;
use crate::wire::{ProgramAbout, ProgramName, StagedProgram, VERSION};

/// How long a program may take to say what it is.
const ABOUT_MAX: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const ABOUT_LEN_MAX: u64 = 4096;

/// Programs that are kept beside those that machines run; of more, the oldest go.
const SPARE_MAX: usize = 8;

/// How often a program is tried that is still open for writing: another process of ours is just being
/// started, and holds the descriptor until it has become what it is to be.
const BUSY_TRIES_MAX: u32 = 50;

impl Power {
    /// Puts a copy of this file in place as an agent, if it runs and fits this box.
    ///
    /// # Errors
    /// It cannot be read or copied, does not run, or speaks another version of the underlay.
    pub async fn stage_program(&self, path: &Path) -> Result<StagedProgram, Fault> {
        let _changes = self.shared.changes.lock().await;
        let directory = self.shared.config.programs.clone();
        let (from, to) = (path.to_owned(), directory.join(".next"));
        let copied = {
            let (from, to) = (from.clone(), to.clone());
            tokio::task::spawn_blocking(move || copy(&from, &to)).await
        };
        let number = copied.map_err(io::Error::from).flatten().map_err(|error| {
            Fault::invalid(format!("agent {} cannot be put in place: {error}", from.display()))
        })?;
        let about = ask(&to, &from).await?;
        let name: ProgramName = format!("racknest-{}-{number:08x}", about.version)
            .parse()
            .map_err(|_| Fault::invalid(format!("agent {}: a strange version", from.display())))?;
        let placed = {
            let used = self.used_programs();
            let (path, directory) = (directory.join(name.as_str()), directory.clone());
            tokio::task::spawn_blocking(move || {
                forget_spare(&directory, &used);
                fs::rename(&to, &path)
            })
            .await
        };
        placed.map_err(io::Error::from).flatten().map_err(|error| {
            Fault::system(format!("agent '{name}' cannot be put in place: {error}"))
        })?;
        Ok(StagedProgram { name, about })
    }

    /// What a program says of itself that was put in place.
    ///
    /// # Errors
    /// There is none of that name, or it does not run.
    pub async fn staged_program(&self, program: &ProgramName) -> Result<StagedProgram, Fault> {
        let path = self.shared.config.programs.join(program.as_str());
        if !path.is_file() {
            return Err(Fault::not_found(format!("agent '{program}'")));
        }
        let about = ask(&path, Path::new(program.as_str())).await?;
        Ok(StagedProgram { name: program.clone(), about })
    }

    /// The programs that machines run, or would run again.
    fn used_programs(&self) -> Vec<String> {
        let kept = self.shared.kept.borrow();
        let programs = kept.seats.values().flat_map(|seat| {
            let before = seat.trial.as_ref().and_then(|trial| trial.before.as_ref());
            seat.program.iter().chain(before)
        });
        programs.map(|program| program.as_str().to_owned()).collect()
    }
}

/// Copies a program, and counts its content into a number.
fn copy(from: &Path, to: &Path) -> io::Result<u32> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    if !fs::metadata(from)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    // What a box that was killed has left here may not be writable.
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(0o500))?;
    let mut file = fs::File::open(to)?;
    file.sync_all()?;
    let (mut buffer, mut sum) = (vec![0; 1 << 20], 0xcbf2_9ce4_8422_2325_u64);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        // FNV-1a, eight bytes at a time: it tells builds apart and resists nobody, which it need not.
        for chunk in buffer[..count].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
            sum ^= sum >> 29;
        }
    }
    Ok(u32::try_from(sum >> 32).unwrap_or(0))
}

/// Runs a program to learn what it is. `known` is what it is called in messages.
async fn ask(path: &Path, known: &Path) -> Result<ProgramAbout, Fault> {
    let known = known.display();
    let refused = |why: String| Fault::invalid(format!("agent {known} {why}"));
    let output = match timeout(ABOUT_MAX, run_about(path)).await {
        Err(_) => return Err(refused(format!("said nothing for {} s", ABOUT_MAX.as_secs()))),
        Ok(Err(error)) => return Err(refused(format!("does not run: {error}"))),
        Ok(Ok(output)) => output,
    };
    let about: ProgramAbout = serde_json::from_slice(&output).map_err(|_| {
        refused("is no racknest that can be put in place: it does not say what it is".into())
    })?;
    if about.underlay != VERSION {
        return Err(refused(format!(
            "(racknest {}) speaks version {} of the underlay, this box version {VERSION}; bring the \
             box down and up with it instead",
            about.version, about.underlay
        )));
    }
    Ok(about)
}

async fn run_about(path: &Path) -> io::Result<Vec<u8>> {
    let start = || {
        tokio::process::Command::new(path)
            .args(["run", "about"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    };
    let mut tries = 0;
    let mut child = loop {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tries += 1;
                if tries > BUSY_TRIES_MAX {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            started => break started?,
        }
    };
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        use tokio::io::AsyncReadExt as _;
        stdout.take(ABOUT_LEN_MAX).read_to_end(&mut output).await?;
    }
    let status = child.wait().await?;
    if status.success() { Ok(output) } else { Err(io::Error::other(status.to_string())) }
}

/// Makes room for one more program.
fn forget_spare(directory: &Path, used: &[String]) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_spare = |name: &str| !name.starts_with('.') && !used.iter().any(|used| used == name);
    let mut spare: Vec<(std::time::SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_spare))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    spare.sort();
    let over = (spare.len() + 1).saturating_sub(SPARE_MAX);
    for (_, path) in spare.into_iter().take(over) {
        // One that stays takes room and does no harm.
        let _ = fs::remove_file(path);
    }
}
