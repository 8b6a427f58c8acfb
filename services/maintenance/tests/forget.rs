//! A replica that is gone for good is forgotten.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use rookery_proto::v1::{
    AcquireFetchRequest, Blob, Decision, EvictRequest, ForgetReplicaRequest, ForgetReplicaResponse,
    ListDecisionsRequest, PlanEvictionRequest, ReportAccessesRequest, WatchDecisionsRequest,
};
use support::{DAY_MS, Rig, blob, distfile, eventually, object, within};
use tonic::{Code, Status, Streaming};

async fn decisions(rig: &Rig, who: &str) -> Streaming<Decision> {
    let request = WatchDecisionsRequest { replica_id: who.to_owned() };
    within(rig.client().watch_decisions(request)).await.unwrap().into_inner()
}

async fn forget(rig: &Rig, who: &str, dry_run: bool) -> Result<ForgetReplicaResponse, Status> {
    let request = ForgetReplicaRequest { replica_id: who.to_owned(), dry_run };
    Ok(rig.admin().forget_replica(request).await?.into_inner())
}

/// (id, used bytes, blobs) of each replica.
async fn replicas(rig: &Rig) -> Vec<(String, u64, u64)> {
    let replicas = rig.status().await.replicas.into_iter();
    replicas.map(|one| (one.replica_id, one.used_bytes, one.blobs)).collect()
}

fn replica(id: &str, used_bytes: u64, blobs: u64) -> (String, u64, u64) {
    (id.to_owned(), used_bytes, blobs)
}

fn sized(name: &str, size_bytes: u64) -> Blob {
    Blob { size_bytes, ..blob(name) }
}

#[tokio::test]
async fn a_replica_that_is_gone_for_good_is_forgotten_with_all_that_was_known_of_it() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("r2").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("c")]).await;
    rig.inventory("r1", vec![blob("a")]).await;
    rig.inventory("r2", vec![blob("a"), blob("old"), sized("odd", 3)]).await;
    rig.clock.advance_ms(30 * DAY_MS);
    let planned = rig.admin().evict(EvictRequest::default()).await.unwrap().into_inner().evictions;
    assert_eq!(planned.iter().filter(|one| one.replica_id == "r2").count(), 2);

    let error = forget(&rig, "r3", false).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "there is no replica r3; known: r1, r2"));
    let stream = decisions(&rig, "r2").await;
    let error = forget(&rig, "r2", false).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().starts_with("replica r2 is alive: it is connected; stop"), "{error}");
    let lease = AcquireFetchRequest { replica_id: "r2".to_owned(), object: Some(object("c")) };
    rig.client().acquire_fetch(lease).await.unwrap();
    drop(stream);
    eventually(async || {
        let error = forget(&rig, "r2", false).await.unwrap_err();
        error.message().contains("it has the lease to fetch c for 30 s more")
    })
    .await;

    rig.clock.advance_ms(31_000);
    let expected = ForgetReplicaResponse { blobs: 3, bytes: 2003, only_here: 2, leases: 1, decisions: 2 };
    assert_eq!(forget(&rig, "r2", true).await.unwrap(), expected);
    let both = [replica("r1", 1000, 1), replica("r2", 2003, 3)];
    assert_eq!(replicas(&rig).await, both, "a dry run changes nothing");
    assert_eq!(forget(&rig, "r2", false).await.unwrap(), expected);
    assert_eq!(replicas(&rig).await, both[..1]);
    let status = rig.status().await;
    assert!(!status.problems.iter().any(|problem| problem.subject.contains("r2")), "{:?}", status.problems);
    assert_eq!(status.decisions_pending, 0);
    let closed = ListDecisionsRequest::default();
    let closed = rig.admin().list_decisions(closed).await.unwrap().into_inner().decisions;
    assert!(closed.iter().all(|one| one.detail == "the replica was forgotten"), "{closed:?}");
    let plan = rig.admin().plan_eviction(PlanEvictionRequest {}).await.unwrap().into_inner();
    assert_eq!(plan.replicas.len(), 1);
    assert_eq!(forget(&rig, "r2", false).await.unwrap_err().code(), Code::NotFound);

    // It comes back: whatever it says is answered so that it registers anew, and then it tells all.
    let report = ReportAccessesRequest {
        replica_id: "r2".to_owned(),
        report_id: "x".to_owned(),
        ..ReportAccessesRequest::default()
    };
    assert_eq!(rig.client().report_accesses(report).await.unwrap_err().code(), Code::NotFound);
    rig.register("r2").await;
    rig.inventory("r2", vec![blob("a"), blob("old")]).await;
    assert_eq!(replicas(&rig).await, [replica("r1", 1000, 1), replica("r2", 2000, 2)]);
}
