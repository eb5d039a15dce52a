//! Whole networks: the switches of hosts, the physical one between them, cables and guests.
//!
//! Frames really pass here, hop by hop, through [`Switch::forward`](racknest_switch::Switch::forward)
//! of every switch on their way. What arrives is held against what a trace has said, and against an
//! oracle that is written from the policies alone and shares no code with the switch.
//!
//! Everything comes from a seed: a failure names it, and that seed alone plays it again.

mod chance;
mod faults;
mod oracle;
mod policies;
mod trace;
mod traffic;
mod world;
