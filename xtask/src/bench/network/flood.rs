//! Small frames as fast as they go: one program sends datagrams, another counts what arrives.
//!
//! A frame of 60 bytes carries a UDP datagram of 18. iperf3 asks the clock and sorts its numbers for
//! each; what is measured then is iperf3.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::shell;

/// Bytes of a datagram in a frame of 60.
const SIZE: usize = 18;

/// Datagrams between two looks at the clock.
const AT_ONCE: u32 = 64;

/// Sends for so many seconds. What is refused because a queue is full counts for nothing.
pub(super) fn send(to: &str, seconds: u64) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..AT_ONCE {
            let _ = socket.send(&[0; SIZE]);
        }
    }
    Ok(())
}

/// Counts for so many seconds from the first datagram on; says how many came a second.
pub(super) fn count(at: &str, seconds: u64) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(at)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut datagram = [0; 64];
    socket.recv(&mut datagram)?;
    let (start, mut count) = (Instant::now(), 0_u32);
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..AT_ONCE {
            count += u32::from(socket.recv(&mut datagram).is_ok_and(|size| size == SIZE));
        }
    }
    ensure!(count > 0, "no frame came");
    shell::say(&format!("{}", f64::from(count) / start.elapsed().as_secs_f64()));
    Ok(())
}
