//! The store against two maps: random operations, restarts and damage included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use blob_store::{Aside, BlobDigest, Evicted, Scope, Store, Verified};
use common::{assert_index_equals_disk, contents, digest, expected, name, open};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Begin or resume, add up to this many bytes, finish if all are there.
    Download {
        name: u8,
        file: u8,
        bytes: usize,
    },
    /// All of it, but one byte wrong.
    Corrupt {
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
    FlipByte {
        file: u8,
    },
    Verify {
        file: u8,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (name, file) = (0..4_u8, 0..4_u8);
    prop_oneof![
        4 => (name.clone(), file.clone(), 1..400_usize)
            .prop_map(|(name, file, bytes)| Step::Download { name, file, bytes }),
        1 => (name.clone(), file.clone()).prop_map(|(name, file)| Step::Corrupt { name, file }),
        1 => (name, file.clone()).prop_map(|(name, file)| Step::Name { name, file }),
        1 => file.clone().prop_map(|file| Step::Evict { file }),
        1 => file.clone().prop_map(|file| Step::FlipByte { file }),
        1 => file.prop_map(|file| Step::Verify { file }),
        1 => Just(Step::Restart),
    ]
}

fn file_contents(file: u8) -> Vec<u8> {
    vec![file; 100 + usize::from(file) * 60]
}

#[derive(Default)]
struct Model {
    blobs: BTreeSet<u8>,
    flipped: BTreeSet<u8>,
    names: BTreeMap<u8, u8>,
    parts: BTreeMap<(u8, u8), usize>,
}

impl Model {
    fn lose(&mut self, file: u8) {
        self.blobs.remove(&file);
        self.flipped.remove(&file);
        self.names.retain(|_, target| *target != file);
    }
}

fn blob(file: u8) -> BlobDigest {
    digest(&file_contents(file))
}

fn download(store: &Store, model: &mut Model, name_no: u8, file: u8, bytes: usize, wrong: bool) {
    let contents = file_contents(file);
    let mut part = store.begin(expected(&format!("n{name_no}"), &contents)).unwrap();
    let from = model.parts.remove(&(name_no, file)).unwrap_or(0);
    assert_eq!(part.bytes(), from as u64);
    let to = (from + bytes).min(contents.len());
    let mut sent = contents[from..to].to_vec();
    if wrong {
        *sent.last_mut().unwrap() ^= 1;
    }
    part.append(&sent).unwrap();
    if to < contents.len() {
        model.parts.insert((name_no, file), to);
    } else if wrong {
        part.finish(&[Scope::DISTFILES]).unwrap_err();
    } else {
        part.finish(&[Scope::DISTFILES]).unwrap();
        // A new copy replaces a damaged one.
        model.flipped.remove(&file);
        model.blobs.insert(file);
        model.names.insert(name_no, file);
    }
}

fn apply(store: &mut Option<Store>, dir: &std::path::Path, model: &mut Model, step: &Step) {
    let current = store.as_ref().unwrap();
    match *step {
        Step::Download { name, file, bytes } => download(current, model, name, file, bytes, false),
        Step::Corrupt { name, file } => download(current, model, name, file, usize::MAX / 2, true),
        Step::Name { name: name_no, file } => {
            let done = current.name(&Scope::DISTFILES, &name(&format!("n{name_no}")), &blob(file));
            assert_eq!(done.is_ok(), model.blobs.contains(&file));
            if done.is_ok() {
                model.names.insert(name_no, file);
            }
        }
        Step::Evict { file } => {
            let done = current.evict(&blob(file), None).unwrap();
            assert_eq!(done == Evicted::Gone, !model.blobs.contains(&file));
            assert_ne!(done, Evicted::Busy);
            model.lose(file);
        }
        Step::FlipByte { file } => {
            if model.blobs.contains(&file) {
                let hex = blob(file).to_hex();
                let path = current.slot_dir().join("blobs").join(&hex[..2]).join(hex);
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[7] = !file;
                std::fs::write(&path, bytes).unwrap();
                model.flipped.insert(file);
            }
        }
        Step::Verify { file } => {
            let verdict = match (model.blobs.contains(&file), model.flipped.contains(&file)) {
                (false, _) => Verified::Gone,
                (true, true) => Verified::Damaged(Aside::Kept),
                (true, false) => Verified::Sound,
            };
            assert_eq!(current.verify(&blob(file)).unwrap(), verdict);
            if matches!(verdict, Verified::Damaged(_)) {
                model.lose(file);
            }
        }
        Step::Restart => {
            drop(store.take());
            *store = Some(open(dir));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Some(open(dir.path()));
        let mut model = Model::default();
        for step in &steps {
            apply(&mut store, dir.path(), &mut model, step);
            let current = store.as_ref().unwrap();
            for name_no in 0..4 {
                let named = current.named(&Scope::DISTFILES, &name(&format!("n{name_no}")));
                prop_assert_eq!(named, model.names.get(&name_no).map(|&file| blob(file)));
            }
            let bytes: usize = model.blobs.iter().map(|&file| file_contents(file).len()).sum();
            prop_assert_eq!(current.used_bytes(), bytes as u64);
            for &file in model.blobs.difference(&model.flipped) {
                prop_assert_eq!(contents(current, &blob(file)), Some(file_contents(file)));
            }
        }
        if model.flipped.is_empty() {
            assert_index_equals_disk(store.as_ref().unwrap());
        }
    }
}
