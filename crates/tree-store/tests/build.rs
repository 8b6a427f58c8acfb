//! Building, rebuilding, reusing, pinning and collecting.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use common::{Bench, facts_of_directory, facts_of_generation, packs_bytes, set_mode, set_mtime};
use gentoo_repo::catalogue::Catalogue;
use tree_store::{BuildRequest, Built, Changes, Excludes, Store, TreeError};

fn populated() -> Bench {
    let bench = Bench::new();
    bench.write("metadata/timestamp.chk", "x");
    bench.write("app-misc/a/a-1.ebuild", "one");
    bench.write("app-misc/a/a-2.ebuild", "two");
    bench.write("app-misc/empty", "");
    bench.write("distfiles/huge", "not part of it");
    symlink("a-2.ebuild", bench.source().join("app-misc/a/link")).unwrap();
    set_mtime(&bench.source().join("app-misc/a/a-1.ebuild"), 1_000_000_000);
    set_mode(&bench.source().join("app-misc/a/a-1.ebuild"), 0o640);
    bench
}

#[test]
fn a_generation_holds_what_the_source_holds() {
    let bench = populated();
    let store = bench.open();
    let generation = bench.publish(&store);
    let mut expected = facts_of_directory(&bench.source());
    expected.retain(|path, _| !path.starts_with(b"distfiles"));
    assert_eq!(facts_of_generation(&generation), expected);
    assert_eq!(generation.number(), 1);
    assert_eq!(generation.summary().files, 5);
    assert_eq!(generation.summary().bytes, 7);
    assert_eq!(generation.lookup(b"app-misc/a/none"), None);
    assert_eq!(generation.lookup(b"app-misc/a/link/x"), None);
    assert_eq!(generation.lookup(b"../source"), None);
    assert_eq!(generation.lookup(b"/"), None);
}

#[test]
fn the_next_generation_reads_only_what_changed() {
    let bench = populated();
    bench.write("large", [5; 100]);
    let store = bench.open();
    let first = bench.publish(&store);
    assert!(matches!(bench.build(&store).unwrap(), Built::Unchanged(same) if same.number() == 1));

    bench.write("app-misc/a/a-1.ebuild", "ONE");
    bench.write("app-misc/a/a-3.ebuild", "three");
    fs::remove_file(bench.source().join("app-misc/a/a-2.ebuild")).unwrap();
    let candidate = bench.candidate(&store);
    assert_eq!(candidate.files_read(), 2);
    assert_eq!(*candidate.changes(), Changes { added: 1, changed: 1, removed: 1 });
    let before = packs_bytes(&bench);
    let second = store.publish(candidate, &Catalogue::default(), 1, 2).unwrap();
    assert_eq!(packs_bytes(&bench) - before, 16 + 8);

    let read = |generation: &tree_store::Generation, path: &[u8]| {
        generation.lookup(path).map(|id| generation.read(id, 100).unwrap())
    };
    assert_eq!(read(&first, b"app-misc/a/a-1.ebuild").unwrap(), b"one");
    assert_eq!(read(&first, b"app-misc/a/a-2.ebuild").unwrap(), b"two");
    assert_eq!(read(&second, b"app-misc/a/a-1.ebuild").unwrap(), b"ONE");
    assert_eq!(read(&second, b"app-misc/a/a-2.ebuild"), None);
}

#[test]
fn a_change_of_metadata_alone_is_a_change() {
    let bench = populated();
    let store = bench.open();
    bench.publish(&store);
    set_mode(&bench.source().join("app-misc/a/a-2.ebuild"), 0o600);
    assert_eq!(*bench.candidate(&store).changes(), Changes { changed: 1, ..Changes::default() });
    bench.publish(&store);
    set_mtime(&bench.source().join("app-misc"), 5);
    assert_eq!(*bench.candidate(&store).changes(), Changes::default());
    assert_eq!(bench.publish(&store).number(), 3);
}

#[test]
fn a_change_that_hides_behind_size_and_mtime_is_found() {
    let bench = populated();
    let store = bench.open();
    bench.publish(&store);
    bench.write("app-misc/a/a-1.ebuild", "ONE");
    set_mtime(&bench.source().join("app-misc/a/a-1.ebuild"), 1_000_000_000);
    let generation = bench.publish(&store);
    let id = generation.lookup(b"app-misc/a/a-1.ebuild").unwrap();
    assert_eq!(generation.read(id, 9).unwrap(), b"ONE");
}

/// The content and second of the ebuild in the live generation.
fn served(store: &Store) -> (Vec<u8>, i64) {
    let live = store.live().unwrap();
    let id = live.lookup(b"app-misc/a/a-1.ebuild").unwrap();
    (live.read(id, 9).unwrap(), live.node(id).mtime_s)
}

#[test]
fn a_change_within_one_second_is_served_a_second_later_once_and_for_good() {
    let bench = populated();
    let store = bench.open();
    let ebuild = bench.source().join("app-misc/a/a-1.ebuild");
    let change = |octets: &str| {
        bench.write("app-misc/a/a-1.ebuild", octets);
        set_mtime(&ebuild, 1_000_000_000);
    };
    change("one");
    bench.publish(&store);
    assert_eq!(served(&store), (b"one".to_vec(), 1_000_000_000));
    change("ONE");
    bench.publish(&store);
    assert_eq!(served(&store), (b"ONE".to_vec(), 1_000_000_001));
    // It is no change any more, with hints or without them.
    assert!(matches!(bench.build(&store).unwrap(), Built::Unchanged(_)));
    fs::remove_file(bench.state().join("m/generations/00000002.seen")).unwrap();
    assert!(matches!(bench.build(&store).unwrap(), Built::Unchanged(_)));
    // A box that passed over the second one has to fetch the third.
    bench.write("other", "x");
    bench.publish(&store);
    assert_eq!(bench.candidate_after(&store, || change("two")).files_read(), 1);
    let generation = bench.publish(&store);
    assert_eq!((generation.summary().changes.changed, served(&store).1), (1, 1_000_000_002));
    // A time of the source's own that is later needs nothing.
    bench.write("app-misc/a/a-1.ebuild", "TWO");
    set_mtime(&ebuild, 1_000_000_100);
    bench.publish(&store);
    assert_eq!(served(&store), (b"TWO".to_vec(), 1_000_000_100));
    // Going back to what was there in between is a change like any other.
    let revived = store.revive(2, b"metadata/timestamp.chk", b"x", 5, &[]).unwrap();
    store.publish(revived, &Catalogue::default(), 1, 2).unwrap();
    assert_eq!(served(&store), (b"ONE".to_vec(), 1_000_000_101));
}

#[test]
fn a_file_that_had_just_changed_is_read_again() {
    let bench = populated();
    let store = bench.open();
    // A clock that says the files changed after we looked.
    let early = SystemTime::now() - Duration::from_hours(1);
    let Built::Candidate(candidate) = bench.build_at(&store, early).unwrap() else { panic!("unchanged") };
    store.publish(candidate, &Catalogue::default(), 1, 2).unwrap();
    bench.write("new", "x");
    assert_eq!(bench.candidate(&store).files_read(), 5);
}

#[test]
fn the_same_content_is_stored_once() {
    let bench = Bench::new();
    let content = vec![7; 5 << 20];
    for name in ["a", "b", "c"] {
        bench.write(name, &content);
        bench.write(&format!("small-{name}"), "same");
    }
    let store = bench.open();
    let generation = bench.publish(&store);
    assert_eq!(packs_bytes(&bench), 16 + (5 << 20) + 4);
    assert_eq!(facts_of_generation(&generation), facts_of_directory(&bench.source()));
    bench.write("d", &content);
    bench.publish(&store);
    assert_eq!(packs_bytes(&bench), 16 + (5 << 20) + 4, "and no pack for nothing new");
}

#[test]
fn a_restart_finds_the_newest_generation() {
    let bench = populated();
    let expected = {
        let store = bench.open();
        bench.publish(&store);
        bench.write("new", "x");
        facts_of_generation(&bench.publish(&store))
    };
    let store = bench.open();
    let live = store.live().unwrap();
    assert_eq!((live.number(), store.kept()), (2, vec![1, 2]));
    assert_eq!(facts_of_generation(&live), expected);
    assert!(matches!(bench.build(&store).unwrap(), Built::Unchanged(_)));
    let again = Store::open(&bench.state(), "m".parse().unwrap());
    assert!(matches!(again, Err(TreeError::Locked { .. })));
}

#[test]
fn pinned_generations_outlive_collection_and_their_packs_too() {
    let bench = populated();
    let store = bench.open();
    let first = bench.publish(&store);
    let expected = facts_of_generation(&first);
    for round in 0..5 {
        // All of the old content goes, so that only the pin keeps the old pack.
        bench.write("app-misc/a/a-1.ebuild", format!("one {round}"));
        bench.write("app-misc/a/a-2.ebuild", format!("two {round}"));
        bench.write("metadata/timestamp.chk", format!("x {round}"));
        bench.publish(&store);
        store.collect(2).unwrap();
    }
    assert_eq!(store.kept(), [1, 5, 6]);
    assert_eq!(facts_of_generation(&first), expected);
    assert_eq!(facts_of_generation(&store.generation(1).unwrap()), expected);
    drop(first);
    let collected = store.collect(2).unwrap();
    assert_eq!((collected.generations, collected.packs), (vec![1], 1));
    assert!(matches!(store.generation(1), Err(TreeError::NotKept { number: 1 })));
    assert!(matches!(store.catalogue(1), Err(TreeError::NotKept { number: 1 })));
    assert_eq!(facts_of_generation(&store.live().unwrap()), facts_of_directory_without_distfiles(&bench));
}

fn facts_of_directory_without_distfiles(bench: &Bench) -> std::collections::BTreeMap<Vec<u8>, common::Fact> {
    let mut facts = facts_of_directory(&bench.source());
    facts.retain(|path, _| !path.starts_with(b"distfiles"));
    facts
}

#[test]
fn many_small_changes_do_not_leave_many_packs() {
    let bench = populated();
    let store = bench.open();
    for round in 0..60 {
        bench.write(&format!("dir/file-{round}"), format!("content {round}"));
        bench.publish(&store);
        store.collect(1).unwrap();
        let packs = fs::read_dir(bench.state().join("m/packs")).unwrap().count();
        assert!(packs <= 26, "{packs} packs after {round}");
    }
    assert_eq!(facts_of_generation(&store.live().unwrap()), facts_of_directory_without_distfiles(&bench));
}

#[test]
fn readers_see_one_generation_through_publishes_and_collections() {
    let bench = Bench::new();
    let files: Vec<String> = (0..40).map(|number| format!("d/{number}")).collect();
    let fill = |round: u32| files.iter().for_each(|file| bench.write(file, round.to_string()));
    fill(0);
    let store = bench.open();
    bench.publish(&store);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let generation = store.live().unwrap();
                    let expected = (generation.number() - 1).to_string();
                    for id in generation.children(generation.lookup(b"d").unwrap()) {
                        assert_eq!(generation.read(id, 99).unwrap(), expected.as_bytes());
                    }
                }
            });
        }
        for round in 1..30 {
            fill(round);
            bench.publish(&store);
            store.collect(1).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(store.live().unwrap().number(), 30);
}

#[test]
fn excludes_apply_while_building_and_a_build_can_be_stopped() {
    let bench = populated();
    let store = bench.open();
    let excludes = Excludes::new(["/app-misc/a", "timestamp.*"]).unwrap();
    let source = bench.source();
    let stop = AtomicBool::new(false);
    let request = BuildRequest {
        source: &source,
        excludes: &excludes,
        started: SystemTime::now(),
        afresh: false,
        stop: &stop,
    };
    let Built::Candidate(candidate) = store.build(&request).unwrap() else { panic!("unchanged") };
    let paths: Vec<_> = facts_of_generation(candidate.generation()).into_keys().collect();
    assert_eq!(paths, [b"".as_slice(), b"app-misc", b"app-misc/empty", b"metadata"]);
    drop(candidate);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(store.build(&request), Err(TreeError::Stopped)));
    let left = fs::read_dir(bench.state().join("m/temporary")).unwrap().count();
    assert_eq!(left, 0, "a dropped candidate leaves nothing");
}

#[test]
fn sources_that_cannot_be_read_are_named() {
    let bench = populated();
    let store = bench.open();
    let pipe = bench.source().join("app-misc/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let error = bench.build(&store).unwrap_err();
    assert!(matches!(&error, TreeError::Special { path } if *path == pipe), "{error}");
    fs::remove_file(pipe).unwrap();

    fs::rename(bench.source(), bench.directory.path().join("away")).unwrap();
    let error = bench.build(&store).unwrap_err();
    assert!(error.to_string().contains("source: open"), "{error}");
    fs::write(bench.source(), "a file").unwrap();
    assert!(matches!(bench.build(&store), Err(TreeError::Source { .. })));
}
