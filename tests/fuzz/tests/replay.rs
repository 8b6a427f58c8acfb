//! Every input of the corpus through its target, as libFuzzer would give it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use rookery_fuzz::TARGETS;
use tree_store::fuzzing;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

#[test]
fn every_input_is_survived() {
    for (name, target) in TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus().join(name))
            .unwrap_or_else(|error| panic!("corpus/{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!inputs.is_empty(), "corpus/{name} is empty");
        for path in inputs {
            let octets = fs::read(&path).unwrap();
            // Cut and flipped, too: a replay should find more than what it was given.
            for end in (0..octets.len()).step_by(1 + octets.len() / 64) {
                target(&octets[..end]);
                let mut flipped = octets.clone();
                flipped[end] ^= 0x55;
                target(&flipped);
            }
            target(&octets);
        }
    }
}

#[test]
fn every_directory_of_the_corpus_is_a_target() {
    for entry in fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(rookery_fuzz::target(&name).is_some(), "corpus/{name} belongs to no target");
    }
}

/// Inputs that are refused at the first octet would lead a fuzzer nowhere.
#[test]
fn the_bodies_of_the_corpus_are_accepted() {
    let body = |name: &str| fs::read(corpus().join(name).join("small")).unwrap();
    assert!(fuzzing::index(&body("tree-index")));
    let old = fs::read(corpus().join("tree-index/without-owners")).unwrap();
    assert!(fuzzing::index(&old));
    assert!(fuzzing::catalogue(&body("tree-catalogue")));
    assert!(fuzzing::seen(&body("tree-seen")));
    assert!(fuzzing::known(&body("tree-known")));
}

/// The owner's own text and commit are accepted, or nothing else would be worth asserting.
#[test]
fn the_signed_texts_of_the_corpus_are_good() {
    let file = |name: &str| fs::read(corpus().join(name)).unwrap();
    let keys = [file("openpgp-keys/rsa"), file("openpgp-keys/ed25519")].concat();
    let keys = openpgp_verdict::Certificates::parse(&keys).unwrap();
    for (name, signers) in [("openpgp-text/signed", 2), ("openpgp-text/ed25519", 1)] {
        let octets = file(name);
        let text = gentoo_repo::cleartext::strip(&octets).unwrap();
        let found = openpgp_verdict::cleartext::verify(&text, &keys, 1_600_000_000).unwrap();
        assert_eq!(found.len(), signers, "{name}");
    }
    let commit = file("openpgp-commit/signed");
    assert_eq!(openpgp_verdict::commit::verify(&commit, 40, &keys, 1_600_000_000).unwrap().len(), 1);
}
