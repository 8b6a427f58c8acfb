//! Files from elsewhere: adopted when they are right, left alone when not, whatever the disk does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blob_store::{Adopted, BeginError, FaultHook, Scope, Source, Store};
use common::{
    assert_index_equals_disk, assert_sound, contents, digest, expected, name, open, open_with, options,
};

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The store's answer for a file with these contents.
fn adopt(store: &Store, path: &Path, listed: &[u8]) -> Result<Adopted, BeginError> {
    let file = File::open(path).unwrap();
    let source = Source { file: &file, path };
    store.adopt(source, &expected("a", listed), &[Scope::DISTFILES], go_on)
}

#[test]
fn a_right_file_becomes_a_blob_that_shares_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = dir.path().join("old");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(adopt(&store, &path, &bytes), Ok(Adopted::Stored { .. })));
    assert_eq!(store.named(&Scope::DISTFILES, &name("a")), Some(digest(&bytes)));
    assert_eq!(store.info(&digest(&bytes)).unwrap().last_access, None, "nobody asked for it");
    let file = File::open(&path).unwrap();
    let source = Source { file: &file, path: &path };
    assert_eq!(store.equals(&digest(&bytes), source, go_on).unwrap(), Some(true));
    assert_eq!(store.equals(&digest(b"other"), source, go_on).unwrap(), None);
    // Written in place by whoever owns it.
    fs::write(&path, "shorter").unwrap();
    assert_eq!(store.equals(&digest(&bytes), source, go_on).unwrap(), Some(false));
    assert_eq!(contents(&store, &digest(&bytes)), Some(bytes.clone()));
    let longer = [&bytes[..], b"x"].concat();
    fs::write(&path, longer).unwrap();
    assert_eq!(store.equals(&digest(&bytes), source, go_on).unwrap(), Some(false));
    assert_index_equals_disk(&store);
}

#[test]
fn a_wrong_file_is_stored_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = dir.path().join("old");
    fs::write(&path, "wrong").unwrap();
    assert_eq!(adopt(&store, &path, b"right").unwrap(), Adopted::Mismatch { what: "BLAKE2B" });
    assert_eq!(adopt(&store, &path, b"longer").unwrap(), Adopted::Mismatch { what: "length" });
    let full = Store::open(options(&dir.path().join("full"), 3)).unwrap().0;
    assert!(matches!(adopt(&full, &path, b"wrong"), Err(BeginError::Full { .. })));
    for slot in [store.slot_dir(), full.slot_dir()] {
        assert!(assert_sound(slot).is_empty());
        for left in ["tmp", "parts", "quarantine"] {
            assert_eq!(fs::read_dir(slot.join(left)).unwrap().count(), 0, "{left}");
        }
    }
    // The room that was promised is free again.
    fs::write(&path, "abc").unwrap();
    assert!(matches!(adopt(&full, &path, b"abc"), Ok(Adopted::Stored { .. })));
}

#[test]
fn a_file_that_changes_under_way_and_a_pace_that_breaks_off_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = dir.path().join("old");
    let bytes = vec![7; 2_500_000];
    fs::write(&path, &bytes).unwrap();
    let file = File::open(&path).unwrap();
    let source = Source { file: &file, path: &path };
    let grows = |_| {
        // The same bytes at the same place: only the times tell.
        fs::write(&path, &bytes).unwrap();
        File::options().append(true).open(&path).unwrap().set_len(bytes.len() as u64 + 1).unwrap();
        ControlFlow::Continue(())
    };
    let adopted = store.adopt(source, &expected("a", &bytes), &[Scope::DISTFILES], grows);
    assert_eq!(adopted.unwrap(), Adopted::Changed);
    fs::write(&path, &bytes).unwrap();
    let stops = |_| ControlFlow::Break(());
    assert!(store.adopt(source, &expected("a", &bytes), &[Scope::DISTFILES], stops).is_err());
    assert!(store.inventory().is_empty());
    assert_eq!(fs::read_dir(store.slot_dir().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is only read");
}

#[test]
fn any_operation_may_fail_and_nothing_may_work_from_any_on() {
    let bytes = vec![9; 1_500_000];
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("old");
    fs::write(&path, &bytes).unwrap();
    let run = |fails: &dyn Fn(usize) -> FaultHook, nth: usize| {
        let dir = tempfile::tempdir().unwrap();
        if let Ok(store) = open_with(dir.path(), fails(nth)) {
            let adopted = adopt(&store, &path, &bytes);
            let is_named = store.named(&Scope::DISTFILES, &name("a")).is_some();
            assert!(is_named || adopted.is_err(), "{adopted:?}");
            assert_sound(store.slot_dir());
        }
        let store = open(dir.path());
        assert_index_equals_disk(&store);
        assert!(matches!(adopt(&store, &path, &bytes), Ok(Adopted::Stored { .. })));
        assert_index_equals_disk(&store);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    };
    let operations = Arc::new(AtomicUsize::new(0));
    run(&|_| counting(&operations, |_| false), 0);
    let all = operations.load(Ordering::SeqCst);
    assert!(all > 20, "{all}");
    for nth in 0..all {
        run(&|nth| counting(&Arc::default(), move |number| number == nth), nth);
        run(&|nth| counting(&Arc::default(), move |number| number >= nth), nth);
    }
}

fn counting(count: &Arc<AtomicUsize>, fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> FaultHook {
    let count = Arc::clone(count);
    Arc::new(move |_, _: &Path| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if fails(number) { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    })
}
