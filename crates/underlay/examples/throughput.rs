//! How much the underlay carries on this machine: bytes of a stream, datagrams, frames, and the
//! time of one question and answer.
//!
//! Fabric and machines share one process and its threads, as many as there are processors. Run it
//! with `cargo run --release -p racknest-underlay --example throughput`.
#![expect(clippy::print_stdout, reason = "the numbers are what this program is for")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use racknest_switch::offload::Offload;
use racknest_underlay::{
    DatagramSocket, EthernetPort, Fabric, FabricConfig, MachineName, Stream, Underlay,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a receiver waits for the next packet before it counts those that came.
const SILENCE: Duration = Duration::from_millis(300);

const STREAM_BYTES: usize = 4 << 30;
const PACKETS: u32 = 500_000;
const ROUND_TRIPS: u32 = 20_000;
const MACHINES: usize = 1000;

#[tokio::main]
async fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("run/underlay.sock");
    let links_file = directory.path().join("links.json");
    let fabric = Fabric::start(FabricConfig { socket: socket.clone(), links_file }).await?;
    let nics = ["vmnic0".parse()?, "vmnic1".parse()?];
    let left = Underlay::connect(&socket, "vcenter".parse()?, &nics).await?;
    let right = Underlay::connect(&socket, "esx01".parse()?, &nics).await?;
    let to = right.name().clone();

    let mut listener = right.listen(902).await?;
    for chunk in [4 << 10, 64 << 10, 256 << 10] {
        let near = left.dial(&to, 902).await?;
        let (far, _) = listener.accept().await;
        let rate = measure_stream(near, far, chunk).await?;
        println!("stream, {:>3} KiB writes: {rate:.0} MB/s", chunk >> 10);
    }
    let near = left.dial(&to, 902).await?;
    let (far, _) = listener.accept().await;
    println!("round trip on a stream: {:.1} us", measure_round_trips(near, far).await?);

    let (here, there) = (left.datagram(1).await?, right.datagram(1).await?);
    for size in [100, 1400, 16_000] {
        let (sent, heard) = measure_datagrams(&here, &there, &to, size).await?;
        println!("datagrams of {size:>5} bytes: {sent:.0}/s sent, {heard:.0}/s received");
    }
    let (here, there) = (left.ethernet(&nics[0]).await?, right.ethernet(&nics[0]).await?);
    for size in [60, 1514] {
        let (sent, heard) = measure_frames(&here, &there, size).await;
        println!("frames of {size:>4} bytes: {sent:.0}/s sent, {heard:.0}/s received");
    }
    let (each, taken) = measure_machines(&socket).await?;
    println!("{MACHINES} machines: {each} KiB each, both sides; connected in {taken:.0} ms");
    fabric.stop().await;
    Ok(())
}

/// Connects many machines that listen and have a datagram socket, as hosts do.
async fn measure_machines(socket: &Path) -> Outcome<(usize, f64)> {
    let before = resident_kib()?;
    let start = Instant::now();
    let mut machines = Vec::new();
    for number in 0..MACHINES {
        let name = format!("esx{number:04}").parse()?;
        let nics = ["vmnic0".parse()?, "vmnic1".parse()?];
        let machine = Underlay::connect(socket, name, &nics).await?;
        machines.push((machine.listen(902).await?, machine.datagram(8182).await?));
    }
    let taken = start.elapsed().as_secs_f64() * 1e3;
    Ok(((resident_kib()? - before) / MACHINES, taken))
}

fn resident_kib() -> Outcome<usize> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no resident size is told")?.parse()?)
}

/// Megabytes (10^6) a second.
async fn measure_stream(mut near: Stream, mut far: Stream, chunk: usize) -> Outcome<f64> {
    let start = Instant::now();
    let writer = tokio::spawn(async move {
        let bytes = vec![7; chunk];
        for _ in 0..STREAM_BYTES / chunk {
            near.write_all(&bytes).await?;
        }
        near.shutdown().await
    });
    let mut buffer = vec![0; 256 << 10];
    let mut read = 0;
    loop {
        match far.read(&mut buffer).await? {
            0 => break,
            size => read += size,
        }
    }
    writer.await??;
    assert_eq!(read, STREAM_BYTES, "a stream loses nothing");
    let megabytes = u32::try_from(STREAM_BYTES / 1_000_000)?;
    Ok(f64::from(megabytes) / start.elapsed().as_secs_f64())
}

/// Microseconds for one.
async fn measure_round_trips(mut near: Stream, mut far: Stream) -> Outcome<f64> {
    let echo = tokio::spawn(async move {
        let mut byte = [0; 64];
        while far.read_exact(&mut byte).await.is_ok() && far.write_all(&byte).await.is_ok() {}
    });
    let start = Instant::now();
    let mut byte = [7; 64];
    for _ in 0..ROUND_TRIPS {
        near.write_all(&byte).await?;
        near.read_exact(&mut byte).await?;
    }
    let taken = start.elapsed();
    drop(near);
    echo.await?;
    Ok(taken.as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS))
}

async fn measure_datagrams(
    here: &DatagramSocket,
    there: &DatagramSocket,
    to: &MachineName,
    size: usize,
) -> Outcome<(f64, f64)> {
    let payload = vec![7; size];
    let sender = async {
        let start = Instant::now();
        for _ in 0..PACKETS {
            here.send_to(to, 1, &payload).await?;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(f64::from(PACKETS) / start.elapsed().as_secs_f64())
    };
    let receiver = async {
        let mut buffer = vec![0; 20_000];
        rate_of(async || {
            there.recv(&mut buffer).await;
        })
        .await
    };
    let (sent, heard) = tokio::join!(sender, receiver);
    Ok((sent?, heard))
}

async fn measure_frames(here: &EthernetPort, there: &EthernetPort, size: usize) -> (f64, f64) {
    let mut frame = vec![0; size];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    let mut answer = frame.clone();
    answer[..12].rotate_left(6);
    // So that the switch knows where the receiver is.
    there.send(&Offload::NONE, [&answer, &[], &[]]).await;
    here.recv(&mut vec![0; 9216]).await;
    let sender = async {
        let start = Instant::now();
        for _ in 0..PACKETS {
            here.send(&Offload::NONE, [&frame, &[], &[]]).await;
        }
        f64::from(PACKETS) / start.elapsed().as_secs_f64()
    };
    let mut buffer = vec![0; 9216];
    let receiver = rate_of(async || {
        there.recv(&mut buffer).await;
    });
    tokio::join!(sender, receiver)
}

/// How many a second came, until none came for a while.
async fn rate_of(mut receive: impl AsyncFnMut()) -> f64 {
    receive().await;
    let start = Instant::now();
    let (mut count, mut last) = (0u32, start);
    while timeout(SILENCE, receive()).await.is_ok() {
        count += 1;
        last = Instant::now();
    }
    f64::from(count) / (last - start).as_secs_f64().max(1e-9)
}
