//! The gateway of a network: addresses, names, routes and ways out for the guests of one host.
//!
//! Every host has one, with the same address and the same card ([`CARD`]), and each answers its own
//! guests only. So nothing that a guest asks of its gateway crosses a wire, and a guest that moves to
//! another host finds it there. See decision 0018.
//!
//! ```text
//!  guest ──frame──► Gateway::handle_frame ─┬─► Output::Frame     an answer, or a packet routed on
//!                                          ├─► Output::Resolve   a name for the outside
//!                                          ├─► Output::Outside   a packet for the outside (NAT)
//!                                          └─► Output::Own       for the gateway itself (forwards)
//! ```
//!
//! It decides and does nothing: the edge hands it frames, sends those that come out, and has the
//! sockets towards the outside.
//!
//! **Invariant:** no bytes that a guest sends make it panic. `tests/properties.rs` checks it.
//! **Invariant:** what a firewall denies is not routed, and what is routed goes to a network that is
//! routed itself; an answer goes to the network that asked. `tests/properties.rs` checks both.
//! **Invariant:** what it sends has the host's own card as its sender, never [`CARD`]: a card that is
//! behind two ports of a physical switch looks like a loop.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod arp;
pub mod dhcp;
pub mod dns;
pub mod firewall;
mod gateway;
mod icmp;
pub mod network;
pub mod packet;
pub mod track;

pub use gateway::{CARD, Gateway, Output};
pub use network::{Lease, Network};
