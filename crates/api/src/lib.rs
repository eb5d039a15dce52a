//! The REST interface `/api/v1` as types and one table: what the manager serves, every client speaks.
//!
//! It depends on `racknest-types` alone, so that the CLI and the end-to-end tests build without the
//! manager. It holds no behaviour: [`operations`] is the table (decision 0006), [`v1`] the types in
//! it, [`openapi`] its third reader beside the manager's routes and the clients.
//!
//! ```
//! use racknest_api::operation::{Operation, path};
//! use racknest_api::v1::vm::VmPowerOn;
//!
//! assert_eq!(VmPowerOn::ID, "vm_power_on");
//! assert_eq!(path(VmPowerOn::PATH, &["web 01"]), "/api/v1/vms/web%2001/power-on");
//! ```

pub mod fault;
pub mod openapi;
pub mod operation;
pub mod page;
pub mod reference;
pub mod v1;

pub use v1::operations;

/// The OpenAPI document of this version, as `cargo xtask gen` wrote it.
pub const OPENAPI: &str = include_str!("../openapi.json");
