//! Random trees, changed at random: a generation always equals its source.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

use common::{Bench, facts_of_directory, facts_of_generation, set_mode, set_mtime};
use proptest::prelude::*;
use tree_store::Built;

#[derive(Debug, Clone)]
enum Edit {
    File {
        path: Vec<Vec<u8>>,
        content: Vec<u8>,
        mode: u32,
        mtime: u32,
    },
    Symlink {
        path: Vec<Vec<u8>>,
        target: Vec<u8>,
    },
    Directory {
        path: Vec<Vec<u8>>,
    },
    Remove {
        path: Vec<Vec<u8>>,
    },
    /// One more name of what is there.
    Link {
        from: Vec<Vec<u8>>,
        path: Vec<Vec<u8>>,
    },
    /// Without root this does nothing.
    Own {
        path: Vec<Vec<u8>>,
        owner: (u32, u32),
    },
}

/// Few names, so that edits meet, among them ones that are no UTF-8.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![&b"a"[..], b"b", b"a.b", b"a-b", b"\xff\xfe", b"caf\xc3\xa9", b" "])
            .prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(1..=255_u8, 1..20).prop_map(|mut name| {
            for octet in name.iter_mut().filter(|octet| **octet == b'/') {
                *octet = b'_';
            }
            if name == b"." || name == b".." { vec![b'x'] } else { name }
        }),
    ]
}

fn path() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(name(), 1..4)
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (path(), prop::collection::vec(any::<u8>(), 0..200), 0..0o1000_u32, any::<u32>())
            .prop_map(|(path, content, mode, mtime)| Edit::File { path, content, mode: mode | 0o400, mtime }),
        1 => (path(), prop::collection::vec(1..=255_u8, 1..30))
            .prop_map(|(path, target)| Edit::Symlink { path, target }),
        1 => path().prop_map(|path| Edit::Directory { path }),
        2 => path().prop_map(|path| Edit::Remove { path }),
        2 => (path(), path()).prop_map(|(from, path)| Edit::Link { from, path }),
        1 => (path(), (0..3_u32, 0..3_u32)).prop_map(|(path, owner)| Edit::Own { path, owner }),
    ]
}

/// Does the edit as far as the tree allows it.
fn apply(root: &Path, edit: &Edit) {
    let full = |path: &[Vec<u8>]| root.join(OsStr::from_bytes(&path.join(&b'/')));
    let parent = |path: &[Vec<u8>]| {
        let directory = full(&path[..path.len() - 1]);
        fs::create_dir_all(&directory).is_ok() && fs::symlink_metadata(full(path)).is_err()
    };
    match edit {
        Edit::File { path, content, mode, mtime } => {
            parent(path);
            let full = full(path);
            let plain = fs::symlink_metadata(&full).map_or(true, |found| found.is_file());
            if plain && fs::write(&full, content).is_ok() {
                set_mtime(&full, u64::from(*mtime));
                set_mode(&full, *mode);
            }
        }
        Edit::Symlink { path, target } => {
            if parent(path) {
                drop(symlink(OsStr::from_bytes(target), full(path)));
            }
        }
        Edit::Directory { path } => drop(fs::create_dir_all(full(path))),
        Edit::Remove { path } => {
            drop(fs::remove_file(full(path)));
            drop(fs::remove_dir_all(full(path)));
        }
        Edit::Link { from, path } => {
            if parent(path) {
                drop(fs::hard_link(full(from), full(path)));
            }
        }
        Edit::Own { path, owner: (uid, gid) } => drop(lchown(full(path), Some(*uid), Some(*gid))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_generation_equals_its_source(rounds in prop::collection::vec(prop::collection::vec(edit(), 0..12), 1..5)) {
        let bench = Bench::new();
        let store = bench.open();
        for edits in &rounds {
            for edit in edits {
                apply(&bench.source(), edit);
            }
            let expected = facts_of_directory(&bench.source());
            match bench.build(&store).unwrap() {
                Built::Unchanged(live) => prop_assert_eq!(facts_of_generation(&live), expected),
                Built::Candidate(candidate) => {
                    let generation = store.publish(candidate, &gentoo_repo::catalogue::Catalogue::default(), 1, 2).unwrap();
                    prop_assert_eq!(facts_of_generation(&generation), expected);
                }
            }
            store.collect(1).unwrap();
        }
        let live = store.live().map(|live| facts_of_generation(&live));
        drop(store);
        prop_assert_eq!(bench.open().live().map(|live| facts_of_generation(&live)), live);
    }
}
