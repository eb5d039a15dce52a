//! The deterministic data centre: hosts, network, datastores, users and every kind of fault, from
//! one seed, in virtual time, around the code that decides.
//!
//! [`run::run`] plays a seed and says which invariant did not hold, if one did not. The same world
//! plays a user's own cluster through years of failures ([`forecast`]).
//!
//! ```
//! use racknest_sim::run::{Options, run};
//!
//! let (once, again) = (run(7, Options::default()), run(7, Options::default()));
//! assert_eq!(once.violation, None, "{}", once.transcript);
//! assert_eq!(once.hash, again.hash);
//! ```

pub mod bug;
pub mod clock;
pub mod datastore;
pub mod edge;
pub mod fact;
pub mod faults;
pub mod forecast;
pub mod invariants;
pub mod manager;
pub mod network;
pub mod queue;
pub mod run;
pub mod seeds;
pub mod site;
pub mod swarm;
pub mod transcript;
pub mod truth;
mod workload;
pub mod world;
