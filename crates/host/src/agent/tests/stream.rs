//! The stream port as the manager uses it.

use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::{MESSAGE_BYTES_MAX, Mount, StreamReply, StreamRequest};
use racknest_underlay::message::{read_message, write_message};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::stage::{Scripted, Stage};
use super::*;

async fn ask(stage: &Stage, request: StreamRequest) -> (DuplexStream, StreamReply) {
    let (mut near, far) = tokio::io::duplex(1 << 10);
    stage.streams.send(Box::new(far)).await.unwrap();
    write_message(&mut near, &request, MESSAGE_BYTES_MAX).await.unwrap();
    let reply = reply(&mut near).await;
    (near, reply)
}

async fn reply(stream: &mut DuplexStream) -> StreamReply {
    read_message(stream, MESSAGE_BYTES_MAX).await.unwrap().expect("a reply")
}

async fn with_datastore() -> Stage {
    let stage = Stage::new(Scripted::open());
    let directory = stage.host.layout.state().join("ds1");
    fs_err::create_dir_all(&directory).unwrap();
    let directory = directory.to_str().unwrap().to_owned();
    let mut manager = stage.connect().await;
    manager.send(ToHost::Mounts(vec![Mount { name: "ds1".into(), directory }])).await;
    manager.sync().await;
    stage
}

fn read_from(file: &str, offset: u64) -> StreamRequest {
    StreamRequest::Read { path: path(file), offset }
}

fn path(text: &str) -> DatastorePath {
    DatastorePath::new("ds1", text).unwrap()
}

#[tokio::test]
async fn a_file_goes_up_and_comes_down() {
    let stage = with_datastore().await;
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let size = u64::try_from(content.len()).unwrap();
    let write = StreamRequest::Write { path: path("a"), size, overwrite: false };
    let (mut stream, ready) = ask(&stage, write).await;
    assert_eq!(ready, StreamReply::Ready { size: Some(size) });
    stream.write_all(&content).await.unwrap();
    assert_eq!(reply(&mut stream).await, StreamReply::Ready { size: None });
    for offset in [0, 7, size - 1, size, size + 1] {
        let (mut stream, ready) = ask(&stage, read_from("a", offset)).await;
        assert_eq!(ready, StreamReply::Ready { size: Some(size) });
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        let wanted = usize::try_from(offset).unwrap().min(content.len());
        assert!(read == content[wanted..], "{offset}");
    }
    let (_, listing) = ask(&stage, StreamRequest::List(path(""))).await;
    assert!(matches!(listing, StreamReply::Listing(entries) if entries.len() == 1));
    let (_, space) = ask(&stage, StreamRequest::Space(path(""))).await;
    assert!(matches!(space, StreamReply::Space(space) if space.used.get() >= size));
    ask(&stage, StreamRequest::MakeDirectory(path("b/c"))).await;
    ask(&stage, StreamRequest::Remove(path("a"))).await;
    let (_, listing) = ask(&stage, StreamRequest::List(path(""))).await;
    let StreamReply::Listing(entries) = listing else { panic!("{listing:?}") };
    assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_no_file() {
    let stage = with_datastore().await;
    let write = StreamRequest::Write { path: path("a"), size: 100, overwrite: false };
    let (mut stream, _) = ask(&stage, write).await;
    stream.write_all(b"part").await.unwrap();
    stream.shutdown().await.unwrap();
    // The host hangs up after it has cleaned up.
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    let (_, listing) = ask(&stage, StreamRequest::List(path(""))).await;
    assert_eq!(listing, StreamReply::Listing(vec![]));
}

#[tokio::test]
async fn a_console_is_joined_both_ways_and_refusals_say_why() {
    let stage = with_datastore().await;
    let vm = VmId::from_raw(7);
    let (mut console, ready) = ask(&stage, StreamRequest::Console(vm)).await;
    assert_eq!(ready, StreamReply::Ready { size: None });
    console.write_all(b"echo").await.unwrap();
    let mut echo = [0; 4];
    console.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"echo");
    let (_, refused) = ask(&stage, StreamRequest::Serial(vm)).await;
    assert_eq!(refused, StreamReply::Refused(Fault::unsupported("no serial port")));
    let (mut log, ready) = ask(&stage, StreamRequest::SerialLog(vm)).await;
    assert_eq!(ready, StreamReply::Ready { size: Some(6) });
    let mut text = String::new();
    log.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "booted");
    let (_, refused) = ask(&stage, read_from("none", 0)).await;
    assert!(matches!(refused, StreamReply::Refused(fault) if fault.code == FaultCode::NotFound));
}
