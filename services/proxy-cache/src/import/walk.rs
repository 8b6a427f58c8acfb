//! What is in a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_policy::import::Kind;
use rustix::fs::FileType;

use crate::beneath::{Entry, Root};

/// Files of one import.
const FOUND_MAX: usize = 1_000_000;
/// Levels of directories below the one that is imported.
const DEPTH_MAX: usize = 32;
/// What was changed less than this before is taken for being written.
const SETTLED_AFTER: Duration = Duration::from_mins(1);

/// One entry of the directory, or of one below it.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the directory.
    pub(super) path: PathBuf,
    pub(super) name: OsString,
    pub(super) kind: Kind,
    pub(super) size_bytes: u64,
    pub(super) is_settled: bool,
}

/// A directory that was looked through.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) root: Root,
    pub(super) found: Vec<Found>,
    /// Why not all of it was, if not.
    pub(super) stopped: Option<String>,
}

/// Lists the directory; the directories below it are entered, or are entries themselves.
pub(super) fn walk(dir: &Path, is_recursive: bool) -> io::Result<Walked> {
    let root = Root::open(dir)?;
    let now = SystemTime::now();
    let mut walked = Walked { root: root.dir(Path::new(""))?, found: Vec::new(), stopped: None };
    let mut dirs = VecDeque::from([(PathBuf::new(), 0)]);
    while let Some((path, depth)) = dirs.pop_front() {
        let entries_max = FOUND_MAX.saturating_sub(walked.found.len());
        let (entries, is_all) = match root.dir(&path).and_then(|dir| dir.list(entries_max)) {
            Ok(listed) => listed,
            Err(error) if path.as_os_str().is_empty() => return Err(error),
            Err(error) => {
                walked.stopped = Some(format!("{}: {error}", shown(&path)));
                continue;
            }
        };
        for entry in entries {
            let path = path.join(&entry.name);
            if is_recursive && entry.kind() == FileType::Directory {
                if depth < DEPTH_MAX {
                    dirs.push_back((path, depth + 1));
                } else {
                    walked.stopped = Some(format!("{}: too deep", shown(&path)));
                }
                continue;
            }
            walked.found.push(found(path, entry, now));
        }
        if !is_all {
            walked.stopped = Some(format!("only the first {FOUND_MAX} files were looked at"));
            break;
        }
    }
    Ok(walked)
}

fn found(path: PathBuf, entry: Entry, now: SystemTime) -> Found {
    let kind = match entry.kind() {
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Other,
    };
    let modified_s = u64::try_from(entry.stat.st_mtime).unwrap_or(0);
    let modified = UNIX_EPOCH.checked_add(Duration::from_secs(modified_s)).unwrap_or(UNIX_EPOCH);
    Found {
        path,
        name: entry.name,
        kind,
        size_bytes: u64::try_from(entry.stat.st_size).unwrap_or(0),
        // A time in the future says nothing.
        is_settled: now.duration_since(modified).is_ok_and(|age| age >= SETTLED_AFTER),
    }
}

/// A path for people: control characters, and what is no UTF-8, escaped.
pub(super) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for octet in chunk.invalid() {
            // Writing to a String never fails.
            let _ = write!(text, "\\x{octet:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn odd_names_are_shown_in_one_line() {
        let path = |octets: &[u8]| shown(Path::new(std::ffi::OsStr::from_bytes(octets)));
        assert_eq!(path(b"a\nb\xffc"), "a\\nb\\xffc");
        assert_eq!(path("ä/ö".as_bytes()), "ä/ö");
    }

    #[test]
    fn directories_are_entries_or_entered() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("host/sub")).unwrap();
        std::fs::write(dir.path().join("host/sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("host", dir.path().join("link")).unwrap();
        let paths = |is_recursive| {
            let walked = walk(dir.path(), is_recursive).unwrap();
            walked.found.into_iter().map(|found| (shown(&found.path), found.kind)).collect::<Vec<_>>()
        };
        assert_eq!(paths(false), [("host".to_owned(), Kind::Other), ("link".to_owned(), Kind::Link)]);
        assert_eq!(paths(true), [("link".to_owned(), Kind::Link), ("host/sub/file".to_owned(), Kind::File)]);
    }
}
