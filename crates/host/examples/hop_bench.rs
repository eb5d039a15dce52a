//! What a switch on the way costs: a frame from one guest's socket to another's, through a host's
//! switch and through two hosts, beside the same sockets without anything between.
//!
//! `cargo run --release -p racknest-host --example hop_bench`; with `-- --figures` only what
//! `cargo xtask bench network` reads: a name, a value and a unit a line, between tabs.
#![expect(clippy::print_stdout, reason = "it is a program that prints figures")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use racknest_cluster::record::vm::Nic;
use racknest_host::clock::Stopwatch;
use racknest_host::layout::Layout;
use racknest_host::net::{Network, Order, Uplink};
use racknest_types::id::{NetworkId, VmId};
use racknest_underlay::{Fabric, FabricConfig, NicName, Underlay};

const ROUNDS: usize = 20_000;
/// Rounds before those that count: everything is in the caches, and every card is known.
const WARM_UP: usize = 2_000;
/// Bytes of a frame.
const SIZE: usize = 64;
/// A frame that does not come back for so long is lost.
const LOST: Duration = Duration::from_secs(2);

/// One end of a way: a socket, where it sends to, and what it is called in frames.
struct End {
    socket: UnixDatagram,
    to: PathBuf,
    card: u8,
}

/// A host of the rack.
struct Host {
    layout: Layout,
    network: Network,
    _underlay: Underlay,
}

fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let direct = median(direct(directory.path())?)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (one, two) = runtime.block_on(through(directory.path()))?;
    if std::env::args().any(|argument| argument == "--figures") {
        println!("one switch hop: added at the median\t{}\tus", micros(one, direct));
        println!(
            "two hosts and the physical switch: added at the median\t{}\tus",
            micros(two, direct)
        );
        return Ok(());
    }
    println!("directly, there and back: {direct:?}");
    println!("through a host's switch: {one:?}, so {} us a hop", micros(one, direct));
    println!("through two hosts: {two:?}, so {} us one way", micros(two, direct));
    Ok(())
}

/// What one way takes longer than directly, in microseconds; the times are there and back.
fn micros(time: Duration, direct: Duration) -> f64 {
    (time.as_secs_f64() - direct.as_secs_f64()) * 1e6 / 2.0
}

/// Two sockets, each of which sends to the other.
fn direct(directory: &Path) -> anyhow::Result<(End, End)> {
    let (a, b) = (directory.join("a"), directory.join("b"));
    let one = End { socket: UnixDatagram::bind(&a)?, to: b.clone(), card: 1 };
    Ok((one, End { socket: UnixDatagram::bind(&b)?, to: a, card: 2 }))
}

/// The same through the switch of one host, and through those of two.
async fn through(directory: &Path) -> anyhow::Result<(Duration, Duration)> {
    let config =
        FabricConfig { socket: directory.join("u"), links_file: directory.join("links.json") };
    let fabric = Fabric::start(config).await?;
    let one = Host::start(directory, "esx01").await?;
    let two = Host::start(directory, "esx02").await?;
    let near = (one.guest(1)?, one.guest(2)?);
    let near = tokio::task::spawn_blocking(move || median(near)).await??;
    let far = (one.guest(3)?, two.guest(4)?);
    let far = tokio::task::spawn_blocking(move || median(far)).await??;
    fabric.stop().await;
    Ok((near, far))
}

impl Host {
    async fn start(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let nic: NicName = "vmnic0".parse().context("a NIC's name")?;
        let names = [nic.clone()];
        let machine = name.parse().context("a machine's name")?;
        let underlay = Underlay::connect(&directory.join("u"), machine, &names).await?;
        let layout = Layout::new(directory, directory.join(name));
        let uplinks = vec![Uplink { port: underlay.ethernet(&nic).await?, nic }];
        let network = Network::start("esx01", &layout, uplinks, underlay.links())?;
        Ok(Self { layout, network, _underlay: underlay })
    }

    fn guest(&self, card: u8) -> anyhow::Result<End> {
        let vm = VmId::from_raw(card.into());
        fs_err::create_dir_all(self.layout.vm_run(vm))?;
        let socket = UnixDatagram::bind(self.layout.nic_socket(vm, 1))?;
        let mac = [2, 0, 0, 0, 0, card];
        let network = NetworkId::from_raw(1);
        let nics =
            vec![Nic { key: 1, mac, network, vlan: 0, connected: true, address: None, port: None }];
        self.network.order(Order::Plug { vm, nics });
        Ok(End { socket, to: self.layout.switch_socket(), card })
    }
}

impl End {
    fn send(&self, to: u8) -> anyhow::Result<()> {
        let mut frame = [0; SIZE];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, self.card]);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        self.socket.send_to(&frame, &self.to)?;
        Ok(())
    }

    /// Waits for a frame of the other end; false if none comes.
    fn hear(&self, from: u8) -> anyhow::Result<bool> {
        let mut frame = [0; 2_048];
        loop {
            match self.socket.recv(&mut frame) {
                // Announcements of cards come too.
                Ok(SIZE) if frame[11] == from && frame[12] == 0x88 => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How long a frame and its answer take, at the median.
fn median((one, two): (End, End)) -> anyhow::Result<Duration> {
    let (one_card, two_card) = (one.card, two.card);
    one.socket.set_read_timeout(Some(LOST))?;
    two.socket.set_read_timeout(Some(LOST))?;
    let mirror = std::thread::spawn(move || -> anyhow::Result<()> {
        while two.hear(one_card)? {
            two.send(one_card)?;
        }
        Ok(())
    });
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let stopwatch = Stopwatch::start();
        one.send(two_card)?;
        // The first may come before its guest is plugged in.
        let has_come = one.hear(two_card)?;
        anyhow::ensure!(has_come || round < WARM_UP, "a frame was lost");
        if round >= WARM_UP {
            times.push(stopwatch.elapsed());
        }
    }
    mirror.join().map_err(|_| anyhow::anyhow!("the other end broke"))??;
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
