//! Random stories against a map of what was acknowledged, each told once for every file operation in
//! it: with that operation failing, and with nothing working from it on, as when the process is killed
//! there.
//!
//! What was acknowledged holds, before and after a restart; what failed may have been done or not, and
//! nothing else has changed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_store::{Adopted, BlobDigest, Evicted, FaultHook, Scope, Source, Store, Verified};
use common::{assert_index_equals_disk, assert_sound, contents, digest, expected, name, open, open_with};
use proptest::prelude::*;

const NAMES: u8 = 3;
const FILES: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Begin or resume, add up to so many bytes, finish if all are there.
    Download {
        name: u8,
        file: u8,
        bytes: usize,
    },
    /// All of it, but the last byte wrong.
    Corrupt {
        name: u8,
        file: u8,
    },
    /// From elsewhere.
    Adopt {
        name: u8,
        file: u8,
    },
    Name {
        name: u8,
        file: u8,
    },
    Evict {
        file: u8,
    },
    Verify {
        file: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (name, file) = (0..NAMES, 0..FILES);
    prop_oneof![
        3 => (name.clone(), file.clone(), 40..400_usize)
            .prop_map(|(name, file, bytes)| Step::Download { name, file, bytes }),
        1 => (name.clone(), file.clone()).prop_map(|(name, file)| Step::Corrupt { name, file }),
        2 => (name.clone(), file.clone()).prop_map(|(name, file)| Step::Adopt { name, file }),
        1 => (name, file.clone()).prop_map(|(name, file)| Step::Name { name, file }),
        1 => file.clone().prop_map(|file| Step::Evict { file }),
        1 => file.prop_map(|file| Step::Verify { file }),
    ]
}

fn bytes_of(file: u8) -> Vec<u8> {
    vec![file; 100 + usize::from(file) * 60]
}

fn blob(file: u8) -> BlobDigest {
    digest(&bytes_of(file))
}

fn text(name_no: u8) -> String {
    format!("n{name_no}")
}

/// What may be true; one entry means that it is.
#[derive(Debug, Clone)]
struct Model {
    is_stored: BTreeMap<u8, BTreeSet<bool>>,
    leads_to: BTreeMap<u8, BTreeSet<Option<u8>>>,
}

impl Model {
    fn new() -> Self {
        Self {
            is_stored: (0..FILES).map(|file| (file, BTreeSet::from([false]))).collect(),
            leads_to: (0..NAMES).map(|name_no| (name_no, BTreeSet::from([None]))).collect(),
        }
    }

    /// `done`: acknowledged; else it may have been, or not.
    fn stored(&mut self, file: u8, is_stored: bool, done: bool) {
        let states = self.is_stored.entry(file).or_default();
        if done {
            states.clear();
        }
        states.insert(is_stored);
    }

    fn named(&mut self, name_no: u8, target: Option<u8>, done: bool) {
        let states = self.leads_to.entry(name_no).or_default();
        if done {
            states.clear();
        }
        states.insert(target);
    }

    /// A blob that went takes its names with it.
    fn evicted(&mut self, file: u8, done: bool) {
        self.stored(file, false, done);
        for states in self.leads_to.values_mut() {
            if states.contains(&Some(file)) {
                states.insert(None);
                if done {
                    states.remove(&Some(file));
                }
            }
        }
    }

    fn check(&self, store: &Store) {
        for (file, states) in &self.is_stored {
            let found = contents(store, &blob(*file));
            assert!(states.contains(&found.is_some()), "file {file}: {found:?} of {states:?}");
            assert!(found.is_none_or(|found| found == bytes_of(*file)));
        }
        for (name_no, states) in &self.leads_to {
            let found = store.named(&Scope::DISTFILES, &name(&text(*name_no)));
            let is_allowed = states.iter().any(|target| target.map(blob) == found);
            assert!(is_allowed, "name {name_no}: {found:?} of {states:?}");
        }
    }
}

/// Does one step as far as the disk lets it.
fn apply(store: &Store, model: &mut Model, outside: &Path, step: &Step) {
    match *step {
        Step::Download { name: name_no, file, bytes } => download(store, model, name_no, file, bytes, false),
        Step::Corrupt { name: name_no, file } => download(store, model, name_no, file, usize::MAX / 2, true),
        Step::Adopt { name: name_no, file } => {
            let path = outside.join(file.to_string());
            let source = fs::File::open(&path).unwrap();
            let source = Source { file: &source, path: &path };
            let listed = expected(&text(name_no), &bytes_of(file));
            let go_on = |_| ControlFlow::Continue(());
            let done = match store.adopt(source, &listed, &[Scope::DISTFILES], go_on) {
                Ok(Adopted::Stored { .. }) => true,
                Ok(other) => panic!("{other:?}"),
                Err(_) => false,
            };
            model.stored(file, true, done);
            model.named(name_no, Some(file), done);
        }
        Step::Name { name: name_no, file } => {
            let is_here = store.info(&blob(file)).is_some();
            let done = store.name(&Scope::DISTFILES, &name(&text(name_no)), &blob(file)).is_ok();
            if is_here {
                model.named(name_no, Some(file), done);
            }
        }
        Step::Evict { file } => match store.evict(&blob(file), None) {
            Ok(Evicted::Done { .. } | Evicted::Gone) => model.evicted(file, true),
            Ok(Evicted::Busy) => panic!("nobody reads it"),
            Err(_) => model.evicted(file, false),
        },
        Step::Verify { file } => {
            let verified = store.verify(&blob(file));
            assert!(!matches!(verified, Ok(Verified::Damaged(_))), "nothing was damaged");
        }
    }
}

fn download(store: &Store, model: &mut Model, name_no: u8, file: u8, bytes: usize, is_wrong: bool) {
    let contents = bytes_of(file);
    let Ok(mut part) = store.begin(expected(&text(name_no), &contents)) else { return };
    let from = usize::try_from(part.bytes()).unwrap();
    let to = from.saturating_add(bytes).min(contents.len());
    let mut sent = contents[from..to].to_vec();
    if is_wrong && let Some(last) = sent.last_mut() {
        *last ^= 1;
    }
    // Whole before, it is right, whatever would have been sent.
    let is_wrong = is_wrong && !sent.is_empty();
    if part.append(&sent).is_err() || part.missing_bytes() > 0 {
        return;
    }
    let done = part.finish(&[Scope::DISTFILES]).is_ok();
    assert!(!(done && is_wrong), "a wrong file was taken");
    if !is_wrong {
        model.stored(file, true, done);
        model.named(name_no, Some(file), done);
    }
}

/// Operations are counted from the opened store on.
fn hook(count: &Arc<AtomicUsize>, fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> FaultHook {
    let count = Arc::clone(count);
    Arc::new(move |_, _: &Path| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if fails(number) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    })
}

/// Tells the story; `None` from a store that could not even be opened.
fn tell(dir: &Path, outside: &Path, steps: &[Step], faults: FaultHook) -> (Option<Store>, Model) {
    let mut model = Model::new();
    let Ok(store) = open_with(dir, faults) else { return (None, model) };
    for step in steps {
        apply(&store, &mut model, outside, step);
    }
    (Some(store), model)
}

fn outside() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in 0..FILES {
        fs::write(dir.path().join(file.to_string()), bytes_of(file)).unwrap();
    }
    dir
}

fn check_story(steps: &[Step]) {
    let elsewhere = outside();
    let count = Arc::new(AtomicUsize::new(0));
    let dir = tempfile::tempdir().unwrap();
    let (store, model) = tell(dir.path(), elsewhere.path(), steps, hook(&count, |_| false));
    let all = count.load(Ordering::SeqCst);
    assert!(model.is_stored.values().all(|states| states.len() == 1), "without a fault all is certain");
    model.check(&store.unwrap());
    for nth in 0..all {
        let dir = tempfile::tempdir().unwrap();
        let fails_once = hook(&Arc::default(), move |number| number == nth);
        let (store, model) = tell(dir.path(), elsewhere.path(), steps, fails_once);
        if let Some(store) = store {
            assert_sound(store.slot_dir());
            assert_index_equals_disk(&store);
            model.check(&store);
        }
        check_restarted(dir.path(), &model);

        let dir = tempfile::tempdir().unwrap();
        let killed = hook(&Arc::default(), move |number| number >= nth);
        let (_, model) = tell(dir.path(), elsewhere.path(), steps, killed);
        check_restarted(dir.path(), &model);
    }
}

fn check_restarted(dir: &Path, model: &Model) {
    let store = open(dir);
    assert_index_equals_disk(&store);
    model.check(&store);
    for left in ["tmp", "quarantine"] {
        let is_empty = fs::read_dir(store.slot_dir().join(left)).unwrap().next().is_none();
        assert!(is_empty || left == "quarantine", "{left} is not empty");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_holds_whatever_fails(steps in prop::collection::vec(step(), 1..9)) {
        check_story(&steps);
    }
}
