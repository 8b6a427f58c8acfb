//! One look at a source directory: every node's `lstat`, in the order that an index has.
//!
//! No symlink is followed below the directory itself. A directory that is swapped for a symlink while we
//! read shows up as a different second look, since both looks include every directory's own times.

use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::TreeError;
use crate::exclude::Excludes;
use crate::index::{FORMAT_BITS, FORMAT_DIRECTORY, FORMAT_FILE, FORMAT_SYMLINK};
use crate::owners::Owner;
use crate::parallel;

/// More nodes than any repository has; keeps positions well inside u32.
const NODES_MAX: usize = 16 << 20;
const ARENA_BYTES_MAX: usize = 1 << 30;
/// As many directories are listed before what they hold is taken in.
const DIRECTORIES_AT_ONCE: usize = 4096;

/// What one look saw. Two looks are equal only if nothing changed in between.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) seen: Vec<Seen>,
    pub(crate) arena: Vec<u8>,
}

/// One node. `first` and `count` are a directory's children or the arena range of a symlink's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) stat: Stat,
    pub(crate) name_offset: u32,
    pub(crate) name_bytes: u32,
    pub(crate) parent: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What tells whether a node is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) ctime_s: i64,
    pub(crate) ctime_ns: u32,
    pub(crate) inode: u64,
    pub(crate) owner: Owner,
    /// What `inode` is a number of, if it has several names; else 0.
    pub(crate) links_device: u64,
}

impl Stat {
    pub(crate) fn new(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode(),
            // What a directory's size is differs by file system and says nothing.
            size: if metadata.is_dir() { 0 } else { metadata.size() },
            mtime_s: metadata.mtime(),
            mtime_ns: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            ctime_s: metadata.ctime(),
            ctime_ns: u32::try_from(metadata.ctime_nsec()).unwrap_or(0),
            inode: metadata.ino(),
            owner: Owner { uid: metadata.uid(), gid: metadata.gid() },
            links_device: if metadata.nlink() > 1 && !metadata.is_dir() { metadata.dev() } else { 0 },
        }
    }

    pub(crate) fn format(&self) -> u32 {
        self.mode & FORMAT_BITS
    }
}

impl Look {
    /// Looks at all of `root`. Blocking.
    pub(crate) fn take(root: &Path, excludes: &Excludes, stop: &AtomicBool) -> Result<Self, TreeError> {
        let metadata = fs::metadata(root).map_err(TreeError::source(root, "open"))?;
        if !metadata.is_dir() {
            let error = std::io::Error::from(std::io::ErrorKind::NotADirectory);
            return Err(TreeError::source(root, "open")(error));
        }
        let top =
            Seen { stat: Stat::new(&metadata), name_offset: 0, name_bytes: 0, parent: 0, first: 0, count: 0 };
        let mut look = Self { seen: vec![top], arena: Vec::new() };
        // One level of the tree after the other: the directories of each are listed by several threads, and their
        // children follow in the order of the directories.
        let mut level = 0..1;
        while !level.is_empty() {
            let directories: Vec<usize> =
                level.clone().filter(|&at| look.seen[at].stat.format() == FORMAT_DIRECTORY).collect();
            level.start = look.seen.len();
            for directories in directories.chunks(DIRECTORIES_AT_ONCE) {
                let listed = parallel::map(directories, |&at| {
                    if stop.load(Ordering::Relaxed) {
                        return Err(TreeError::Stopped);
                    }
                    list(root, look.path(at), excludes)
                });
                let Some(listed) = listed else {
                    let error = std::io::Error::other("a reader panicked");
                    return Err(TreeError::source(root, "list")(error));
                };
                for (&at, children) in directories.iter().zip(listed) {
                    look.add_children(root, at, children?)?;
                }
            }
            level.end = look.seen.len();
        }
        Ok(look)
    }

    /// Appends the children of the directory at a position.
    fn add_children(&mut self, root: &Path, at: usize, children: Vec<Child>) -> Result<(), TreeError> {
        let directory = || self.full_path(root, at);
        let too_large = |limit| TreeError::TooLarge { path: directory(), limit };
        if self.seen.len() + children.len() > NODES_MAX {
            return Err(too_large("the tree has more than 16 Mi nodes"));
        }
        let position = |at: usize| u32::try_from(at).map_err(|_| too_large("the tree has too many nodes"));
        let (first, count, parent) = (position(self.seen.len())?, position(children.len())?, position(at)?);
        (self.seen[at].first, self.seen[at].count) = (first, count);
        for Child { name, stat, target } in children {
            let kept = (self.keep(&name), self.keep(&target));
            let (Some((name_offset, name_bytes)), Some(target_place)) = kept else {
                let path = self.full_path(root, at);
                return Err(TreeError::TooLarge { path, limit: "names take more than 1 GiB" });
            };
            let (first, count) = if stat.format() == FORMAT_SYMLINK { target_place } else { (0, 0) };
            self.seen.push(Seen { stat, name_offset, name_bytes, parent, first, count });
        }
        Ok(())
    }

    fn keep(&mut self, octets: &[u8]) -> Option<(u32, u32)> {
        if self.arena.len() + octets.len() > ARENA_BYTES_MAX {
            return None;
        }
        let place = (u32::try_from(self.arena.len()).ok()?, u32::try_from(octets.len()).ok()?);
        self.arena.extend_from_slice(octets);
        Some(place)
    }

    pub(crate) fn octets(&self, offset: u32, bytes: u32) -> &[u8] {
        self.arena.get(offset as usize..).and_then(|rest| rest.get(..bytes as usize)).unwrap_or_default()
    }

    pub(crate) fn name(&self, at: usize) -> &[u8] {
        self.seen.get(at).map_or(&[], |seen| self.octets(seen.name_offset, seen.name_bytes))
    }

    /// The path of the node at a position, without a leading slash.
    pub(crate) fn path(&self, mut at: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while at != 0 {
            names.push(self.name(at));
            at = self.seen[at].parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    pub(crate) fn full_path(&self, root: &Path, at: usize) -> PathBuf {
        root.join(std::ffi::OsStr::from_bytes(&self.path(at)))
    }

    /// The first path at which a later look differs from this one.
    pub(crate) fn first_difference(&self, later: &Self, root: &Path) -> Option<PathBuf> {
        if self == later {
            return None;
        }
        for at in 0..self.seen.len().min(later.seen.len()) {
            let (one, other) = (&self.seen[at], &later.seen[at]);
            let same_target = one.stat.format() != FORMAT_SYMLINK
                || self.octets(one.first, one.count) == later.octets(other.first, other.count);
            if one.stat != other.stat || self.name(at) != later.name(at) || !same_target {
                return Some(self.full_path(root, at));
            }
        }
        Some(root.to_owned())
    }
}

/// One node of a directory.
#[derive(Debug)]
struct Child {
    name: Vec<u8>,
    stat: Stat,
    /// Empty unless it is a symlink.
    target: Vec<u8>,
}

/// The children of a directory, sorted by name.
fn list(root: &Path, relative: Vec<u8>, excludes: &Excludes) -> Result<Vec<Child>, TreeError> {
    let directory = root.join(std::ffi::OsStr::from_bytes(&relative));
    let mut path = relative;
    if !path.is_empty() {
        path.push(b'/');
    }
    let prefix_bytes = path.len();
    let mut children = Vec::new();
    for entry in fs::read_dir(&directory).map_err(TreeError::source(&directory, "list"))? {
        let entry = entry.map_err(TreeError::source(&directory, "list"))?;
        let name = entry.file_name().into_vec();
        path.truncate(prefix_bytes);
        path.extend_from_slice(&name);
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Err(gone_or(error, entry.path())),
        };
        if excludes.matches(&path, metadata.is_dir()) {
            continue;
        }
        let stat = Stat::new(&metadata);
        let target = match stat.format() {
            FORMAT_DIRECTORY | FORMAT_FILE => Vec::new(),
            FORMAT_SYMLINK => {
                let target = fs::read_link(entry.path()).map_err(|error| gone_or(error, entry.path()))?;
                target.into_os_string().into_vec()
            }
            _ => return Err(TreeError::Special { path: entry.path() }),
        };
        children.push(Child { name, stat, target });
    }
    children.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(children)
}

/// A node that was listed and then could not be found was removed in between.
fn gone_or(error: std::io::Error, path: PathBuf) -> TreeError {
    if error.kind() == std::io::ErrorKind::NotFound {
        TreeError::SourceChanged { path }
    } else {
        TreeError::Source { path, doing: "stat", error }
    }
}
