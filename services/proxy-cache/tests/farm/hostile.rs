//! A maintenance that answers wrongly, too much, too long, or half.

use std::time::{Duration, Instant};

use proxy_cache::farm::{Acquired, Timing};
use rookery_proto::v1;
use rookery_proto::v1::acquire_fetch_response::Outcome;
use rookery_proto::v1::decision::Action;

use crate::fake::Fake;
use crate::replica::{Replica, TIMING, known, until, wire};

/// In which nothing, or not much, is to happen.
const WINDOW: Duration = Duration::from_millis(500);

/// The pauses double, and none of them comes to its end within the window once there were a few.
const DOUBLING: Timing =
    Timing { retry_min: Duration::from_millis(1), retry_max: Duration::from_mins(1), ..TIMING };
/// So many fit into the window, and as many by chance.
const DOUBLED_MAX: usize = 20;

fn decision(id: &str, action: Action) -> v1::Decision {
    v1::Decision { id: id.to_owned(), reason: "a test".to_owned(), action: Some(action) }
}

fn evict(id: &str, blob: u8) -> v1::Decision {
    let evict = v1::EvictBlob { blake2b: vec![blob; 64], unless_accessed_after_ms: 9, quarantined: false };
    decision(id, Action::Evict(evict))
}

fn acknowledged(fake: &Fake) -> Vec<String> {
    fake.state.lock().acknowledged.iter().map(|ack| ack.decision_id.clone()).collect()
}

#[tokio::test]
async fn who_is_never_remembered_registers_less_and_less_often() {
    let fake = Fake::start();
    fake.state.lock().forgets = true;
    let replica = Replica::prepare(&fake.endpoint(), DOUBLING).await;
    replica.farm.start(replica.store.clone());
    until("a registration", async || !fake.state.lock().registrations.is_empty()).await;
    tokio::time::sleep(WINDOW).await;
    let registrations = fake.state.lock().registrations.len();
    assert!(registrations <= DOUBLED_MAX, "{registrations} registrations");
    assert!(matches!(replica.farm.acquire(&known("a")).await, Acquired::Away));
}

#[tokio::test]
async fn a_report_survives_a_maintenance_that_forgets_twice() {
    let fake = Fake::start();
    fake.state.lock().forgets = true;
    let replica = Replica::start(&fake.endpoint()).await;
    replica.farm.report_commit(crate::replica::blob("foo.tgz"));
    until("two registrations", async || fake.state.lock().registrations.len() >= 2).await;
    fake.state.lock().forgets = false;
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
}

#[tokio::test]
async fn decision_streams_that_end_at_once_are_asked_for_less_and_less_often() {
    let fake = Fake::start();
    fake.state.lock().ends_decisions = true;
    let timing = Timing { retry_min: Duration::from_millis(20), ..DOUBLING };
    let replica = Replica::prepare(&fake.endpoint(), timing).await;
    let started = Instant::now();
    replica.farm.start(replica.store.clone());
    until("some registrations", async || fake.state.lock().registrations.len() >= 7).await;
    // Six pauses, each at least half of what it may be: 10, 20, 40, 80, 160, 320 ms.
    assert!(started.elapsed() >= Duration::from_millis(630), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_catalogue_that_always_breaks_off_is_asked_for_less_and_less_often() {
    let fake = Fake::start();
    let half = v1::CatalogueChange {
        module: "gentoo".to_owned(),
        generation: 1,
        complete: false,
        changes: Some(v1::DistfileChanges { reset: true, upserts: vec![wire("a", 1)], removes: Vec::new() }),
        module_order: Vec::new(),
    };
    fake.state.lock().catalogues.extend(vec![(vec![half], true); 10_000]);
    let replica = Replica::prepare(&fake.endpoint(), DOUBLING).await;
    replica.farm.start(replica.store.clone());
    until("a watch", async || !fake.state.lock().watches.is_empty()).await;
    tokio::time::sleep(WINDOW).await;
    let watches = fake.state.lock().watches.len();
    assert!(watches <= DOUBLED_MAX, "{watches} watches");
}

#[tokio::test]
async fn a_decision_whose_id_cannot_be_acknowledged_is_not_carried_out() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("both streams", async || fake.state.open_streams() == 2).await;
    for wrong in ["", "a b", "line\nbreak", &"x".repeat(129), &"x".repeat(500_000)] {
        fake.state.send_decision(&evict(wrong, 1));
    }
    let longest = "x".repeat(128);
    fake.state.send_decision(&evict(&longest, 2));
    until("the one behind", async || !acknowledged(&fake).is_empty()).await;
    assert_eq!(acknowledged(&fake), [longest]);
    assert_eq!(replica.store.executed(), ["evict 2 9"]);
}

#[tokio::test]
async fn what_waits_to_be_acknowledged_waits_once() {
    let fake = Fake::start();
    let failures = vec![tonic::Code::Unavailable; 100_000];
    fake.state.lock().failures.insert("acknowledge_decision", failures.into());
    let replica = Replica::start(&fake.endpoint()).await;
    until("both streams", async || fake.state.open_streams() == 2).await;
    fake.state.send_decision(&evict("d1", 1));
    until("the eviction", async || replica.farm.state().reports_waiting == 1).await;
    for _ in 0..100 {
        fake.state.send_decision(&evict("d1", 1));
    }
    fake.state.send_decision(&evict("d2", 2));
    until("the last one", async || replica.store.executed() == ["evict 1 9", "evict 2 9"]).await;
    until("its answer", async || replica.farm.state().reports_waiting >= 2).await;
    assert_eq!(replica.farm.state().reports_waiting, 2);
}

#[tokio::test]
async fn an_import_that_cannot_be_reported_is_not_acknowledged_before() {
    let fake = Fake::start();
    let order = v1::ImportDirectory { dir: "/d".to_owned(), ..v1::ImportDirectory::default() };
    fake.state.lock().undelivered = vec![decision("i1", Action::ImportDirectory(order))];
    fake.state.lock().failures.insert("report_import", vec![tonic::Code::Unavailable; 5].into());
    let _replica = Replica::start(&fake.endpoint()).await;
    until("the acknowledgement", async || !fake.state.lock().acknowledged.is_empty()).await;
    assert_eq!(fake.state.lock().imports.len(), 1);
}

#[tokio::test]
async fn a_directory_whose_name_is_no_path_is_not_looked_for() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("both streams", async || fake.state.open_streams() == 2).await;
    for (id, dir) in [("i1", "/".repeat(5000)), ("i2", "/a\nb".to_owned())] {
        let order = v1::ImportDirectory { dir, ..v1::ImportDirectory::default() };
        fake.state.send_decision(&decision(id, Action::ImportDirectory(order)));
    }
    until("both answers", async || acknowledged(&fake).len() == 2).await;
    assert_eq!(fake.state.lock().acknowledged[0].outcome(), v1::DecisionOutcome::Gone);
    assert!(replica.store.executed().is_empty());
}

#[tokio::test]
async fn an_inventory_that_is_refused_for_good_is_not_sent_again_and_again() {
    let fake = Fake::start();
    let left = async || fake.state.lock().failures["report_inventory"].len();
    fake.state.lock().failures.insert("report_inventory", vec![tonic::Code::InvalidArgument; 100].into());
    let replica = Replica::start(&fake.endpoint()).await;
    until("an inventory", async || left().await == 99).await;
    tokio::time::sleep(WINDOW).await;
    assert_eq!(left().await, 99);
    replica.farm.request_inventory();
    until("the next one", async || left().await == 98).await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_by_its_id_is_none() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    for (name, lease_id) in [("empty", String::new()), ("long", "x".repeat(5000))] {
        let lease = v1::Lease { lease_id, fence: 1, expires_in_ms: 60_000 };
        fake.state.lock().answers.insert(name.to_owned(), Outcome::Granted(lease));
        assert!(matches!(replica.farm.acquire(&known(name)).await, Acquired::Away), "{name}");
    }
    let many = v1::Present { advertise: (0..1000).map(|port| format!("http://10.0.0.1:{port}")).collect() };
    fake.state.lock().answers.insert("many".to_owned(), Outcome::Present(many));
    let Acquired::Present { advertise } = replica.farm.acquire(&known("many")).await else { panic!() };
    assert!(advertise.len() <= 16, "{} peers", advertise.len());
}
