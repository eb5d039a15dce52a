//! The REST interface `/api/v1` as types: what the manager serves and every client speaks.
//!
//! It depends on `racknest-types` alone, so that the CLI and the end-to-end tests build without the
//! manager. It holds no behaviour.
