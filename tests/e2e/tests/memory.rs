//! Memory that is promised twice: a balloon takes it back from a real guest, and gives it back.

use std::time::Duration;

use racknest_e2e::wait::{self, LONG};
use racknest_e2e::{Conversation, Lab, Process, Role, binary};
use serde_json::Value;

/// A host that claims more than its two guests take when one of them has filled its memory, and less
/// than they take once both have.
const SHORT: &str = r#"
name = "short"

[[hosts]]
name = "esx01"
count = 1
memory = "CLAIM MiB"

[[templates]]
name = "template1"
memory = "384 MiB"

[[vms]]
name = "vm01"
count = 2
alive = 2
"#;

/// What a guest writes and deletes again: its kernel has it back, the machine has not.
const FILLED_MIB: u64 = 120;

/// What the host claims: two guests that have booted take some 270 MiB with its agent where KVM runs
/// them, and 500 where QEMU also keeps what it translated; a filled one takes [`FILLED_MIB`] more.
const CLAIM_MIB: [(&str, &str); 2] = [("KVM", "440"), ("", "700")];

/// What the balloon must have taken, and the machine got back of it, to be no accident.
const TAKEN_MIB: u64 = 16;

/// Some samples of 20 s: one to see it, one for each step of a balloon.
const SAMPLES: Duration = Duration::from_secs(240);

fn show(lab: &Lab, line: &str) -> Value {
    lab.say(&format!("{line} -o json")).json()
}

/// The memory of the machine that a VM's process takes.
fn taken_mib(lab: &Lab, vm: &str) -> u64 {
    let id = show(lab, &format!("vm show {vm}"))["id"].as_str().unwrap_or_default().to_owned();
    let number = id.trim_start_matches("vm-").to_owned();
    let is_of_vm = |process: &Process| {
        process.words.iter().any(|word| word.contains(&format!("/vms/{number}/")))
    };
    let guests = lab.running(Role::Guest);
    let guest = guests.iter().find(|guest| is_of_vm(guest)).expect("the VM has a process");
    let pages = format!("/proc/{}/smaps_rollup", guest.pid);
    let pages = fs_err::read_to_string(pages).expect("our own process can be read");
    let pss = pages.lines().find_map(|line| line.strip_prefix("Pss:")).expect("it has a sum");
    let kib = pss.trim().trim_end_matches("kB").trim();
    kib.parse::<u64>().expect("it is a number") >> 10
}

/// What a host must claim on this machine.
fn claim() -> &'static str {
    let lab = Lab::up(&["--hosts", "1", "--vms", "1"]);
    let host = show(&lab, "host show esx01");
    let accelerator = host["accelerator"].as_str().unwrap_or_default();
    let found = CLAIM_MIB.iter().find(|(begins, _)| accelerator.starts_with(begins));
    found.expect("every word begins with nothing").1
}

/// Has a guest use its memory and free it; its shell.
fn fill(lab: &Lab, vm: &str) -> Conversation {
    let mut shell = lab.converse(&["vm", "serial", vm]);
    shell.say("\n");
    shell.hear("login:", LONG);
    shell.say("root\n");
    shell.hear("# ", LONG);
    shell.say(&format!(
        "dd if=/dev/zero of=/fill bs=1M count={FILLED_MIB}; rm -f /fill; echo fil''led\n"
    ));
    shell.hear("filled", LONG);
    shell
}

fn ballooned_mib(lab: &Lab, vm: &str) -> u64 {
    show(lab, &format!("vm show {vm}"))["usage"]["memory_ballooned_mib"].as_u64().unwrap_or(0)
}

#[test]
fn a_balloon_takes_a_guests_free_memory_and_gives_it_back() {
    let image = binary::repository().join("guest/build/vmlinuz");
    assert!(image.is_file(), "{} is not there: run guest/build.sh", image.display());
    let lab = Lab::new();
    let path = lab.root().join("home/racknest.toml");
    fs_err::write(&path, SHORT.replace("CLAIM", claim()))
        .expect("our own directory can be written");
    lab.start(&[&path.to_string_lossy()]).done();
    for vm in ["vm01", "vm02"] {
        wait::until(&format!("{vm} has booted"), LONG, || {
            lab.racknest(&["vm", "log", vm]).stdout.contains("racknest-guest ready")
        });
    }
    let mut shell = fill(&lab, "vm01");
    // The host is not short yet, so nothing has been taken when this is read.
    let before = taken_mib(&lab, "vm01");
    assert!(before > FILLED_MIB && ballooned_mib(&lab, "vm01") == 0, "{before} MiB");
    drop(fill(&lab, "vm02"));
    wait::until("the host is short of memory", SAMPLES, || {
        show(&lab, "host show esx01")["usage"]["memory_state"] != "high"
    });
    wait::until("the balloon has taken some", SAMPLES, || ballooned_mib(&lab, "vm01") >= TAKEN_MIB);
    wait::until("the machine has it back", SAMPLES, || {
        taken_mib(&lab, "vm01") + TAKEN_MIB < before
    });
    // With the other one gone there is enough: the guest gets back what was taken.
    lab.say("vm power-off vm02").done();
    wait::until("there is enough again", SAMPLES, || {
        show(&lab, "host show esx01")["usage"]["memory_state"] == "high"
    });
    wait::until("the balloon is empty", SAMPLES, || ballooned_mib(&lab, "vm01") == 0);
    shell.say("echo still''here\n");
    shell.hear("stillhere", LONG);
}
