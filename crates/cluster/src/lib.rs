//! The deciding half of a data centre: inventory, tasks, records and the messages to hosts.
//!
//! Pure: time comes in as an argument, work goes out as data, so that the real manager, the simulated
//! box and the deterministic simulator run the same code.

#![no_std]
extern crate alloc;
