//! The same story again and again, with the n-th file operation failing, or with nothing working
//! from the n-th on, as when the process is killed there. After a restart, no name leads to a wrong
//! byte, the index equals the disk, and the story can be told to its end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_store::{BeginError, FaultHook, FileOp, Scope, Store};
use common::{
    assert_in_a_row, assert_index_equals_disk, assert_sound, digest, expected, name, open, open_with,
    recording,
};

/// Puts, resumes, repoints, evicts, verifies; goes on after each failure.
fn story(store: &Store) {
    for (text, contents) in [("a", &b"first"[..]), ("b", b"second"), ("a", b"third"), ("c", b"first")] {
        for step in [2, contents.len()] {
            let mut part = match store.begin(expected(text, contents)) {
                Ok(part) => part,
                Err(BeginError::Store(_)) => continue,
                Err(error) => panic!("{error}"),
            };
            let from = usize::try_from(part.bytes()).unwrap();
            let pieces: Vec<&[u8]> = contents[from..step.max(from)].chunks(2).collect();
            if part.append_all(&pieces).is_ok() && part.missing_bytes() == 0 {
                // A fault is what this test is about.
                drop(part.finish(&[Scope::DISTFILES, Scope::module("m").unwrap()]));
            }
        }
    }
    let Ok(mut part) = store.begin(expected("w", b"right")) else { return };
    if part.append(b"wrong").is_ok() {
        part.finish(&[Scope::DISTFILES]).unwrap_err();
    }
    drop(store.verify(&digest(b"second")));
    drop(store.evict(&digest(b"second"), None));
    drop(store.evict(&digest(b"third"), None));
}

fn counting(fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> (FaultHook, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let hook = move |_, _: &Path| {
        if fails(counted.fetch_add(1, Ordering::SeqCst)) {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    };
    (Arc::new(hook), count)
}

fn operations() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (hook, count) = counting(|_| false);
    story(&open_with(dir.path(), hook).unwrap());
    count.load(Ordering::SeqCst)
}

fn check_after_restart(dir: &Path) {
    let store = open(dir);
    assert_index_equals_disk(&store);
    let slot = |file: &str| fs::read_to_string(store.slot_dir().join(file)).unwrap();
    assert_eq!(slot("replica-id"), format!("{}\n", store.replica_id()));
    assert_eq!(slot("distfiles/layout.conf"), "[structure]\n0=filename-hash BLAKE2B 8\n");
    story(&store);
    assert_index_equals_disk(&store);
    assert_eq!(store.named(&Scope::DISTFILES, &name("c")), Some(digest(b"first")));
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), None, "its blob was evicted");
}

#[test]
fn any_single_operation_may_fail() {
    let operations = operations();
    assert!(operations > 100, "{operations}");
    for nth in 0..operations {
        let dir = tempfile::tempdir().unwrap();
        let (hook, _) = counting(move |number| number == nth);
        if let Ok(store) = open_with(dir.path(), hook) {
            story(&store);
            assert_sound(store.slot_dir());
            assert_index_equals_disk(&store);
        }
        check_after_restart(dir.path());
    }
}

#[test]
fn the_process_may_be_killed_before_any_operation() {
    for nth in 0..operations() {
        let dir = tempfile::tempdir().unwrap();
        let (hook, _) = counting(move |number| number >= nth);
        if let Ok(store) = open_with(dir.path(), hook) {
            story(&store);
        }
        if dir.path().join("r0").is_dir() {
            assert_sound(&dir.path().join("r0"));
        }
        check_after_restart(dir.path());
    }
}

#[test]
fn what_the_slot_says_of_itself_outlives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (hook, operations) = recording();
    let store = open_with(dir.path(), hook).unwrap();
    let slot = store.slot_dir();
    for (name, place) in [("replica-id", slot.to_owned()), ("layout.conf", slot.join("distfiles"))] {
        let new = slot.join("tmp").join(name);
        assert_in_a_row(
            &operations.lock().unwrap(),
            &[
                (FileOp::Write, new.clone()),
                (FileOp::Sync, new),
                (FileOp::Rename, place.join(name)),
                (FileOp::SyncDir, place),
            ],
        );
    }
    // A file in a directory that is lost is lost.
    let done = operations.lock().unwrap();
    for parent in [dir.path(), slot] {
        assert!(done.contains(&(FileOp::SyncDir, parent.to_owned())), "{}", parent.display());
    }
}

#[test]
fn a_batch_that_stops_in_the_middle_can_be_gone_on_with() {
    let (batch, piece) = (b"0123456789", 3);
    let stopped_at = |nth: Option<usize>| {
        let dir = tempfile::tempdir().unwrap();
        let (hook, count) = counting(move |number| Some(number) == nth);
        let store = open_with(dir.path(), hook).ok()?;
        let mut part = store.begin(expected("a", batch)).ok()?;
        let before = count.load(Ordering::SeqCst);
        let stopped = part.append_all(&batch.chunks(piece).collect::<Vec<_>>()).err();
        let writes = before..count.load(Ordering::SeqCst);
        let bytes = part.bytes();
        part.append(&batch[usize::try_from(bytes).unwrap()..]).ok()?;
        part.finish(&[Scope::DISTFILES]).ok()?;
        assert_eq!(store.named(&Scope::DISTFILES, &name("a")), Some(digest(batch)));
        Some((stopped.is_some(), bytes, writes))
    };
    let (_, _, writes) = stopped_at(None).unwrap();
    assert_eq!(writes.len(), 4);
    for (done, nth) in writes.enumerate() {
        let (has_stopped, bytes, _) = stopped_at(Some(nth)).unwrap();
        assert!(has_stopped && bytes == (done * piece) as u64, "{bytes}");
    }
}
