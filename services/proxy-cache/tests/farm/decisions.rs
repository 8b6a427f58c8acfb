//! Decisions: at least once delivered, once carried out.

use rookery_proto::v1;
use rookery_proto::v1::decision::Action;

use crate::fake::Fake;
use crate::replica::{Replica, until};

fn evict(id: &str, blob: u8) -> v1::Decision {
    let action = Action::Evict(v1::EvictBlob {
        blake2b: vec![blob; 64],
        unless_accessed_after_ms: 9,
        quarantined: false,
    });
    v1::Decision { id: id.to_owned(), reason: "unreferenced".to_owned(), action: Some(action) }
}

fn fetch(id: &str, name: &str) -> v1::Decision {
    let action = Action::Fetch(v1::FetchDistfile { name: name.to_owned() });
    v1::Decision { id: id.to_owned(), reason: "prefetch".to_owned(), action: Some(action) }
}

/// (id, outcome) of each acknowledgement.
fn acknowledged(fake: &Fake) -> Vec<(String, v1::DecisionOutcome)> {
    let script = fake.state.lock();
    script.acknowledged.iter().map(|ack| (ack.decision_id.clone(), ack.outcome())).collect()
}

async fn connected(fake: &Fake) -> Replica {
    let replica = Replica::start(&fake.endpoint()).await;
    let probe = fetch("probe", "not/a/name");
    until("the decision stream", async || {
        fake.state.send_decision(&probe);
        acknowledged(fake).iter().any(|(id, _)| id == "probe")
    })
    .await;
    replica
}

#[tokio::test]
async fn a_decision_delivered_twice_is_carried_out_once_and_answered_twice() {
    let mut fake = Fake::start();
    fake.state.lock().undelivered = vec![evict("d1", 1), evict("d1", 1)];
    let replica = Replica::start(&fake.endpoint()).await;
    until("an answer", async || !acknowledged(&fake).is_empty()).await;
    fake.kill();
    fake.revive();
    until("an answer after the restart", async || acknowledged(&fake).len() >= 2).await;
    assert!(acknowledged(&fake).iter().all(|ack| *ack == ("d1".to_owned(), v1::DecisionOutcome::Done)));
    assert_eq!(replica.store.executed(), ["evict 1 9"]);
}

#[tokio::test]
async fn an_acknowledgement_outlives_an_outage() {
    let mut fake = Fake::start();
    let replica = connected(&fake).await;
    fake.state.send_decision(&fetch("d1", "foo.tgz"));
    until("the fetch", async || replica.store.executed() == ["fetch foo.tgz"]).await;
    fake.kill();
    replica.store.fetch_gate.add_permits(1);
    until("the acknowledgement waits", async || replica.farm.state().reports_waiting >= 1).await;
    fake.revive();
    until("the answer", async || acknowledged(&fake).contains(&("d1".to_owned(), v1::DecisionOutcome::Done)))
        .await;
}

#[tokio::test]
async fn an_eviction_does_not_wait_behind_downloads() {
    let fake = Fake::start();
    let replica = connected(&fake).await;
    for number in 0..10 {
        fake.state.send_decision(&fetch(&format!("f{number}"), &format!("file-{number}")));
    }
    fake.state.send_decision(&evict("e", 1));
    until("the eviction", async || {
        acknowledged(&fake).contains(&("e".to_owned(), v1::DecisionOutcome::Done))
    })
    .await;
    let fetches = replica.store.executed().iter().filter(|done| done.starts_with("fetch")).count();
    assert!(fetches <= 2, "{fetches} at the same time");
    replica.store.fetch_gate.add_permits(10);
    until("all fetches", async || {
        acknowledged(&fake).iter().filter(|(id, _)| id.starts_with('f')).count() == 10
    })
    .await;
}

#[tokio::test]
async fn each_outcome_is_told_and_a_crash_is_busy() {
    let fake = Fake::start();
    let _replica = connected(&fake).await;
    fake.state.send_decision(&evict("busy", 0xbb));
    fake.state.send_decision(&evict("crash", 0xcc));
    let verify = Action::Verify(v1::VerifyBlob { blake2b: vec![1; 64] });
    fake.state.send_decision(&v1::Decision {
        id: "gone".to_owned(),
        action: Some(verify),
        ..v1::Decision::default()
    });
    let short = Action::Verify(v1::VerifyBlob { blake2b: vec![1; 3] });
    fake.state.send_decision(&v1::Decision {
        id: "short".to_owned(),
        action: Some(short),
        ..v1::Decision::default()
    });
    fake.state.send_decision(&v1::Decision { id: "unknown".to_owned(), ..v1::Decision::default() });
    let expected = [
        ("busy", v1::DecisionOutcome::Busy),
        ("crash", v1::DecisionOutcome::Busy),
        ("gone", v1::DecisionOutcome::Gone),
        ("short", v1::DecisionOutcome::Gone),
        ("unknown", v1::DecisionOutcome::Busy),
    ];
    for (id, outcome) in expected {
        until(id, async || acknowledged(&fake).contains(&(id.to_owned(), outcome))).await;
    }
}

#[tokio::test]
async fn an_import_is_carried_out_once_and_its_report_comes_before_its_acknowledgement() {
    let fake = Fake::start();
    let order = Action::ImportDirectory(v1::ImportDirectory {
        dir: "/d".to_owned(),
        ..v1::ImportDirectory::default()
    });
    let decision = v1::Decision { id: "i1".to_owned(), action: Some(order), ..v1::Decision::default() };
    fake.state.lock().undelivered = vec![decision.clone(), decision];
    let replica = Replica::start(&fake.endpoint()).await;
    until("the acknowledgement", async || !acknowledged(&fake).is_empty()).await;
    assert_eq!(replica.store.executed(), ["import /d"]);
    let script = fake.state.lock();
    assert_eq!(script.imports.len(), 1);
    assert_eq!(script.imports[0].decision_id, "i1");
    assert_eq!(script.imports[0].reports[0].dir, "/d");
    assert!(script.acknowledged[0].imported.is_some());
}

#[tokio::test]
async fn how_far_an_import_is_is_told_and_an_import_does_not_wait_for_that_to_be_heard() {
    let fake = Fake::start();
    let order = |dir: &str| {
        Action::ImportDirectory(v1::ImportDirectory { dir: dir.to_owned(), ..v1::ImportDirectory::default() })
    };
    let decision = |id: &str, dir| v1::Decision {
        id: id.to_owned(),
        action: Some(order(dir)),
        ..v1::Decision::default()
    };
    fake.state.lock().undelivered = vec![decision("i1", "/gated")];
    let replica = Replica::start(&fake.endpoint()).await;
    until("the progress", async || !fake.state.lock().progress.is_empty()).await;
    let told = fake.state.lock().progress[0].clone();
    assert_eq!(told.decision_id, "i1");
    assert_eq!(told.progress.map(|progress| (progress.files_done, progress.files)), Some((2, 7)));
    fake.state.lock().silent.insert("report_import_progress");
    replica.store.fetch_gate.add_permits(2);
    fake.state.send_decision(&decision("i2", "/gated"));
    let done = |id: &str| (id.to_owned(), v1::DecisionOutcome::Done);
    until("both are done", async || {
        let acknowledged = acknowledged(&fake);
        acknowledged.contains(&done("i1")) && acknowledged.contains(&done("i2"))
    })
    .await;
}
