//! Leases over real channels, with a clock that only moves when told.

#![allow(clippy::unwrap_used, reason = "how a test fails")]

mod support;

use rookery_proto::v1::acquire_fetch_response::Outcome;
use rookery_proto::v1::{
    AcquireFetchRequest, CommitFetchRequest, Digest, FetchObject, Held, Lease, ReleaseFetchRequest,
    RenewFetchRequest, WatchDecisionsRequest,
};
use support::{Rig, blob, key, object};
use tonic::{Code, Status};

async fn acquire(rig: &Rig, who: &str, object: FetchObject) -> Outcome {
    let request = AcquireFetchRequest { replica_id: who.to_owned(), object: Some(object) };
    rig.client().acquire_fetch(request).await.unwrap().into_inner().outcome.unwrap()
}

async fn granted(rig: &Rig, who: &str, name: &str) -> Lease {
    let outcome = acquire(rig, who, object(name)).await;
    if let Outcome::Granted(lease) = outcome { lease } else { panic!("{outcome:?}") }
}

async fn held(rig: &Rig, who: &str, name: &str) -> Held {
    let outcome = acquire(rig, who, object(name)).await;
    if let Outcome::Held(held) = outcome { held } else { panic!("{outcome:?}") }
}

async fn renew(rig: &Rig, who: &str, lease: &Lease, bytes_so_far: u64) -> Result<u64, Status> {
    let request = RenewFetchRequest {
        replica_id: who.to_owned(),
        lease_id: lease.lease_id.clone(),
        fence: lease.fence,
        bytes_so_far,
    };
    Ok(rig.client().renew_fetch(request).await?.into_inner().expires_in_ms)
}

fn commit_request(who: &str, lease: &Lease, name: &str) -> CommitFetchRequest {
    CommitFetchRequest {
        replica_id: who.to_owned(),
        lease_id: lease.lease_id.clone(),
        fence: lease.fence,
        object: Some(object(name)),
        blob: Some(blob(name)),
        source: "https://example.org/x".to_owned(),
        upstream_bytes: 1000,
    }
}

async fn commit(rig: &Rig, who: &str, lease: &Lease, name: &str) -> bool {
    let request = commit_request(who, lease, name);
    rig.client().commit_fetch(request).await.unwrap().into_inner().lease_was_current
}

async fn two() -> Rig {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("r2").await;
    rig
}

#[tokio::test]
async fn one_replica_fetches_and_the_other_is_sent_to_it() {
    let rig = two().await;
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    assert_eq!(lease.expires_in_ms, 30_000);
    assert_eq!(granted(&rig, "r1", "foo-1.tar.gz").await, lease, "asking again changes nothing");
    assert_eq!(renew(&rig, "r1", &lease, 400).await.unwrap(), 30_000);
    let other = held(&rig, "r2", "foo-1.tar.gz").await;
    assert_eq!((other.replica_id.as_str(), other.advertise.as_str()), ("r1", "http://r1:8080"));
    assert_eq!(other.bytes_so_far, 400);
    assert!((1..=2000).contains(&other.retry_in_ms), "{}", other.retry_in_ms);
    let status = rig.status().await;
    let shown: Vec<_> = status.leases.iter().map(|one| (one.name.as_str(), one.bytes_so_far)).collect();
    assert_eq!(shown, [("foo-1.tar.gz", 400)]);
    // Another digest under the same name is another object.
    let mut rerolled = object("foo-1.tar.gz");
    rerolled.digest = Some(Digest { algorithm: "BLAKE2B".to_owned(), value: key("other contents") });
    assert!(matches!(acquire(&rig, "r2", rerolled).await, Outcome::Granted(_)));
}

#[tokio::test]
async fn without_progress_it_is_taken_over_with_a_higher_fence() {
    let rig = two().await;
    let old = granted(&rig, "r1", "foo-1.tar.gz").await;
    rig.clock.advance_ms(20_000);
    assert_eq!(renew(&rig, "r1", &old, 10).await.unwrap(), 30_000);
    rig.clock.advance_ms(20_000);
    assert_eq!(renew(&rig, "r1", &old, 10).await.unwrap(), 10_000, "no progress, no more time");
    held(&rig, "r2", "foo-1.tar.gz").await;
    rig.clock.advance_ms(10_000);
    let new = granted(&rig, "r2", "foo-1.tar.gz").await;
    assert!(new.fence > old.fence);
    assert_ne!(new.lease_id, old.lease_id);
    assert_eq!(renew(&rig, "r1", &old, 999).await.unwrap_err().code(), Code::FailedPrecondition);
    // Its verified blob is welcome all the same.
    assert!(!commit(&rig, "r1", &old, "foo-1.tar.gz").await);
    assert_eq!(renew(&rig, "r2", &new, 5).await.unwrap(), 30_000);
    let release = ReleaseFetchRequest {
        replica_id: "r1".to_owned(),
        lease_id: old.lease_id.clone(),
        fence: old.fence,
        reason: "lost".to_owned(),
    };
    rig.client().release_fetch(release).await.unwrap();
    assert!(renew(&rig, "r2", &new, 6).await.is_ok(), "a stale release is ignored");
}

#[tokio::test]
async fn commits_count_once_and_make_the_blob_present() {
    let rig = two().await;
    let mut decisions = rig
        .client()
        .watch_decisions(WatchDecisionsRequest { replica_id: "r1".to_owned() })
        .await
        .unwrap()
        .into_inner();
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    assert!(commit(&rig, "r1", &lease, "foo-1.tar.gz").await);
    assert!(commit(&rig, "r1", &lease, "foo-1.tar.gz").await, "the same answer again");
    assert_eq!(rig.status().await.savings.unwrap().bytes_fetched, 1000);
    support::eventually(async || {
        matches!(acquire(&rig, "r2", object("foo-1.tar.gz")).await, Outcome::Present(present)
            if present.advertise == ["http://r1:8080"])
    })
    .await;
    assert_eq!(renew(&rig, "r1", &lease, 1000).await.unwrap_err().code(), Code::FailedPrecondition);
    // Fetched while maintenance was away: no lease, one more copy.
    assert!(!commit(&rig, "r2", &Lease::default(), "foo-1.tar.gz").await);
    drop(decisions.message());
    let status = rig.status().await;
    assert_eq!(status.replicas.iter().map(|one| one.blobs).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn holders_that_are_not_connected_are_nobody_to_ask() {
    let rig = two().await;
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    assert!(commit(&rig, "r1", &lease, "foo-1.tar.gz").await);
    let again = granted(&rig, "r2", "foo-1.tar.gz").await;
    assert!(again.fence > lease.fence);
}

#[tokio::test]
async fn released_lease_is_free_at_once() {
    let rig = two().await;
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    let release = ReleaseFetchRequest {
        replica_id: "r1".to_owned(),
        lease_id: lease.lease_id.clone(),
        fence: lease.fence,
        reason: "404 everywhere".to_owned(),
    };
    for _ in 0..2 {
        rig.client().release_fetch(release.clone()).await.unwrap();
    }
    assert!(granted(&rig, "r2", "foo-1.tar.gz").await.fence > lease.fence);
    rig.client().release_fetch(release).await.unwrap();
    held(&rig, "r1", "foo-1.tar.gz").await;
}

#[tokio::test]
async fn restart_keeps_leases_and_fences() {
    let mut rig = two().await;
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    let other = granted(&rig, "r1", "bar-1.tar.gz").await;
    rig.restart().await;
    held(&rig, "r2", "foo-1.tar.gz").await;
    assert_eq!(renew(&rig, "r1", &lease, 7).await.unwrap(), 30_000);
    rig.clock.advance_ms(60_000);
    let new = granted(&rig, "r2", "foo-1.tar.gz").await;
    assert!(new.fence > lease.fence && new.fence > other.fence);
}

#[tokio::test]
async fn lost_index_grants_higher_fences_still() {
    let mut rig = two().await;
    let lease = granted(&rig, "r1", "foo-1.tar.gz").await;
    rig.stop().await;
    std::fs::remove_file(rig.index_path()).unwrap();
    rig.clock.advance_ms(1000);
    rig.restart().await;
    let error = renew(&rig, "r1", &lease, 7).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "register first");
    rig.register("r1").await;
    assert_eq!(renew(&rig, "r1", &lease, 7).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(granted(&rig, "r1", "foo-1.tar.gz").await.fence > lease.fence);
}

#[tokio::test]
async fn bad_input_is_named() {
    let rig = two().await;
    let code = async |object: FetchObject| {
        let request = AcquireFetchRequest { replica_id: "r1".to_owned(), object: Some(object) };
        let status = rig.client().acquire_fetch(request).await.unwrap_err();
        (status.code(), status.message().split(':').next().unwrap_or_default().to_owned())
    };
    let named = |field: &str| (Code::InvalidArgument, field.to_owned());
    assert_eq!(code(FetchObject { name: "../x".to_owned(), ..object("x") }).await, named("object.name"));
    assert_eq!(code(FetchObject { name: "x".repeat(256), ..object("x") }).await, named("object.name"));
    assert_eq!(code(FetchObject { digest: None, ..object("x") }).await, named("object.digest"));
    let short = Digest { algorithm: "BLAKE2B".to_owned(), value: vec![1; 63] };
    assert_eq!(code(FetchObject { digest: Some(short), ..object("x") }).await, named("object.digest.value"));
    let mut lie = commit_request("r1", &Lease::default(), "x");
    lie.blob = Some(blob("y"));
    assert_eq!(rig.client().commit_fetch(lie).await.unwrap_err().code(), Code::InvalidArgument);
    let stranger = AcquireFetchRequest { replica_id: "r9".to_owned(), object: Some(object("x")) };
    assert_eq!(rig.client().acquire_fetch(stranger).await.unwrap_err().code(), Code::NotFound);
}
