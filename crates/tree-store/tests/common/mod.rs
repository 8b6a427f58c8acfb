//! What the tests share: a source directory, a store, and a comparison of the two.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "each test file uses a part of it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use gentoo_repo::catalogue::Catalogue;
use tree_store::{BuildRequest, Built, Candidate, Excludes, Generation, NodeKind, Store, TreeError};

/// A source directory and a state directory.
pub struct Bench {
    pub directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.source()).unwrap();
        bench
    }

    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn write(&self, path: &str, octets: impl AsRef<[u8]>) {
        write_later(&self.source().join(path), octets);
    }

    pub fn open(&self) -> Store {
        Store::open(&self.state(), "m".parse().unwrap()).unwrap()
    }

    pub fn build(&self, store: &Store) -> Result<Built, TreeError> {
        // The clock an hour ahead: every file is settled.
        self.build_at(store, SystemTime::now() + Duration::from_hours(1))
    }

    pub fn build_at(&self, store: &Store, started: SystemTime) -> Result<Built, TreeError> {
        let excludes = Excludes::new::<&str>([]).unwrap();
        store.build(&BuildRequest {
            source: &self.source(),
            excludes: &excludes,
            started,
            afresh: false,
            stop: &AtomicBool::new(false),
        })
    }

    pub fn candidate(&self, store: &Store) -> Candidate {
        match self.build(store).unwrap() {
            Built::Candidate(candidate) => candidate,
            Built::Unchanged(_) => panic!("unchanged"),
        }
    }

    pub fn candidate_after(&self, store: &Store, change: impl FnOnce()) -> Candidate {
        change();
        self.candidate(store)
    }

    pub fn publish(&self, store: &Store) -> Generation {
        store.publish(self.candidate(store), &Catalogue::default(), 1, 2).unwrap()
    }
}

/// Everything about a node that a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub mode: u32,
    pub mtime: (i64, u32),
    pub octets: Vec<u8>,
    /// User and group.
    pub owner: (u32, u32),
    /// All names of its inode, if there are several in the tree.
    pub names: BTreeSet<Vec<u8>>,
}

/// Says of each name which ones are the same inode.
fn name_inodes<K: Ord>(facts: &mut BTreeMap<Vec<u8>, Fact>, inodes: BTreeMap<K, BTreeSet<Vec<u8>>>) {
    for names in inodes.into_values().filter(|names| names.len() > 1) {
        for name in &names {
            facts.get_mut(name).unwrap().names.clone_from(&names);
        }
    }
}

/// All nodes below a directory by path; the octets are a file's content or a symlink's target.
pub fn facts_of_directory(root: &Path) -> BTreeMap<Vec<u8>, Fact> {
    type Inodes = BTreeMap<(u64, u64), BTreeSet<Vec<u8>>>;
    fn visit(path: &Path, relative: Vec<u8>, facts: &mut BTreeMap<Vec<u8>, Fact>, inodes: &mut Inodes) {
        let metadata = fs::symlink_metadata(path).unwrap();
        if !metadata.is_dir() {
            inodes.entry((metadata.dev(), metadata.ino())).or_default().insert(relative.clone());
        }
        let octets = if metadata.is_file() {
            fs::read(path).unwrap()
        } else if metadata.is_symlink() {
            fs::read_link(path).unwrap().into_os_string().into_vec()
        } else {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let mut below = relative.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(entry.file_name().into_vec());
                visit(&entry.path(), below, facts, inodes);
            }
            Vec::new()
        };
        let mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap());
        let owner = (metadata.uid(), metadata.gid());
        let names = BTreeSet::new();
        facts.insert(relative, Fact { mode: metadata.mode(), mtime, octets, owner, names });
    }
    let (mut facts, mut inodes) = (BTreeMap::new(), Inodes::new());
    visit(root, Vec::new(), &mut facts, &mut inodes);
    name_inodes(&mut facts, inodes);
    facts
}

/// The same of a generation, by walking it from the root.
pub fn facts_of_generation(generation: &Generation) -> BTreeMap<Vec<u8>, Fact> {
    let (mut facts, mut inodes) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    let mut pending = vec![generation.root()];
    while let Some(id) = pending.pop() {
        let node = generation.node(id);
        let path = generation.path(id);
        assert_eq!(generation.lookup(&path), Some(id), "{}", path.escape_ascii());
        let octets = match node.kind {
            NodeKind::File => generation.read(id, u64::MAX).unwrap(),
            NodeKind::Symlink => node.symlink_target.to_vec(),
            NodeKind::Directory => {
                let children: Vec<_> = generation.children(id).collect();
                assert!(children.is_sorted_by_key(|&child| generation.node(child).name));
                pending.extend(children);
                Vec::new()
            }
        };
        if node.kind == NodeKind::File {
            assert_eq!(node.size, octets.len() as u64);
        }
        if let Some(inode) = node.inode {
            inodes.entry(inode).or_default().insert(path.clone());
        }
        let (mtime, owner) = ((node.mtime_s, node.mtime_ns), (node.uid, node.gid));
        facts.insert(path, Fact { mode: node.mode, mtime, octets, owner, names: BTreeSet::new() });
    }
    assert!(inodes.values().all(|names| names.len() > 1), "one name says nothing: {inodes:?}");
    name_inodes(&mut facts, inodes);
    facts
}

/// Writes a file that changed in a later second than any before: what changes within one second is served as changed
/// later than the source has it.
pub fn write_later(path: &Path, octets: impl AsRef<[u8]>) {
    static SECOND: AtomicU64 = AtomicU64::new(1_100_000_000);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, octets).unwrap();
    set_mtime(path, SECOND.fetch_add(1, Ordering::Relaxed));
}

pub fn set_mtime(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Only root may give files away.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// How many octets all packs of the module take.
pub fn packs_bytes(bench: &Bench) -> u64 {
    let packs = fs::read_dir(bench.state().join("m/packs")).unwrap();
    packs.map(|pack| pack.unwrap().metadata().unwrap().len()).sum()
}

pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
