//! Inventories that are broken off, that cross commits, and that nobody waits for.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use cache_policy::eviction::BlobKey;
use cache_policy::lease::{Fence, Terms};

use super::*;
use crate::index::{Committed, Object, ObjectQuery, Replica};

const TERMS: Terms = Terms { lease_ms: 30_000, hold_ms_max: 60_000 };
const NOW: UnixMs = UnixMs::new(1_700_000_000_000);

fn record(number: u16) -> BlobRecord {
    let mut key = [0; 64];
    key[..2].copy_from_slice(&number.to_be_bytes());
    BlobRecord {
        blob: BlobKey::new(key),
        size_bytes: 10,
        names: vec![format!("file-{number}")],
        last_access_ms: 0,
        quarantined: false,
    }
}

fn object(of: &BlobRecord) -> Object {
    Object {
        name: of.names[0].clone(),
        algorithm: "BLAKE2B".to_owned(),
        digest: of.blob.as_bytes().to_vec(),
        size_bytes: of.size_bytes,
    }
}

fn inventory(blobs: impl Iterator<Item = u16>, begun: UnixMs) -> Inventory {
    let blobs = blobs.map(record).collect();
    Inventory { replica_id: "r1".to_owned(), blobs, capacity_bytes: 1 << 20, begun }
}

async fn index(dir: &tempfile::TempDir) -> Index {
    let index = Index::open(&dir.path().join("index.db"), NOW).await.unwrap();
    let replica = Replica {
        id: "r1".to_owned(),
        advertise: String::new(),
        capacity_bytes: 1 << 20,
        version: String::new(),
    };
    index.register(&replica, NOW).await.unwrap();
    index
}

async fn held(index: &Index) -> Vec<(u64, Vec<String>, &'static str)> {
    let all = ObjectQuery { limit: 10_000, ..ObjectQuery::default() };
    let rows = index.objects(&all).await.unwrap().rows;
    let mut held: Vec<_> = rows
        .into_iter()
        .map(|row| {
            (u64::from_be_bytes(row.blob.as_bytes()[..8].try_into().unwrap()) >> 48, row.names, row.state)
        })
        .collect();
    held.sort();
    held
}

fn sound(numbers: impl Iterator<Item = u16>) -> Vec<(u64, Vec<String>, &'static str)> {
    numbers.map(|number| (u64::from(number), vec![format!("file-{number}")], "referenced")).collect()
}

#[tokio::test]
async fn what_was_committed_since_it_began_is_neither_forgotten_nor_taken_for_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    let later = UnixMs::new(NOW.get() + 1);
    for number in [1, 2] {
        let committed = Committed {
            replica_id: "r1".to_owned(),
            lease_id: String::new(),
            fence: Fence::new(0),
            object: object(&record(number)),
            blob: record(number),
            source: String::new(),
            upstream_bytes: 10,
        };
        index.commit_fetch(&committed, later).await.unwrap();
    }
    let mut told = inventory(1..2, NOW);
    told.blobs[0].quarantined = true;
    told.blobs[0].names.clear();
    index.replace_inventory(&told, later).await.unwrap();
    assert_eq!(held(&index).await, sound(1..3));
    told.begun = later;
    index.replace_inventory(&told, later).await.unwrap();
    assert_eq!(held(&index).await, [(1, Vec::new(), "quarantined")]);
}

#[tokio::test]
async fn names_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    let mut told = inventory(1..3, NOW);
    told.blobs[0].names = vec!["a".to_owned(), "b".to_owned()];
    index.replace_inventory(&told, NOW).await.unwrap();
    told.blobs[0].names = vec!["b".to_owned(), "c".to_owned()];
    index.replace_inventory(&told, NOW).await.unwrap();
    let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    assert_eq!(held(&index).await[0].1, names(["b", "c"]));
    assert_eq!(held(&index).await[1].1, ["file-2"]);
}

/// Broken off after every number of steps: too much is known then, never too little, and the next one
/// puts it right.
#[tokio::test]
async fn broken_off_anywhere_it_loses_nothing_and_the_next_one_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    let (old, new) = (0..1200, 600..1800);
    let mut broken_off = 0;
    for polls in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144] {
        index.replace_inventory(&inventory(old.clone(), NOW), NOW).await.unwrap();
        assert_eq!(held(&index).await, sound(old.clone()));
        let told = inventory(new.clone(), NOW);
        if give_up_after(polls, index.replace_inventory(&told, NOW)).await.is_none() {
            broken_off += 1;
            let known = held(&index).await;
            let least = sound(old.start.max(new.start)..old.end.min(new.end));
            assert!(least.iter().all(|one| known.contains(one)), "after {polls} polls");
            let most = sound(old.start.min(new.start)..old.end.max(new.end));
            assert!(known.iter().all(|one| most.contains(one)), "after {polls} polls");
        }
        index.replace_inventory(&told, NOW).await.unwrap();
        assert_eq!(held(&index).await, sound(new.clone()));
    }
    assert!(broken_off > 3, "{broken_off}");
}

/// Its output, unless it has none after so many polls: then it is dropped, as at a kill.
async fn give_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context: &mut Context<'_>| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(output) = polled.await {
            return Some(output);
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test]
async fn a_lease_does_not_wait_for_a_large_one() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    let large = inventory(0..20_000, NOW);
    let mut taking = pin!(index.replace_inventory(&large, NOW));
    let mut granted = 0;
    for number in 20_000..20_020 {
        let object = object(&record(number));
        let mut acquiring = pin!(index.acquire(&object, "r1", NOW, TERMS, |_| false));
        tokio::select! {
            biased;
            taken = &mut taking => {
                taken.unwrap();
                break;
            }
            lease = &mut acquiring => {
                lease.unwrap();
                granted += 1;
            }
        }
    }
    assert_eq!(granted, 20, "leases while 40 transactions' worth of blobs is taken over");
}
