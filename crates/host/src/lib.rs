//! The host agent: one process that is one host, with its VMs, disks and virtual switch.
//!
//! It does what the manager and its own machines decide, and reports what is true.
