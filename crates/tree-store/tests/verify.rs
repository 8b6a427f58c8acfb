//! What a tree must prove before it is published.
//!
//! `signed-tree/` holds a tree's Manifests, signed by `GnuPG` with keys that don't expire (and one that has);
//! the files that they cover are written here.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::Bench;
use tree_store::{Generation, Keyring, Store, TreeError, Verify, verify};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signed-tree").join(name)
}

fn keyring(name: &str) -> Keyring {
    Keyring::open(&data(name)).unwrap()
}

fn signed_tree() -> Bench {
    let bench = Bench::new();
    bench.write("Manifest", fs::read(data("Manifest")).unwrap());
    bench.write("app-misc/Manifest.gz", fs::read(data("category-Manifest.gz")).unwrap());
    bench.write("app-misc/a/Manifest", fs::read(data("package-Manifest")).unwrap());
    bench.write("app-misc/a/a-1.ebuild", "EAPI=8\n");
    bench.write("app-misc/a/files/fix.patch", "+fix\n");
    bench.write("app-misc/metadata.xml", "<x/>\n");
    bench.write("profiles/repo_name", "test\n");
    bench.write("profiles/odd name", "- dash\n");
    bench.write("metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:03 +0000\n");
    bench
}

fn outcome(bench: &Bench, mode: &Verify) -> Result<tree_store::Verified, String> {
    let store = bench.open();
    let candidate = bench.candidate(&store);
    verify(&candidate, None, mode, &[]).map_err(|error| error.to_string())
}

#[test]
fn a_signed_tree_passes_with_the_right_key_alone() {
    let bench = signed_tree();
    let verified = outcome(&bench, &Verify::Signed(keyring("signer.asc"))).unwrap();
    assert_eq!(verified.timestamp_ms, 1_787_333_463_000);
    assert_eq!(verified.catalogue.distfiles.len(), 1);
    let error = outcome(&bench, &Verify::Signed(keyring("other.asc"))).unwrap_err();
    assert!(error.starts_with("Manifest: signed by a key that is not in openpgp_key"), "{error}");
    bench.write("Manifest", fs::read(data("Manifest.by-expired")).unwrap());
    let error = outcome(&bench, &Verify::Signed(keyring("expired.asc"))).unwrap_err();
    assert!(error.starts_with("Manifest: signed by a key that has expired"), "{error}");
}

#[test]
fn every_damage_to_a_signed_tree_is_refused_with_its_path() {
    type Damage = (&'static str, fn(&Bench));
    let damages: [Damage; 19] = [
        ("app-misc/a/a-1.ebuild: BLAKE2B", |b| b.write("app-misc/a/a-1.ebuild", "EAPI=7\n")),
        ("app-misc/a/files/fix.patch: 6 octets", |b| b.write("app-misc/a/files/fix.patch", "+fix!\n")),
        ("profiles/repo_name: missing", |b| fs::remove_file(b.source().join("profiles/repo_name")).unwrap()),
        ("app-misc/a/a-2.ebuild: in no Manifest", |b| b.write("app-misc/a/a-2.ebuild", "EAPI=8\n")),
        ("app-misc/a/Manifest: ", |b| b.write("app-misc/a/Manifest", "")),
        ("app-misc/Manifest.gz: ", |b| b.write("app-misc/Manifest.gz", "rubbish")),
        ("app-misc/Manifest.gz: missing", |b| {
            fs::remove_file(b.source().join("app-misc/Manifest.gz")).unwrap();
        }),
        ("app-misc/link/", |b| symlink("a", b.source().join("app-misc/link")).unwrap()),
        ("app-misc/link: a symbolic link to nothing", |b| {
            symlink("/etc", b.source().join("app-misc/link")).unwrap();
        }),
        ("app-misc/link: a symbolic link to nothing", |b| {
            symlink("../../app-misc", b.source().join("app-misc/link")).unwrap();
        }),
        ("app-misc/link: a symbolic link round in circles", |b| {
            symlink(".", b.source().join("app-misc/link")).unwrap();
        }),
        ("app-misc/a/files/link: a symbolic link round in circles", |b| {
            symlink("../../a", b.source().join("app-misc/a/files/link")).unwrap();
        }),
        ("app-misc/link: a symbolic link to nothing", |b| {
            symlink("other", b.source().join("app-misc/link")).unwrap();
            symlink("link", b.source().join("app-misc/other")).unwrap();
        }),
        ("Manifest: missing", |b| fs::remove_file(b.source().join("Manifest")).unwrap()),
        ("Manifest: not signed", |b| b.write("Manifest", "IGNORE distfiles\n")),
        ("Manifest: the signature does not fit", |b| {
            let text = fs::read_to_string(b.source().join("Manifest")).unwrap();
            b.write("Manifest", text.replace("IGNORE distfiles", "IGNORE app-misc"));
        }),
        ("Manifest: ", |b| {
            let text = fs::read_to_string(b.source().join("Manifest")).unwrap();
            b.write("Manifest", format!("IGNORE app-misc\n{text}"));
        }),
        ("metadata/timestamp.chk: missing", |b| {
            fs::remove_file(b.source().join("metadata/timestamp.chk")).unwrap();
        }),
        ("metadata/timestamp.chk: expected a time", |b| b.write("metadata/timestamp.chk", "")),
    ];
    for (expected, damage) in damages {
        let bench = signed_tree();
        damage(&bench);
        let error = outcome(&bench, &Verify::Signed(keyring("signer.asc"))).map(drop).unwrap_err();
        assert!(error.starts_with(expected), "{error}, but expected {expected}");
    }
}

#[test]
fn what_the_signature_need_not_cover_does_not_matter() {
    let bench = signed_tree();
    bench.write(".hidden/file", "x");
    bench.write("app-misc/.hidden", "x");
    bench.write("distfiles/a-1.tar.gz", "excluded anyway");
    assert!(outcome(&bench, &Verify::Signed(keyring("signer.asc"))).is_ok());
}

#[test]
fn keys_that_are_none_are_a_wrong_setting() {
    for name in ["Manifest", "category-Manifest.gz", "none"] {
        let error = Keyring::open(&data(name)).unwrap_err();
        assert!(matches!(error, TreeError::Setting { .. }), "{error}");
    }
}

/// Each of many directories has two links to the next: the paths are too many to be walked, and need not be.
#[test]
fn links_that_make_endless_paths_are_refused_soon() {
    let bench = signed_tree();
    for level in 0..64 {
        let directory = format!("app-misc/d{level:02}");
        fs::create_dir(bench.source().join(&directory)).unwrap();
        for name in ["one", "two"] {
            let next = format!("../d{:02}", level + 1);
            symlink(next, bench.source().join(&directory).join(name)).unwrap();
        }
    }
    fs::create_dir(bench.source().join("app-misc/d64")).unwrap();
    let error = outcome(&bench, &Verify::Signed(keyring("signer.asc"))).unwrap_err();
    assert!(error.contains("symbolic links to directories make more than"), "{error}");
}

fn thin_tree() -> Bench {
    let bench = Bench::new();
    bench.write("metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:03 +0000\n");
    bench.write("profiles/thirdpartymirrors", "m https://m.example/\n");
    bench.write("app-misc/a/Manifest", format!("DIST a-1.tgz 5 BLAKE2B {}\n", "ab".repeat(64)));
    bench.write(
        "metadata/md5-cache/app-misc/a-1",
        "EAPI=8\nSRC_URI=mirror://m/x/a-1.tgz mirror://up/a-1.tgz\n",
    );
    bench
}

#[test]
fn a_consistent_tree_passes_and_masters_mirrors_count() {
    let bench = thin_tree();
    let store = bench.open();
    let candidate = bench.candidate(&store);
    let masters = [b"up https://up.example/\n".to_vec()];
    let verified = verify(&candidate, None, &Verify::Consistent, &masters).unwrap();
    let distfile = verified.catalogue.distfiles.values().next().unwrap();
    assert_eq!(distfile.sources, ["https://m.example/x/a-1.tgz", "https://up.example/a-1.tgz"]);
    assert_eq!(distfile.packages, ["app-misc/a"]);
}

#[test]
fn an_inconsistent_tree_is_refused_with_path_and_line() {
    let bench = thin_tree();
    let manifest = fs::read_to_string(bench.source().join("app-misc/a/Manifest")).unwrap();
    bench.write("app-misc/a/Manifest", format!("{manifest}DIST b 5 BLAKE2B abc\n"));
    let error = outcome(&bench, &Verify::Consistent).unwrap_err();
    assert!(error.starts_with("app-misc/a/Manifest:2: "), "{error}");
    assert!(outcome(&bench, &Verify::None).is_ok());

    bench.write("app-misc/a/Manifest", "");
    let error = outcome(&bench, &Verify::Consistent).unwrap_err();
    assert!(error.starts_with("metadata/md5-cache/app-misc/a-1: no DIST line for a-1.tgz"), "{error}");
}

#[test]
fn an_empty_tree_is_refused_whatever_the_mode() {
    let error = outcome(&Bench::new(), &Verify::None).unwrap_err();
    assert_eq!(error, "the tree: empty");
}

fn publish(
    bench: &Bench,
    store: &Store,
    live: Option<&Generation>,
    mode: &Verify,
) -> Result<Generation, TreeError> {
    let candidate = bench.candidate(store);
    let verified = verify(&candidate, live, mode, &[])?;
    store.publish(candidate, &verified.catalogue, 1, verified.timestamp_ms)
}

#[test]
fn an_older_tree_is_refused() {
    let bench = thin_tree();
    let store = bench.open();
    let live = publish(&bench, &store, None, &Verify::None).unwrap();
    bench.write("metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:02 +0000\n");
    let error = publish(&bench, &store, Some(&live), &Verify::None).unwrap_err().to_string();
    assert!(error.starts_with("metadata/timestamp.chk: Fri, 21 Aug 2026 17:31:02 +0000 is older"), "{error}");
    bench.write("metadata/timestamp.chk", "Fri, 21 Aug 2026 17:31:04 +0000\n");
    assert_eq!(publish(&bench, &store, Some(&live), &Verify::None).unwrap().number(), 2);
}

#[test]
fn an_old_signature_with_a_new_timestamp_is_refused() {
    let bench = signed_tree();
    let store = bench.open();
    let mode = Verify::Signed(keyring("signer.asc"));
    let newer =
        fs::read_to_string(bench.source().join("Manifest")).unwrap().replace("17:31:03Z", "17:31:04Z");
    bench.write("Manifest", newer);
    let live = publish(&bench, &store, None, &Verify::None).unwrap();
    bench.write("Manifest", fs::read(data("Manifest")).unwrap());
    let error = publish(&bench, &store, Some(&live), &mode).unwrap_err().to_string();
    assert!(error.starts_with("Manifest: TIMESTAMP 2026-08-21T17:31:03Z is older"), "{error}");
}
