//! End-to-end tests: the finished binary, driven as a user drives it.
//!
//! Every test has a [`Lab`]: a box in a directory of its own, with its own home and port, reached
//! only through what a user has: the command line and REST. Tests look at processes and files too,
//! because what a box leaves behind is part of what it promises.
//!
//! Nothing here waits for a fixed time: [`wait`] looks again until a condition holds or a deadline
//! has passed, and says what it was waiting for.
//!
//! **Invariant:** when a test ends, however it ends, no process of its lab runs.

pub mod binary;
pub mod conversation;
pub mod evidence;
pub mod guests;
pub mod lab;
pub mod processes;
pub mod rest;
pub mod run;
pub mod wait;

pub use conversation::Conversation;
pub use lab::Lab;
pub use processes::{Process, Role};
pub use rest::Rest;
pub use run::Outcome;
