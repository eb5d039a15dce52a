//! The interface as a client sees it, and the table, walked.

mod network_services;
mod operations;
mod remediation;
mod rig;
mod switching;
mod table;
