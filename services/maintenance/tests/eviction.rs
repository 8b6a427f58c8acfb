//! From what is known to decisions that a replica carries out.

#![allow(clippy::unwrap_used, reason = "how a test fails")]

mod support;

use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    Access, AccessOutcome, AcknowledgeDecisionRequest, Blob, Decision, DecisionOutcome, EvictRequest,
    InventoryBatch, InventoryPart, PlanEvictionRequest, PlanEvictionResponse, PublishModuleRequest,
    ReportAccessesRequest, Restriction, WatchDecisionsRequest,
};
use support::{DAY_MS, Rig, START_MS, blob, distfile, eventually, key, within};
use tonic::{Code, Status, Streaming};

/// One module of `a` and `b`; r1 holds `a`, `b`, and `old`, which nobody refers to.
async fn farm() -> Rig {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("b")]).await;
    rig.inventory("r1", vec![blob("a"), blob("b"), blob("old")]).await;
    rig
}

async fn plan(rig: &Rig) -> Result<PlanEvictionResponse, Status> {
    Ok(rig.admin().plan_eviction(PlanEvictionRequest {}).await?.into_inner())
}

async fn planned(rig: &Rig) -> Vec<String> {
    plan(rig).await.unwrap().evictions.into_iter().flat_map(|one| one.names).collect()
}

async fn evict(rig: &Rig) -> usize {
    rig.admin().evict(EvictRequest::default()).await.unwrap().into_inner().evictions.len()
}

async fn decisions(rig: &Rig, who: &str) -> Streaming<Decision> {
    let request = WatchDecisionsRequest { replica_id: who.to_owned() };
    within(rig.client().watch_decisions(request)).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<Decision>) -> Decision {
    within(stream.message()).await.unwrap().unwrap()
}

async fn acknowledge(rig: &Rig, who: &str, id: &str, outcome: DecisionOutcome) -> Result<(), Status> {
    let request = AcknowledgeDecisionRequest {
        replica_id: who.to_owned(),
        decision_id: id.to_owned(),
        outcome: outcome.into(),
        ..AcknowledgeDecisionRequest::default()
    };
    rig.client().acknowledge_decision(request).await.map(drop)
}

async fn blobs(rig: &Rig) -> u64 {
    rig.status().await.replicas[0].blobs
}

fn access(name: &str, at_ms: i64) -> Access {
    Access {
        name: name.to_owned(),
        blake2b: key(name),
        client: "10.13.18.101".to_owned(),
        at_ms,
        bytes_served: 1000,
        outcome: AccessOutcome::Hit.into(),
    }
}

async fn report(rig: &Rig, report_id: &str, accesses: Vec<Access>) {
    let request = ReportAccessesRequest {
        replica_id: "r1".to_owned(),
        report_id: report_id.to_owned(),
        accesses,
        sources: Vec::new(),
    };
    rig.client().report_accesses(request).await.unwrap();
}

#[tokio::test]
async fn unreferenced_blob_goes_after_its_grace_with_a_reason() {
    let rig = farm().await;
    assert!(planned(&rig).await.is_empty());
    rig.clock.advance_ms(7 * DAY_MS - 1);
    assert!(planned(&rig).await.is_empty(), "the grace is for commands too");
    rig.clock.advance_ms(1);
    let plan = plan(&rig).await.unwrap();
    assert_eq!((plan.blobs_kept, plan.bytes_kept), (2, 2000));
    let [one] = plan.evictions.as_slice() else { panic!("{:?}", plan.evictions) };
    assert_eq!((one.replica_id.as_str(), one.names.as_slice()), ("r1", ["old".to_owned()].as_slice()));
    assert_eq!(one.blake2b, key("old"));
    assert_eq!(
        one.reason,
        "unreferenced: no module has referred to it since 2023-11-14T22:13:20Z (grace 7d)"
    );
    assert_eq!(rig.status().await.decisions_pending, 0, "a plan changes nothing");
}

#[tokio::test]
async fn grace_begins_when_the_last_reference_goes() {
    let rig = farm().await;
    rig.clock.advance_ms(7 * DAY_MS);
    rig.publish("gentoo", 2, &[distfile("a")]).await;
    assert_eq!(planned(&rig).await, ["old"]);
    rig.clock.advance_ms(7 * DAY_MS);
    assert_eq!(planned(&rig).await, ["old", "b"], "longest unreferenced first");
    rig.publish("gentoo", 3, &[distfile("a"), distfile("b")]).await;
    assert_eq!(planned(&rig).await, ["old"]);
}

#[tokio::test]
async fn a_name_does_not_protect_other_contents() {
    let rig = farm().await;
    let rerolled = Blob { blake2b: key("a before"), ..blob("a") };
    rig.inventory("r1", vec![blob("a"), rerolled]).await;
    rig.clock.advance_ms(7 * DAY_MS);
    let evictions = plan(&rig).await.unwrap().evictions;
    assert_eq!(evictions.iter().map(|one| one.blake2b.clone()).collect::<Vec<_>>(), [key("a before")]);
}

#[tokio::test]
async fn sha512_only_distfile_protects_blobs_of_its_name_and_size() {
    let rig = farm().await;
    let mut old = distfile("old");
    old.digests[0].algorithm = "SHA512".to_owned();
    rig.publish("gentoo", 2, &[distfile("a"), distfile("b"), old]).await;
    rig.clock.advance_ms(7 * DAY_MS);
    assert!(planned(&rig).await.is_empty());
}

#[tokio::test]
async fn accesses_and_fetch_restriction_protect() {
    let rig = farm().await;
    rig.clock.advance_ms(7 * DAY_MS);
    report(&rig, "1", vec![access("old", START_MS + 6 * DAY_MS)]).await;
    assert!(planned(&rig).await.is_empty());
    rig.clock.advance_ms(6 * DAY_MS);
    assert_eq!(planned(&rig).await, ["old"]);
    // A replica whose clock is a year ahead protects for one grace, not for a year.
    report(&rig, "2", vec![access("old", START_MS + 365 * DAY_MS)]).await;
    assert!(planned(&rig).await.is_empty());
    rig.clock.advance_ms(7 * DAY_MS);
    assert_eq!(planned(&rig).await, ["old"]);

    let mut by_hand = distfile("b");
    by_hand.restriction = Restriction::Fetch.into();
    rig.publish("gentoo", 2, &[distfile("a"), by_hand]).await;
    rig.publish("gentoo", 3, &[distfile("a")]).await;
    rig.clock.advance_ms(30 * DAY_MS);
    assert_eq!(planned(&rig).await, ["old"], "nobody could fetch b again");
}

#[tokio::test]
async fn reports_count_once() {
    let rig = farm().await;
    for report_id in ["1", "1", "2"] {
        let odd = access("../../etc/passwd", START_MS);
        report(&rig, report_id, vec![access("a", START_MS), odd, access("b", START_MS)]).await;
    }
    let savings = rig.status().await.savings.unwrap();
    assert_eq!((savings.requests, savings.hits, savings.bytes_served), (4, 4, 4000));
}

#[tokio::test]
async fn module_without_catalogue_blocks_eviction_and_says_so() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.inventory("r1", vec![blob("old")]).await;
    let refused = plan(&rig).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("no module is known yet"), "{}", refused.message());
    rig.tree.add_module("guru");
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.clock.advance_ms(30 * DAY_MS);
    let refused = rig.admin().evict(EvictRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("guru"), "{}", refused.message());
    let status = rig.status().await;
    assert!(status.problems.iter().any(|one| one.subject == "eviction" && one.what.contains("guru")));
    assert_eq!((status.decisions_pending, status.last_eviction_ms), (0, 0));
    // The time without a complete catalogue is no part of anybody's grace.
    rig.publish("guru", 1, &[distfile("g")]).await;
    assert!(planned(&rig).await.is_empty());
    rig.clock.advance_ms(7 * DAY_MS);
    // The look at all blobs that a first import ends with goes on behind it.
    eventually(async || planned(&rig).await == ["old"]).await;
}

#[tokio::test]
async fn decision_comes_until_it_is_acknowledged() {
    let mut rig = farm().await;
    rig.clock.advance_ms(8 * DAY_MS);
    let mut stream = decisions(&rig, "r1").await;
    assert_eq!(evict(&rig).await, 1);
    let decision = next(&mut stream).await;
    let Some(Action::Evict(order)) = decision.action.clone() else { panic!("{decision:?}") };
    assert_eq!(order.blake2b, key("old"));
    assert_eq!(order.unless_accessed_after_ms, START_MS + DAY_MS, "what the plan rests on");
    assert!(decision.reason.starts_with("unreferenced"));
    assert_eq!(evict(&rig).await, 1, "planned still");
    assert_eq!(rig.status().await.decisions_pending, 1, "but decided once");

    drop(stream);
    assert_eq!(next(&mut decisions(&rig, "r1").await).await, decision, "again after reconnecting");
    rig.restart().await;
    let mut stream = decisions(&rig, "r1").await;
    assert_eq!(next(&mut stream).await, decision, "and after a restart");

    let stranger = acknowledge(&rig, "r2", &decision.id, DecisionOutcome::Done).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
    rig.register("r2").await;
    let other = acknowledge(&rig, "r2", &decision.id, DecisionOutcome::Done).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    for _ in 0..2 {
        acknowledge(&rig, "r1", &decision.id, DecisionOutcome::Done).await.unwrap();
        assert_eq!((blobs(&rig).await, rig.status().await.decisions_pending), (2, 0));
    }
    assert_eq!(evict(&rig).await, 0);
    acknowledge(&rig, "r1", "decision-of-another-index", DecisionOutcome::Done).await.unwrap();
}

#[tokio::test]
async fn busy_blob_may_be_decided_again() {
    let rig = farm().await;
    rig.clock.advance_ms(8 * DAY_MS);
    let mut stream = decisions(&rig, "r1").await;
    evict(&rig).await;
    let first = next(&mut stream).await;
    acknowledge(&rig, "r1", &first.id, DecisionOutcome::Busy).await.unwrap();
    assert_eq!(blobs(&rig).await, 3);
    assert_eq!(evict(&rig).await, 0, "not at once: somebody reads it");
    rig.clock.advance_ms(10 * 60 * 1000);
    evict(&rig).await;
    let second = next(&mut stream).await;
    assert_ne!(second.id, first.id);
    acknowledge(&rig, "r1", &second.id, DecisionOutcome::Gone).await.unwrap();
    assert_eq!(blobs(&rig).await, 2);
}

#[tokio::test]
async fn decision_is_withdrawn_when_its_blob_is_referenced_again() {
    let rig = farm().await;
    rig.clock.advance_ms(8 * DAY_MS);
    evict(&rig).await;
    assert_eq!(rig.status().await.decisions_pending, 1);
    rig.publish("gentoo", 2, &[distfile("old")]).await;
    eventually(async || rig.status().await.decisions_pending == 0).await;
}

#[tokio::test]
async fn inventory_replaces_what_was_known() {
    let rig = farm().await;
    rig.inventory("r1", vec![blob("a"), blob("c"), blob("a")]).await;
    let status = rig.status().await;
    assert_eq!((status.replicas[0].blobs, status.replicas[0].used_bytes), (2, 2000));
    // A stream that breaks off, or that mixes replicas, replaces nothing.
    rig.register("r2").await;
    let batch = |who: &str, name: &str| InventoryBatch {
        replica_id: who.to_owned(),
        blobs: vec![blob(name)],
        ..InventoryBatch::default()
    };
    let mixed = tokio_stream::iter([batch("r1", "x"), batch("r2", "x")]);
    let refused = rig.client().report_inventory(mixed).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut wrong = batch("r1", "x");
    wrong.blobs[0].blake2b.push(0);
    let refused = rig.client().report_inventory(tokio_stream::iter([wrong])).await.unwrap_err();
    assert!(refused.message().contains("64 octets"), "{}", refused.message());
    let part = |name: &str, part: InventoryPart| InventoryBatch { part: part.into(), ..batch("r1", name) };
    let half = tokio_stream::iter([part("x", InventoryPart::More)]);
    assert_eq!(rig.client().report_inventory(half).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(blobs(&rig).await, 2);
    let whole = tokio_stream::iter([part("x", InventoryPart::More), part("y", InventoryPart::Last)]);
    assert_eq!(rig.client().report_inventory(whole).await.unwrap().into_inner().blobs, 2);
    rig.inventory("r1", Vec::new()).await;
    assert_eq!(blobs(&rig).await, 0);
}

#[tokio::test]
async fn publish_asks_for_every_module_and_names_what_failed() {
    let rig = farm().await;
    rig.publish("guru", 1, &[distfile("g")]).await;
    rig.tree.refuse("gentoo", "Manifest line 3 is broken");
    let request = PublishModuleRequest { module: "guru".to_owned(), allow_older: false };
    let answer = rig.admin().publish_module(request).await.unwrap().into_inner();
    assert_eq!(answer.published[0].generation.as_ref().unwrap().number, 1);
    let failed = rig.admin().publish_module(PublishModuleRequest::default()).await.unwrap_err();
    assert_eq!(failed.code(), Code::FailedPrecondition);
    assert_eq!(failed.message(), "module gentoo: Manifest line 3 is broken");
    assert_eq!(rig.tree.publish_calls(), ["guru", "gentoo", "guru"]);
}
