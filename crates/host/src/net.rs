//! The host's virtual switch: carries frames between its guests, and between them and the wire.
//!
//! Every guest NIC of the host sends its frames to one socket; where a frame came from says which
//! NIC sent it. The switch's way out is one trunk, which is the first of the host's physical NICs
//! that works. The switch belongs to the agent: while the agent is away guests lose frames, as they
//! would on a bad cable, and nothing else.

use std::net::Ipv4Addr;

use racknest_cluster::record::vm::Nic;
use racknest_types::id::VmId;
use tokio::sync::mpsc;

/// What is plugged into the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// These are the NICs of a VM that runs; replaces those it had.
    Plug {
        /// The VM.
        vm: VmId,
        /// Its NICs.
        nics: Vec<Nic>,
    },
    /// The VM does not run.
    Unplug {
        /// The VM.
        vm: VmId,
    },
}

/// A guest was heard to use an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The VM.
    pub vm: VmId,
    /// The address.
    pub address: Ipv4Addr,
}

/// The agent's side of the switch.
#[derive(Debug)]
pub struct Network {
    orders: mpsc::UnboundedSender<Order>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Network {
    /// Says what is plugged in.
    pub fn order(&self, order: Order) {
        // A switch that has ended takes no orders, and the host goes on without network.
        let _ = self.orders.send(order);
    }

    /// The next address that was heard.
    pub async fn heard(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }
}
