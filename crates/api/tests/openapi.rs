//! The committed `openapi.json` is the one that the table makes.

use std::collections::BTreeSet;

use racknest_api::openapi;
use serde_json::Value;

#[test]
fn the_committed_document_is_current() {
    // Values are compared, not text: the order of keys depends on features of serde_json that other
    // crates of a build turn on.
    let committed: Value = serde_json::from_str(racknest_api::OPENAPI).expect("it is JSON");
    assert!(
        committed == openapi::document(),
        "run `cargo xtask gen` and commit crates/api/openapi.json"
    );
}

#[test]
fn every_reference_leads_to_a_schema() {
    let document = openapi::document();
    let mut names = BTreeSet::new();
    collect_references(&document, &mut names);
    assert!(names.len() > 50, "the document refers to its schemas");
    for name in names {
        let pointer = name.strip_prefix('#').expect("it is in this document");
        assert!(document.pointer(pointer).is_some(), "{name} leads nowhere");
    }
}

fn collect_references(value: &Value, names: &mut BTreeSet<String>) {
    if let Some(Value::String(name)) = value.get("$ref") {
        names.insert(name.clone());
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|v| collect_references(v, names)),
        Value::Array(items) => items.iter().for_each(|v| collect_references(v, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
