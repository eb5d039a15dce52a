//! A datastore is used as the manager uses it, and attacked as a user could.

use std::io::{Read as _, Write as _};

use racknest_cluster::wire::Mount;

use super::space::space;
use super::upload::Upload;
use super::*;

struct Stage {
    directory: tempfile::TempDir,
    mounts: Mounts,
}

impl Stage {
    /// A datastore `ds1`, and beside it a secret.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ds1 = directory.path().join("ds1");
        fs_err::create_dir(&ds1).unwrap();
        fs_err::create_dir(directory.path().join("secret")).unwrap();
        fs_err::write(directory.path().join("secret/key"), "key").unwrap();
        let directory_of_ds1 = ds1.to_str().unwrap().to_owned();
        let mount = Mount { name: "ds1".into(), directory: directory_of_ds1 };
        Self { directory, mounts: Mounts::in_memory(vec![mount]) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("ds1").join(name)
    }

    fn upload(&self, name: &str, content: &[u8], overwrite: bool) -> Result<(), Fault> {
        let size = u64::try_from(content.len()).unwrap();
        let (upload, mut file) = Upload::begin(&self.mounts, path(name), size, overwrite)?;
        file.write_all(content).unwrap();
        upload.finish(&file)
    }

    fn names(&self) -> Vec<String> {
        list(&self.mounts, &path("")).unwrap().into_iter().map(|entry| entry.name).collect()
    }
}

fn path(text: &str) -> DatastorePath {
    DatastorePath::new("ds1", text).unwrap()
}

#[test]
fn a_file_is_written_listed_read_and_removed() {
    let stage = Stage::new();
    make_directory(&stage.mounts, &path("iso/linux")).unwrap();
    make_directory(&stage.mounts, &path("iso/linux")).unwrap();
    stage.upload("iso/linux/a.iso", b"content", false).unwrap();
    let entries = list(&stage.mounts, &path("iso/linux")).unwrap();
    assert_eq!((entries[0].name.as_str(), entries[0].size), ("a.iso", Bytes::new(7)));
    assert!(list(&stage.mounts, &path("")).unwrap()[0].is_directory);
    let (mut file, size) = open(&stage.mounts, &path("iso/linux/a.iso")).unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!((content.as_str(), size), ("content", 7));
    remove(&stage.mounts, &path("iso")).unwrap();
    remove(&stage.mounts, &path("iso")).unwrap();
    remove(&stage.mounts, &path("iso/linux/a.iso")).unwrap();
    assert_eq!(stage.names(), [""; 0]);
}

#[test]
fn a_link_that_leads_out_is_refused() {
    let stage = Stage::new();
    std::os::unix::fs::symlink("../secret", stage.file("out")).unwrap();
    std::os::unix::fs::symlink("../secret/key", stage.file("key")).unwrap();
    let refused = |result: Result<(), Fault>| {
        assert_eq!(result.unwrap_err().code, FaultCode::InvalidArgument);
    };
    refused(list(&stage.mounts, &path("out")).map(drop));
    refused(open(&stage.mounts, &path("key")).map(drop));
    refused(open(&stage.mounts, &path("out/key")).map(drop));
    refused(stage.upload("out/new", b"x", true));
    refused(make_directory(&stage.mounts, &path("out/new")));
    refused(remove(&stage.mounts, &path("out/key")));
    // The link itself can go, and an upload takes its place, not its target's.
    stage.upload("key", b"mine", true).unwrap();
    remove(&stage.mounts, &path("out")).unwrap();
    assert_eq!(fs_err::read(stage.directory.path().join("secret/key")).unwrap(), b"key");
    assert_eq!(stage.names(), ["key"]);
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let stage = Stage::new();
    let (upload, mut file) = Upload::begin(&stage.mounts, path("a"), 100, false).unwrap();
    file.write_all(b"part").unwrap();
    drop(upload);
    assert_eq!(stage.names(), [""; 0]);
}

#[test]
fn a_file_is_replaced_only_if_asked() {
    let stage = Stage::new();
    stage.upload("a", b"old", false).unwrap();
    assert_eq!(stage.upload("a", b"new", false).unwrap_err().code, FaultCode::DuplicateName);
    stage.upload("a", b"new", true).unwrap();
    assert_eq!(fs_err::read(stage.file("a")).unwrap(), b"new");
    // Two at once: the second to finish is refused.
    let (one, one_file) = Upload::begin(&stage.mounts, path("b"), 0, false).unwrap();
    stage.upload("b", b"first", false).unwrap();
    assert_eq!(one.finish(&one_file).unwrap_err().code, FaultCode::DuplicateName);
    assert_eq!(stage.names(), ["a", "b"]);
}

#[test]
fn what_does_not_fit_is_refused_before_a_byte_is_written() {
    let stage = Stage::new();
    let fault = Upload::begin(&stage.mounts, path("a"), u64::MAX / 2, false).unwrap_err();
    assert_eq!(fault.code, FaultCode::NoDiskSpace);
    assert_eq!(stage.names(), [""; 0]);
}

#[test]
fn what_is_not_there_is_named() {
    let stage = Stage::new();
    let fault = list(&stage.mounts, &path("none")).unwrap_err();
    assert_eq!(fault.code, FaultCode::NotFound);
    assert_eq!(fault.message, "[ds1] none does not exist");
    assert_eq!(stage.upload("none/a", b"", false).unwrap_err().code, FaultCode::NotFound);
    assert_eq!(remove(&stage.mounts, &path("")).unwrap_err().code, FaultCode::InvalidArgument);
    let elsewhere = DatastorePath::new("ds2", "a").unwrap();
    assert_eq!(remove(&stage.mounts, &elsewhere).unwrap_err().code, FaultCode::NotFound);
}

#[test]
fn used_space_leaves_out_holes_and_provisioned_is_what_disks_promise() {
    let stage = Stage::new();
    let mut image = vec![0; 64 << 10];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    image[24..32].copy_from_slice(&(10_u64 << 30).to_be_bytes());
    fs_err::create_dir(stage.file("web01")).unwrap();
    fs_err::write(stage.file("web01/web01.qcow2"), &image).unwrap();
    fs_err::hard_link(stage.file("web01/web01.qcow2"), stage.file("web01/same")).unwrap();
    fs_err::File::create(stage.file("hole")).unwrap().set_len(1 << 30).unwrap();
    let space = space(&stage.mounts, &path("")).unwrap();
    assert_eq!(space.provisioned, Bytes::from_gib(10));
    assert!(space.used >= Bytes::from_kib(64) && space.used < Bytes::from_mib(1), "{space:?}");
    assert!(space.free <= space.capacity && space.free > Bytes::ZERO, "{space:?}");
}
