//! The words every other crate speaks: typed ids, points in time, sizes, seeded randomness, faults.
//!
//! This crate holds no logic about VMs, hosts or disks; a type belongs here only when two other
//! crates use it.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bytes;
pub mod fault;
pub mod id;
pub mod impairment;
pub mod rng;
pub mod subnet;
pub mod time;
