//! A store that an earlier racknest wrote still opens, and everything in it is still there.
//!
//! `tests/fixtures/store-format-N.json` has one record of every kind, each field in use, as the
//! racknest that brought format N wrote it; `store-format-N.redb` is the store that it wrote them
//! to. For a new format, write the JSON and make the store from it with
//! `UPDATE_FIXTURE=1 cargo test -p racknest-manager --test store_format`. Those of released formats
//! are never changed again.

use std::path::{Path, PathBuf};

use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::{FORMAT, Record};
use racknest_manager::store::records::{Records, Saved};
use serde_json::Value;

fn fixture(format: u32, extension: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    directory.join(format!("store-format-{format}.{extension}"))
}

fn json(format: u32) -> String {
    fs_err::read_to_string(fixture(format, "json")).expect("the fixture is there")
}

/// What the records of the fixture are stored under: the `id` inside of each.
fn entities(json: &str) -> Vec<EntityRef> {
    let list: Vec<Value> = serde_json::from_str(json).expect("a list");
    let entity = |record: &Value| {
        let fields = record.as_object()?.values().next()?;
        fields["id"].as_str().unwrap_or("inventory").parse().ok()
    };
    list.iter().map(|record| entity(record).expect("an id")).collect()
}

fn write_fixture() {
    let json = json(FORMAT);
    let records: Vec<Record> = serde_json::from_str(&json).expect("records of today");
    let changes: Vec<Saved> =
        entities(&json).into_iter().zip(records.into_iter().map(Some)).collect();
    let directory = tempfile::tempdir().expect("the fixture can be made");
    let store = directory.path().join("inventory.redb");
    let mut records = Records::open(&store).expect("the fixture can be made");
    records.save(&changes).expect("the fixture can be made");
    drop(records);
    fs_err::copy(store, fixture(FORMAT, "redb")).expect("the fixture can be made");
}

/// Whether everything in `old` is in `new` with the same value. `new` may have more.
fn assert_kept(place: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let place = format!("{place}.{name}");
                assert_kept(&place, value, new.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                assert_kept(&format!("{place}[{number}]"), old, new);
            }
        }
        _ => assert_eq!(old, new, "{place}"),
    }
}

fn in_order(mut records: Vec<Value>) -> Value {
    records.sort_by_key(ToString::to_string);
    Value::Array(records)
}

#[test]
fn a_store_of_every_earlier_format_opens() {
    if std::env::var_os("UPDATE_FIXTURE").is_some() {
        write_fixture();
    }
    for format in 1..=FORMAT {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("inventory.redb");
        fs_err::copy(fixture(format, "redb"), &store).unwrap();
        let mut records = Records::open(&store).expect("an earlier store opens");
        let loaded = records.load().expect("its records can be read");
        // Through text, because a JSON value cannot hold a UUID's 128 bits exactly.
        let loaded = serde_json::to_string(&loaded).unwrap();
        let old = in_order(serde_json::from_str(&json(format)).unwrap());
        assert_kept("record", &old, &in_order(serde_json::from_str(&loaded).unwrap()));

        // It can be written to as well, and is ours from then on.
        let entities = entities(&json(format));
        let deletes: Vec<Saved> = entities.into_iter().map(|entity| (entity, None)).collect();
        records.save(&deletes).unwrap();
        drop(records);
        assert_eq!(Records::open(&store).unwrap().load(), Ok(vec![]));
    }
}
