//! Pins, water, brakes, catalogues that are not believed, and what the operator may ask.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use maintenance::Brakes;
use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    AcknowledgeDecisionRequest, Blob, CommitFetchRequest, Decision, DecisionOutcome, Distfile, EvictRequest,
    EvictResponse, ImportCounts, ListDecisionsRequest, ListObjectsRequest, ListPinsRequest, ObjectOrder,
    PinRequest, PlanEvictionRequest, PlanEvictionResponse, RunNightlyRequest, UnpinRequest, VerifyRequest,
    WatchDecisionsRequest,
};
use support::{DAY_MS, Rig, blob, distfile, eventually, key, within};
use tonic::{Code, Streaming};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f{number:03}")).collect()
}

fn distfiles(names: &[String]) -> Vec<Distfile> {
    names
        .iter()
        .map(|name| Distfile { packages: vec![format!("app-misc/{name}")], ..distfile(name) })
        .collect()
}

fn blobs(names: &[String]) -> Vec<Blob> {
    names.iter().map(|name| blob(name)).collect()
}

async fn plan(rig: &Rig) -> PlanEvictionResponse {
    rig.admin().plan_eviction(PlanEvictionRequest {}).await.unwrap().into_inner()
}

async fn evict(rig: &Rig, request: EvictRequest) -> EvictResponse {
    rig.admin().evict(request).await.unwrap().into_inner()
}

async fn decisions(rig: &Rig, who: &str) -> Streaming<Decision> {
    let request = WatchDecisionsRequest { replica_id: who.to_owned() };
    within(rig.client().watch_decisions(request)).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<Decision>) -> Decision {
    within(stream.message()).await.unwrap().unwrap()
}

async fn acknowledge(rig: &Rig, id: &str, outcome: DecisionOutcome, imported: Option<ImportCounts>) {
    let request = AcknowledgeDecisionRequest {
        replica_id: "r1".to_owned(),
        decision_id: id.to_owned(),
        outcome: outcome.into(),
        detail: String::new(),
        imported,
    };
    rig.client().acknowledge_decision(request).await.unwrap();
}

#[tokio::test]
async fn above_the_high_water_the_superseded_go_before_the_referenced() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let of = |name: &str, package: &str| Distfile { packages: vec![package.to_owned()], ..distfile(name) };
    rig.publish("gentoo", 1, &[of("a-1", "x/a"), of("a-2", "x/a"), of("b-1", "x/b"), of("c-1", "x/c")]).await;
    rig.inventory_of("r1", vec![blob("a-1"), blob("b-1")], 4000).await;
    rig.clock.advance_ms(20 * DAY_MS);
    // 3000 of 4000 is below 90 %, 4000 is above.
    rig.inventory_of("r1", vec![blob("a-1"), blob("b-1"), blob("a-2")], 4000).await;
    assert!(plan(&rig).await.evictions.is_empty());
    rig.inventory_of("r1", ["a-1", "b-1", "a-2", "c-1"].map(blob).to_vec(), 4000).await;
    let plan = plan(&rig).await;
    let [one] = plan.evictions.as_slice() else { panic!("{:?}", plan.evictions) };
    assert_eq!((one.names[0].as_str(), one.class.as_str()), ("a-1", "superseded"));
    assert!(one.reason.contains("a newer file of its package came"), "{}", one.reason);
    assert!(one.reason.contains("over 90 % of the capacity is used"), "{}", one.reason);
    let replica = &plan.replicas[0];
    assert_eq!((replica.used_bytes, replica.used_after_bytes, replica.short_bytes), (4000, 3000, 0));
    let kept: Vec<_> = replica.kept.iter().map(|kept| (kept.protection.as_str(), kept.blobs)).collect();
    assert_eq!(kept, [("recently_accessed", 2), ("referenced", 1)]);
}

#[tokio::test]
async fn a_pin_keeps_and_calls_back_and_may_be_for_a_name_that_nobody_knows() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a"), blob("old")]).await;
    rig.clock.advance_ms(8 * DAY_MS);
    assert_eq!(evict(&rig, EvictRequest::default()).await.evictions.len(), 1);
    assert_eq!(rig.status().await.decisions_pending, 1);
    let pin = |name: &str| PinRequest { name: name.to_owned(), note: "for db1".to_owned() };
    let pinned = rig.admin().pin(pin("old")).await.unwrap().into_inner();
    assert_eq!((pinned.blobs, pinned.in_catalogue), (1, false));
    assert_eq!(rig.status().await.decisions_pending, 0, "the eviction is called back");
    assert!(plan(&rig).await.evictions.is_empty());
    let nobody = rig.admin().pin(pin("unheard-of-9.tar")).await.unwrap().into_inner();
    assert_eq!((nobody.blobs, nobody.in_catalogue), (0, false));
    let known = rig.admin().pin(pin("a")).await.unwrap().into_inner();
    assert_eq!((known.blobs, known.in_catalogue), (1, true));
    let pins = rig.admin().list_pins(ListPinsRequest {}).await.unwrap().into_inner().pins;
    let listed: Vec<_> = pins.iter().map(|pin| (pin.name.as_str(), pin.blobs, pin.note.as_str())).collect();
    assert_eq!(listed, [("a", 1, "for db1"), ("old", 1, "for db1"), ("unheard-of-9.tar", 0, "for db1")]);

    let unpin = || UnpinRequest { name: "old".to_owned() };
    rig.admin().unpin(unpin()).await.unwrap();
    assert_eq!(rig.admin().unpin(unpin()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(plan(&rig).await.evictions.len(), 1);
    let wrong = rig.admin().pin(pin("../passwd")).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_plan_that_deletes_too_much_is_told_and_not_carried_out_before_somebody_agrees() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let all = names(60);
    rig.publish("gentoo", 1, &distfiles(&all[..40])).await;
    rig.inventory("r1", blobs(&all)).await;
    rig.clock.advance_ms(8 * DAY_MS);
    let planned = plan(&rig).await;
    let [brake] = planned.brakes.as_slice() else { panic!("{:?}", planned.brakes) };
    assert_eq!((brake.kind.as_str(), brake.percent, brake.percent_max), ("share", 34, 25));
    let refused = evict(&rig, EvictRequest::default()).await;
    assert_eq!((refused.evictions.len(), refused.brakes.len()), (20, 1));
    assert_eq!(rig.status().await.decisions_pending, 0);
    let less = evict(&rig, EvictRequest { agreed_percent: 33, ..EvictRequest::default() }).await;
    assert_eq!(less.brakes[0].percent_max, 33);
    // The night stops in the same way, and says what it waits for.
    let request = RunNightlyRequest { dry_run: false, steps: Vec::new() };
    let run = rig.admin().run_nightly(request).await.unwrap().into_inner().run.unwrap();
    assert_eq!((run.outcome.as_str(), run.steps[5].outcome.as_str()), ("stopped", "stopped"));
    let status = rig.status().await;
    assert!(status.problems.iter().any(|one| one.code == "eviction_stopped" && one.what.contains("34 %")));
    assert_eq!(status.last_run.unwrap().outcome, "stopped");
    let dry = EvictRequest { agreed_percent: 34, dry_run: true, ..EvictRequest::default() };
    assert_eq!(evict(&rig, dry).await.evictions.len(), 20);
    let pending = async || {
        let rows = rig.admin().list_decisions(ListDecisionsRequest::default()).await.unwrap().into_inner();
        rows.decisions.iter().filter(|one| one.action == "evict" && one.outcome.is_empty()).count()
    };
    assert_eq!(pending().await, 0, "a dry run decides nothing");
    let agreed = evict(&rig, EvictRequest { agreed_percent: 34, ..EvictRequest::default() }).await;
    assert!(agreed.brakes.is_empty());
    assert_eq!(pending().await, 20);
    let problems = rig.status().await.problems;
    assert!(problems.iter().all(|one| one.code != "eviction_stopped"), "it asks no more: {problems:?}");
}

#[tokio::test]
async fn a_step_that_failed_at_night_is_no_problem_once_it_is_done_by_command() {
    let rig = Rig::start().await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.tree.refuse("gentoo", "its signature is not good");
    let run = async |steps: &[&str]| {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        rig.admin().run_nightly(RunNightlyRequest { dry_run: false, steps }).await.unwrap();
    };
    let failed = async || rig.status().await.problems.iter().any(|one| one.code == "run_failed");
    run(&[]).await;
    assert!(failed().await);
    run(&["publish"]).await;
    assert!(failed().await, "it failed again");
    rig.tree.refuse_no_more("gentoo");
    run(&["plan"]).await;
    assert!(failed().await, "that is another step");
    run(&["publish"]).await;
    assert!(!failed().await);
    rig.tree.refuse("gentoo", "its signature is not good");
    run(&[]).await;
    assert!(failed().await, "another night, another failure");
}

#[tokio::test]
async fn nothing_is_evicted_for_a_catalogue_that_dropped_nine_tenths() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let all = names(100);
    rig.publish("gentoo", 1, &distfiles(&all)).await;
    let mut here = blobs(&all[..30]);
    here.push(blob("old"));
    rig.inventory("r1", here).await;
    rig.publish("gentoo", 2, &distfiles(&all[..10])).await;
    rig.clock.advance_ms(30 * DAY_MS);
    let planned = plan(&rig).await;
    let [brake] = planned.brakes.as_slice() else { panic!("{:?}", planned.brakes) };
    assert_eq!((brake.kind.as_str(), brake.subject.as_str(), brake.percent), ("catalogue", "gentoo", 90));
    assert_eq!(planned.evictions.len(), 1, "only what was unreferenced before is even planned");
    assert_eq!(evict(&rig, EvictRequest::default()).await.brakes.len(), 1);
    let status = rig.status().await;
    let suspect = status.problems.iter().find(|one| one.code == "catalogue_suspect").unwrap();
    assert!(suspect.what.contains("lost 90 of 100") && suspect.what_to_do.contains("--yes-catalogue gentoo"));
    // Another look at the same tree, and a restart, are no proof.
    rig.publish("gentoo", 3, &distfiles(&all[..11])).await;
    assert_eq!(plan(&rig).await.brakes[0].percent, 89);

    // Coming back is.
    rig.publish("gentoo", 4, &distfiles(&all[..95])).await;
    assert!(plan(&rig).await.brakes.is_empty());
    rig.publish("gentoo", 5, &distfiles(&all[..10])).await;
    // So is the operator's word, and only from then on the graces run.
    let unknown = EvictRequest { agreed_modules: vec!["guru".to_owned()], ..EvictRequest::default() };
    assert_eq!(rig.admin().evict(unknown).await.unwrap_err().code(), Code::NotFound);
    let agreed = EvictRequest { agreed_modules: vec!["gentoo".to_owned()], ..EvictRequest::default() };
    let answer = evict(&rig, agreed).await;
    assert!(answer.brakes.is_empty() && answer.evictions.len() == 1, "{answer:?}");
    rig.clock.advance_ms(8 * DAY_MS);
    assert_eq!(plan(&rig).await.evictions.len(), 21);
}

#[tokio::test]
async fn a_catalogue_that_loses_less_than_too_much_again_and_again_is_asked_about_too() {
    let mut rig = Rig::start().await;
    rig.register("r1").await;
    let all = names(100);
    rig.publish("gentoo", 1, &distfiles(&all)).await;
    rig.inventory("r1", blobs(&all)).await;
    for (number, left) in [(2, 75), (3, 70)] {
        rig.clock.advance_ms(3 * DAY_MS);
        rig.publish("gentoo", number, &distfiles(&all[..left])).await;
        assert!(plan(&rig).await.brakes.is_empty(), "{left} of 100");
    }
    // What it had is not forgotten by a restart.
    rig.restart().await;
    rig.clock.advance_ms(3 * DAY_MS);
    rig.publish("gentoo", 4, &distfiles(&all[..60])).await;
    let planned = plan(&rig).await;
    let [brake] = planned.brakes.as_slice() else { panic!("{:?}", planned.brakes) };
    assert_eq!((brake.kind.as_str(), brake.subject.as_str(), brake.percent), ("catalogue", "gentoo", 40));
    let text = "the catalogue of gentoo lost 40 of 100 distfiles little by little since 2023-11-17 (40 %, 30 % are allowed)";
    assert_eq!(brake.text, text);
    rig.clock.advance_ms(60 * DAY_MS);
    let asks =
        async |request| evict(&rig, request).await.brakes.iter().any(|brake| brake.kind == "catalogue");
    assert!(asks(EvictRequest::default()).await, "time is no proof");
    // The operator's word is, and makes it the new measure.
    assert!(
        !asks(EvictRequest { agreed_modules: vec!["gentoo".to_owned()], ..EvictRequest::default() }).await
    );
    rig.publish("gentoo", 5, &distfiles(&all[..50])).await;
    assert!(!asks(EvictRequest::default()).await);
}

#[tokio::test]
async fn nothing_is_evicted_for_a_module_that_is_gone_before_somebody_agrees() {
    let mut rig = Rig::start().await;
    rig.register("r1").await;
    let (gentoo, guru) = (names(200), (0..20).map(|number| format!("g{number}")).collect::<Vec<_>>());
    rig.publish("gentoo", 1, &distfiles(&gentoo)).await;
    rig.publish("guru", 1, &distfiles(&guru)).await;
    rig.publish("tiny", 1, &distfiles(&["tiny".to_owned()])).await;
    let here: Vec<_> = [&gentoo[..], &guru, &["tiny".to_owned()]].concat();
    rig.inventory("r1", blobs(&here)).await;
    rig.tree.drop_module("guru");
    rig.tree.drop_module("tiny");
    // A new generation of another module makes maintenance look at the list.
    rig.publish("gentoo", 2, &distfiles(&gentoo)).await;
    eventually(async || !plan(&rig).await.brakes.is_empty()).await;
    rig.restart().await;
    rig.clock.advance_ms(30 * DAY_MS);
    assert_eq!(evict(&rig, EvictRequest::default()).await.evictions.len(), 0);
    rig.clock.advance_ms(30 * DAY_MS);
    let planned = evict(&rig, EvictRequest::default()).await;
    let [brake] = planned.brakes.as_slice() else { panic!("{:?}", planned.brakes) };
    assert_eq!((brake.kind.as_str(), brake.subject.as_str(), brake.percent), ("catalogue", "guru", 100));
    assert_eq!(brake.text, "sync-server no longer has module guru, which had 20 distfiles");
    assert_eq!(planned.evictions.len(), 0, "nobody's grace has begun");
    let problem =
        rig.status().await.problems.into_iter().find(|one| one.code == "catalogue_suspect").unwrap();
    assert!(
        problem.what_to_do.contains("sync.modules") && problem.what_to_do.contains("--yes-catalogue guru")
    );

    // It comes back.
    rig.publish("guru", 1, &distfiles(&guru)).await;
    assert!(plan(&rig).await.brakes.is_empty());
    // It goes again, and is meant to.
    rig.tree.drop_module("guru");
    rig.publish("gentoo", 3, &distfiles(&gentoo)).await;
    eventually(async || !plan(&rig).await.brakes.is_empty()).await;
    let agreed = EvictRequest { agreed_modules: vec!["guru".to_owned()], ..EvictRequest::default() };
    let dry = EvictRequest { dry_run: true, ..agreed.clone() };
    assert!(evict(&rig, dry).await.brakes.is_empty());
    assert_eq!(plan(&rig).await.brakes.len(), 1, "a dry run agrees to nothing");
    assert!(evict(&rig, agreed).await.brakes.is_empty());
    rig.clock.advance_ms(8 * DAY_MS);
    let gone = evict(&rig, EvictRequest::default()).await.evictions;
    assert_eq!(gone.len(), 21, "and of the one that was too small to ask about");
}

#[tokio::test]
async fn a_verified_blob_is_noted_and_a_damaged_one_is_fetched_again() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("b")]).await;
    rig.inventory("r1", vec![blob("a"), blob("b"), blob("old")]).await;
    let verify = |names: &[&str], dry_run| VerifyRequest {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        dry_run,
    };
    let missing = rig.admin().verify(verify(&["nowhere"], false)).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "no replica has nowhere"));
    let dry = rig.admin().verify(verify(&[], true)).await.unwrap().into_inner();
    assert_eq!((dry.blobs, dry.bytes, dry.decision_ids.len()), (3, 3000, 0));
    let mut stream = decisions(&rig, "r1").await;
    let all = rig.admin().verify(verify(&[], false)).await.unwrap().into_inner();
    assert_eq!(all.decision_ids.len(), 3);
    rig.clock.advance_ms(5000);
    for _ in 0..3 {
        let decision = next(&mut stream).await;
        let Some(Action::Verify(order)) = &decision.action else { panic!("{decision:?}") };
        let sound = order.blake2b == key("a");
        let outcome = if sound { DecisionOutcome::Done } else { DecisionOutcome::Damaged };
        acknowledge(&rig, &decision.id, outcome, None).await;
    }
    // What a tree refers to comes again, what none does need not.
    let again = next(&mut stream).await;
    let Some(Action::Fetch(fetch)) = &again.action else { panic!("{again:?}") };
    assert_eq!(fetch.name, "b");
    let objects = rig.admin().list_objects(ListObjectsRequest::default()).await.unwrap().into_inner().objects;
    let verified: Vec<_> = objects.iter().map(|one| (one.names.join(" "), one.verified_ms)).collect();
    assert_eq!(verified, [("a".to_owned(), support::START_MS + 5000)]);
    let request = ListDecisionsRequest { ids: all.decision_ids, limit: 0 };
    let told = rig.admin().list_decisions(request).await.unwrap().into_inner().decisions;
    let outcomes: Vec<_> = told.iter().map(|one| one.outcome.as_str()).collect();
    assert_eq!(outcomes.iter().filter(|one| **one == "damaged").count(), 2, "{outcomes:?}");
}

#[tokio::test]
async fn objects_are_filtered_sorted_and_limited() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.register("r2").await;
    let listed = |name: &str, size_bytes| Distfile { size_bytes, ..distfile(name) };
    rig.publish("gentoo", 1, &[listed("a-1.tar", 3), listed("b_1.tar", 1)]).await;
    let sized = |name: &str, size_bytes| Blob { size_bytes, ..blob(name) };
    let bad = Blob { quarantined: true, ..blob("bad-1.tar") };
    rig.inventory("r1", vec![sized("a-1.tar", 3), sized("b_1.tar", 1), sized("c-1.zip", 2), bad]).await;
    rig.inventory("r2", vec![sized("a-1.tar", 3)]).await;
    let list = async |request: ListObjectsRequest| {
        let answer = rig.admin().list_objects(request).await.unwrap().into_inner();
        let names: Vec<_> = answer.objects.iter().map(|one| one.names.join(" ")).collect();
        (names.join(","), answer.matching)
    };
    let all = ListObjectsRequest::default;
    assert_eq!(list(all()).await, ("a-1.tar,b_1.tar,bad-1.tar,c-1.zip".to_owned(), 4));
    let name = |name: &str| ListObjectsRequest { name: name.to_owned(), ..all() };
    assert_eq!(list(name("_1.t")).await, ("b_1.tar".to_owned(), 1), "an underscore is no wildcard");
    assert_eq!(list(name("%")).await, (String::new(), 0));
    let size = ListObjectsRequest { order: ObjectOrder::Size.into(), descending: true, limit: 2, ..all() };
    assert_eq!(list(size).await, ("bad-1.tar,a-1.tar".to_owned(), 4));
    let of = |replica_id: &str, state: &str| ListObjectsRequest {
        replica_id: replica_id.to_owned(),
        state: state.to_owned(),
        ..all()
    };
    assert_eq!(list(of("r2", "")).await, ("a-1.tar".to_owned(), 1));
    assert_eq!(list(of("", "unreferenced")).await, ("c-1.zip".to_owned(), 1));
    assert_eq!(list(of("", "quarantined")).await, ("bad-1.tar".to_owned(), 1));
    rig.admin().pin(PinRequest { name: "c-1.zip".to_owned(), note: String::new() }).await.unwrap();
    assert_eq!(list(of("r1", "pinned")).await, ("c-1.zip".to_owned(), 1));
    for wrong in [of("", "odd"), ListObjectsRequest { limit: 10_001, ..all() }] {
        assert_eq!(rig.admin().list_objects(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn the_grace_of_a_damaged_blob_begins_when_it_is_told_of() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a")]).await;
    let damaged = Blob { quarantined: true, names: Vec::new(), ..blob("a") };
    let planned = async || {
        let plan = rig.admin().plan_eviction(PlanEvictionRequest {}).await.unwrap().into_inner();
        plan.evictions.iter().map(|one| one.class.clone()).collect::<Vec<_>>()
    };
    rig.clock.advance_ms(60 * DAY_MS);
    for _ in 0..2 {
        rig.inventory("r1", vec![damaged.clone()]).await;
        assert_eq!(planned().await, [""; 0], "however long it was sound");
        rig.clock.advance_ms(1);
    }
    rig.clock.advance_ms(60 * DAY_MS);
    rig.inventory("r1", vec![damaged.clone()]).await;
    assert_eq!(planned().await, ["quarantined"]);
}

#[tokio::test]
async fn a_damaged_blob_is_evicted_by_decision_and_a_sound_one_that_came_since_stays() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a"), distfile("b")]).await;
    let damaged = |name| Blob { quarantined: true, names: Vec::new(), ..blob(name) };
    rig.inventory("r1", vec![damaged("a"), damaged("b")]).await;
    let state = async |state: &str| {
        let request = ListObjectsRequest { state: state.to_owned(), ..Default::default() };
        rig.admin().list_objects(request).await.unwrap().into_inner().matching
    };
    assert_eq!((state("quarantined").await, state("referenced").await), (2, 0));
    rig.clock.advance_ms(60 * DAY_MS);
    let planned = evict(&rig, EvictRequest::default()).await.evictions;
    assert!(planned.iter().all(|one| one.reason.starts_with("quarantined: its contents are wrong")));
    let mut stream = decisions(&rig, "r1").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let decision = next(&mut stream).await;
        let Some(Action::Evict(order)) = decision.action else { panic!("{decision:?}") };
        assert!(order.quarantined, "a sound copy may have come since");
        told.push((order.blake2b, decision.id));
    }
    told.sort();
    assert_eq!([&told[0].0, &told[1].0], [&key("a"), &key("b")]);
    // The replica has got a sound one meanwhile.
    rig.clock.advance_ms(1);
    let commit = CommitFetchRequest {
        replica_id: "r1".to_owned(),
        object: Some(support::object("a")),
        blob: Some(blob("a")),
        ..CommitFetchRequest::default()
    };
    rig.client().commit_fetch(commit).await.unwrap();
    for (_, id) in &told {
        acknowledge(&rig, id, DecisionOutcome::Done, None).await;
    }
    assert_eq!((state("quarantined").await, state("referenced").await), (0, 1));
    assert!(plan(&rig).await.evictions.is_empty());
}

#[tokio::test]
async fn a_night_has_the_replicas_adopt_what_lies_there_and_reports_it() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a")]).await;
    let mut stream = decisions(&rig, "r1").await;
    let mut admin = rig.admin();
    let steps = vec!["evict".to_owned(), "import".to_owned()];
    let run =
        tokio::spawn(async move { admin.run_nightly(RunNightlyRequest { dry_run: false, steps }).await });
    let decision = next(&mut stream).await;
    let Some(Action::Import(order)) = &decision.action else { panic!("{decision:?}") };
    assert!(!order.dry_run);
    let busy = rig.admin().run_nightly(RunNightlyRequest::default()).await.unwrap_err();
    assert_eq!(busy.code(), Code::Aborted, "never two at once");
    let counts =
        ImportCounts { adopted: 3, adopted_bytes: 2048, removed: 3, unknown: 1, ..ImportCounts::default() };
    acknowledge(&rig, &decision.id, DecisionOutcome::Done, Some(counts)).await;
    let run = within(run).await.unwrap().unwrap().into_inner().run.unwrap();
    let steps: Vec<_> = run.steps.iter().map(|step| (step.name.as_str(), step.outcome.as_str())).collect();
    assert_eq!(steps, [("import", "done"), ("evict", "done")]);
    let report = &run.steps[0].report;
    assert!(report.contains("r1: 3 adopted (2.0 KiB), 0 known, 3 removed; left: 1 unknown"), "{report}");
    assert_eq!(rig.status().await.last_run, None, "some steps are not the night");
    let wrong = RunNightlyRequest { dry_run: true, steps: vec!["sweep".to_owned()] };
    let error = rig.admin().run_nightly(wrong).await.unwrap_err();
    assert!(
        error.message().contains("publish, catalogue, import, scrub, plan, evict"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn brakes_are_as_configured() {
    let brakes = Brakes { files_min: 1, ..Brakes::default() };
    let rig = Rig::start_with(|config| config.brakes = brakes).await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a"), blob("old")]).await;
    rig.clock.advance_ms(8 * DAY_MS);
    assert_eq!(evict(&rig, EvictRequest::default()).await.brakes.len(), 1);
}
