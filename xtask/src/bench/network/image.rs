//! The live guest with iperf3 in it, for measurements only.
//!
//! A kernel unpacks several archives one after the other, so what the guest lacks is appended: the
//! program as this machine has it, and the libraries it is linked to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::stage::{ROOM, sh};
use crate::shell;

/// Makes a directory with a kernel, its arguments and an initial file system.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    let source = shell::root().join("guest/build");
    ensure!(source.join("vmlinuz").is_file(), "there is no live guest: run guest/build.sh");
    let target = Path::new(ROOM).join("guest");
    fs::create_dir_all(&target)?;
    for name in ["vmlinuz", "cmdline"] {
        fs::copy(source.join(name), target.join(name))?;
    }
    let mut archive = fs::read(source.join("initramfs.cpio"))?;
    archive.extend(extra()?);
    fs::write(target.join("initramfs.cpio"), archive)?;
    Ok(target)
}

/// An archive of iperf3 and its libraries.
fn extra() -> anyhow::Result<Vec<u8>> {
    let program = sh("command -v iperf3").context("there is no iperf3 here")?;
    let listed = sh(&format!("ldd {program}"))?;
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let mut archive = Vec::new();
    let mut directories = Vec::new();
    for path in words.chain([program.trim()]).map(Path::new) {
        let ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in ancestors.into_iter().rev().filter(|it| it.parent().is_some()) {
            if !directories.contains(&directory.to_path_buf()) {
                add(&mut archive, directory, 0o040_755, &[]);
                directories.push(directory.to_path_buf());
            }
        }
        let mode = fs::metadata(path)?.permissions().mode();
        add(&mut archive, path, mode, &fs::read(path)?);
    }
    add(&mut archive, Path::new("/TRAILER!!!"), 0, &[]);
    Ok(archive)
}

/// Adds a file in the "newc" form that kernels read: a header in hexadecimal digits, the name and the
/// content, each filled up to four bytes.
fn add(archive: &mut Vec<u8>, path: &Path, mode: u32, content: &[u8]) {
    let name = path.to_string_lossy();
    let name = format!("{}\0", name.trim_start_matches('/'));
    let links = 1;
    let fields = [0, mode as usize, 0, 0, links, 0, content.len(), 0, 0, 0, 0, name.len(), 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
    for part in [name.as_bytes(), content] {
        archive.extend(part);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_the_kernel_reads_it() {
        let mut archive = Vec::new();
        add(&mut archive, Path::new("/bin/x"), 0o100_755, b"hello");
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        assert!(text.starts_with("07070100000000000081ed"), "{text}");
        assert!(text.contains("00000006") && text[110..].starts_with("bin/x\0"), "{text}");
        assert!(text.ends_with("hello\0\0\0"), "{text}");
    }
}
