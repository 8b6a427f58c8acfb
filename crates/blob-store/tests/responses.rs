//! Responses that no tree lists, against a map, with a fault at every file operation and a restart after each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use blob_store::{
    DraftState, FaultHook, FileOp, KeepError, Options, ResponseKey, ResponseLimits, Responses, Store,
};
use proptest::prelude::*;

const LIMITS: ResponseLimits =
    ResponseLimits { capacity_bytes: 4 << 20, body_bytes_max: 2 << 20, responses_max: 8 };

fn open_with(dir: &Path, faults: Option<FaultHook>, limits: ResponseLimits) -> Responses {
    let options = Options { cache_dir: dir.to_owned(), capacity_bytes: 1 << 30, faults };
    let (store, _) = Store::open(options).unwrap();
    Responses::open(&store, limits).unwrap().0
}

fn open(dir: &Path) -> Responses {
    open_with(dir, None, LIMITS)
}

fn key(uri: u8, variant: u8) -> ResponseKey {
    ResponseKey { uri: [uri; 16], variant: [variant; 16] }
}

fn put(responses: &Responses, key: ResponseKey, head: &[u8], body: &[u8]) -> Result<(), KeepError> {
    let mut draft = responses.begin(Some(body.len() as u64))?;
    for chunk in body.chunks(1000) {
        draft.append(chunk)?;
    }
    draft.finish(&key, head)
}

fn get(responses: &Responses, key: ResponseKey) -> Option<(Vec<u8>, Vec<u8>)> {
    let response = responses.variants(&key.uri).into_iter().find(|response| response.key == key)?;
    let mut body = Vec::new();
    responses.body(&response).unwrap()?.read_to_end(&mut body).unwrap();
    Some((response.head.to_vec(), body))
}

/// Files below the responses' directory.
fn files(dir: &Path, below: &str) -> usize {
    std::fs::read_dir(dir.join("r0/responses").join(below)).unwrap().count()
}

#[test]
fn what_is_kept_is_found_by_uri_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let responses = open(dir.path());
    put(&responses, key(1, 1), b"head a", b"body a").unwrap();
    put(&responses, key(1, 2), b"head b", b"").unwrap();
    put(&responses, key(1, 1), b"head c", b"another body").unwrap();
    assert!(responses.update(&responses.variants(&[1; 16])[1], b"head d").unwrap());
    let check = |responses: &Responses| {
        assert_eq!(get(responses, key(1, 1)).unwrap(), (b"head c".to_vec(), b"another body".to_vec()));
        assert_eq!(get(responses, key(1, 2)).unwrap(), (b"head d".to_vec(), b"".to_vec()));
        assert_eq!(responses.variants(&[2; 16]), []);
        assert_eq!(responses.used_bytes(), 6 + 12 + 6);
    };
    check(&responses);
    // Only then is the slot free.
    drop(responses);
    check(&open(dir.path()));
    assert_eq!((files(dir.path(), "bodies"), files(dir.path(), "tmp")), (2, 0), "the old body is gone");
}

#[test]
fn a_body_that_the_disk_can_not_give_is_dropped_and_one_that_we_can_not_open_is_kept() {
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    let dir = tempfile::tempdir().unwrap();
    let code = Arc::new(AtomicI64::new(0));
    let failing = Arc::clone(&code);
    let hook: FaultHook = Arc::new(move |operation, path: &Path| {
        let is_body = operation == FileOp::Open && path.components().any(|part| part.as_os_str() == "bodies");
        match i32::try_from(failing.load(Ordering::SeqCst)).unwrap() {
            code if is_body && code != 0 => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    });
    let responses = open_with(dir.path(), Some(hook), LIMITS);
    put(&responses, key(1, 1), b"head", b"body").unwrap();
    let response = responses.variants(&[1; 16]).pop().unwrap();
    code.store(EMFILE.into(), Ordering::SeqCst);
    responses.body(&response).unwrap_err();
    assert_eq!(files(dir.path(), "bodies"), 1);
    code.store(EIO.into(), Ordering::SeqCst);
    assert!(responses.body(&response).unwrap().is_none());
    assert_eq!((responses.variants(&[1; 16]), files(dir.path(), "bodies")), (Vec::new(), 0));
}

#[test]
fn readers_follow_a_body_and_nothing_is_left_of_one_that_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let responses = open(dir.path());
    let mut draft = responses.begin(Some(6)).unwrap();
    let reader = draft.reader();
    draft.append(b"abc").unwrap();
    assert_eq!(reader.filled.borrow().bytes, 3);
    assert!(matches!(draft.append(b"defg"), Err(KeepError::NoRoom)), "more than was announced");
    assert!(draft.finish(&key(1, 1), b"head").is_err(), "less than was announced");
    assert_eq!(reader.filled.borrow().state, DraftState::Growing);
    assert!(reader.filled.has_changed().is_err(), "the writer is gone");
    assert_eq!((files(dir.path(), "bodies"), files(dir.path(), "tmp"), responses.used_bytes()), (0, 0, 0));
    let mut draft = responses.begin(None).unwrap();
    (0..3).for_each(|_| draft.append(&vec![7; 500_000]).unwrap());
    assert!(matches!(draft.append(&vec![7; 700_000]), Err(KeepError::NoRoom)), "longer than is kept of one");
}

#[test]
fn the_longest_unused_go_and_the_bounds_hold() {
    let dir = tempfile::tempdir().unwrap();
    let responses = open(dir.path());
    for uri in 1..=3 {
        put(&responses, key(uri, 0), b"h", &vec![uri; 1_300_000]).unwrap();
        if uri == 2 {
            assert!(get(&responses, key(1, 0)).is_some(), "the first one is used again");
        }
    }
    put(&responses, key(4, 0), b"h", &vec![4; 1_300_000]).unwrap();
    assert!(get(&responses, key(2, 0)).is_none(), "the longest unused one went");
    assert!(get(&responses, key(1, 0)).is_some() && get(&responses, key(4, 0)).is_some());
    for uri in 10..30 {
        put(&responses, key(uri, 0), b"h", b"small").unwrap();
    }
    assert!(responses.used_bytes() <= LIMITS.capacity_bytes);
    assert!(files(dir.path(), "heads") <= LIMITS.responses_max);
    assert!(matches!(responses.begin(Some(3 << 20)), Err(KeepError::NoRoom)));
    drop(responses);
    let smaller = ResponseLimits { capacity_bytes: 20, ..LIMITS };
    assert!(open_with(dir.path(), None, smaller).used_bytes() <= 20, "lower limits hold at once");
}

#[test]
fn whatever_damages_a_pair_it_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let responses = open(dir.path());
    for uri in 1..=3 {
        put(&responses, key(uri, 0), b"head", b"body").unwrap();
    }
    let bodies = dir.path().join("r0/responses/bodies");
    for body in std::fs::read_dir(&bodies).unwrap() {
        std::fs::write(body.unwrap().path(), b"bo").unwrap();
    }
    assert!(get(&responses, key(1, 0)).is_none());
    drop(responses);
    std::fs::write(dir.path().join("r0/responses/heads/stray"), b"x").unwrap();
    std::fs::write(bodies.join("stray"), b"x").unwrap();
    let responses = open(dir.path());
    assert_eq!(responses.used_bytes(), 0);
    assert_eq!((files(dir.path(), "heads"), files(dir.path(), "bodies")), (0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, usize),
    Update(u8),
    Forget(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4, any::<u8>(), 0_usize..3000).prop_map(|(uri, fill, size)| Step::Put(uri, fill, size)),
        2 => (0_u8..4).prop_map(Step::Update),
        1 => (0_u8..4).prop_map(Step::Forget),
        1 => Just(Step::Restart),
    ]
}

/// A pair that was there: each head says which body is its own.
fn pair(fill: u8, size: usize) -> (Vec<u8>, Vec<u8>) {
    (format!("{fill} {size}").into_bytes(), vec![fill; size])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A fault at the Nth file operation, then a restart: every pair that is found was whole once, and one that
    /// no failed step touched is the last one.
    #[test]
    fn a_fault_anywhere_never_pairs_a_head_with_another_body(
        steps in prop::collection::vec(step(), 1..12), fail_at in 0_i64..120,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let counter = Arc::clone(&left);
        let hook: FaultHook = Arc::new(move |_, _| match counter.fetch_sub(1, Ordering::Relaxed) {
            0 => Err(io::Error::other("as asked for")),
            _ => Ok(()),
        });
        let mut responses = open_with(dir.path(), Some(hook.clone()), LIMITS);
        left.store(fail_at, Ordering::Relaxed);
        // What must be there; `None`: a step failed, so that either is right.
        let mut model: BTreeMap<u8, Option<(u8, usize)>> = BTreeMap::new();
        let mut ever: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for step in steps {
            match step {
                Step::Put(uri, fill, size) => {
                    let (head, body) = pair(fill, size);
                    ever.push((head.clone(), body.clone()));
                    let done = put(&responses, key(uri, 0), &head, &body);
                    model.insert(uri, done.is_ok().then_some((fill, size)));
                }
                Step::Update(uri) => {
                    let Some(response) = responses.variants(&[uri; 16]).pop() else { continue };
                    if responses.update(&response, &response.head).is_err() {
                        model.insert(uri, None);
                    }
                }
                Step::Forget(uri) => {
                    let Some(response) = responses.variants(&[uri; 16]).pop() else { continue };
                    match responses.forget(&response) {
                        Ok(()) => { model.remove(&uri); }
                        Err(_) => { model.insert(uri, None); }
                    }
                }
                Step::Restart => {
                    drop(responses);
                    left.store(i64::MAX, Ordering::Relaxed);
                    responses = open_with(dir.path(), Some(hook.clone()), LIMITS);
                    left.store(fail_at, Ordering::Relaxed);
                }
            }
        }
        left.store(i64::MAX, Ordering::Relaxed);
        drop(responses);
        let responses = open(dir.path());
        for uri in 0..4 {
            let found = get(&responses, key(uri, 0));
            if let Some(found) = &found {
                prop_assert!(ever.contains(found), "a pair that never was: {:?}", found.0);
            }
            match model.get(&uri) {
                Some(Some((fill, size))) => prop_assert_eq!(found, Some(pair(*fill, *size))),
                None => prop_assert_eq!(found, None),
                Some(None) => {}
            }
        }
    }
}
