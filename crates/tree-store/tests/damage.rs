//! Truncated, flipped, missing: what a store does about files of its own that rotted or were torn.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Bench, Fact, copy_directory, facts_of_generation};
use gentoo_repo::catalogue::Catalogue;
use tree_store::{BuildRequest, Built, Changes, Excludes, Store, TreeError};

type Facts = BTreeMap<Vec<u8>, Fact>;
type Damage = Box<dyn Fn(&Path)>;

/// Two generations; what each holds.
fn two_generations() -> (Bench, [Facts; 2]) {
    let bench = Bench::new();
    bench.write("a/one", "first");
    bench.write("a/two", "stays");
    let store = bench.open();
    let first = facts_of_generation(&bench.publish(&store));
    bench.write("a/one", "second");
    bench.write("a/three", "new");
    let second = facts_of_generation(&bench.publish(&store));
    (bench, [first, second])
}

fn flip(path: &Path, at: usize) {
    let mut octets = fs::read(path).unwrap();
    octets[at] ^= 1;
    fs::write(path, octets).unwrap();
}

fn truncate(path: &Path) {
    let octets = fs::read(path).unwrap();
    fs::write(path, &octets[..octets.len() - 1]).unwrap();
}

#[test]
fn a_damaged_newest_generation_is_passed_over() {
    let (bench, [first, _]) = two_generations();
    let index_bytes = fs::metadata(bench.state().join("m/generations/00000002.index")).unwrap().len();
    let mut damages: Vec<(String, Damage)> = Vec::new();
    for at in (0..usize::try_from(index_bytes).unwrap()).step_by(7) {
        damages.push((
            format!("index octet {at}"),
            Box::new(move |module| flip(&module.join("generations/00000002.index"), at)),
        ));
    }
    for file in ["generations/00000002.index", "generations/00000002.catalogue", "packs/00000002.pack"] {
        damages.push((format!("{file} cut"), Box::new(move |module| truncate(&module.join(file)))));
        damages.push((
            format!("{file} empty"),
            Box::new(move |module| fs::write(module.join(file), "").unwrap()),
        ));
        if !file.ends_with("index") {
            damages.push((
                format!("{file} gone"),
                Box::new(move |module| fs::remove_file(module.join(file)).unwrap()),
            ));
        }
    }
    damages.push(("pack head".to_owned(), Box::new(|module| flip(&module.join("packs/00000002.pack"), 3))));
    for (name, damage) in damages {
        let scene = tempfile::tempdir().unwrap();
        copy_directory(&bench.state(), scene.path());
        damage(&scene.path().join("m"));
        let store = Store::open(scene.path(), "m".parse().unwrap()).unwrap();
        let live = store.live().unwrap();
        assert_eq!(live.number(), 1, "{name}");
        assert_eq!(facts_of_generation(&live), first, "{name}");
        let next = bench.publish(&store);
        assert_eq!(next.number(), 3, "{name}: a number is never given twice");
        drop((live, store));
        let store = Store::open(scene.path(), "m".parse().unwrap()).unwrap();
        assert_eq!(store.live().unwrap().number(), 3, "{name}");
        assert_eq!(store.kept(), [1, 3], "{name}");
    }
}

#[test]
fn nothing_whole_means_nothing_live() {
    let (bench, _) = two_generations();
    for number in ["00000001", "00000002"] {
        truncate(&bench.state().join(format!("m/generations/{number}.index")));
    }
    let store = bench.open();
    assert!(store.live().is_none());
    assert_eq!(bench.publish(&store).number(), 3);
}

#[test]
fn a_flipped_content_is_found_by_scrubbing_and_mended_from_the_source() {
    let (bench, [_, second]) = two_generations();
    let store = bench.open();
    let live = store.live().unwrap();
    assert_eq!(Store::scrub(&live), Vec::<Vec<u8>>::new());
    let length = fs::metadata(bench.state().join("m/packs/00000002.pack")).unwrap().len();
    flip(&bench.state().join("m/packs/00000002.pack"), usize::try_from(length).unwrap() - 1);
    assert_eq!(Store::scrub(&live).len(), 1);

    let excludes = Excludes::new::<&str>([]).unwrap();
    let request = BuildRequest {
        source: &bench.source(),
        excludes: &excludes,
        started: std::time::SystemTime::now(),
        afresh: true,
        stop: &AtomicBool::new(false),
    };
    let Built::Candidate(candidate) = store.build(&request).unwrap() else { panic!("unchanged") };
    let mended = store.publish(candidate, &Catalogue::default(), 1, 2).unwrap();
    assert_eq!(mended.summary().changes, Changes::default());
    assert_eq!(Store::scrub(&mended), Vec::<Vec<u8>>::new());
    assert_eq!(facts_of_generation(&mended), second);
}

#[test]
fn a_pack_that_shrinks_while_open_is_an_error_and_no_end() {
    let (bench, _) = two_generations();
    let store = bench.open();
    let live = store.live().unwrap();
    fs::File::options()
        .write(true)
        .open(bench.state().join("m/packs/00000001.pack"))
        .unwrap()
        .set_len(16)
        .unwrap();
    let id = live.lookup(b"a/two").unwrap();
    assert_eq!(live.read(id, 100).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn lost_sightings_only_cost_time() {
    let (bench, _) = two_generations();
    flip(&bench.state().join("m/generations/00000002.seen"), 40);
    let store = bench.open();
    bench.write("a/four", "4");
    let candidate = bench.candidate(&store);
    assert_eq!(candidate.files_read(), 4);
    assert_eq!(candidate.changes().changed, 0);
}

/// Publishes a second generation with a hook, after a first without.
fn publish_with(bench: &Bench, hook: Box<tree_store::StepHook>) -> Result<u64, TreeError> {
    let store = Store::open_with(&bench.state(), "m".parse().unwrap(), Some(hook))?;
    let candidate = bench.candidate(&store);
    let published = store.publish(candidate, &Catalogue::default(), 1, 2)?.number();
    store.collect(1)?;
    Ok(published)
}

fn first_generation() -> (Bench, Facts) {
    let bench = Bench::new();
    bench.write("a/one", "first");
    bench.write("a/two", "stays");
    let facts = facts_of_generation(&bench.publish(&bench.open()));
    bench.write("a/one", "second");
    bench.write("a/three", "new");
    (bench, facts)
}

#[test]
fn a_kill_at_any_step_leaves_the_old_or_the_new_generation() {
    let (bench, old) = first_generation();
    let scenes = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (state, target, counted): (PathBuf, PathBuf, _) =
        (bench.state(), scenes.path().to_owned(), Arc::clone(&count));
    let hook = move |_: &'static str| {
        let at = counted.fetch_add(1, Ordering::Relaxed);
        copy_directory(&state, &target.join(at.to_string()));
        Ok(())
    };
    assert_eq!(publish_with(&bench, Box::new(hook)).unwrap(), 2);
    let new = facts_of_generation(&bench.open().live().unwrap());
    let scenes_count = count.load(Ordering::Relaxed);
    assert!(scenes_count >= 15, "{scenes_count} steps");
    let mut seen_new = false;
    for at in 0..scenes_count {
        let store = Store::open(&scenes.path().join(at.to_string()), "m".parse().unwrap()).unwrap();
        let live = store.live().unwrap();
        let facts = facts_of_generation(&live);
        match live.number() {
            1 => assert!(facts == old && !seen_new, "scene {at}"),
            2 => assert_eq!(facts, new, "scene {at}"),
            other => panic!("scene {at}: generation {other}"),
        }
        seen_new |= live.number() == 2;
        let left = fs::read_dir(scenes.path().join(format!("{at}/m/temporary"))).unwrap().count();
        assert_eq!(left, 0, "scene {at}");
        let packs = fs::read_dir(scenes.path().join(format!("{at}/m/packs"))).unwrap().count();
        let expected = store.kept().len();
        assert!(packs <= expected.max(2), "scene {at}: {packs} packs of {expected} generations");
    }
    assert!(seen_new);
}

#[test]
fn a_failure_at_any_step_keeps_the_old_generation_and_the_next_try_succeeds() {
    for failing in 0.. {
        let (bench, old) = first_generation();
        let at = AtomicUsize::new(0);
        let hook = move |name: &'static str| {
            if at.fetch_add(1, Ordering::Relaxed) == failing {
                return Err(io::Error::new(io::ErrorKind::StorageFull, name));
            }
            Ok(())
        };
        let outcome = publish_with(&bench, Box::new(hook));
        let store = bench.open();
        let live = store.live().unwrap();
        if live.number() == 1 {
            assert!(outcome.is_err(), "step {failing}");
            assert_eq!(facts_of_generation(&live), old, "step {failing}");
            let next = bench.publish(&store);
            assert!(next.number() > 1);
            assert_eq!(Store::scrub(&next).len(), 0);
        }
        if outcome.is_ok() && failing > 20 {
            break;
        }
        assert!(failing < 100, "the steps never end");
    }
}
