//! End-to-end tests: the finished binary, driven as a user drives it.
