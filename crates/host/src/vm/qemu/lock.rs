//! Whether somebody has a disk open.
//!
//! QEMU locks single bytes of each image that it has open (`block/file-posix.c`): byte 100 + n for
//! each permission n that it uses, and 200 + n for each that it does not share. Permission 1 is to
//! write. Whoever asks whether he could lock that byte for himself hears of the lock, on whichever
//! host it is held, as far as the file system carries locks between hosts. Nothing is locked for
//! that, so nobody is disturbed.

mod sys;

use std::io::{self, ErrorKind};
use std::path::Path;

/// The byte that is locked by who writes to an image.
const WRITE_BYTE: i64 = 101;

/// Whether a process has this image open for writing. An image that is not there is not in use.
pub(super) fn is_written(image: &Path) -> io::Result<bool> {
    match fs_err::File::open(image) {
        Ok(file) => sys::is_locked(file.file(), WRITE_BYTE),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_image_counts_as_written_while_its_writer_lives() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.raw");
        assert!(!is_written(&image).unwrap());
        fs_err::write(&image, [0; 512]).unwrap();
        assert!(!is_written(&image).unwrap());
        let mut writer = std::process::Command::new("qemu-io")
            .args(["-f", "raw"])
            .arg(&image)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its prompt comes when the image is open.
        let mut prompt = [0; 1];
        writer.stdout.as_mut().unwrap().read_exact(&mut prompt).unwrap();
        assert!(is_written(&image).unwrap());
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert!(!is_written(&image).unwrap());
    }
}
