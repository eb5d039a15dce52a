//! The interface as a client sees it, and the table, walked.

use std::collections::BTreeSet;

use super::routes;

#[test]
fn every_operation_has_a_route() {
    let routed: BTreeSet<&str> = routes().ids().iter().copied().collect();
    let table: BTreeSet<&str> = racknest_api::operations().map(|row| row.id).collect();
    assert_eq!(table.difference(&routed).collect::<Vec<_>>(), Vec::<&&str>::new());
}
