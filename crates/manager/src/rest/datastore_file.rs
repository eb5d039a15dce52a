//! The files on a datastore: bytes between a client and a host that mounts it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::Page;
use racknest_api::v1::datastore::{
    DatastoreBrowse, DatastoreDownload, DatastoreMkdir, DatastoreRemove, DatastoreUpload, File,
};
use racknest_cluster::record::datastore::DatastorePath;
use racknest_cluster::wire::{FileEntry, StreamReply, StreamRequest};
use racknest_types::fault::Fault;
use racknest_underlay::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::call::{Call, caller};
use super::convert::time;
use super::datastore::host_of;
use super::range::{Part, part};
use super::routes::Routes;
use crate::host_stream;
use crate::state::State;

/// Read from a host at once.
const CHUNK_BYTES: usize = 128 << 10;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<DatastoreBrowse, _>(browse)
        .on::<DatastoreRemove, _>(remove)
        .on::<DatastoreMkdir, _>(make_directory)
        .on_request::<DatastoreDownload, _>(download)
        .on_request::<DatastoreUpload, _>(upload)
}

/// A path on the datastore that the request names, and a host that can reach it.
fn locate<O: Operation>(call: &Call<O>, path: &str) -> Result<(String, DatastorePath), Fault> {
    call.look(|view| {
        let datastore = view.find_datastore(&call.name(0))?;
        let name = &view.inventory.datastore(datastore)?.name;
        let path = DatastorePath::new(name, path.trim_end_matches('/'));
        let path = path.map_err(|error| Fault::invalid(error.to_string()))?;
        host_of(view.inventory, datastore).map(|host| (host, path))
    })
}

/// A path that is not the top of its datastore.
fn locate_below<O: Operation>(
    call: &Call<O>,
    path: &str,
) -> Result<(String, DatastorePath), Fault> {
    let (host, path) = locate(call, path)?;
    if path.path.is_empty() {
        return Err(Fault::invalid(format!(
            "{path} is the top of the datastore; name a file or directory below it"
        )));
    }
    Ok((host, path))
}

async fn browse(call: Call<DatastoreBrowse>) -> Result<Page<File>, Fault> {
    let (host, path) = locate(&call, &call.query.path)?;
    let (reply, _) = call.state.streams.open(&host, &StreamRequest::List(path.clone())).await?;
    let StreamReply::Listing(entries) = reply else { return Err(unexpected(&host)) };
    Ok(Page::whole(entries.iter().map(|entry| show(&path, entry)).collect()))
}

fn show(directory: &DatastorePath, entry: &FileEntry) -> File {
    let path = if directory.path.is_empty() {
        entry.name.clone()
    } else {
        format!("{}/{}", directory.path, entry.name)
    };
    File {
        name: entry.name.clone(),
        path,
        is_directory: entry.is_directory,
        size_bytes: entry.size.get(),
        used_bytes: entry.used.get(),
        modified: time(entry.modified),
    }
}

async fn remove(call: Call<DatastoreRemove>) -> Result<Nothing, Fault> {
    let (host, path) = locate_below(&call, &call.query.path)?;
    check_unused(&call, &path)?;
    call.state.streams.open(&host, &StreamRequest::Remove(path)).await?;
    Ok(Nothing {})
}

/// The files of a VM that is registered are removed with the VM, not behind its back.
fn check_unused<O: Operation>(call: &Call<O>, path: &DatastorePath) -> Result<(), Fault> {
    let holds = |file: &DatastorePath| {
        file.datastore == path.datastore
            && file
                .path
                .strip_prefix(&path.path)
                .is_some_and(|it| it.is_empty() || it.starts_with('/'))
    };
    call.look(|view| {
        let user = view.inventory.vms().find(|vm| {
            let disks = vm.config.disks.iter();
            let mut layers = disks.flat_map(|disk| disk.backing.iter().chain([&disk.file]));
            holds(&vm.home)
                || path.path.starts_with(&format!("{}/", vm.home.path))
                    && path.datastore == vm.home.datastore
                || layers.any(holds)
        });
        match user {
            None => Ok(()),
            Some(vm) => Err(Fault::new(
                racknest_types::fault::FaultCode::ResourceInUse,
                format!("{path} is in use by VM '{}'; delete the VM instead", vm.name),
            )),
        }
    })
}

async fn make_directory(call: Call<DatastoreMkdir>) -> Result<Nothing, Fault> {
    let (host, path) = locate_below(&call, &call.body.path)?;
    call.state.streams.open(&host, &StreamRequest::MakeDirectory(path)).await?;
    Ok(Nothing {})
}

async fn download(state: State, request: Request) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    let call = Call::<DatastoreDownload>::receive_head(state, &mut parts, caller).await?;
    let (host, path) = locate_below(&call, &call.query.path)?;
    let (size, stream) = open_at(&call.state, &host, &path, 0).await?;
    let range = parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    match part(range, size) {
        Part::Whole => Ok((StatusCode::OK, content(stream, size, None)).into_response()),
        Part::Bytes(bytes) => {
            // What a range means is known with the size. Behind a part that is not wanted the file
            // is opened once more, so that nobody reads and carries it.
            let stream = if bytes.start == 0 {
                stream
            } else {
                let (again, stream) = open_at(&call.state, &host, &path, bytes.start).await?;
                if again != size {
                    return Err(Fault::state(format!("{path} is being changed; try again")));
                }
                stream
            };
            let length = bytes.end - bytes.start;
            let place = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
            let content = content(stream, length, Some(place));
            Ok((StatusCode::PARTIAL_CONTENT, content).into_response())
        }
        Part::Nothing => {
            let place = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            Ok((StatusCode::RANGE_NOT_SATISFIABLE, place).into_response())
        }
    }
}

/// The size of a file, and its bytes from there on.
async fn open_at(
    state: &State,
    host: &str,
    path: &DatastorePath,
    offset: u64,
) -> Result<(u64, Stream), Fault> {
    let request = StreamRequest::Read { path: path.clone(), offset };
    let (reply, stream) = state.streams.open(host, &request).await?;
    let StreamReply::Ready { size: Some(size) } = reply else { return Err(unexpected(host)) };
    Ok((size, stream))
}

fn content(stream: Stream, length: u64, place: Option<String>) -> Response {
    let body = Body::from_stream(ReaderStream::with_capacity(stream.take(length), CHUNK_BYTES));
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| {
        headers.insert(name, value.parse().expect("numbers and words are header values"));
    };
    set(header::CONTENT_TYPE, "application/octet-stream");
    set(header::ACCEPT_RANGES, "bytes");
    // A stream that ends before this many bytes is seen to be broken.
    set(header::CONTENT_LENGTH, &length.to_string());
    // What a guest has written must not run in the browser of who looks at it.
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_DISPOSITION, "attachment");
    if let Some(place) = place {
        set(header::CONTENT_RANGE, &place);
    }
    (headers, body).into_response()
}

async fn upload(state: State, request: Request) -> Result<Response, Fault> {
    let (mut parts, body) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    let call = Call::<DatastoreUpload>::receive_head(state, &mut parts, caller).await?;
    let (host, path) = locate_below(&call, &call.query.path)?;
    let overwrite = call.query.overwrite;
    if overwrite {
        check_unused(&call, &path)?;
    }
    let size =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let size: u64 = size.ok_or_else(|| {
        Fault::invalid("an upload says in a Content-Length header how long the file is")
    })?;
    let request = StreamRequest::Write { path, size, overwrite };
    let (_, mut stream) = call.state.streams.open(&host, &request).await?;
    send(body, &mut stream).await?;
    host_stream::reply(&host, &mut stream).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends a body on. A client that stops half-way leaves the host with a short file, which it drops.
async fn send(body: Body, stream: &mut Stream) -> Result<(), Fault> {
    let mut chunks = body.into_data_stream();
    let mut is_taken = true;
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Fault::invalid(format!("the upload broke off: {error}")))?;
        // When the host hangs up it has said why: that is what is read next. The rest of the body is
        // read all the same, because a client that cannot send does not read the answer.
        is_taken = is_taken && stream.write_all(&chunk).await.is_ok();
    }
    Ok(())
}

fn unexpected(host: &str) -> Fault {
    Fault::system(format!("host '{host}' answered something else than it was asked for"))
}
