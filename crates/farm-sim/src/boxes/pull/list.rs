//! The file list: read in the order of the wire, then sorted as both sides sort it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::wire::Wire;

/// No tree has more entries.
const ENTRIES_MAX: usize = 4_000_000;

/// No name or link target is longer.
const NAME_BYTES_MAX: usize = 4095;

const SAME_MODE: u32 = 0x0002;
const SAME_NAME: u32 = 0x0020;
const LONG_NAME: u32 = 0x0040;
const SAME_TIME: u32 = 0x0080;
const NANOSECONDS: u32 = 0x2000;
/// What we never ask for: hard links, devices, ids and the rest.
const UNEXPECTED: u32 = 0x0200 | 0x0400 | 0x0800 | 0x1000 | 0x4000 | 0x2_0000;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Symlink(PathBuf),
    Other,
}

/// One entry of the list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Relative; empty for the root.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) size_bytes: u64,
    pub(super) mtime_s: i64,
    pub(super) mtime_ns: u32,
    name: Vec<u8>,
}

/// Reads the whole list and sorts it, so that a position is an index.
pub(super) fn receive(wire: &mut Wire) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut previous = Previous::default();
    loop {
        let flags = wire.varint()?;
        if flags == 0 {
            break;
        }
        if entries.len() == ENTRIES_MAX {
            return Err(wire.error("the list is too long"));
        }
        entries.push(previous.read_entry(wire, flags)?);
    }
    if wire.varint()? != 0 {
        wire.listing_failed();
    }
    entries.sort_by_cached_key(sort_key);
    Ok(entries)
}

/// What "same as before" means.
#[derive(Default)]
struct Previous {
    name: Vec<u8>,
    mode: u32,
    mtime_s: i64,
}

impl Previous {
    fn read_entry(&mut self, wire: &mut Wire, flags: u32) -> io::Result<Entry> {
        if flags & UNEXPECTED != 0 {
            return Err(wire.error("the list has fields that nobody asked for"));
        }
        let shared = if flags & SAME_NAME == 0 { 0 } else { usize::from(wire.byte()?) };
        let suffix = if flags & LONG_NAME == 0 { usize::from(wire.byte()?) } else { wire.varint()? as usize };
        if shared > self.name.len() || shared + suffix > NAME_BYTES_MAX {
            return Err(wire.error("a name that is too long"));
        }
        self.name.resize(shared + suffix, 0);
        wire.exact(&mut self.name[shared..])?;
        let size_bytes = wire.varlong(3)?;
        if flags & SAME_TIME == 0 {
            self.mtime_s = i64::from_le_bytes(wire.varlong(4)?.to_le_bytes());
        }
        let mtime_ns = if flags & NANOSECONDS == 0 { 0 } else { wire.varint()? };
        if flags & SAME_MODE == 0 {
            self.mode = wire.int()?;
        }
        let kind = match self.mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink(read_target(wire)?),
            _ => Kind::Other,
        };
        let path = self.path().ok_or_else(|| wire.error("a name that leaves the tree"))?;
        Ok(Entry {
            kind,
            path,
            mode: self.mode & 0o7777,
            size_bytes,
            mtime_s: self.mtime_s,
            mtime_ns,
            name: self.name.clone(),
        })
    }

    fn path(&self) -> Option<PathBuf> {
        if self.name == b"." {
            return Some(PathBuf::new());
        }
        let path = PathBuf::from(OsString::from_vec(self.name.clone()));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        (inside && !self.name.is_empty() && !self.name.contains(&0)).then_some(path)
    }
}

fn read_target(wire: &mut Wire) -> io::Result<PathBuf> {
    let length = wire.varint()? as usize;
    if length == 0 || length > NAME_BYTES_MAX {
        return Err(wire.error("a link's target that is too long"));
    }
    let mut target = vec![0; length];
    wire.exact(&mut target)?;
    Ok(PathBuf::from(OsString::from_vec(target)))
}

/// Files before directories at each level, directories as if a slash followed, the root before all.
fn sort_key(entry: &Entry) -> Vec<(u8, Vec<u8>)> {
    if entry.name == b"." {
        return Vec::new();
    }
    let mut components = entry.name.split(|octet| *octet == b'/').peekable();
    let mut key = Vec::new();
    while let Some(component) = components.next() {
        let is_directory = components.peek().is_some() || entry.kind == Kind::Directory;
        let mut text = component.to_vec();
        if is_directory {
            text.push(b'/');
        }
        key.push((u8::from(is_directory), text));
    }
    key
}

/// Whether a link stays inside the tree, as `--safe-links` wants it.
pub(super) fn is_safe(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        let (kind, name) = match name.strip_suffix('/') {
            Some(directory) => (Kind::Directory, directory),
            None => (Kind::File, name),
        };
        Entry {
            kind,
            path: name.into(),
            mode: 0,
            size_bytes: 0,
            mtime_s: 0,
            mtime_ns: 0,
            name: name.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_order_is_that_of_the_protocol() {
        let sorted = [
            "./",
            "header.txt",
            "app-misc/",
            "app-misc/x",
            "sort/",
            "sort/a-b",
            "sort/a.b",
            "sort/a0",
            "sort/z",
            "sort/é",
            "sort/a/",
            "sort/a/inner",
            "sort/b.d/",
            "sort/b.d/inner",
            "sort/b/",
            "sort/b/inner",
            "sort/c/",
        ];
        let mut entries: Vec<Entry> = sorted.iter().rev().map(|name| entry(name)).collect();
        entries.sort_by_cached_key(sort_key);
        let names: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.name)).collect();
        let expected: Vec<_> = sorted.iter().map(|name| name.trim_end_matches('/')).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn links_are_safe_inside_the_tree() {
        for (link, target, safe) in [
            ("a/b", "c", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("b", "../c", false),
            ("a/b", "/etc/passwd", false),
            ("a/b", "x/../../c", true),
        ] {
            assert_eq!(is_safe(Path::new(link), Path::new(target)), safe, "{link} -> {target}");
        }
    }
}
