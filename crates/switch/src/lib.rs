//! The switch: which ports an Ethernet frame leaves by, and with which VLAN tag.
//!
//! The same code is the physical switch of a box (ports: the NICs of hosts) and the virtual switch
//! of a host (ports: the NICs of VMs, and uplinks). It moves no bytes: the caller hands it a frame
//! and gets back a list of egress ports, so that the edge may send without copying.
//!
//! ```
//! use racknest_switch::{PortMode, Switch, VlanId};
//!
//! let mut switch = Switch::default();
//! let vm = switch.add_port(PortMode::Access(VlanId::new(10).unwrap()));
//! let uplink = switch.add_port(PortMode::trunk());
//!
//! let mut frame = [0u8; 60];
//! frame[..6].fill(0xff); // broadcast
//! let mut out = Vec::new();
//! switch.forward(0, vm, &frame, &mut out);
//! assert_eq!(out[0].port, uplink);
//! ```
//!
//! **Invariant:** a frame never leaves on another VLAN than the one it came in on, nor by the port
//! it came in by. `tests/properties.rs` checks it.
//! **Invariant:** forwarding a frame between known addresses allocates nothing.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arp;
pub mod cable;
pub mod flow;
pub mod forward;
pub mod frame;
pub mod guard;
pub mod health;
pub mod neighbour;
pub mod offload;
pub mod packet;
pub mod port;
pub mod rate;
pub mod snooping;
pub mod table;
pub mod team;
pub mod vlan;

pub use forward::{Egress, Mirror, Switch, Trace, Verdict};
pub use frame::{Frame, FrameError, MacAddress, TagAction};
pub use packet::Packet;
pub use port::{DropReason, PortConfig, PortCounters, PortId, PortMode, PortRole};
pub use vlan::{VlanId, VlanSet};
