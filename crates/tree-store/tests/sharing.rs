//! Two modules of one state directory: what both have is on disk once, and neither needs the other.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use common::{Bench, copy_directory, facts_of_directory, facts_of_generation, write_later};
use gentoo_repo::catalogue::Catalogue;
use proptest::prelude::*;
use tree_store::{BuildRequest, Built, Candidate, Excludes, Generation, StepHook, Store, TreeError};

/// What a test's module is built of.
fn source_of(bench: &Bench, module: &str) -> PathBuf {
    bench.directory.path().join("sources").join(module)
}

fn write(bench: &Bench, module: &str, path: &str, octets: impl AsRef<[u8]>) {
    write_later(&source_of(bench, module).join(path), octets);
}

fn open(state: &Path, module: &str) -> Store {
    Store::open(state, module.parse().unwrap()).unwrap()
}

fn build(store: &Store, source: &Path, others: &[Generation]) -> Result<Built, TreeError> {
    let request = BuildRequest {
        source,
        excludes: &Excludes::new::<&str>([]).unwrap(),
        // The clock an hour ahead: every file is settled.
        started: SystemTime::now() + Duration::from_hours(1),
        afresh: false,
        stop: &AtomicBool::new(false),
    };
    store.build_beside(&request, others)
}

fn candidate(bench: &Bench, store: &Store, others: &[Generation]) -> Candidate {
    match build(store, &source_of(bench, store.module().as_str()), others).unwrap() {
        Built::Candidate(candidate) => candidate,
        Built::Unchanged(_) => panic!("unchanged"),
    }
}

/// Publishes what the module's source holds, beside `other`, and collects all but that.
fn publish(bench: &Bench, store: &Store, other: &Store) {
    let others: Vec<_> = other.live().into_iter().collect();
    store.publish(candidate(bench, store, &others), &Catalogue::default(), 1, 2).unwrap();
    store.collect(1).unwrap();
}

/// The packs of all modules by inode: their sizes, each once.
fn packs(state: &Path) -> BTreeMap<u64, u64> {
    let mut packs = BTreeMap::new();
    for module in fs::read_dir(state).unwrap() {
        for pack in fs::read_dir(module.unwrap().path().join("packs")).unwrap() {
            let found = pack.unwrap().metadata().unwrap();
            packs.insert(found.ino(), found.len());
        }
    }
    packs
}

fn assert_whole(bench: &Bench, store: &Store) {
    let live = store.live().unwrap();
    assert_eq!(Store::scrub(&live), Vec::<Vec<u8>>::new());
    assert_eq!(facts_of_generation(&live), facts_of_directory(&source_of(bench, store.module().as_str())));
}

const KIBIBYTE: usize = 1 << 10;

/// `a` and `b` have twenty files of 1 KiB in common; `b` has one more.
fn two_modules() -> (Bench, Store, Store) {
    let bench = Bench::new();
    for number in 0..20_u8 {
        for module in ["a", "b"] {
            write(&bench, module, &format!("d/{number}"), vec![number; KIBIBYTE]);
        }
    }
    write(&bench, "b", "own", "of b alone");
    let (a, b) = (open(&bench.state(), "a"), open(&bench.state(), "b"));
    publish(&bench, &a, &b);
    publish(&bench, &b, &a);
    (bench, a, b)
}

#[test]
fn what_two_modules_have_is_on_disk_once_and_each_is_whole_without_the_other() {
    let (bench, a, b) = two_modules();
    let sizes: Vec<u64> = packs(&bench.state()).into_values().collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().any(|&size| size < 100), "the pack of b holds its own file alone: {sizes:?}");
    assert_whole(&bench, &a);
    assert_whole(&bench, &b);

    // What b read goes on being b's when a is no longer configured and its directory is removed.
    drop((a, b));
    fs::remove_dir_all(bench.state().join("a")).unwrap();
    let b = open(&bench.state(), "b");
    assert_whole(&bench, &b);
    // Nothing is adopted a second time.
    write(&bench, "b", "own", "changed");
    publish(&bench, &b, &open(&bench.state(), "another"));
    assert_whole(&bench, &b);
    assert_eq!(packs(&bench.state()).len(), 2);
}

#[test]
fn space_comes_back_when_the_last_module_lets_go() {
    let (bench, a, b) = two_modules();
    for number in 0..20_u8 {
        write(&bench, "a", &format!("d/{number}"), vec![100 + number; KIBIBYTE]);
    }
    publish(&bench, &a, &b);
    let total = |bench: &Bench| packs(&bench.state()).values().sum::<u64>();
    assert!(total(&bench) > 40 * KIBIBYTE as u64, "b still needs what a had");
    assert_whole(&bench, &b);
    for number in 0..20_u8 {
        write(&bench, "b", &format!("d/{number}"), vec![100 + number; KIBIBYTE]);
    }
    publish(&bench, &b, &a);
    assert_whole(&bench, &a);
    assert_whole(&bench, &b);
    assert!(total(&bench) < 21 * KIBIBYTE as u64, "{}", total(&bench));
}

#[test]
fn a_pack_that_is_mostly_dead_for_both_is_copied_once() {
    let (bench, a, b) = two_modules();
    for module in ["a", "b"] {
        for number in 4..20 {
            fs::remove_file(source_of(&bench, module).join(format!("d/{number}"))).unwrap();
        }
    }
    for (one, other) in [(&a, &b), (&b, &a)] {
        publish(&bench, one, other);
    }
    // Now a has nothing of the old pack; b notices with its next generation.
    write(&bench, "b", "own", "changed");
    publish(&bench, &b, &a);
    write(&bench, "a", "own", "of a alone");
    publish(&bench, &a, &b);
    let total: u64 = packs(&bench.state()).values().sum();
    assert!(total < 5 * KIBIBYTE as u64, "{total}");
    assert_whole(&bench, &a);
    assert_whole(&bench, &b);
}

#[test]
fn a_file_system_without_hard_links_costs_space_alone() {
    let bench = Bench::new();
    for module in ["a", "b"] {
        write(&bench, module, "f", vec![7; KIBIBYTE]);
    }
    let a = open(&bench.state(), "a");
    let hook: Box<StepHook> = Box::new(|step| match step {
        "link" => Err(io::Error::from(io::ErrorKind::CrossesDevices)),
        _ => Ok(()),
    });
    let b = Store::open_with(&bench.state(), "b".parse().unwrap(), Some(hook)).unwrap();
    publish(&bench, &a, &b);
    publish(&bench, &b, &a);
    assert_eq!(packs(&bench.state()).values().sum::<u64>(), 2 * (16 + KIBIBYTE as u64));
    assert_whole(&bench, &b);
}

#[test]
fn a_candidate_that_comes_to_nothing_leaves_no_name() {
    let (bench, a, b) = two_modules();
    write(&bench, "a", "new", "new");
    publish(&bench, &a, &b);
    write(&bench, "b", "new", "new");
    let others = [a.live().unwrap()];
    let dropped = candidate(&bench, &b, &others);
    let temporary = bench.state().join("b/temporary");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 2, "the adopted pack and the new one");
    drop(dropped);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

/// Publishes a generation of `b` that adopts a pack of `a`, through a hook.
fn adopt_with(bench: &Bench, state: &Path, hook: Box<StepHook>) -> Result<(), TreeError> {
    let a = open(state, "a");
    let b = Store::open_with(state, "b".parse().unwrap(), Some(hook))?;
    let candidate = match build(&b, &source_of(bench, "b"), &[a.live().unwrap()])? {
        Built::Candidate(candidate) => candidate,
        Built::Unchanged(_) => panic!("unchanged"),
    };
    b.publish(candidate, &Catalogue::default(), 1, 2)?;
    b.collect(1)?;
    Ok(())
}

/// Both are published; then `a` has something that `b` is about to have, too.
fn about_to_adopt() -> (Bench, [BTreeMap<Vec<u8>, common::Fact>; 2]) {
    let (bench, a, b) = two_modules();
    write(&bench, "a", "new", "new of both");
    publish(&bench, &a, &b);
    let facts = [&a, &b].map(|store| facts_of_generation(&store.live().unwrap()));
    write(&bench, "b", "new", "new of both");
    write(&bench, "b", "own", "changed");
    (bench, facts)
}

#[test]
fn a_kill_at_any_step_leaves_both_modules_whole() {
    let (bench, [of_a, old_of_b]) = about_to_adopt();
    let scenes = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (state, target, counted) = (bench.state(), scenes.path().to_owned(), Arc::clone(&count));
    let hook = move |_: &'static str| {
        let at = counted.fetch_add(1, Ordering::Relaxed);
        copy_directory(&state, &target.join(at.to_string()));
        Ok(())
    };
    adopt_with(&bench, &bench.state(), Box::new(hook)).unwrap();
    let new_of_b = facts_of_directory(&source_of(&bench, "b"));
    let mut published = 0;
    for at in 0..count.load(Ordering::Relaxed) {
        let scene = scenes.path().join(at.to_string());
        let (a, b) = (open(&scene, "a"), open(&scene, "b"));
        assert_eq!(facts_of_generation(&a.live().unwrap()), of_a, "scene {at}");
        let live = b.live().unwrap();
        let expected = if live.number() == 1 { &old_of_b } else { &new_of_b };
        assert_eq!(&facts_of_generation(&live), expected, "scene {at}");
        published += usize::from(live.number() == 2);
        assert_eq!(fs::read_dir(scene.join("b/temporary")).unwrap().count(), 0, "scene {at}");
        let left = fs::read_dir(scene.join("b/packs")).unwrap().count();
        assert!(left <= 4, "scene {at}: {left} packs");
    }
    assert!(published > 0 && published < count.load(Ordering::Relaxed));
}

#[test]
fn a_failure_at_any_step_keeps_the_old_generation_and_the_next_try_succeeds() {
    for failing in 0.. {
        let (bench, [_, old_of_b]) = about_to_adopt();
        let at = AtomicUsize::new(0);
        let hook = move |name: &'static str| {
            if at.fetch_add(1, Ordering::Relaxed) == failing {
                return Err(io::Error::new(io::ErrorKind::StorageFull, name));
            }
            Ok(())
        };
        let outcome = adopt_with(&bench, &bench.state(), Box::new(hook));
        let (a, b) = (open(&bench.state(), "a"), open(&bench.state(), "b"));
        if b.live().unwrap().number() == 1 {
            assert!(outcome.is_err(), "step {failing}");
            assert_eq!(facts_of_generation(&b.live().unwrap()), old_of_b, "step {failing}");
            publish(&bench, &b, &a);
        }
        assert_whole(&bench, &a);
        assert_whole(&bench, &b);
        if outcome.is_ok() && failing > 20 {
            break;
        }
        assert!(failing < 100, "the steps never end");
    }
}

#[derive(Debug, Clone)]
struct Step {
    is_of_b: bool,
    /// File and content; no content removes it.
    edits: Vec<(u8, Option<u8>)>,
    reopens: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let edit = (0..8_u8, prop::option::weighted(0.8, 0..12_u8));
    (any::<bool>(), prop::collection::vec(edit, 0..6), any::<bool>())
        .prop_map(|(is_of_b, edits, reopens)| Step { is_of_b, edits, reopens })
}

/// Publishes what a module has now under another marker, so that it always differs.
fn advance(bench: &Bench, stores: &[Store; 2], of: usize, marker: usize) {
    write(bench, ["a", "b"][of], "marker", format!("{of} {marker}"));
    publish(bench, &stores[of], &stores[1 - of]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_two_modules_do_each_has_its_source_and_no_content_is_there_twice(
        steps in prop::collection::vec(step(), 1..10),
    ) {
        let bench = Bench::new();
        let reopen = || [open(&bench.state(), "a"), open(&bench.state(), "b")];
        let mut stores = Some(reopen());
        for (number, step) in steps.iter().enumerate() {
            let of = usize::from(step.is_of_b);
            for &(file, content) in &step.edits {
                let path = format!("d/{file}");
                match content {
                    Some(content) => write(&bench, ["a", "b"][of], &path, vec![content; 300 + usize::from(content)]),
                    None => drop(fs::remove_file(source_of(&bench, ["a", "b"][of]).join(path))),
                }
            }
            advance(&bench, stores.as_ref().unwrap(), of, number);
            if step.reopens {
                drop(stores.take());
                stores = Some(reopen());
            }
            for store in stores.iter().flatten().filter(|store| store.live().is_some()) {
                assert_whole(&bench, store);
            }
        }
        // What is dead goes when each has looked again.
        let stores = stores.unwrap();
        for round in 0..3 {
            for of in [0, 1] {
                advance(&bench, &stores, of, steps.len() + round);
            }
        }
        let sources = ["a", "b"].map(|module| facts_of_directory(&source_of(&bench, module)));
        let contents: BTreeSet<&[u8]> = sources.iter().flat_map(BTreeMap::values)
            .filter(|fact| fact.mode & 0o170_000 == 0o100_000).map(|fact| &fact.octets[..]).collect();
        let needed: usize = contents.into_iter().map(<[u8]>::len).sum();
        let packs = packs(&bench.state());
        let found: u64 = packs.values().map(|size| size - 16).sum();
        prop_assert!(found <= 2 * needed as u64 + 1, "{found} octets for {needed}");
    }
}
