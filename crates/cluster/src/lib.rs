//! What a cluster decides: the inventory, its tasks, and the messages between manager and hosts.
//!
//! Nothing here does what it asks for. There is no socket, file, clock or thread in this crate, and
//! it knows no JSON or XML: `manager` saves its records, carries its actions to the hosts, and feeds
//! it what they answer.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod drill;
pub mod drs;
pub mod ha;
pub mod host_network;
pub mod inventory;
pub mod lease;
pub mod memory;
pub mod record;
pub mod walk;
pub mod wire;
