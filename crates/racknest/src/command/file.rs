//! Bytes in bulk: files of datastores, screenshots, serial logs.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::{Setting, path_value, row};
use crate::client::CallError;
use crate::print::{self, Progress};

/// How much is copied between two moves of the bar.
const CHUNK: usize = 256 << 10;

/// Adds the argument of `racknest vm screenshot`.
pub(crate) fn screenshot_arguments(command: Command) -> Command {
    command.arg(file_argument("Where the picture goes; VM.png if absent, '-' for the output"))
}

/// Adds the local file of `racknest datastore upload`.
pub(crate) fn upload_arguments(command: Command) -> Command {
    command
        .mut_arg("path", |_| {
            Arg::new("path").index(3).value_name("PATH").help(
                "Where it goes on the datastore; its own name if absent, into it if it ends with '/'",
            )
        })
        .arg(Arg::new("source").index(2).value_name("FILE").required(true).help("The file to send"))
}

/// Adds the local file of `racknest datastore download`.
pub(crate) fn download_arguments(command: Command) -> Command {
    let help = "Where it goes; its own name here if absent, '-' for the output";
    command.arg(file_argument(help)).arg(
        Arg::new("overwrite")
            .long("overwrite")
            .action(ArgAction::SetTrue)
            .help("Replace a file of that name"),
    )
}

/// Adds the file of `racknest network tcpdump`, as `tcpdump` calls it.
pub(crate) fn capture_arguments(command: Command) -> Command {
    command.arg(
        Arg::new("write")
            .short('w')
            .long("write")
            .value_name("FILE")
            .help("Where the pcapng goes; the output if absent, as for `| tshark -r -`"),
    )
}

/// Writes copies of what passes by a port, until there are enough or the user has.
pub(crate) fn capture(
    verb: &super::verb::Verb,
    matches: &ArgMatches,
    setting: &Setting,
) -> anyhow::Result<()> {
    let (query, _) = super::input::read(&super::input::inputs(&verb.row), matches)?;
    let (_, mut frames) = setting.client()?.open(row("network_tcpdump"), &[], &query)?;
    let cut_off = "the capture was cut off";
    match matches.get_one::<String>("write") {
        None if print::is_terminal() => {
            bail!("pcapng is not for a terminal: say -w FILE, or `| tshark -r -`")
        }
        None => io::copy(&mut frames, &mut io::stdout().lock()).context(cut_off).map(drop),
        Some(file) => {
            // What is there at the moment of Ctrl-C is a whole file, frame by frame.
            let written =
                io::copy(&mut frames, &mut fs_err::File::create(file)?).context(cut_off)?;
            print::note(format!("{written} bytes are in {file}"));
            Ok(())
        }
    }
}

fn file_argument(help: &'static str) -> Arg {
    Arg::new("file").short('f').long("file").value_name("FILE").help(help)
}

/// Writes a picture of a VM's screen to a file.
pub(crate) fn screenshot(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let vm = path_value(matches, "vm");
    let (_, mut picture) = setting.client()?.open(row("vm_screenshot"), &[vm], &Value::Null)?;
    let mut bytes = vec![];
    picture.read_to_end(&mut bytes).context("the picture was cut off")?;
    let default = format!("{}.png", vm.rsplit('/').next().unwrap_or(vm));
    let file = matches.get_one::<String>("file").cloned().unwrap_or(default);
    if file == "-" {
        print::bytes(&bytes);
        return Ok(());
    }
    fs_err::write(&file, &bytes)?;
    print::note(format!("the screen of {vm} is in {file}"));
    Ok(())
}

/// Prints what a VM's serial port has said.
pub(crate) fn log(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let vm = path_value(matches, "vm");
    let (_, mut text) = setting.client()?.open(row("vm_log"), &[vm], &Value::Null)?;
    let mut bytes = vec![];
    text.read_to_end(&mut bytes).context("the log was cut off")?;
    print::bytes(&bytes);
    Ok(())
}

/// Sends a file to a datastore.
pub(crate) fn upload(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let datastore = path_value(matches, "datastore");
    let source =
        matches.get_one::<String>("source").map(PathBuf::from).context("a file is named")?;
    let path = target_path(&source, matches.get_one::<String>("path").map(String::as_str))?;
    send(&setting.client()?, datastore, &source, &path, matches.get_flag("overwrite"))
}

/// Sends a file to a datastore; it appears there whole or not at all.
pub(crate) fn send(
    client: &crate::client::Client,
    datastore: &str,
    source: &Path,
    path: &str,
    overwrite: bool,
) -> anyhow::Result<()> {
    let file = fs_err::File::open(source)?;
    let size = file.metadata()?.len();
    if !file.metadata()?.is_file() {
        bail!("{}: only a file can be uploaded", source.display());
    }
    let progress = Progress::start(format!("upload {path}"), size);
    let content = Metered { file, done: 0, progress: progress.clone() };
    let query = json!({ "path": path, "overwrite": overwrite });
    match client.upload(row("datastore_upload"), &[datastore], &query, size, content) {
        Ok(()) => progress.finish("sent"),
        Err(error) => {
            progress.give_up();
            return Err(broken_off(error, datastore, path));
        }
    }
    Ok(())
}

/// A manager that refuses in the middle of a file closes the connection, and its reason is lost.
fn broken_off(error: CallError, datastore: &str, path: &str) -> anyhow::Error {
    match error {
        CallError::Unreachable { why, .. } => anyhow!(
            "the upload of {path} to {datastore} was broken off ({why}): see with `racknest \
             datastore list` whether there is room"
        ),
        CallError::Fault(_) | CallError::Answer { .. } => error.into(),
    }
}

/// Where a file goes on a datastore.
fn target_path(source: &Path, path: Option<&str>) -> anyhow::Result<String> {
    let name = source.file_name().and_then(|name| name.to_str());
    match path {
        Some(path) if !path.ends_with('/') => Ok(path.to_owned()),
        Some(_) | None => {
            let name = name.with_context(|| format!("{}: name the path", source.display()))?;
            Ok(format!("{}{name}", path.unwrap_or_default()))
        }
    }
}

/// Reads a file of a datastore into a local one.
pub(crate) fn download(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let datastore = path_value(matches, "datastore");
    let path = matches.get_one::<String>("path").context("a path is named")?;
    let default = path.rsplit('/').next().unwrap_or(path).to_owned();
    let target = matches.get_one::<String>("file").cloned().unwrap_or(default);
    if target != "-" && Path::new(&target).exists() && !matches.get_flag("overwrite") {
        bail!("{target} is there already: name another with --file, or say --overwrite");
    }
    let query = json!({ "path": path });
    let client = setting.client()?;
    let (size, mut content) = client.open(row("datastore_download"), &[datastore], &query)?;
    if target == "-" {
        io::copy(&mut content, &mut io::stdout().lock()).context("the file was cut off")?;
        return Ok(());
    }
    // A file that was cut off must not look like the whole one.
    let part = format!("{target}.part");
    let progress = Progress::start(format!("download {path}"), size.unwrap_or(0));
    let copied = copy(&mut content, &mut fs_err::File::create(&part)?, &progress);
    if let Err(error) = copied {
        fs_err::remove_file(&part)?;
        return Err(error.context(format!("{target} was not written")));
    }
    fs_err::rename(&part, &target)?;
    progress.finish("done");
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut fs_err::File, progress: &Progress) -> anyhow::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = from.read(&mut buffer).context("the connection broke")?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        done += u64::try_from(count).context("a chunk has a size that fits")?;
        progress.set(done);
    }
}

/// A file that moves a bar as it is read.
struct Metered {
    file: fs_err::File,
    done: u64,
    progress: Progress,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done += u64::try_from(count).unwrap_or_default();
        self.progress.set(self.done);
        Ok(count)
    }
}
