//! The underlay: every wire between the machines of a box.
//!
//! Manager and hosts reach each other through it alone, so that a cut cable cuts everything, as in life.

pub mod message;
