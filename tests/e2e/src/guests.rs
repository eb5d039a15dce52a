//! Live guests of a lab: booted, talked to over their serial port, and whether they reach each other.

use std::time::Duration;

use crate::wait::{self, LONG};
use crate::{Conversation, Lab, binary};

/// How long a ping may take to say whether it came through.
const PING: Duration = Duration::from_secs(30);

/// A lab of two hosts with two live guests, booted.
///
/// # Panics
/// The guest's image is not built, or a guest does not boot.
#[must_use]
pub fn two_guests() -> Lab {
    let image = binary::repository().join("guest/build/vmlinuz");
    assert!(image.is_file(), "{} is not there: run guest/build.sh", image.display());
    let lab = Lab::up(&["--hosts", "2", "--vms", "2", "--alive", "2"]);
    for vm in ["vm01", "vm02"] {
        wait::until(&format!("{vm} has booted"), LONG, || {
            lab.racknest(&["vm", "log", vm]).stdout.contains("racknest-guest ready")
        });
    }
    lab
}

/// A shell on a guest's serial port.
#[must_use]
pub fn log_in(lab: &Lab, vm: &str) -> Conversation {
    let mut shell = lab.converse(&["vm", "serial", vm]);
    shell.say("\n");
    shell.hear("login:", LONG);
    shell.say("root\n");
    shell.hear("# ", LONG);
    shell
}

/// Whether one ping comes through.
pub fn pings(shell: &mut Conversation, address: &str) -> bool {
    // The shell repeats the command, so what is waited for must not stand in it.
    shell.say(&format!(
        "ping -c 1 -W 2 {address} >/dev/null && echo came''back || echo got''lost\n"
    ));
    shell.hear_one_of(&["cameback", "gotlost"], PING).1 == 0
}
