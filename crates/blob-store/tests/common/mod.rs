//! What the tests of the store share: files that are easily told apart, and the check that every
//! test ends with.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blake2::{Blake2b512, Digest as _};
use blob_store::{BlobDigest, Committed, Expected, FaultHook, FileOp, Options, Scope, Store};
use gentoo_repo::{Digests, DistfileName, HashAlgorithm};

pub(crate) fn options(dir: &Path, capacity_bytes: u64) -> Options {
    Options { cache_dir: dir.to_owned(), capacity_bytes, faults: None }
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(options(dir, u64::MAX / 2)).unwrap().0
}

pub(crate) fn open_with(dir: &Path, faults: FaultHook) -> Result<Store, blob_store::StoreError> {
    Store::open(Options { faults: Some(faults), ..options(dir, u64::MAX / 2) }).map(|(store, _)| store)
}

/// What was done to which path.
pub(crate) type Operation = (FileOp, PathBuf);

/// Lets every operation be done, and notes it.
pub(crate) fn recording() -> (FaultHook, Arc<Mutex<Vec<Operation>>>) {
    let operations = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&operations);
    let hook = move |operation, path: &Path| {
        noted.lock().unwrap().push((operation, path.to_owned()));
        Ok(())
    };
    (Arc::new(hook), operations)
}

/// These were done one after the other, with nothing between them.
pub(crate) fn assert_in_a_row(operations: &[Operation], expected: &[Operation]) {
    assert!(operations.windows(expected.len()).any(|row| row == expected), "{expected:?} in {operations:#?}");
}

pub(crate) fn name(text: &str) -> DistfileName {
    DistfileName::try_from(text).unwrap()
}

pub(crate) fn digest(contents: &[u8]) -> BlobDigest {
    let bytes: [u8; 64] = Blake2b512::digest(contents).into();
    BlobDigest::from(bytes)
}

pub(crate) fn expected(text: &str, contents: &[u8]) -> Expected {
    let digests: Digests = [
        (HashAlgorithm::Blake2b, Blake2b512::digest(contents).to_vec()),
        (HashAlgorithm::Sha512, sha2::Sha512::digest(contents).to_vec()),
    ]
    .into_iter()
    .collect();
    Expected::new(name(text), contents.len() as u64, digests).unwrap()
}

pub(crate) fn put(store: &Store, text: &str, contents: &[u8]) -> Committed {
    let mut part = store.begin(expected(text, contents)).unwrap();
    let from = usize::try_from(part.bytes()).unwrap();
    part.append(&contents[from..]).unwrap();
    part.finish(&[Scope::DISTFILES]).unwrap()
}

pub(crate) fn contents(store: &Store, digest: &BlobDigest) -> Option<Vec<u8>> {
    let blob = store.read(digest).unwrap()?;
    let mut bytes = vec![0; usize::try_from(blob.size_bytes()).unwrap()];
    blob.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// Every name in the directory leads to a file with the digest that its path spells. This is what
/// nginx, or a person, would see, without our index.
pub(crate) fn assert_sound(slot: &Path) -> BTreeMap<String, BlobDigest> {
    let mut names = BTreeMap::new();
    for link in files_below(&slot.join("distfiles")) {
        let file_name = link.file_name().unwrap().to_str().unwrap().to_owned();
        if file_name == "layout.conf" {
            continue;
        }
        let target = fs::read_link(&link).unwrap();
        let digest_in_path = target.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
        assert_eq!(digest(&bytes).to_hex(), digest_in_path, "{}", link.display());
        names.insert(file_name, digest(&bytes));
    }
    for blob in files_below(&slot.join("blobs")) {
        let bytes = fs::read(&blob).unwrap();
        assert_eq!(digest(&bytes).to_hex(), blob.file_name().unwrap().to_str().unwrap());
    }
    names
}

/// The index says what the directory says.
pub(crate) fn assert_index_equals_disk(store: &Store) {
    let on_disk = assert_sound(store.slot_dir());
    let mut blobs: Vec<_> = files_below(&store.slot_dir().join("blobs"));
    blobs.sort();
    let mut indexed: Vec<_> = store.inventory();
    indexed.sort_by_key(|info| info.digest);
    assert_eq!(blobs.len(), indexed.len());
    let bytes: u64 = blobs.iter().map(|blob| fs::metadata(blob).unwrap().len()).sum();
    assert_eq!(store.used_bytes(), bytes);
    let indexed: BTreeMap<_, _> = indexed
        .iter()
        .flat_map(|info| {
            info.names
                .iter()
                .filter(|name| store.named(&Scope::DISTFILES, name) == Some(info.digest))
                .map(|name| (name.as_str().to_owned(), info.digest))
        })
        .collect();
    assert_eq!(indexed, on_disk);
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
