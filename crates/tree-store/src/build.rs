//! From a source directory to a candidate: look, read what changed, look again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use blake2::{Blake2b512, Digest as _};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::TreeError;
use crate::compare::may_be_served_later;
use crate::contents::Contents;
use crate::exclude::Excludes;
use crate::generation::Generation;
use crate::index::{FORMAT_DIRECTORY, FORMAT_FILE, Index, NodeRecord};
use crate::inodes::Inodes;
use crate::name::ContentDigest;
use crate::owners::{Owner, Owners};
use crate::parallel;
use crate::sightings::Sightings;
use crate::source::{Look, Seen, Stat};

/// Files up to this size are read whole by each reader; larger ones are copied one at a time.
const WHOLE_BYTES_MAX: u64 = 4 << 20;

/// What to build of.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// The directory that holds the tree.
    pub source: &'a Path,
    /// What is left out.
    pub excludes: &'a Excludes,
    /// Now. A file changed later than a moment before it is read again next time.
    pub started: SystemTime,
    /// Trust nothing that is stored of the module: read every file, store every content in a new pack, and give a
    /// candidate even if nothing changed. For a live generation that [`crate::Store::scrub`] found damaged.
    pub afresh: bool,
    /// Set it to end the build early with [`TreeError::Stopped`].
    pub stop: &'a AtomicBool,
}

/// The source as nodes and contents, before it is a generation.
pub(crate) struct Drawn {
    pub(crate) owners: Vec<Owner>,
    pub(crate) nodes: Vec<NodeRecord>,
    pub(crate) inodes: Inodes,
    pub(crate) arena: Vec<u8>,
    pub(crate) sightings: Sightings,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) files_read: u64,
}

/// Looks, reads into `contents`, looks again.
pub(crate) fn draw(
    request: &BuildRequest<'_>,
    base: Option<&Generation>,
    sightings: Option<&Sightings>,
    contents: &mut Contents<'_>,
) -> Result<Drawn, TreeError> {
    let look = Look::take(request.source, request.excludes, request.stop)?;
    let matched = base.map(|base| match_nodes(&look, base.index()));
    let mut content_of = vec![None; look.seen.len()];
    if let (Some(base), Some(matched), Some(sightings)) = (base, &matched, sightings) {
        reuse(&look, base.index(), matched, sightings, contents, &mut content_of);
    }
    let files_read = read_files(request, &look, contents, &mut content_of)?;
    let again = Look::take(request.source, request.excludes, request.stop)?;
    if let Some(path) = look.first_difference(&again, request.source) {
        return Err(TreeError::SourceChanged { path });
    }
    drop(again);
    let new_sightings = Sightings::new(&look, request.started);
    let mut owners = Owners::default();
    let seen = look.seen.iter().zip(&content_of);
    let nodes = seen.map(|(seen, content)| node(seen, *content, &mut owners)).collect();
    let inodes = inodes(&look, &content_of);
    let files = look.seen.iter().filter(|seen| seen.stat.format() != FORMAT_DIRECTORY).count() as u64;
    let bytes = look.seen.iter().filter(|seen| is_file(seen)).map(|seen| seen.stat.size).sum();
    let mut arena = look.arena;
    arena.shrink_to_fit();
    let owners = owners.finish();
    Ok(Drawn { owners, nodes, inodes, arena, sightings: new_sightings, files, bytes, files_read })
}

fn is_file(seen: &Seen) -> bool {
    seen.stat.format() == FORMAT_FILE
}

/// Which of the names that were seen are one inode. They have one content, too, or they are not taken for one.
fn inodes(look: &Look, content_of: &[Option<u32>]) -> Inodes {
    let seen = (0_u32..).zip(look.seen.iter().zip(content_of));
    let linked = seen.filter(|(_, (seen, _))| seen.stat.links_device != 0);
    Inodes::of(linked.map(|(at, (seen, content))| (at, (seen.stat.links_device, seen.stat.inode, *content))))
}

fn node(seen: &Seen, content: Option<u32>, owners: &mut Owners) -> NodeRecord {
    NodeRecord {
        mode: seen.stat.mode,
        mtime_s: seen.stat.mtime_s,
        mtime_ns: seen.stat.mtime_ns,
        name_offset: seen.name_offset,
        name_bytes: seen.name_bytes,
        parent: seen.parent,
        first: content.unwrap_or(seen.first),
        count: seen.count,
        owner: owners.position(seen.stat.owner),
    }
}

/// For each node of the look, the node of `base` at the same path.
fn match_nodes(look: &Look, base: &Index) -> Vec<Option<u32>> {
    let mut matched = vec![None; look.seen.len()];
    matched[0] = Some(0);
    for at in 0..look.seen.len() {
        let seen = &look.seen[at];
        let Some(old) = matched[at].and_then(|old: u32| base.nodes.get(old as usize)) else { continue };
        if seen.stat.format() != FORMAT_DIRECTORY || old.format() != FORMAT_DIRECTORY {
            continue;
        }
        let mut old_child = old.first;
        let old_end = old.first + old.count;
        for child in seen.first..seen.first + seen.count {
            let name = look.name(child as usize);
            let old_name = |at: u32| base.nodes.get(at as usize).map(|node| base.name(node));
            while old_child < old_end && old_name(old_child).is_some_and(|old| old < name) {
                old_child += 1;
            }
            if old_child < old_end && old_name(old_child) == Some(name) {
                matched[child as usize] = Some(old_child);
            }
        }
    }
    matched
}

/// Takes over the contents of files that look as they did when they were read.
fn reuse(
    look: &Look,
    base: &Index,
    matched: &[Option<u32>],
    sightings: &Sightings,
    contents: &mut Contents<'_>,
    content_of: &mut [Option<u32>],
) {
    for (at, seen) in look.seen.iter().enumerate().filter(|(_, seen)| is_file(seen)) {
        let Some(old_at) = matched[at] else { continue };
        let Some(old) = base.nodes.get(old_at as usize) else { continue };
        let same_time = (old.mtime_s, old.mtime_ns) == (seen.stat.mtime_s, seen.stat.mtime_ns)
            || may_be_served_later(seen.stat.mtime_s, old.mtime_s);
        let same_size = base.content(old).is_some_and(|content| content.length == seen.stat.size);
        if same_time && same_size && sightings.fits(old_at as usize, &seen.stat) {
            content_of[at] = contents.take(old.first);
        }
    }
}

/// Reads every file that has no content yet, on several threads. Says how many there were.
fn read_files(
    request: &BuildRequest<'_>,
    look: &Look,
    contents: &mut Contents<'_>,
    content_of: &mut [Option<u32>],
) -> Result<u64, TreeError> {
    let wanted: Vec<usize> =
        (0..look.seen.len()).filter(|&at| is_file(&look.seen[at]) && content_of[at].is_none()).collect();
    let readers_count = parallel::threads_count();
    let work = Work {
        request,
        look,
        wanted: &wanted,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        contents: Mutex::new(contents),
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = (0..readers_count).map(|_| scope.spawn(|| work.run())).collect();
        readers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    for outcome in outcomes {
        let Ok(read) = outcome else {
            return Err(TreeError::source(request.source, "read")(io::Error::other("a reader panicked")));
        };
        for (at, content) in read? {
            content_of[at] = Some(content);
        }
    }
    Ok(wanted.len() as u64)
}

/// What the readers share.
struct Work<'a, 'c, 's> {
    request: &'a BuildRequest<'a>,
    look: &'a Look,
    wanted: &'a [usize],
    next: AtomicUsize,
    failed: AtomicBool,
    contents: Mutex<&'c mut Contents<'s>>,
}

impl<'c, 's> Work<'_, 'c, 's> {
    fn run(&self) -> Result<Vec<(usize, u32)>, TreeError> {
        let mut read = Vec::new();
        let mut buffer = Vec::new();
        while let Some(&at) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.request.stop.load(Ordering::Relaxed) {
                return Err(TreeError::Stopped);
            }
            if self.failed.load(Ordering::Relaxed) {
                break;
            }
            match self.read(at, &mut buffer) {
                Ok(content) => read.push((at, content)),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(read)
    }

    /// Reads the file at a position into the pack. It must be the file that was looked at, before and
    /// after reading, and give as many octets as it said.
    fn read(&self, at: usize, buffer: &mut Vec<u8>) -> Result<u32, TreeError> {
        let path = self.look.full_path(self.request.source, at);
        let expected = self.look.seen[at].stat;
        let mut file = open(&path)?;
        check_stat(&file, &path, &expected)?;
        let (content, length) = if expected.size > WHOLE_BYTES_MAX {
            buffer.resize(256 << 10, 0);
            self.lock().store_stream(&mut file, &path, buffer)?
        } else {
            buffer.clear();
            // One octet more than expected, to notice a file that grows.
            let limit = expected.size + 1;
            file.by_ref().take(limit).read_to_end(buffer).map_err(TreeError::source(&path, "read"))?;
            let digest = ContentDigest::new(Blake2b512::digest(&buffer).into());
            (self.lock().store(digest, buffer)?, buffer.len() as u64)
        };
        if length != expected.size {
            return Err(TreeError::SourceChanged { path });
        }
        check_stat(&file, &path, &expected)?;
        Ok(content)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, &'c mut Contents<'s>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<File, TreeError> {
    // Neither follow a symlink nor wait for a pipe's writer, should the file have become one.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| {
        let is_symlink = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        if is_symlink || error.kind() == io::ErrorKind::NotFound {
            TreeError::SourceChanged { path: path.to_owned() }
        } else {
            TreeError::source(path, "open")(error)
        }
    })
}

fn check_stat(file: &File, path: &Path, expected: &Stat) -> Result<(), TreeError> {
    let found = file.metadata().map_err(TreeError::source(path, "stat"))?;
    if Stat::new(&found) == *expected {
        Ok(())
    } else {
        Err(TreeError::SourceChanged { path: PathBuf::from(path) })
    }
}
