//! Version 1 of the interface: one file for each kind of object, its operations and their types.
//!
//! Within `v1` changes only add: fields that can be left out, operations. Sizes are integers with the
//! unit in the field's name, times are RFC 3339, words in enums are `snake_case`. A request with a
//! field that is not known here is refused: a typing error must not look like success.

pub mod about;
pub mod alarm;
pub mod change;
pub mod cluster;
pub mod console;
pub mod datacenter;
pub mod datastore;
pub mod drill;
pub mod drs;
pub mod event;
pub mod folder;
pub mod ha;
pub mod host;
pub mod network;
pub mod network_services;
pub mod network_watch;
pub mod permission;
pub mod pool;
pub mod remediation;
pub mod role;
pub mod rule;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod switch;
pub mod task;
pub mod user;
pub mod vm;
pub mod vm_config;
pub mod vm_group;
pub mod vm_wire;
pub mod vmkernel;

use crate::operation::OperationRow;

/// Every operation, kind by kind.
pub fn operations() -> impl Iterator<Item = &'static OperationRow> {
    let kinds = [
        about::OPERATIONS,
        session::OPERATIONS,
        user::OPERATIONS,
        role::OPERATIONS,
        permission::OPERATIONS,
        datacenter::OPERATIONS,
        folder::OPERATIONS,
        cluster::OPERATIONS,
        drs::OPERATIONS,
        ha::OPERATIONS,
        rule::OPERATIONS,
        pool::OPERATIONS,
        host::OPERATIONS,
        remediation::OPERATIONS,
        vm::OPERATIONS,
        vm_group::OPERATIONS,
        vm_wire::OPERATIONS,
        snapshot::OPERATIONS,
        console::OPERATIONS,
        datastore::OPERATIONS,
        network::OPERATIONS,
        network_services::OPERATIONS,
        network_watch::OPERATIONS,
        switch::OPERATIONS,
        vmkernel::OPERATIONS,
        task::OPERATIONS,
        event::OPERATIONS,
        change::OPERATIONS,
        alarm::OPERATIONS,
        drill::OPERATIONS,
        stats::OPERATIONS,
    ];
    kinds.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::operation::{Access, AnswerForm, BodyForm, Method};

    use super::*;

    #[test]
    fn no_two_operations_share_an_id_or_a_route() {
        let mut ids = BTreeSet::new();
        let mut routes = BTreeSet::new();
        for row in operations() {
            assert!(ids.insert(row.id), "{} twice", row.id);
            assert!(routes.insert((row.method, row.path)), "{:?} {} twice", row.method, row.path);
        }
    }

    #[test]
    fn every_row_reads_like_the_others() {
        for row in operations() {
            let id = row.id;
            assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{id}");
            assert!(id.contains('_'), "{id} names a kind and a verb");
            assert!(row.path.starts_with("/api/v1/"), "{id}");
            assert!(row.summary.ends_with('.'), "{id}: a summary is a sentence");
            assert!(!row.summary.starts_with(char::is_whitespace), "{id}");
        }
    }

    #[test]
    fn only_what_changes_something_has_a_body_and_a_read_makes_no_task() {
        for row in operations().filter(|row| row.method == Method::Get) {
            assert_eq!(row.body, BodyForm::Absent, "{}", row.id);
            assert!(row.answer != AnswerForm::Accepted, "{}", row.id);
        }
    }

    #[test]
    fn only_the_door_itself_is_open_to_anybody() {
        let open = operations().filter(|row| row.access == Access::Anonymous);
        assert_eq!(open.map(|row| row.id).collect::<Vec<_>>(), ["box_about", "session_login"]);
    }
}
