//! Whose nodes are, and which names are one inode: kept, compared, and read from an index of before they were.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;

use common::{Bench, copy_directory, facts_of_directory, facts_of_generation, is_root, set_mode, set_mtime};
use gentoo_repo::catalogue::Catalogue;
use tree_store::{Built, Changes, Generation, Store};

const THEN: u64 = 1_700_000_000;

/// One file with three names, one with one, and a link.
fn linked() -> Bench {
    let bench = Bench::new();
    for (path, octets) in [
        ("metadata/timestamp.chk", "Tue, 14 Nov 2023 22:13:20 +0000\n"),
        ("a/one", "one file\n"),
        ("b/own", "another\n"),
    ] {
        bench.write(path, octets);
        set_mode(&bench.source().join(path), 0o644);
        set_mtime(&bench.source().join(path), THEN);
    }
    for name in ["b/two", "b/three"] {
        fs::hard_link(bench.source().join("a/one"), bench.source().join(name)).unwrap();
    }
    symlink("one", bench.source().join("a/link")).unwrap();
    bench
}

fn first(generation: &Generation, path: &str) -> Option<Vec<u8>> {
    let inode = generation.node(generation.lookup(path.as_bytes()).unwrap()).inode;
    inode.map(|id| generation.path(id))
}

fn changes(store: &Store, bench: &Bench) -> Changes {
    let candidate = bench.candidate(store);
    let changes = *candidate.changes();
    store.publish(candidate, &Catalogue::default(), 1, 2).unwrap();
    assert_eq!(facts_of_generation(&store.live().unwrap()), facts_of_directory(&bench.source()));
    assert!(matches!(bench.build(store).unwrap(), Built::Unchanged(_)));
    changes
}

#[test]
fn a_change_of_links_alone_is_a_change() {
    let bench = linked();
    // What changes within one second would be served later.
    set_mtime(&bench.source().join("b/own"), THEN + 10);
    let store = bench.open();
    assert_eq!(changes(&store, &bench), Changes { added: 6, ..Changes::default() });
    let live = store.live().unwrap();
    assert_eq!(first(&live, "b/three"), Some(b"a/one".to_vec()));
    assert_eq!((first(&live, "b/own"), first(&live, "a/link")), (None, None));

    // Another file with the same octets: all that is left of the three is another group.
    let two = bench.source().join("b/two");
    fs::rename(&two, bench.source().join("copied")).unwrap();
    fs::copy(bench.source().join("copied"), &two).unwrap();
    fs::remove_file(bench.source().join("copied")).unwrap();
    set_mtime(&two, THEN);
    set_mtime(&bench.source().join("b"), THEN);
    let changed = changes(&store, &bench);
    assert_eq!(changed, Changes { changed: 1, ..Changes::default() });
    assert_eq!(first(&store.live().unwrap(), "b/two"), None);

    // Two names are taken from one inode to another, and no path comes or goes.
    fs::remove_file(&two).unwrap();
    fs::remove_file(bench.source().join("b/three")).unwrap();
    fs::hard_link(bench.source().join("b/own"), &two).unwrap();
    fs::hard_link(bench.source().join("a/one"), bench.source().join("b/three")).unwrap();
    assert_eq!(changes(&store, &bench).changed, 2, "b/own and b/two");
    drop(store);
    assert_eq!(first(&bench.open().live().unwrap(), "b/two"), Some(b"b/own".to_vec()), "from disk");
}

#[test]
fn a_name_that_is_left_out_is_no_name() {
    let bench = linked();
    fs::hard_link(bench.source().join("b/own"), bench.directory.path().join("elsewhere")).unwrap();
    let store = bench.open();
    let excludes = tree_store::Excludes::new(["/a"]).unwrap();
    let request = tree_store::BuildRequest {
        source: &bench.source(),
        excludes: &excludes,
        started: std::time::SystemTime::now(),
        afresh: false,
        stop: &std::sync::atomic::AtomicBool::new(false),
    };
    let Built::Candidate(candidate) = store.build(&request).unwrap() else { panic!() };
    let generation = candidate.generation();
    assert_eq!(first(generation, "b/two"), Some(b"b/three".to_vec()), "the first of those that are left");
    assert_eq!(first(generation, "b/own"), None, "its other name is elsewhere");
}

#[test]
fn a_change_of_owner_alone_is_a_change() {
    if !is_root() {
        return;
    }
    let bench = linked();
    let store = bench.open();
    changes(&store, &bench);
    chown(bench.source().join("b/own"), Some(250), Some(251)).unwrap();
    assert_eq!(changes(&store, &bench), Changes { changed: 1, ..Changes::default() });
    chown(bench.source().join("b/two"), None, Some(251)).unwrap();
    assert_eq!(
        changes(&store, &bench),
        Changes { changed: 3, ..Changes::default() },
        "one file, three names"
    );
    lchown(bench.source().join("a/link"), Some(u32::MAX - 1), None).unwrap();
    assert_eq!(changes(&store, &bench), Changes { changed: 1, ..Changes::default() });
    chown(bench.source().join("b"), Some(250), None).unwrap();
    assert_eq!(changes(&store, &bench), Changes::default(), "directories are not counted");
    assert_eq!(store.live().unwrap().number(), 5);
}

/// A box that takes the names of one inode for one file takes one time for them.
#[test]
fn names_of_one_inode_that_are_served_later_are_so_together() {
    let bench = linked();
    let store = bench.open();
    changes(&store, &bench);
    // The content changes within its second; one name of it is new.
    fs::write(bench.source().join("a/one"), "ONE FILE\n").unwrap();
    fs::hard_link(bench.source().join("a/one"), bench.source().join("a/four")).unwrap();
    set_mtime(&bench.source().join("a/one"), THEN);
    let generation = bench.publish(&store);
    let seconds = |path: &str| generation.node(generation.lookup(path.as_bytes()).unwrap()).mtime_s;
    let later = i64::try_from(THEN).unwrap() + 1;
    assert_eq!(["a/one", "a/four", "b/two", "b/three"].map(seconds), [later; 4]);
    assert!(matches!(bench.build(&store).unwrap(), Built::Unchanged(_)), "and that is no change any more");
}

#[test]
fn a_rollback_parts_the_file_that_it_rewrites() {
    let bench = linked();
    let chk = bench.source().join("metadata/timestamp.chk");
    fs::hard_link(&chk, bench.source().join("metadata/copy")).unwrap();
    let store = bench.open();
    changes(&store, &bench);
    let revived = store.revive(1, b"metadata/timestamp.chk", b"later", 5, &[]).unwrap();
    store.publish(revived, &Catalogue::default(), 1, 2).unwrap();
    drop(store);
    let live = bench.open().live().unwrap();
    assert_eq!((first(&live, "metadata/copy"), first(&live, "metadata/timestamp.chk")), (None, None));
    assert_eq!(first(&live, "b/two"), Some(b"a/one".to_vec()));
}

/// A state directory as the program wrote it that knew neither owners nor inodes (format version 2), of [`linked`]
/// without `b/three`.
#[test]
fn an_index_of_before_owners_is_served_and_the_next_look_adds_them() {
    let bench = linked();
    let source = bench.source();
    fs::remove_file(source.join("b/three")).unwrap();
    let mut touch = std::process::Command::new("touch");
    assert!(touch.args(["-h", "-d", "@1700000000"]).arg(source.join("a/link")).status().unwrap().success());
    for directory in ["metadata", "a", "b", ""] {
        set_mode(&source.join(directory), 0o755);
        set_mtime(&source.join(directory), THEN);
    }
    if is_root() {
        chown(source.join("b/own"), Some(250), Some(251)).unwrap();
    }
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-2/m");
    copy_directory(&stored, &bench.state().join("m"));

    let store = bench.open();
    let old = facts_of_generation(&store.live().unwrap());
    let mut expected = facts_of_directory(&source);
    for fact in expected.values_mut() {
        fact.owner = (0, 0);
        fact.names.clear();
    }
    assert_eq!(old, expected, "all is root's, and no names are one file");
    assert!(Store::scrub(&store.live().unwrap()).is_empty());

    assert_eq!(changes(&store, &bench).added, 0);
    drop(store);
    let store = bench.open();
    assert_eq!(store.live().unwrap().number(), 2);
    assert_eq!(facts_of_generation(&store.live().unwrap()), facts_of_directory(&source));
    // The old one can still be gone back to.
    let revived = store.revive(1, b"metadata/timestamp.chk", b"x", 5, &[]).unwrap();
    let generation = store.publish(revived, &Catalogue::default(), 1, 2).unwrap();
    assert_eq!(first(&generation, "a/one"), None);
}
