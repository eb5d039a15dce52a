//! One box under measurement, in a home directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{MIB, load, number, path};
use crate::shell;

/// A running box.
pub(super) struct Rack {
    home: PathBuf,
    directory: PathBuf,
    /// Where the live guest is, if not where it is usually.
    guest: Option<PathBuf>,
    /// From the start of `racknest up` to its end.
    pub(super) seconds: f64,
}

impl Rack {
    /// Brings a box up with these arguments.
    pub(super) fn up(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::begin(arguments, None)
    }

    /// The same with another live guest.
    pub(super) fn up_with_guest(arguments: &[&str], guest: &Path) -> anyhow::Result<Self> {
        Self::begin(arguments, Some(guest.to_path_buf()))
    }

    fn begin(arguments: &[&str], guest: Option<PathBuf>) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let home =
            std::env::temp_dir().join(format!("racknest-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&home)?;
        let mut rack = Self { directory: home.join("box"), home, guest, seconds: 0.0 };
        let start = Instant::now();
        let place = ["up", "--listen", "127.0.0.1:0", "--dir", path(&rack.directory)?];
        rack.racknest(&[&place, arguments].concat())?;
        rack.seconds = start.elapsed().as_secs_f64();
        Ok(rack)
    }

    /// The directory of the box.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a command on the box; what it prints.
    pub(super) fn racknest(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.command(words).output()?;
        ensure!(
            output.status.success(),
            "racknest {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A command on the box, not started yet.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let program = shell::root().join("target/release/racknest");
        let mut command = Command::new(program);
        command.args(words).env("HOME", &self.home);
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "RACKNEST_PROFILE"] {
            command.env_remove(name);
        }
        command.envs(self.guest.as_ref().map(|guest| ("RACKNEST_GUEST", guest)));
        command
    }

    fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.racknest(&["status", "-o", "json"])?)?)
    }

    /// The memory of every process of the box, each shared page once.
    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        Ok(number(&self.status()?, "memory_really_used_bytes")? / MIB)
    }

    /// The same without the guests.
    pub(super) fn own_memory_mib(&self) -> anyhow::Result<f64> {
        let status = self.status()?;
        let roles = status["processes"].as_object().context("status lists processes")?;
        let own = roles.iter().filter(|(role, _)| *role != "guests");
        own.map(|(_, part)| number(part, "memory_bytes").map(|bytes| bytes / MIB)).sum()
    }

    /// The CPU that every process of the box takes while nobody asks for anything, in cores.
    pub(super) fn cores_used(&self, time: Duration) -> anyhow::Result<f64> {
        let before = self.cpu_seconds();
        let start = Instant::now();
        std::thread::sleep(time);
        Ok((self.cpu_seconds() - before) / start.elapsed().as_secs_f64())
    }

    /// Every process whose command line names this rack's home; QEMU's names its disks.
    fn cpu_seconds(&self) -> f64 {
        let home = self.home.to_string_lossy().into_owned();
        let Ok(entries) = fs::read_dir("/proc") else {
            return 0.0;
        };
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|process| {
                fs::read(process.join("cmdline"))
                    .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&home))
            })
            .filter_map(|process| cpu_ticks(&fs::read_to_string(process.join("stat")).ok()?))
            // USER_HZ is 100 on every Linux that racknest runs on.
            .sum::<f64>()
            / 100.0
    }

    /// Runs the load generator against the box's manager.
    pub(super) fn load(&self, words: &[&str]) -> anyhow::Result<Value> {
        let profiles = self.home.join(".config/racknest/profiles.toml");
        let profiles = fs::read_to_string(&profiles).context("the profile that `up` made")?;
        let text = |key: &str| {
            let value =
                profiles.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            value.map(|value| value.trim_matches('"')).with_context(|| format!("no '{key}'"))
        };
        let certificate = self.directory.join("manager/tls/ca.pem");
        let target = [text("address")?, path(&certificate)?, text("token")?];
        load(&[&target, words].concat())
    }

    /// Ends the box and deletes it.
    pub(super) fn down(self) -> anyhow::Result<()> {
        self.racknest(&["down", "--destroy", "--yes"])?;
        Ok(())
    }
}

impl Drop for Rack {
    /// A scenario that failed leaves nothing running.
    fn drop(&mut self) {
        if self.directory().exists()
            && let Err(error) = self.racknest(&["down", "--destroy", "--yes"])
        {
            shell::complain(&format!("cleaning up: {error:#}"));
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// User and system time of one `/proc/PID/stat`, in ticks.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

/// The kernel's page merging, on while this lives, then as it was.
pub(super) struct Ksm(Vec<(PathBuf, String)>);

impl Ksm {
    /// Switches it on; `None` where that is not allowed or there is none.
    pub(super) fn switch_on() -> Option<Self> {
        let directory = Path::new("/sys/kernel/mm/ksm");
        let mut before = Self(Vec::new());
        for (name, value) in [("pages_to_scan", "2000"), ("sleep_millisecs", "20"), ("run", "1")] {
            let file = directory.join(name);
            let old = fs::read_to_string(&file).ok()?;
            before.0.push((file.clone(), old));
            fs::write(&file, value).ok()?;
        }
        Some(before)
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        for (file, value) in self.0.iter().rev() {
            if let Err(error) = fs::write(file, value) {
                shell::complain(&format!("{}: {error}", file.display()));
            }
        }
    }
}
