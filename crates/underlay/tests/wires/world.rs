//! A fabric and machines for one test.

use std::path::PathBuf;
use std::time::Duration;

use racknest_underlay::{
    Fabric, FabricConfig, LinkState, Listener, MachineName, NicName, Stream, Underlay,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than anything takes here, so that a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) directory: TempDir,
    fabric: Option<Fabric>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self { directory: tempfile::tempdir().unwrap(), fabric: None };
        world.start().await;
        world
    }

    pub(crate) fn config(&self) -> FabricConfig {
        FabricConfig {
            socket: self.directory.path().join("run/underlay.sock"),
            links_file: self.directory.path().join("links.json"),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.config().socket
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        self.fabric.as_ref().unwrap()
    }

    pub(crate) async fn start(&mut self) {
        self.fabric = Some(Fabric::start(self.config()).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.fabric.take().unwrap().stop().await;
    }

    pub(crate) async fn connect(&self, name: &str) -> Underlay {
        Underlay::connect(&self.socket(), machine(name), &[nic(0), nic(1)]).await.unwrap()
    }

    pub(crate) async fn cut(&self, name: &str, nics: &[usize]) {
        for &number in nics {
            self.fabric().cut(&machine(name), &nic(number)).await.unwrap();
        }
    }

    pub(crate) async fn restore(&self, name: &str, nics: &[usize]) {
        for &number in nics {
            self.fabric().restore(&machine(name), &nic(number)).await.unwrap();
        }
    }

    pub(crate) fn link(&self, name: &str, number: usize) -> LinkState {
        let links = self.fabric().links();
        links.into_iter().find(|l| l.machine == machine(name) && l.nic == nic(number)).unwrap()
    }

    /// Gives the fabric every chance to do what it should not.
    pub(crate) async fn settle(&self) {
        let control = racknest_underlay::Control::at(&self.socket());
        for _ in 0..20 {
            control.links().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn machine(name: &str) -> MachineName {
    name.parse().unwrap()
}

pub(crate) fn nic(number: usize) -> NicName {
    format!("vmnic{number}").parse().unwrap()
}

/// Opens a stream and takes it at the other end.
pub(crate) async fn open(from: &Underlay, listener: &mut Listener, port: u16) -> (Stream, Stream) {
    open_to(from, listener, "esx01", port).await
}

pub(crate) async fn open_to(
    from: &Underlay,
    listener: &mut Listener,
    to: &str,
    port: u16,
) -> (Stream, Stream) {
    let to = machine(to);
    let (near, (far, who)) = tokio::join!(from.dial(&to, port), listener.accept());
    assert_eq!(&who, from.name());
    (near.unwrap(), far)
}

/// Sends a line and reads it at the other end.
pub(crate) async fn pass(from: &mut Stream, to: &mut Stream, text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    let mut read = vec![0; text.len()];
    in_time(to.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, text.as_bytes());
}

/// Waits for something that must happen.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it happens in time")
}
