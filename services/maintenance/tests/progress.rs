//! How far runs and imports are, for whoever waits.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    AcknowledgeDecisionRequest, Decision, DecisionOutcome, GetProgressRequest, ImportDirectory,
    ImportDirectoryRequest, ImportProgress, ImportReport, Progress, PublishModuleRequest,
    ReportImportProgressRequest, ReportImportRequest, RunNightlyRequest, WatchDecisionsRequest,
};
use support::{DAY_MS, Rig, blob, distfile, eventually, within};
use tonic::Streaming;

async fn decisions(rig: &Rig, who: &str) -> Streaming<Decision> {
    let request = WatchDecisionsRequest { replica_id: who.to_owned() };
    within(rig.client().watch_decisions(request)).await.unwrap().into_inner()
}

async fn progress(rig: &Rig) -> Vec<Progress> {
    rig.admin().get_progress(GetProgressRequest {}).await.unwrap().into_inner().under_way
}

async fn tell(rig: &Rig, who: &str, decision_id: &str, files_done: u64) {
    let told = ImportProgress {
        dir: "/var/cache/distfiles".to_owned(),
        files_done,
        files: 10,
        bytes_done: files_done * 1000,
        bytes: 10_000,
    };
    let request = ReportImportProgressRequest {
        replica_id: who.to_owned(),
        decision_id: decision_id.to_owned(),
        progress: Some(told),
    };
    rig.client().report_import_progress(request).await.unwrap();
}

#[tokio::test]
async fn how_far_an_import_by_command_is_can_be_asked_for_until_it_ends_or_nobody_waits() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let mut stream = decisions(&rig, "r1").await;
    let begin = || {
        let mut admin = rig.admin();
        let directory = ImportDirectory { dir: "/d".to_owned(), ..ImportDirectory::default() };
        let request = ImportDirectoryRequest { replica_id: String::new(), directory: Some(directory) };
        tokio::spawn(async move { admin.import_directory(request).await })
    };
    let import = begin();
    let decision = within(stream.message()).await.unwrap().unwrap();
    assert!(matches!(decision.action, Some(Action::ImportDirectory(_))));
    let [first] = &progress(&rig).await[..] else { panic!("one is expected") };
    assert_eq!((first.kind.as_str(), first.what.as_str(), first.total), ("import", "/d", 0));
    tell(&rig, "r1", "another", 9).await;
    tell(&rig, "r1", &decision.id, 4).await;
    let now = progress(&rig).await.remove(0);
    assert_eq!((now.done, now.total, now.bytes_done, now.bytes), (4, 10, 4000, 10_000));
    let report = ImportReport { dir: "/d".to_owned(), ..ImportReport::default() };
    let report =
        ReportImportRequest { replica_id: "r1".to_owned(), decision_id: decision.id, reports: vec![report] };
    rig.client().report_import(report).await.unwrap();
    assert_eq!(within(import).await.unwrap().unwrap().into_inner().reports.len(), 1);
    assert_eq!(progress(&rig).await, []);

    let gone = begin();
    within(stream.message()).await.unwrap().unwrap();
    gone.abort();
    eventually(async || progress(&rig).await.is_empty()).await;
}

#[tokio::test]
async fn a_run_says_which_step_it_is_at_and_goes_on_without_who_asked_for_it() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.inventory("r1", vec![blob("a"), blob("old")]).await;
    rig.clock.advance_ms(30 * DAY_MS);
    let mut stream = decisions(&rig, "r1").await;
    let mut admin = rig.admin();
    let steps = ["catalogue", "import", "plan", "evict"].map(str::to_owned).to_vec();
    let run =
        tokio::spawn(async move { admin.run_nightly(RunNightlyRequest { dry_run: false, steps }).await });
    let import = within(stream.message()).await.unwrap().unwrap();
    eventually(async || {
        tell(&rig, "r1", &import.id, 3).await;
        let now = progress(&rig).await.remove(0);
        let at = (now.kind.as_str(), now.what.as_str(), now.steps_done, now.steps);
        at == ("run", "import", 1, 4) && (now.done, now.total) == (3, 10)
    })
    .await;
    run.abort();
    let done = |id: &str| AcknowledgeDecisionRequest {
        replica_id: "r1".to_owned(),
        decision_id: id.to_owned(),
        outcome: DecisionOutcome::Done.into(),
        ..AcknowledgeDecisionRequest::default()
    };
    rig.client().acknowledge_decision(done(&import.id)).await.unwrap();
    let evict = within(stream.message()).await.unwrap().unwrap();
    eventually(async || {
        let now = progress(&rig).await.remove(0);
        (now.what.as_str(), now.unit.as_str(), now.done, now.total) == ("evict", "evictions", 0, 1)
    })
    .await;
    rig.client().acknowledge_decision(done(&evict.id)).await.unwrap();
    eventually(async || progress(&rig).await.is_empty()).await;
}

#[tokio::test]
async fn a_look_at_the_sources_says_whose_turn_it_is() {
    let rig = Rig::start().await;
    rig.publish("gentoo", 1, &[distfile("a")]).await;
    rig.publish("guru", 1, &[distfile("b")]).await;
    for (module, first, total) in [("", "gentoo", 2), ("guru", "guru", 0)] {
        rig.tree.hold(true);
        let mut admin = rig.admin();
        let request = PublishModuleRequest { module: module.to_owned(), allow_older: false };
        let publish = tokio::spawn(async move { admin.publish_module(request).await });
        eventually(async || {
            let now = progress(&rig).await;
            now.iter().any(|one| {
                (one.kind.as_str(), one.what.as_str(), one.done, one.total) == ("publish", first, 0, total)
            })
        })
        .await;
        rig.tree.hold(false);
        let published = within(publish).await.unwrap().unwrap().into_inner().published;
        assert_eq!(published.len(), if module.is_empty() { 2 } else { 1 });
        assert_eq!(progress(&rig).await, []);
    }
}
