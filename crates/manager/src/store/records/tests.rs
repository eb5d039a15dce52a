//! Records come back as they were saved, and in the order of their ids.

use racknest_cluster::record::Meta;
use racknest_cluster::record::access::RoleRecord;
use racknest_cluster::record::folder::{FolderKind, FolderRecord};
use racknest_types::id::{FolderId, RoleId};

use super::*;
use crate::VERSION;

fn folder(id: u64, name: &str) -> Saved {
    let id = FolderId::from_raw(id);
    let record = FolderRecord { id, name: name.into(), parent: None, holds: FolderKind::Vms };
    (id.into(), Some(Record::Folder(record)))
}

fn open(directory: &tempfile::TempDir) -> Records {
    Records::open(&directory.path().join("inventory.redb")).unwrap()
}

#[test]
fn records_come_back_in_the_order_of_their_ids() {
    let directory = tempfile::tempdir().unwrap();
    let meta = Record::Meta(Meta { next_id: 11, last_change: 4, ..Meta::default() });
    let role = RoleRecord {
        id: RoleId::from_raw(3),
        name: "Operator".into(),
        built_in: false,
        privileges: ["VirtualMachine.Interact.PowerOn".into()].into(),
    };
    let role = (EntityRef::from(role.id), Some(Record::Role(role)));
    let mut changes = vec![folder(10, "ten"), folder(9, "nine"), folder(7, "gone"), role];
    changes.push((EntityRef::Meta, Some(meta)));
    open(&directory).save(&changes).unwrap();
    let delete = vec![(FolderId::from_raw(7).into(), None), folder(9, "lost"), folder(9, "NINE")];
    open(&directory).save(&delete).unwrap();
    let loaded = open(&directory).load().unwrap();
    let expected = [folder(9, "NINE"), folder(10, "ten"), changes[4].clone(), changes[3].clone()];
    let expected: Vec<Record> = expected.into_iter().filter_map(|(_, record)| record).collect();
    assert_eq!(loaded, expected);
}

#[test]
fn a_store_says_who_wrote_it_once_it_was_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = open(&directory);
    let stamp = |records: &Records| {
        let mut found = None;
        let span = Span::prefix(FORMAT_KEY);
        let read = records.store.range(&span, &mut |entry| {
            found = Some(String::from_utf8_lossy(entry.value).into_owned());
            Ok(())
        });
        read.unwrap();
        found
    };
    assert_eq!(stamp(&records), None);
    assert_eq!(records.load(), Ok(vec![]));
    records.save(&[folder(1, "a")]).unwrap();
    let expected = format!(r#"{{"format":1,"written_by":"{VERSION}"}}"#);
    assert_eq!(stamp(&records), Some(expected));
}

/// Writes one value under one key, as somebody else might.
fn plant(directory: &tempfile::TempDir, key: &str, value: &str) {
    let path = directory.path().join("inventory.redb");
    let store = RedbStore::open(&path, |_| Ok(())).unwrap();
    let puts = vec![(key.to_owned(), value.as_bytes().to_vec())];
    store.transact(&Transaction { puts, ..Transaction::default() }).unwrap();
}

#[test]
fn a_store_of_a_newer_racknest_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    plant(&directory, FORMAT_KEY, r#"{"format":77,"written_by":"9.8.7","more":[]}"#);
    let path = directory.path().join("inventory.redb");
    let before = fs_err::read(&path).unwrap();
    let line = Records::open(&path).expect_err("it is newer").to_string();
    let expected = format!(
        "the store {} has format 77, written by racknest 9.8.7; this is racknest {VERSION}, which \
         reads up to format 1: run racknest 9.8.7 or newer",
        path.display()
    );
    assert_eq!(line, expected);
    assert_eq!(fs_err::read(&path).unwrap(), before);
}

#[test]
fn a_store_that_does_not_say_its_format_is_refused() {
    for (key, value) in [("vm/1", "{}"), (FORMAT_KEY, "1"), (FORMAT_KEY, "{\"format\":-1}")] {
        let directory = tempfile::tempdir().unwrap();
        plant(&directory, key, value);
        let path = directory.path().join("inventory.redb");
        let refusal = Records::open(&path).expect_err("it has no format");
        assert!(matches!(refusal, OpenStoreError::Damaged { .. }), "{refusal:?}");
    }
}

#[test]
fn a_record_that_cannot_be_understood_is_named() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(&[folder(1, "a")]).unwrap();
    plant(&directory, "vm/00000000000000000042", r#"{"Vm":{}}"#);
    let fault = open(&directory).load().expect_err("it is no VM");
    assert!(fault.message.contains("vm/00000000000000000042"), "{fault}");
}
