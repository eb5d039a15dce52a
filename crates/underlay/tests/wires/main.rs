//! The underlay as the manager and the hosts use it: a fabric in a directory of its own, and
//! machines that are connected to it, all in this process.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod boxes;
mod datagrams;
mod ethernet;
mod faults;
mod schedules;
mod streams;
mod teams;
mod world;
