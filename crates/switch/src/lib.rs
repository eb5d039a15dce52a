//! Ethernet switching: frames, MAC learning, VLANs, ports.
//!
//! Pure: a frame and the time go in, the ports it leaves by come out. The same code is the box's physical
//! switch and the virtual switch of each host.

#![no_std]
extern crate alloc;
