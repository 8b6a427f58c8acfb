//! What is listed and sent, on the box's disk.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use md5::{Digest as _, Md5};
use walkdir::WalkDir;

use super::list::{Entry, Kind, is_safe};
use super::wire::Wire;
use crate::boxes::compare::EXCLUDED;

/// No server sends more at a time.
const LITERAL_BYTES_MAX: usize = 1 << 20;

/// Makes every listed directory, writable for now.
pub(super) fn make_directories(entries: &[Entry], destination: &Path) -> io::Result<()> {
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
        let path = destination.join(&entry.path);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir()) {
            fs::remove_file(&path)?;
        }
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(entry.mode | 0o700))?;
    }
    Ok(())
}

/// Gives every listed directory its permissions; times are left alone, as Portage wants it.
pub(super) fn finish_directories(entries: &[Entry], destination: &Path) -> io::Result<()> {
    for entry in entries.iter().rev().filter(|entry| entry.kind == Kind::Directory) {
        fs::set_permissions(destination.join(&entry.path), Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}

/// rsync's quick check.
pub(super) fn is_up_to_date(entry: &Entry, destination: &Path) -> bool {
    fs::symlink_metadata(destination.join(&entry.path)).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.len() == entry.size_bytes
            && metadata.mtime() == entry.mtime_s
            && metadata.mode() & 0o7777 == entry.mode
    })
}

pub(super) fn make_symlink(entry: &Entry, target: &Path, destination: &Path) -> io::Result<()> {
    let path = destination.join(&entry.path);
    if !is_safe(&entry.path, target) || fs::read_link(&path).is_ok_and(|present| present == target) {
        return Ok(());
    }
    remove(&path)?;
    symlink(target, &path)
}

/// Writes one file's tokens beside its place, checks the sum behind them, and moves it there.
pub(super) fn receive_file(wire: &mut Wire, entry: &Entry, destination: &Path) -> io::Result<()> {
    let path = destination.join(&entry.path);
    let part = path.with_added_extension("part");
    let mut file = File::create(&part)?;
    let mut sum = Md5::new();
    let mut literal = Vec::new();
    loop {
        let length = wire.int()? as usize;
        if length == 0 {
            break;
        }
        if length > LITERAL_BYTES_MAX {
            return Err(wire.error("a block of a file that we don't have"));
        }
        literal.resize(length, 0);
        wire.exact(&mut literal)?;
        sum.update(&literal);
        file.write_all(&literal)?;
    }
    let mut expected = [0; 16];
    wire.exact(&mut expected)?;
    if sum.finalize()[..] != expected {
        return Err(wire.error(&format!("{} arrived damaged", entry.path.display())));
    }
    file.set_permissions(Permissions::from_mode(entry.mode))?;
    file.set_modified(modified(entry))?;
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path)?;
    }
    fs::rename(&part, &path)
}

fn modified(entry: &Entry) -> SystemTime {
    let seconds = Duration::from_secs(entry.mtime_s.unsigned_abs());
    let whole =
        if entry.mtime_s < 0 { SystemTime::UNIX_EPOCH - seconds } else { SystemTime::UNIX_EPOCH + seconds };
    whole + Duration::from_nanos(u64::from(entry.mtime_ns))
}

/// Removes what is not listed, except what is never synced.
pub(super) fn delete_surplus(entries: &[Entry], destination: &Path) -> io::Result<()> {
    let listed: BTreeSet<&Path> = entries.iter().map(|entry| entry.path.as_path()).collect();
    let mut walk = WalkDir::new(destination).min_depth(1).into_iter();
    while let Some(found) = walk.next() {
        let found = found?;
        let path = found.path().strip_prefix(destination).unwrap_or(found.path());
        let is_dir = found.file_type().is_dir();
        if found.depth() == 1 && EXCLUDED.iter().any(|excluded| found.file_name() == *excluded) {
            if is_dir {
                walk.skip_current_dir();
            }
        } else if !listed.contains(path) {
            remove(found.path())?;
            if is_dir {
                walk.skip_current_dir();
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
