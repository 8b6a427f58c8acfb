//! Inventories and accesses.

use std::sync::atomic::Ordering;

use proxy_cache::farm::{Access, AccessOutcome, Acquired};
use rookery_proto::v1;

use crate::fake::{Fake, Inventory};
use crate::replica::{Replica, TIMING, blob, held, known, until};

fn access(number: usize) -> Access {
    Access {
        name: format!("file-{number}"),
        blake2b: number.is_multiple_of(2).then_some([1; 64]),
        client: "10.0.0.7".parse().unwrap(),
        at_ms: 1,
        bytes_served: 3,
        outcome: AccessOutcome::Hit,
    }
}

#[tokio::test]
async fn the_whole_inventory_is_reported_at_registration_and_on_request() {
    let fake = Fake::start();
    let replica = Replica::prepare(&fake.endpoint(), TIMING).await;
    *replica.store.held.lock().unwrap() = (0..=255).map(held).collect();
    replica.farm.start(replica.store.clone());
    until("the inventory", async || fake.state.lock().inventories.len() == 1).await;
    let first = fake.state.lock().inventories[0].clone();
    assert!(first.is_complete);
    assert_eq!(first.blobs.len(), 256);
    assert_eq!(first.blobs[9].names, ["file-9"]);
    replica.store.held.lock().unwrap().clear();
    replica.farm.request_inventory();
    until("the second one", async || fake.state.lock().inventories.len() == 2).await;
    assert_eq!(fake.state.lock().inventories[1], Inventory { blobs: Vec::new(), is_complete: true });
}

#[tokio::test]
async fn an_inventory_that_fails_half_way_is_never_taken_for_all_there_is() {
    let fake = Fake::start();
    let replica = Replica::prepare(&fake.endpoint(), TIMING).await;
    *replica.store.held.lock().unwrap() = (0..100).map(held).collect();
    replica.store.inventory_failures.store(3, Ordering::SeqCst);
    replica.farm.start(replica.store.clone());
    until("a complete one", async || fake.state.lock().inventories.iter().any(|one| one.is_complete)).await;
    let script = fake.state.lock();
    let complete: Vec<_> = script.inventories.iter().filter(|one| one.is_complete).collect();
    assert_eq!(complete.len(), 1);
    assert_eq!(complete[0].blobs.len(), 100);
}

#[tokio::test]
async fn a_commit_does_not_overtake_the_inventory_that_lacks_it() {
    let fake = Fake::start();
    let replica = Replica::prepare(&fake.endpoint(), TIMING).await;
    let permits = replica.store.inventory_gate.available_permits();
    replica.store.inventory_gate.forget_permits(permits);
    replica.farm.start(replica.store.clone());
    until("registered", async || !fake.state.lock().registrations.is_empty()).await;
    until("the inventory is under way", async || replica.store.inventory_gate.available_permits() == 0).await;
    // Under way means: it listed the store, and has not come to its end.
    let is_listing = async || {
        replica.farm.report_commit(blob("probe"));
        replica.farm.state().reports_waiting > 3
    };
    until("reports wait for the inventory", is_listing).await;
    let (commits, inventories) = {
        let script = fake.state.lock();
        (script.commits.len(), script.inventories.len())
    };
    assert_eq!(inventories, 0);
    replica.store.inventory_gate.add_permits(10);
    until("everything is sent", async || replica.farm.state().reports_waiting == 0).await;
    let script = fake.state.lock();
    assert!(script.commits.len() > commits);
    assert!(script.inventories[0].is_complete);
}

#[tokio::test]
async fn accesses_are_reported_in_batches_and_repeated_under_the_same_id() {
    let fake = Fake::start();
    fake.state.lock().failures.insert("report_accesses", vec![tonic::Code::Unavailable; 2].into());
    let replica = Replica::start(&fake.endpoint()).await;
    (0..1200).for_each(|number| replica.farm.record_access(access(number)));
    let distinct = || {
        let script = fake.state.lock();
        let mut by_id = std::collections::BTreeMap::<String, Vec<v1::Access>>::new();
        for report in &script.accesses {
            let before = by_id.insert(report.report_id.clone(), report.accesses.clone());
            assert!(before.is_none_or(|before| before == report.accesses), "one id, one contents");
        }
        by_id
    };
    until("all of them", async || distinct().values().map(Vec::len).sum::<usize>() == 1200).await;
    assert!(distinct().values().all(|accesses| accesses.len() <= 500));
    let reports = fake.state.lock().accesses.len();
    assert!(reports >= distinct().len() + 2, "two were repeated");
    let all: Vec<_> = distinct().into_values().flatten().collect();
    assert!(
        all.iter().any(|access| access.blake2b.len() == 64)
            && all.iter().any(|access| access.blake2b.is_empty())
    );
    assert_eq!((all[0].client.as_str(), all[0].outcome()), ("10.0.0.7", v1::AccessOutcome::Hit));
}

#[tokio::test]
async fn too_many_accesses_are_dropped_and_counted() {
    let mut fake = Fake::start();
    fake.kill();
    let replica = Replica::start(&fake.endpoint()).await;
    (0..60_000).for_each(|number| replica.farm.record_access(access(number)));
    let dropped = replica.farm.state().accesses_dropped;
    assert!((9_000..=10_000).contains(&dropped), "{dropped}");
    fake.revive();
    let reported = async || {
        let script = fake.state.lock();
        let ids: std::collections::BTreeMap<_, _> =
            script.accesses.iter().map(|report| (&report.report_id, report.accesses.len())).collect();
        ids.values().sum::<usize>() as u64 + dropped == 60_000
    };
    until("the rest", reported).await;
}

#[tokio::test]
async fn a_replica_that_was_forgotten_registers_again() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("an inventory", async || fake.state.lock().inventories.len() == 1).await;
    fake.state.lock().known.clear();
    replica.farm.record_access(access(1));
    until("registered again", async || fake.state.lock().registrations.len() == 2).await;
    until("a second inventory", async || fake.state.lock().inventories.len() == 2).await;
}

#[tokio::test]
async fn an_inventory_of_a_forgotten_replica_registers_it_again() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("an inventory", async || fake.state.lock().inventories.len() == 1).await;
    fake.state.lock().known.clear();
    replica.farm.request_inventory();
    until("registered again", async || fake.state.lock().registrations.len() == 2).await;
    until("a second inventory", async || fake.state.lock().inventories.len() >= 2).await;
}

#[tokio::test]
async fn a_report_that_always_fails_does_not_stop_the_others() {
    let fake = Fake::start();
    fake.state.lock().failures.insert("commit_fetch", vec![tonic::Code::Unavailable; 100_000].into());
    let replica = Replica::start(&fake.endpoint()).await;
    replica.farm.report_commit(blob("poison"));
    for number in 0..5 {
        let known = known(&format!("file-{number}"));
        let is_granted = async || matches!(replica.farm.acquire(&known).await, Acquired::Granted(_));
        until("a lease", is_granted).await;
    }
    until("the releases", async || fake.state.lock().releases.len() >= 5).await;
    until("only the one waits", async || replica.farm.state().reports_waiting == 1).await;
}
