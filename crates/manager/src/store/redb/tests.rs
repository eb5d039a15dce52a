//! The embedded store on good disks, full disks, failing disks and files that are no stores.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use racknest_types::fault::FaultCode;
use racknest_types::rng::Rng;

use super::*;
use crate::store::watch::{Change, WatchError};

/// A disk that counts, and fails when it is told to.
#[derive(Debug)]
struct TestDisk {
    size: AtomicU64,
    syncs: AtomicU32,
    is_broken: AtomicBool,
}

impl TestDisk {
    fn new() -> Arc<Self> {
        let (size, syncs) = (AtomicU64::new(u64::MAX), AtomicU32::new(0));
        Arc::new(Self { size, syncs, is_broken: AtomicBool::new(false) })
    }
}

impl Disk for TestDisk {
    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        if len > self.size.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.reserve(file, len)
    }

    fn reserve_headroom(&self, _: &File) {}

    fn sync(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync(file)
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    disk: Arc<TestDisk>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self { directory, disk: TestDisk::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("inventory.redb")
    }

    fn open(&self) -> Result<RedbStore, OpenStoreError> {
        let disk: Arc<dyn Disk> = Arc::<TestDisk>::clone(&self.disk);
        RedbStore::open_on(disk, &self.path(), |_| Ok(()))
    }

    /// Why the file is refused; it and its neighbours stay as they are.
    fn refusal(&self) -> OpenStoreError {
        let before = fs_err::read(self.path()).ok();
        let refusal = self.open().expect_err("the file is refused");
        assert_eq!(fs_err::read(self.path()).ok(), before, "{refusal}");
        refusal
    }
}

fn put(key: &str, value: &str) -> Transaction {
    Transaction { puts: vec![(key.into(), value.into())], ..Transaction::default() }
}

fn list(store: &dyn Store, span: &Span) -> Vec<String> {
    let mut found = vec![];
    let read = store.range(span, &mut |entry| {
        let value = String::from_utf8_lossy(entry.value);
        found.push(format!("{}={value}@{}", entry.key, entry.revision));
        Ok(())
    });
    read.expect("the store can be read");
    found
}

#[test]
fn what_was_written_is_read_in_the_order_of_keys() {
    let store = Fixture::new().open().unwrap();
    for (key, value) in [("b/2", "x"), ("a/1", "y"), ("b/10", "z"), ("b/2", "new")] {
        store.transact(&put(key, value)).unwrap();
    }
    assert_eq!(list(&store, &Span::all()), ["a/1=y@2", "b/10=z@3", "b/2=new@4"]);
    assert_eq!(list(&store, &Span::prefix("b/")), ["b/10=z@3", "b/2=new@4"]);
    let between = Span::Between("a/1".into(), "b/2".into());
    assert_eq!(list(&store, &between), ["a/1=y@2", "b/10=z@3"]);
    assert_eq!(store.range(&Span::all(), &mut |_| Ok(())), Ok(4));
}

#[test]
fn a_transaction_whose_expectation_fails_does_nothing() {
    let store = Fixture::new().open().unwrap();
    let expecting = |revision, value: &str| Transaction {
        compares: vec![Compare { key: "k".into(), revision }],
        deletes: vec!["other".into()],
        ..put("k", value)
    };
    assert_eq!(store.transact(&expecting(None, "1")), Ok(Outcome::Committed { revision: 1 }));
    assert_eq!(store.transact(&expecting(None, "2")), Ok(Outcome::Conflict));
    assert_eq!(store.transact(&expecting(Some(7), "3")), Ok(Outcome::Conflict));
    assert_eq!(list(&store, &Span::all()), ["k=1@1"]);
    assert_eq!(store.transact(&expecting(Some(1), "4")), Ok(Outcome::Committed { revision: 2 }));
    assert_eq!(list(&store, &Span::all()), ["k=4@2"]);
}

#[test]
fn a_store_that_is_opened_again_goes_on_where_it_was() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    store.transact(&put("k", "1")).unwrap();
    drop(store);
    let store = fixture.open().unwrap();
    assert_eq!(list(&store, &Span::all()), ["k=1@1"]);
    assert_eq!(store.transact(&put("k", "2")), Ok(Outcome::Committed { revision: 2 }));
}

#[tokio::test]
async fn a_watch_is_told_of_changes_under_its_prefix() {
    let store = Fixture::new().open().unwrap();
    let mut watch = store.watch("vm/");
    let mut change = put("vm/1", "a");
    change.puts.push(("host/1".into(), b"b".to_vec()));
    change.deletes.push("vm/0".into());
    store.transact(&change).unwrap();
    let told = |revision, key: &str, value: Option<&str>| {
        Ok(Change { revision, key: key.into(), value: value.map(|value| value.into()) })
    };
    assert_eq!(watch.next().await, told(1, "vm/0", None));
    assert_eq!(watch.next().await, told(1, "vm/1", Some("a")));
    for _ in 0..300 {
        store.transact(&put("vm/2", "c")).unwrap();
    }
    assert_eq!(watch.next().await, Err(WatchError::FellBehind));
    assert_eq!(watch.next().await, told(46, "vm/2", Some("c")));
    drop(store);
    while watch.next().await.is_ok() {}
    assert_eq!(watch.next().await, Err(WatchError::Closed));
}

#[test]
fn a_transaction_costs_one_sync() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    // The first ones also make the file longer, which has a sync of its own.
    for _ in 0..20 {
        store.transact(&put("k", "v")).unwrap();
    }
    let before = fixture.disk.syncs.load(Ordering::Relaxed);
    for _ in 0..100 {
        store.transact(&put("k", "v")).unwrap();
    }
    assert_eq!(fixture.disk.syncs.load(Ordering::Relaxed) - before, 100);
}

#[test]
fn a_full_disk_refuses_the_write_and_keeps_what_was() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    for _ in 0..10 {
        store.transact(&put("small", "1")).unwrap();
    }
    let len = fs_err::metadata(fixture.path()).unwrap().len();
    fixture.disk.size.store(len, Ordering::Relaxed);
    let large = put("large", &"x".repeat(1 << 20));
    for _ in 0..3 {
        let fault = store.transact(&large).expect_err("the disk is full");
        assert_eq!(fault.code, FaultCode::NoDiskSpace, "{fault}");
        assert!(fault.message.contains("inventory.redb"), "{fault}");
        assert_eq!(list(&store, &Span::all()), ["small=1@10"]);
        assert_eq!(fs_err::metadata(fixture.path()).unwrap().len(), len);
    }
    fixture.disk.size.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(store.transact(&large), Ok(Outcome::Committed { revision: 11 }));
    drop(store);
    assert_eq!(list(&fixture.open().unwrap(), &Span::all()).len(), 2);
}

#[test]
fn room_for_the_next_growth_is_reserved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inventory.redb");
    let store = RedbStore::open(&path, |_| Ok(())).unwrap();
    store.transact(&put("k", "v")).unwrap();
    let file = fs_err::metadata(&path).unwrap();
    let taken = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(taken >= file.len() + (1 << 20) || taken <= file.len(), "{taken} of {}", file.len());
}

#[test]
fn no_store_is_made_on_a_full_disk() {
    let fixture = Fixture::new();
    fixture.disk.size.store(4096, Ordering::Relaxed);
    assert!(matches!(fixture.refusal(), OpenStoreError::NoSpace { .. }));
    let names: Vec<_> = fs_err::read_dir(fixture.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["inventory.redb.lock"]);
    fixture.disk.size.store(u64::MAX, Ordering::Relaxed);
    fixture.open().unwrap();
}

#[test]
fn a_failing_disk_is_reported_and_tried_again() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    store.transact(&put("k", "1")).unwrap();
    fixture.disk.is_broken.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let fault = store.transact(&put("k", "2")).expect_err("the disk is broken");
        assert_eq!(fault.code, FaultCode::SystemError, "{fault}");
    }
    fixture.disk.is_broken.store(false, Ordering::Relaxed);
    store.transact(&put("k", "3")).unwrap();
    assert!(list(&store, &Span::all())[0].starts_with("k=3@"));
}

#[test]
fn a_store_in_use_names_the_process() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    let refusal = fixture.open().expect_err("it is open");
    let process = format!("in use by process {}:", std::process::id());
    assert!(refusal.to_string().contains(&process), "{refusal}");
    drop(store);
    fixture.open().unwrap();
}

#[test]
fn a_file_that_is_no_store_is_refused_and_kept() {
    let fixture = Fixture::new();
    for content in ["", "x", "{\"a\": 1}\n", &"no store at all. ".repeat(10_000)] {
        fs_err::write(fixture.path(), content).unwrap();
        let refusal = fixture.refusal();
        assert!(matches!(refusal, OpenStoreError::NotAStore { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("inventory.redb"), "{refusal}");
    }
    fs_err::remove_file(fixture.path()).unwrap();
    fs_err::create_dir(fixture.path()).unwrap();
    assert!(matches!(fixture.refusal(), OpenStoreError::Io { .. }));
}

#[test]
fn what_a_crash_left_of_a_new_store_is_swept_away() {
    let fixture = Fixture::new();
    fs_err::write(fixture.directory.path().join("inventory.redb.new"), "half").unwrap();
    fixture.open().unwrap();
    assert!(!fixture.directory.path().join("inventory.redb.new").exists());
}

#[test]
fn a_store_that_is_not_approved_is_kept_as_it_is() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    store.transact(&put("k", "v")).unwrap();
    drop(store);
    let before = fs_err::read(fixture.path()).unwrap();
    let refused = RedbStore::open(&fixture.path(), |trial| {
        assert_eq!(list(trial, &Span::all()), ["k=v@1"]);
        trial.transact(&put("k", "w")).expect_err("it is open to look at only");
        Err(OpenStoreError::NoSpace { path: fixture.path() })
    });
    refused.expect_err("it was not approved");
    assert_eq!(fs_err::read(fixture.path()).unwrap(), before);
}

/// Whatever is changed in a file or cut off from it: it opens with the right content, or it is
/// refused and left alone. It never panics, and never shows something else.
#[test]
fn a_damaged_store_is_refused_and_kept() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    for number in 0..200 {
        store.transact(&put(&format!("vm/{number}"), &"v".repeat(400))).unwrap();
    }
    let content = list(&store, &Span::all());
    drop(store);
    let intact = fs_err::read(fixture.path()).unwrap();
    let mut rng = Rng::from_seed(2);
    let mut refused = 0;
    for round in 0..400 {
        let mut damaged = intact.clone();
        let len = u64::try_from(damaged.len()).unwrap();
        let at = usize::try_from(rng.below(len)).unwrap();
        match round % 4 {
            0 => damaged.truncate(at),
            1 => damaged[at] ^= 0x40,
            2 => damaged[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            // The header, where every byte counts.
            _ => damaged[at % 320] ^= 0xff,
        }
        fs_err::write(fixture.path(), &damaged).unwrap();
        match fixture.open() {
            Ok(store) => assert_eq!(list(&store, &Span::all()), content, "round {round}"),
            Err(error) => {
                refused += 1;
                assert_eq!(fs_err::read(fixture.path()).unwrap(), damaged, "{error}");
            }
        }
    }
    assert!(refused > 200, "only {refused} of 400 were refused");
}
