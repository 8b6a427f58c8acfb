//! What is in a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cache_policy::UnixMs;
use cache_policy::import::{Kind, Writing};
use rustix::fs::FileType;

use super::seen::Seen;
use crate::beneath::{Entry, Root, State};

/// Files of one import.
const FOUND_MAX: usize = 1_000_000;
/// Levels of directories below the one that is imported.
const DEPTH_MAX: usize = 32;

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

/// When a directory is looked through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// By the clock that files' times are compared with.
    pub(super) clock: UnixMs,
    /// By one that nobody sets.
    pub(super) at: Instant,
}

/// Lists the directory; the directories below it are entered, or are entries themselves.
pub(super) fn walk(dir: &Path, is_recursive: bool, seen: &mut Seen, now: Now) -> io::Result<Walked> {
    let root = Root::open(dir)?;
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
            walked.found.push(found(path, entry, seen, now));
        }
        if !is_all {
            walked.stopped = Some(format!("only the first {FOUND_MAX} files were looked at"));
            break;
        }
    }
    Ok(walked)
}

fn found(path: PathBuf, entry: Entry, seen: &mut Seen, now: Now) -> Found {
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
    let at = |seconds: i64| UnixMs::new(seconds.saturating_mul(1000));
    let is_settled = match Writing::judge(at(entry.stat.st_mtime), at(entry.stat.st_ctime), now.clock) {
        Writing::Settled => true,
        Writing::Recent => false,
        Writing::Untold => seen.is_settled(State::of(&entry.stat), now.at),
    };
    Found {
        path,
        name: entry.name,
        kind,
        size_bytes: u64::try_from(entry.stat.st_size).unwrap_or(0),
        is_settled,
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn odd_names_are_shown_in_one_line() {
        let path = |octets: &[u8]| shown(Path::new(std::ffi::OsStr::from_bytes(octets)));
        assert_eq!(path(b"a\nb\xffc"), "a\\nb\\xffc");
        assert_eq!(path("ä/ö".as_bytes()), "ä/ö");
    }

    #[test]
    fn a_file_with_a_time_in_the_future_settles() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let write = |text: &str, seen: &mut Seen, clock_ms: i64, at: Instant| {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            // As `cp -p` does with one that came from a host whose clock is ahead.
            file.set_modified(modified + Duration::from_hours(10 * 365 * 24)).unwrap();
            let changed_s = rustix::fs::fstat(&file).unwrap().st_ctime;
            let now = Now { clock: UnixMs::new(changed_s * 1000 + clock_ms), at };
            walk(dir.path(), false, seen, now).unwrap().found[0].is_settled
        };
        let look = |seen: &mut Seen, clock_ms: i64, at: Instant| {
            let changed_s = rustix::fs::stat(&path).unwrap().st_ctime;
            let now = Now { clock: UnixMs::new(changed_s * 1000 + clock_ms), at };
            walk(dir.path(), false, seen, now).unwrap().found[0].is_settled
        };
        let (mut seen, begun) = (Seen::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!write("x", &mut seen, 59_999, begun), "it has just come");
        assert!(look(&mut seen, 60_000, begun));
        // The clock was put back by a day: neither time says anything, so the file is watched.
        let day = -24 * 60 * 60 * 1000;
        assert_eq!([0, 59, 60].map(|seconds| look(&mut seen, day, after(seconds))), [false, false, true]);
        assert!(!write("xx", &mut seen, day, after(61)), "it has changed");
        assert_eq!([120, 121].map(|seconds| look(&mut seen, day, after(seconds))), [false, true]);
        // Another process has seen nothing.
        assert!(!look(&mut Seen::default(), day, after(500)));
    }

    #[test]
    fn directories_are_entries_or_entered() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("host/sub")).unwrap();
        std::fs::write(dir.path().join("host/sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("host", dir.path().join("link")).unwrap();
        let paths = |is_recursive| {
            let now = Now { clock: UnixMs::new(0), at: Instant::now() };
            let walked = walk(dir.path(), is_recursive, &mut Seen::default(), now).unwrap();
            walked.found.into_iter().map(|found| (shown(&found.path), found.kind)).collect::<Vec<_>>()
        };
        assert_eq!(paths(false), [("host".to_owned(), Kind::Other), ("link".to_owned(), Kind::Link)]);
        assert_eq!(paths(true), [("link".to_owned(), Kind::Link), ("host/sub/file".to_owned(), Kind::File)]);
    }
}
