//! Two tiny Linux guests under emulation, and what is between them: QEMU's own socket, TAP with the
//! kernel's bridge, VDE, and a box of racknest with a host for each.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::rack::Rack;
use super::super::report::median;
use super::act::{Measure, Measured};
use super::image;
use super::serial::Serial;
use super::stage::{Process, ROOM, missing, sh};

/// What is told of each way: a key, what it is, and its unit.
pub(super) const FIGURES: &[(&str, &str, &str)] =
    &[("tcp_mbps", "one TCP stream", "Mbit/s"), ("ping_ms", "ping", "ms")];

pub(super) const WAYS: &[(&str, Measure)] = &[
    ("stream socket", || {
        pair(
            &[],
            &[
                "stream,id=n,server=on,addr.type=unix,addr.path=/run/wire",
                "stream,id=n,server=off,addr.type=unix,addr.path=/run/wire",
            ],
        )
    }),
    ("tap, linux bridge", || {
        sh("ip link add bridge type bridge 2>/dev/null && ip link set bridge up || true
            for tap in tap-a tap-b; do ip link delete $tap 2>/dev/null || true
            ip tuntap add $tap mode tap vnet_hdr; ip link set $tap master bridge up; done")?;
        let tap = |name: &str| format!("tap,id=n,ifname={name},script=no,downscript=no");
        pair(&[], &[&tap("tap-a"), &tap("tap-b")])
    }),
    ("vde", || {
        let missing = missing(&["vde_switch"]);
        ensure!(missing.is_empty(), "there is no vde_switch here");
        let switch = Process::start(&format!("exec vde_switch -s {ROOM}/vde"))?;
        pair(&[switch], &["vde,id=n,sock=/run/vde", "vde,id=n,sock=/run/vde"])
    }),
    ("racknest, sockets", || boxed(&["--fast-network", "off"])),
    ("racknest, fast path", || boxed(&["--fast-network", "on"])),
];

/// Seconds of each stream.
const SECONDS: u64 = 5;

/// How long a measurement in a guest may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two guests of QEMU alone, with these backends for their cards.
fn pair(_running: &[Process], backends: &[&str; 2]) -> anyhow::Result<Option<Measured>> {
    let guest = image::build()?;
    let _ = fs::remove_file(Path::new(ROOM).join("wire"));
    let start = |number: usize| {
        let mut command = Command::new("qemu-system-x86_64");
        let line = fs::read_to_string(guest.join("cmdline"))?;
        let line = format!("{} racknest.ip=10.9.0.{}/24", line.trim(), number + 1);
        command.args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults"]);
        command.args(["-display", "none", "-serial", "stdio", "-append", &line]);
        command.arg("-kernel").arg(guest.join("vmlinuz"));
        command.arg("-initrd").arg(guest.join("initramfs.cpio"));
        command.args(["-netdev", backends[number], "-device"]);
        command.arg(format!("virtio-net-pci,netdev=n,romfile=,mac=52:54:00:09:00:0{number}"));
        Serial::log_in(command)
    };
    let (mut one, mut two) = (start(0)?, start(1)?);
    measure(&mut one, &mut two, "10.9.0.2").map(Some)
}

/// Two guests of a box, on a host each.
fn boxed(options: &[&str]) -> anyhow::Result<Option<Measured>> {
    let (rack, mut shells, address) =
        rack(&["--hosts", "2", "--vms", "2", "--alive", "2"], options)?;
    let (one, two) = shells.split_at_mut(1);
    let measured = measure(&mut one[0], &mut two[0], &address)?;
    drop(shells);
    rack.down()?;
    Ok(Some(measured))
}

/// A box with two live guests, a shell on each, and the address of the second.
fn rack(words: &[&str], options: &[&str]) -> anyhow::Result<(Rack, Vec<Serial>, String)> {
    let guest = image::build()?;
    let rack = Rack::up_with_guest(&[words, options].concat(), &guest)?;
    let shells = ["vm01", "vm02"].map(|vm| Serial::log_in(rack.command(&["vm", "serial", vm])));
    let shells = shells.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let vm: Value = serde_json::from_str(&rack.racknest(&["vm", "show", "vm02", "-o", "json"])?)?;
    let mac = vm["nics"][0]["mac"].as_str().context("vm02 has a NIC")?;
    let bytes: Vec<&str> = mac.split(':').collect();
    let byte = |at: usize| u8::from_str_radix(bytes[at], 16).context("a MAC is hexadecimal");
    let address = format!("10.77.{}.{}", byte(4)?, byte(5)?);
    Ok((rack, shells, address))
}

/// One stream and pings from one guest to another.
fn measure(one: &mut Serial, two: &mut Serial, address: &str) -> anyhow::Result<Measured> {
    two.run("iperf3 -s -D", PATIENCE)?;
    reach(one, address)?;
    let text = one.run(&format!("iperf3 -c {address} -t {SECONDS} -f m"), PATIENCE)?;
    let line = text.lines().find(|line| line.contains("receiver"));
    let rate = line.and_then(|line| line.split("Mbits/sec").next()?.split_whitespace().last());
    let rate = rate.with_context(|| format!("iperf3 told no rate: {text}"))?;
    let pings = one.run(&format!("ping -c 100 -i 0.02 {address}"), PATIENCE)?;
    let times = pings.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next());
    let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    ensure!(!times.is_empty(), "no ping came through: {pings}");
    Ok([("tcp_mbps", rate.parse()?), ("ping_ms", median(times))].into())
}

/// Waits until a ping comes through.
fn reach(one: &mut Serial, address: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    let ping = format!("ping -c 1 -W 1 {address} >/dev/null && echo came''through");
    while !one.run(&ping, PATIENCE)?.contains("camethrough") {
        ensure!(start.elapsed() < PATIENCE, "the guests do not reach each other");
    }
    Ok(())
}

/// The longest time in which nothing of a stream came to a guest while its sender moved.
pub(super) fn migration() -> anyhow::Result<Option<Measured>> {
    let (rack, mut shells, address) = rack(&["--hosts", "3", "--vms", "2", "--alive", "2"], &[])?;
    shells[1].run("iperf3 -s -D", PATIENCE)?;
    reach(&mut shells[0], &address)?;
    // Told every tenth of a second, which is the finest that it can.
    let stream = format!("iperf3 -c {address} -R -t 20 -i 0.1 -f m >/tmp/stream");
    shells[0].say(&format!("{stream}; echo stream''over\n"))?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let vm: Value = serde_json::from_str(&rack.racknest(&["vm", "show", "vm02", "-o", "json"])?)?;
    let here = vm["host"]["name"].as_str().context("a VM has a host")?.to_owned();
    let to = ["esx01", "esx02", "esx03"].into_iter().find(|host| *host != here);
    rack.racknest(&["vm", "move", "vm02", "--host", to.context("there are three")?])?;
    shells[0].hear("streamover", PATIENCE)?;
    let text = shells[0].run("cat /tmp/stream", PATIENCE)?;
    let gap = longest_gap(&text)?;
    drop(shells);
    rack.down()?;
    Ok(Some([("gap_ms", gap)].into()))
}

/// The longest run of tenths of a second without a byte, in milliseconds.
fn longest_gap(text: &str) -> anyhow::Result<f64> {
    let rates = text.lines().filter(|line| !line.contains("sender") && !line.contains("receiver"));
    let rates = rates.filter_map(|line| line.split("Mbits/sec").next()?.split_whitespace().last());
    let rates: Vec<f64> = rates.filter_map(|rate| rate.parse().ok()).collect();
    ensure!(rates.len() > 50, "iperf3 told too little: {text}");
    let (mut longest, mut gap) = (0.0_f64, 0.0);
    for rate in rates {
        gap = if rate > 0.0 { 0.0 } else { gap + 100.0 };
        longest = longest.max(gap);
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found_between_lines_of_other_things() {
        let line = |rate: &str| format!("[  5]  1.00-1.10  sec  1.0 MBytes  {rate} Mbits/sec\n");
        let mut text = "Connecting to host\n".to_owned() + &line("210").repeat(30);
        text += &(line("0.00").repeat(2) + &line("3.1") + &line("0.00").repeat(3));
        text += &line("200").repeat(30);
        text += "[  5]  0.00-20.00 sec  1 MBytes  100 Mbits/sec  receiver\n";
        assert!((longest_gap(&text).expect("it is long enough") - 300.0).abs() < 0.1);
        longest_gap("iperf3: error").unwrap_err();
    }
}
