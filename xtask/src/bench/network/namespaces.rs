//! Two network namespaces with a switch between them: nothing, the kernel's bridge, and others.
//!
//! Each switch leaves two devices, `end-a` and `end-b`; the rest is the same for all. One TCP stream
//! (iperf3), frames of 60 bytes as fast as they go (those that arrive count), and the median of
//! pings.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::report::median;
use super::act::{Measure, Measured};
use super::stage::{FLAG, Process, ROOM, missing, sh};
use crate::shell;

/// What is told of each switch: a key, what it is, and its unit.
pub(super) const FIGURES: &[(&str, &str, &str)] = &[
    ("tcp_mbps", "one TCP stream", "Mbit/s"),
    ("frames", "frames of 60 bytes received", "a second"),
    ("ping_us", "ping", "us"),
];

pub(super) const SWITCHES: &[(&str, Measure)] = &[
    ("veth directly", || with(&[], veth)),
    ("linux bridge", || with(&[], bridge)),
    ("ovs userspace", || with(&OVS, ovs)),
    ("vde", || with(&["vde_switch"], vde)),
    ("racknest", racknest),
];

/// The command by which racknest switches between the TAPs whose names follow. It is not there yet.
const TAP_SWITCH: Option<&str> = None;

const OVS: [&str; 3] = ["ovs-vswitchd", "ovsdb-server", "ovs-vsctl"];

/// Seconds of each stream.
const SECONDS: u32 = 5;

/// How long a switch may take until the first ping comes through.
const READY: Duration = Duration::from_secs(10);

/// TAPs that the switch opens by name.
const TAPS: &str = "for end in a b; do ip tuntap add end-$end mode tap; done";

/// Two cables; the switch has the far ends.
const VETHS: &str = "for end in a b; do ip link add end-$end type veth peer name far-$end; \
                     ip link set far-$end up; done";

/// What runs while a switch is there.
type Running = Vec<Process>;

/// Measures one switch, if its programs are here.
fn with(
    programs: &[&str],
    attach: impl FnOnce() -> anyhow::Result<Running>,
) -> anyhow::Result<Option<Measured>> {
    let needed = [&["ip", "iperf3", "ping"], programs].concat();
    let missing = missing(&needed);
    ensure!(missing.is_empty(), "there is no {} here", missing.join(", "));
    sh("ip netns add a; ip netns add b")?;
    let measured = attach().and_then(|running| {
        sh("for end in a b; do ip link set end-$end netns $end; done
            ip -n a address add 10.9.0.1/24 dev end-a; ip -n b address add 10.9.0.2/24 dev end-b
            for end in a b; do ip -n $end link set lo up; ip -n $end link set end-$end up; done")?;
        let measured = measure();
        drop(running);
        measured
    });
    // The devices go with their namespaces, or with the process that had opened them.
    sh("ip netns delete a; ip netns delete b
        for name in end-a end-b far-a far-b bridge; do ip link delete $name 2>/dev/null || true; done")?;
    measured.map(Some)
}

fn veth() -> anyhow::Result<Running> {
    sh("ip link add end-a type veth peer name end-b")?;
    Ok(vec![])
}

fn bridge() -> anyhow::Result<Running> {
    sh(VETHS)?;
    sh("ip link add bridge type bridge; ip link set bridge up
        for end in a b; do ip link set far-$end master bridge; done")?;
    Ok(vec![])
}

/// OVS without its kernel module, at its best: on cables, with segmentation carried through.
fn ovs() -> anyhow::Result<Running> {
    sh(VETHS)?;
    let room = format!("{ROOM}/ovs");
    sh(&format!(
        "rm -rf {room}; mkdir {room}; \
         ovsdb-tool create {room}/conf.db /usr/share/openvswitch/vswitch.ovsschema"
    ))?;
    let place = format!("export OVS_RUNDIR={room} OVS_LOGDIR={room} OVS_DBDIR={room}");
    let vsctl = format!("{place}; ovs-vsctl --timeout=10 --db=unix:{room}/db.sock");
    let database = Process::start(&format!(
        "{place}; exec ovsdb-server {room}/conf.db --remote=punix:{room}/db.sock"
    ))?;
    wait_for(&format!("{vsctl} --no-wait init"))?;
    sh(&format!("{vsctl} --no-wait set Open_vSwitch . other_config:userspace-tso-enable=true"))?;
    let switch = Process::start(&format!("{place}; exec ovs-vswitchd unix:{room}/db.sock"))?;
    sh(&format!(
        "{vsctl} add-br br0 -- set bridge br0 datapath_type=netdev \
         -- add-port br0 far-a -- add-port br0 far-b"
    ))?;
    Ok(vec![switch, database])
}

fn vde() -> anyhow::Result<Running> {
    sh(TAPS)?;
    let switch = format!("exec vde_switch -s {ROOM}/vde -t end-a -t end-b");
    let running = Process::start(&switch)?;
    wait_for(&format!("test -e {ROOM}/vde/ctl"))?;
    Ok(vec![running])
}

fn racknest() -> anyhow::Result<Option<Measured>> {
    let Some(command) = TAP_SWITCH else { return Ok(None) };
    with(&[], || {
        sh(TAPS)?;
        let program = shell::root().join("target/release/racknest");
        Ok(vec![Process::start(&format!("exec {} {command} end-a end-b", program.display()))?])
    })
}

/// Tries again until it is so.
fn wait_for(script: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        match sh(script) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > READY => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn measure() -> anyhow::Result<Measured> {
    wait_for("ip netns exec a ping -c 1 -W 1 10.9.0.2")?;
    Ok([("tcp_mbps", stream()?), ("frames", small_frames()?), ("ping_us", ping()?)].into())
}

/// One TCP stream from `a` to `b`, in Mbit/s.
fn stream() -> anyhow::Result<f64> {
    let _server = Process::start("exec ip netns exec b iperf3 -s -1")?;
    wait_for("ip netns exec b ss -ltn | grep -q :5201")?;
    let text = sh(&format!("ip netns exec a iperf3 -c 10.9.0.2 -t {SECONDS} -J"))?;
    let told: Value = serde_json::from_str(&text)?;
    let rate = told["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.map(|rate| rate / 1e6).with_context(|| format!("iperf3: {}", told["error"]))
}

/// Frames of 60 bytes from `a` to `b`, received in a second.
fn small_frames() -> anyhow::Result<f64> {
    let own = std::env::current_exe()?;
    let own = format!("{} bench {FLAG}", own.display());
    let flood = format!("exec ip netns exec a {own} flood 10.9.0.2:9 {}", SECONDS + 10);
    // Sent to nobody until somebody counts.
    let _flood = Process::start(&flood)?;
    let told = sh(&format!("ip netns exec b {own} count 10.9.0.2:9 {SECONDS}"))?;
    Ok(told.trim().parse()?)
}

fn ping() -> anyhow::Result<f64> {
    let text = sh("ip netns exec a ping -c 500 -i 0.002 10.9.0.2")?;
    let times = text.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next());
    let times: Vec<f64> = times.filter_map(|time| time.parse().ok()).collect();
    ensure!(!times.is_empty(), "no ping came through");
    Ok(median(times) * 1_000.0)
}
