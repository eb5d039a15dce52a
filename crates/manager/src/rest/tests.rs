//! The interface as a client sees it, and the table, walked.

mod operations;
mod remediation;
mod rig;
mod table;
