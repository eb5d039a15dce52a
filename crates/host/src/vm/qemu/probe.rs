//! Which accelerator runs guest code on this machine.
//!
//! A `/dev/kvm` that opens proves little: there are machines where a guest then spins, or QEMU stops
//! on an assertion. So a guest of one sector is booted with KVM; if it does not end QEMU with its
//! exit code in time, the VMs run by translation (TCG), and one line says why. The verdict is kept
//! for this QEMU on this kernel, because the wait is long where KVM is broken.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use racknest_types::fault::Fault;

use super::firmware;
use super::process::not_run;
use super::record::{Accelerator, Verdict};
use crate::whole_file;

/// The longest that the probe guest may take with KVM.
///
/// A KVM that works takes a tenth of a second. One that emulates what the processor should do (measured:
/// nested, on Firecracker) ends the probe too, after 1.8 s of work, and then no Linux boots on it: a KVM
/// that is slow is one that does not work.
const KVM_MAX: Duration = Duration::from_millis(1500);

/// The size of the probe's disk: the firmware reads no disk of less than one cylinder (504 KiB).
const PROBE_DISK_BYTES: u64 = 1 << 20;

/// What tells KVM's verdict from another machine's or an older kernel's.
const KVM_DEVICE: &str = "/dev/kvm";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.accelerator, self.reason)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

impl Verdict {
    /// The QEMU that was probed.
    pub(super) fn qemu(&self) -> &str {
        self.of.split_once(", Linux ").map_or(self.of.as_str(), |(qemu, _)| qemu)
    }
}

/// Chooses the accelerator, from the verdict kept in `cache` if that still holds.
pub(super) async fn choose(qemu: &Path, cache: &Path) -> Result<Verdict, Fault> {
    let of = format!("{}, Linux {}", version(qemu).await?, kernel_release());
    let verdict = |accelerator, reason: &str| Verdict {
        of: of.clone(),
        accelerator,
        reason: reason.to_owned(),
    };
    // What takes no time is asked afresh: rights to the device change without a new kernel.
    if let Some(reason) = closed(Path::new(KVM_DEVICE)) {
        return Ok(verdict(Accelerator::Tcg, &reason));
    }
    // The hosts of a box start together and share the file: one of them finds out, the rest wait.
    let _one_at_a_time = lock(cache).await?;
    if let Some(kept) = kept(cache).filter(|kept| kept.of == of) {
        return Ok(kept);
    }
    let found = match boots_with_kvm(qemu).await? {
        Ok(()) => verdict(Accelerator::Kvm, "a test guest runs"),
        Err(why) => {
            verdict(Accelerator::Tcg, &format!("KVM opens but does not run a test guest ({why})"))
        }
    };
    let content = serde_json::to_vec_pretty(&found).expect("a verdict is plain text");
    if let Err(error) = whole_file::replace(cache, &content) {
        tracing::warn!(%error, "the accelerator's verdict is not kept and will be found again");
    }
    Ok(found)
}

/// QEMU's version, from its own mouth.
async fn version(qemu: &Path) -> Result<String, Fault> {
    let output = tokio::process::Command::new(qemu).arg("--version").output().await;
    let output = output.map_err(|error| not_run(qemu, &error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    Ok(line.trim_start_matches("QEMU emulator version ").to_owned())
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Why KVM cannot even be tried.
fn closed(device: &Path) -> Option<String> {
    match fs_err::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(format!(
            "this user may not open {}; to use it join its group: sudo adduser $USER kvm",
            device.display()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("this machine has no {}", device.display()))
        }
        Err(error) => Some(format!("{error}")),
    }
}

/// Holds the lock beside the verdict until it is dropped.
async fn lock(cache: &Path) -> Result<fs_err::File, Fault> {
    let path = cache.with_extension("lock");
    let locked = tokio::task::spawn_blocking(move || {
        if let Some(directory) = path.parent() {
            fs_err::create_dir_all(directory)?;
        }
        let file = fs_err::File::create(&path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        io::Result::Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    locked.map_err(|error| Fault::system(format!("cannot lock the accelerator's verdict: {error}")))
}

fn kept(cache: &Path) -> Option<Verdict> {
    serde_json::from_slice(&fs_err::read(cache).ok()?).ok()
}

/// Boots the probe guest with KVM; the inner error says what it did instead of ending well.
async fn boots_with_kvm(qemu: &Path) -> Result<Result<(), String>, Fault> {
    boots(qemu, &["-accel", "kvm", "-cpu", "host"], KVM_MAX).await
}

async fn boots(
    qemu: &Path,
    accelerator: &[&str],
    limit: Duration,
) -> Result<Result<(), String>, Fault> {
    let disk = ProbeDisk::make()?;
    let port = firmware::PROBE_PORT;
    let mut command = tokio::process::Command::new(qemu);
    command
        .args(["-no-user-config", "-nodefaults", "-machine", "pc", "-m", "16", "-display", "none"])
        .args(accelerator)
        .args(["-device", &format!("isa-debug-exit,iobase={port:#x},iosize=1"), "-blockdev"])
        .arg(disk.node())
        .args(["-device", "virtio-blk-pci,drive=probe,bootindex=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(output) => {
            output.map_err(|error| Fault::system(format!("cannot start QEMU: {error}")))?
        }
        Err(_) => return Ok(Err(format!("it did not come up within {limit:?}"))),
    };
    if output.status.code() == Some(firmware::PROBE_EXIT_CODE) {
        return Ok(Ok(()));
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no words");
    Ok(Err(format!("QEMU ended with {}: {words}", output.status)))
}

/// The probe's boot disk, deleted when the probe is over.
struct ProbeDisk(PathBuf);

impl ProbeDisk {
    fn make() -> Result<Self, Fault> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("racknest-probe-{}-{number}.img", std::process::id());
        let path = std::env::temp_dir().join(name);
        let disk = Self(path);
        disk.fill()
            .map_err(|error| Fault::system(format!("cannot write the probe's disk: {error}")))?;
        Ok(disk)
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = fs_err::File::create(&self.0)?;
        file.write_all(&firmware::probe_sector())?;
        file.set_len(PROBE_DISK_BYTES)
    }

    fn node(&self) -> String {
        serde_json::json!({
            "driver": "raw",
            "node-name": "probe",
            "read-only": true,
            "file": { "driver": "file", "filename": self.0.to_string_lossy() },
        })
        .to_string()
    }
}

impl Drop for ProbeDisk {
    fn drop(&mut self) {
        if let Err(error) = fs_err::remove_file(&self.0) {
            tracing::debug!(%error, "the probe's disk stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Translation is right however slow it is.
    const TEST_MAX: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_probe_guest_ends_qemu_with_its_code() {
        // By translation, which works everywhere: it is the guest that is tested here.
        let verdict =
            boots(Path::new("qemu-system-x86_64"), &["-accel", "tcg"], TEST_MAX).await.unwrap();
        assert_eq!(verdict, Ok(()));
    }

    #[tokio::test]
    async fn an_accelerator_that_is_not_there_is_told_in_qemus_words() {
        let verdict =
            boots(Path::new("qemu-system-x86_64"), &["-accel", "xen"], TEST_MAX).await.unwrap();
        assert!(verdict.unwrap_err().contains("QEMU ended with"));
    }

    #[tokio::test]
    async fn a_verdict_is_kept_for_this_qemu_and_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("accelerator.json");
        let qemu = Path::new("qemu-system-x86_64");
        let of = format!("{}, Linux {}", version(qemu).await.unwrap(), kernel_release());
        let kept = Verdict { of, accelerator: Accelerator::Tcg, reason: "kept".into() };
        fs_err::write(&cache, serde_json::to_vec(&kept).unwrap()).unwrap();
        let chosen = choose(qemu, &cache).await.unwrap();
        // Where there is no KVM at all, that is said without looking into the file.
        assert!(chosen == kept || closed(Path::new(KVM_DEVICE)).is_some(), "{chosen}");
    }

    #[test]
    fn a_device_that_is_missing_is_told_so() {
        let reason = closed(Path::new("/dev/no-such-kvm")).unwrap();
        assert_eq!(reason, "this machine has no /dev/no-such-kvm");
    }
}
