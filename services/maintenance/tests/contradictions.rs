//! A replica that tells of a blob with another size than is known.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use rookery_proto::v1::{
    Blob, CachedObject, CommitFetchRequest, Distfile, FetchObject, ListObjectsRequest, PlanEvictionRequest,
    Problem,
};
use support::{DAY_MS, Rig, blob, distfile, eventually, key, object};
use tonic::Code;

/// (id, used bytes, blobs) of each replica.
async fn replicas(rig: &Rig) -> Vec<(String, u64, u64)> {
    let replicas = rig.status().await.replicas.into_iter();
    replicas.map(|one| (one.replica_id, one.used_bytes, one.blobs)).collect()
}

fn replica(id: &str, used_bytes: u64, blobs: u64) -> (String, u64, u64) {
    (id.to_owned(), used_bytes, blobs)
}

async fn objects(rig: &Rig) -> Vec<CachedObject> {
    rig.admin().list_objects(ListObjectsRequest::default()).await.unwrap().into_inner().objects
}

async fn contradicting(rig: &Rig) -> Option<Problem> {
    rig.status().await.problems.into_iter().find(|problem| problem.code == "inventory_contradicts")
}

fn sized(name: &str, size_bytes: u64) -> Blob {
    Blob { size_bytes, ..blob(name) }
}

#[tokio::test]
async fn a_replica_that_contradicts_the_catalogue_is_named_and_changes_no_figure() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("r2").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("b")]).await;
    rig.inventory("r1", vec![blob("a"), blob("old")]).await;
    let before = objects(&rig).await;
    assert_eq!(contradicting(&rig).await, None);

    rig.inventory("r2", vec![sized("a", 5), blob("b"), sized("old", 1 << 50)]).await;
    let problem = contradicting(&rig).await.unwrap();
    assert_eq!(problem.subject, "replica r2");
    assert!(problem.what.contains("2 blobs") && problem.what.contains("1000 known"), "{problem:?}");
    assert_eq!(replicas(&rig).await, [replica("r1", 2000, 2), replica("r2", 1000, 1)]);
    let after = objects(&rig).await;
    assert_eq!([&after[0], &after[2]], [&before[0], &before[1]], "neither sizes nor holders");
    rig.clock.advance_ms(60 * DAY_MS);
    let plan = rig.admin().plan_eviction(PlanEvictionRequest {}).await.unwrap().into_inner();
    let planned: Vec<_> =
        plan.evictions.iter().map(|one| (one.replica_id.as_str(), one.size_bytes)).collect();
    assert_eq!(planned, [("r1", 1000)], "nothing is planned for what is not believed");
    let metrics = get(&rig, "/metrics").await;
    assert!(metrics.contains("rookery_problem{code=\"inventory_contradicts\"} 1\n"), "{metrics}");

    // What it tells apart from inventories is not believed either.
    let commit = CommitFetchRequest {
        replica_id: "r2".to_owned(),
        object: Some(FetchObject { size_bytes: 5, ..object("a") }),
        blob: Some(sized("a", 5)),
        ..CommitFetchRequest::default()
    };
    let error = rig.client().commit_fetch(commit).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("a is 1000 bytes, 5 are told"), "{error}");

    // A truncated copy in quarantine has any size, and is no contradiction.
    let damaged = Blob { quarantined: true, names: Vec::new(), ..sized("a", 17) };
    rig.inventory("r2", vec![damaged, blob("b"), blob("old")]).await;
    assert_eq!(contradicting(&rig).await, None, "its inventory is right");
    assert_eq!(replicas(&rig).await[1], replica("r2", 2017, 3));
    assert_eq!(objects(&rig).await[0].size_bytes, 1000);
}

#[tokio::test]
async fn what_was_told_wrong_before_the_catalogue_knew_it_is_corrected_by_it() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("r2").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r2", vec![sized("b", 5)]).await;
    rig.inventory("r1", vec![blob("b")]).await;
    assert_eq!(contradicting(&rig).await.unwrap().subject, "replica r1", "nobody knows better yet");
    rig.publish("gentoo", 2, &[distfile("a"), distfile("b")]).await;
    eventually(async || objects(&rig).await.iter().all(|one| one.size_bytes == 1000)).await;
    rig.inventory("r1", vec![blob("b")]).await;
    assert_eq!(contradicting(&rig).await.unwrap().subject, "replica r2");
    assert_eq!(replicas(&rig).await, [replica("r1", 1000, 1), replica("r2", 0, 0)]);
    let [one] = &objects(&rig).await[..] else { panic!("one blob is expected") };
    assert_eq!((one.blake2b.clone(), one.replicas.clone()), (key("b"), vec!["r1".to_owned()]));
    // A distfile that two modules list with two sizes may have either.
    rig.publish("guru", 1, &[Distfile { size_bytes: 7, ..distfile("b") }]).await;
    rig.inventory("r2", vec![sized("b", 7)]).await;
    assert_eq!(contradicting(&rig).await, None);
}

async fn get(rig: &Rig, path: &str) -> String {
    service_kit::process::install_crypto_provider();
    let answer = reqwest::get(format!("http://{}{path}", rig.running.web_addr)).await.unwrap();
    answer.text().await.unwrap()
}
