//! What the processes of a box have said, bounded: `NAME.log`, and `NAME.log.old` before it.
//!
//! A process writes to the end of its own file, so that its last words are there whoever else has
//! died. The box looks now and then whether one has grown too long, and moves what is in it to the
//! old one. The file itself stays, as the process has it open; it is emptied, and whoever appends
//! goes on at its beginning. A line that is written between the last byte read and the emptying is
//! lost, which a log may lose and a machine that stops because nobody reads its log may not.
//!
//! **Invariant:** a process's logs take twice [`LOG_BYTES_MAX`], and what it can say between two
//! looks.

use std::io;
use std::path::Path;
use std::time::Duration;

/// The longest log that is left alone: some 80,000 lines.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// From one look at the logs to the next.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// Moves what is in logs that have grown too long.
///
/// # Errors
/// The directory cannot be listed. A log that cannot be moved is told in the box's own, and stays.
pub(crate) fn bound(directory: &Path) -> io::Result<()> {
    bound_to(directory, LOG_BYTES_MAX)
}

fn bound_to(directory: &Path, bytes_max: u64) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log && let Err(error) = turn_over(&path, bytes_max) {
            tracing::warn!("a log that has grown long stays as it is: {error}");
        }
    }
    Ok(())
}

fn turn_over(path: &Path, bytes_max: u64) -> io::Result<()> {
    if fs_err::metadata(path)?.len() <= bytes_max {
        return Ok(());
    }
    let mut from = fs_err::OpenOptions::new().read(true).write(true).open(path)?;
    let mut to = fs_err::File::create(path.with_extension("log.old"))?;
    io::copy(&mut from, &mut to)?;
    from.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_grew_too_long_becomes_the_old_one_and_is_written_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("esx01.log");
        let read = |name: &str| fs_err::read_to_string(directory.path().join(name)).ok();
        let mut process = fs_err::OpenOptions::new().create(true).append(true).open(&path).unwrap();

        process.write_all(b"short\n").unwrap();
        bound_to(directory.path(), 8).unwrap();
        assert_eq!((read("esx01.log"), read("esx01.log.old")), (Some("short\n".into()), None));
        process.write_all(b"and long\n").unwrap();
        bound_to(directory.path(), 8).unwrap();
        process.write_all(b"on\n").unwrap();
        assert_eq!(read("esx01.log").unwrap(), "on\n");
        assert_eq!(read("esx01.log.old").unwrap(), "short\nand long\n");
        process.write_all(b"and long again\n").unwrap();
        bound_to(directory.path(), 8).unwrap();
        bound_to(directory.path(), 8).unwrap();
        assert_eq!(read("esx01.log").unwrap(), "");
        assert_eq!(read("esx01.log.old").unwrap(), "on\nand long again\n", "one old is kept");
    }
}
