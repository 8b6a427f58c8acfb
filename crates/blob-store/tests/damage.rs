//! Damage × place: what somebody, or the disk, did to the directory between two starts or under a
//! running store. It is reported, never fatal, and never served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use blob_store::{Aside, Evicted, FaultHook, FileOp, Scope, Store, Verified};
use common::{
    assert_in_a_row, assert_index_equals_disk, assert_sound, contents, digest, expected, files_below, name,
    open, open_with, options, put, recording,
};

fn blob_path(slot: &Path, contents: &[u8]) -> std::path::PathBuf {
    let hex = digest(contents).to_hex();
    slot.join("blobs").join(&hex[..2]).join(hex)
}

fn faults(dir: &Path) -> (Store, Vec<String>) {
    let (store, faults) = Store::open(options(dir, u64::MAX / 2)).unwrap();
    (store, faults.into_iter().map(|fault| format!("{} {}", fault.path.display(), fault.what)).collect())
}

#[test]
fn a_flipped_byte_is_found_by_verify_and_loses_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    let file = OpenOptions::new().write(true).open(blob_path(store.slot_dir(), b"hello")).unwrap();
    file.write_all_at(b"J", 0).unwrap();
    assert_eq!(store.verify(&blob).unwrap(), Verified::Damaged(Aside::Kept));
    assert_eq!(store.verify(&blob).unwrap(), Verified::Gone);
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), None);
    assert_sound(store.slot_dir());
    assert_eq!(files_below(&store.slot_dir().join("quarantine")).len(), 1);
    put(&store, "a", b"hello");
}

#[test]
fn a_damaged_blob_is_known_after_a_restart_and_can_be_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    let other = put(&store, "b", b"sound").digest;
    fs::write(blob_path(store.slot_dir(), b"hello"), b"jello!").unwrap();
    assert_eq!(store.verify(&blob).unwrap(), Verified::Damaged(Aside::Kept));
    let quarantine = store.slot_dir().join("quarantine");
    fs::write(quarantine.join("0123456789abcdef0123456789abcdef"), "a part that came out wrong").unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.used_bytes(), 5);
    assert_eq!(store.quarantined().unwrap(), [(blob, 6)]);
    assert_eq!(store.evict(&blob, None).unwrap(), Evicted::Gone, "only a damaged copy is left");
    // What is decided about the damaged copy does nothing to a sound one that came since, nor the other way.
    put(&store, "a", b"hello");
    assert_eq!(store.evict_quarantined(&blob).unwrap(), Evicted::Done { bytes: 6 });
    assert_eq!(store.evict_quarantined(&blob).unwrap(), Evicted::Gone);
    assert_eq!(contents(&store, &blob).as_deref(), Some(&b"hello"[..]));
    assert_eq!((store.quarantined().unwrap(), files_below(&quarantine).len()), (Vec::new(), 1));
    assert_eq!(contents(&store, &other).as_deref(), Some(&b"sound"[..]));
    assert_sound(store.slot_dir());
}

/// Whatever fails while a damaged blob is taken out of service, and wherever the process dies: it is either as it was, or
/// out of service, and what it was is in quarantine.
#[test]
fn a_damaged_blob_is_out_of_service_or_as_it_was() {
    let mut out_of_service = 0;
    for (nth, is_killed) in (0..40).flat_map(|nth| [(nth, false), (nth, true)]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let blob = put(&store, "a", b"hello").digest;
        store.name(&Scope::module("m").unwrap(), &name("a"), &blob).unwrap();
        let path = blob_path(store.slot_dir(), b"hello");
        drop(store);
        fs::write(&path, b"jello").unwrap();
        let count = AtomicUsize::new(0);
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let hook: FaultHook = Arc::new(move |_, _: &Path| {
            if !failing.load(Ordering::SeqCst) {
                return Ok(());
            }
            let number = count.fetch_add(1, Ordering::SeqCst);
            let is_hit = if is_killed { number >= nth } else { number == nth };
            if is_hit { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(()) }
        });
        let store = open_with(dir.path(), hook).unwrap();
        fails.store(true, Ordering::SeqCst);
        let verified = store.verify(&blob);
        fails.store(false, Ordering::SeqCst);
        let names = store.names(&blob).len();
        match verified {
            Ok(Verified::Damaged(Aside::Kept)) => assert!(names == 0 && !store.has(&blob) && !path.exists()),
            Err(_) => assert!(names == 2 && store.has(&blob) && path.exists(), "{names}"),
            Ok(other) => panic!("{other:?}"),
        }
        drop(store);
        let store = open(dir.path());
        let is_out = !store.has(&blob);
        assert_eq!(store.quarantined().unwrap().len(), usize::from(is_out), "{nth}");
        assert_eq!(store.names(&blob).len(), if is_out { 0 } else { 2 }, "{nth}");
        out_of_service += usize::from(is_out);
        put(&store, "a", b"hello");
        if is_out {
            assert_sound(store.slot_dir());
        }
    }
    assert!((20..80).contains(&out_of_service), "{out_of_service}");
}

#[test]
fn what_is_put_aside_does_not_come_back_with_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, operations) = recording();
    let store = open_with(dir.path(), hook).unwrap();
    let blob = put(&store, "a", b"hello").digest;
    let path = blob_path(store.slot_dir(), b"hello");
    let (group, quarantine) = (path.parent().unwrap().to_owned(), store.slot_dir().join("quarantine"));
    fs::write(&path, b"jello").unwrap();
    assert_eq!(store.verify(&blob).unwrap(), Verified::Damaged(Aside::Kept));
    assert_in_a_row(
        &operations.lock().unwrap(),
        &[
            (FileOp::Rename, quarantine.join(blob.to_hex())),
            (FileOp::SyncDir, quarantine),
            (FileOp::SyncDir, group.clone()),
        ],
    );

    // One that is too large for quarantine is removed.
    put(&store, "a", b"hello");
    OpenOptions::new().write(true).open(&path).unwrap().set_len((256 << 20) + 1).unwrap();
    assert!(store.read(&blob).unwrap().is_none());
    let removed = [(FileOp::Remove, path), (FileOp::SyncDir, group)];
    assert_in_a_row(&operations.lock().unwrap(), &removed);
}

#[test]
fn a_part_that_can_not_be_read_is_begun_afresh() {
    let dir = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let hook: FaultHook = Arc::new(move |operation, path: &Path| {
        let is_part = operation == FileOp::Read && path.extension().is_some_and(|end| end == "part");
        if is_part && failing.load(Ordering::SeqCst) {
            return Err(std::io::Error::from_raw_os_error(5));
        }
        Ok(())
    });
    let store = open_with(dir.path(), hook).unwrap();
    store.begin(expected("a", b"hello")).unwrap().append(b"hel").unwrap();
    assert_eq!(store.begin(expected("a", b"hello")).unwrap().resumed_bytes(), 3);
    fails.store(true, Ordering::SeqCst);
    let mut part = store.begin(expected("a", b"hello")).unwrap();
    assert_eq!((part.bytes(), part.resumed_bytes()), (0, 0));
    part.append(b"hello").unwrap();
    let digest = part.finish(&[Scope::DISTFILES]).unwrap().digest;
    assert_eq!(contents(&store, &digest).as_deref(), Some(&b"hello"[..]));
    assert_index_equals_disk(&store);
}

#[test]
fn a_blob_of_another_length_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    fs::write(blob_path(store.slot_dir(), b"hello"), b"hell").unwrap();
    assert_eq!(contents(&store, &blob), None);
    assert_eq!(store.used_bytes(), 0);
    assert_sound(store.slot_dir());
}

#[test]
fn a_blob_that_somebody_removed_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blob = put(&store, "a", b"hello").digest;
    fs::remove_file(blob_path(store.slot_dir(), b"hello")).unwrap();
    assert_eq!(contents(&store, &blob), None);
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), None);
    put(&store, "a", b"hello");
    assert_sound(store.slot_dir());
}

#[test]
fn a_dangling_name_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", b"hello");
    let path = blob_path(store.slot_dir(), b"hello");
    drop(store);
    fs::remove_file(path).unwrap();
    let (store, faults) = faults(dir.path());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].ends_with("led to no blob; removed"), "{faults:?}");
    assert!(assert_sound(store.slot_dir()).is_empty());
}

#[test]
fn strange_entries_are_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let slot = dir.path().join("r0");
    fs::create_dir_all(slot.join("blobs/zz")).unwrap();
    fs::write(slot.join("blobs/zz/readme"), "x").unwrap();
    fs::write(slot.join("blobs/file"), "x").unwrap();
    fs::create_dir_all(slot.join("distfiles/1b")).unwrap();
    fs::write(slot.join("distfiles/1b/foo-1.tar.gz"), "a person's").unwrap();
    fs::create_dir_all(slot.join("distfiles/00")).unwrap();
    symlink("/etc/passwd", slot.join("distfiles/00/foo-1.tar.gz")).unwrap();
    fs::write(slot.join("distfiles/flat"), "x").unwrap();
    fs::create_dir_all(slot.join("m/guru")).unwrap();
    let (store, faults) = faults(dir.path());
    assert_eq!(faults.len(), 5, "{faults:#?}");
    assert!(store.inventory().is_empty());
    assert_eq!(fs::read(slot.join("distfiles/1b/foo-1.tar.gz")).unwrap(), b"a person's");
}

#[test]
fn a_name_that_leads_out_of_the_store_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::create_dir_all(dir.path().join("r0/distfiles/1b")).unwrap();
    symlink("/etc/passwd", dir.path().join("r0/distfiles/1b/foo-1.tar.gz")).unwrap();
    let (store, faults) = faults(dir.path());
    assert_eq!(faults.len(), 1);
    assert_eq!(store.named(&Scope::DISTFILES, &name("foo-1.tar.gz")), None);
}

#[test]
fn leftovers_of_a_crash_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let slot = dir.path().join("r0");
    fs::write(slot.join("tmp/17"), "x").unwrap();
    fs::write(slot.join("parts/abc.part"), "x").unwrap();
    fs::write(slot.join("distfiles/layout.conf"), "torn").unwrap();
    fs::write(slot.join("replica-id"), "torn").unwrap();
    let store = open(dir.path());
    assert!(files_below(&slot.join("tmp")).is_empty());
    assert!(files_below(&slot.join("parts")).is_empty());
    assert_eq!(store.replica_id().len(), 32);
    let conf = fs::read_to_string(slot.join("distfiles/layout.conf")).unwrap();
    assert_eq!(conf, "[structure]\n0=filename-hash BLAKE2B 8\n");
}
