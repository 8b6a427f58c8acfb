//! Maintenance away, silent, back.

use std::time::{Duration, Instant};

use proxy_cache::farm::{Acquired, Farm, Timing};

use crate::fake::Fake;
use crate::replica::{Replica, TIMING, blob, held, known, until};

#[tokio::test]
async fn a_silent_maintenance_costs_one_wait_and_not_one_for_each_miss() {
    let fake = Fake::start();
    let acquire = Duration::from_millis(400);
    let away = Duration::from_mins(10);
    let timing = Timing { acquire, retry_min: away, retry_max: away, ..TIMING };
    let replica = Replica::prepare(&fake.endpoint(), timing).await;
    fake.state.lock().silent.extend(["acquire_fetch", "register"]);
    let started = Instant::now();
    assert!(matches!(replica.farm.acquire(&known("a")).await, Acquired::Away));
    assert!(started.elapsed() >= acquire, "it was waited for");
    let (started, misses) = (Instant::now(), 100);
    for _ in 0..misses {
        assert!(matches!(replica.farm.acquire(&known("a")).await, Acquired::Away));
    }
    assert!(started.elapsed() < misses * acquire / 2, "{:?}", started.elapsed());
    // On a busy machine not even the first call may have come there in its time.
    assert!(fake.state.lock().calls <= 1, "maintenance is asked again and again");
    assert!(!replica.farm.state().is_connected);
}

#[tokio::test]
async fn what_was_fetched_while_maintenance_was_dead_is_reported_when_it_is_back() {
    let mut fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("the inventory", async || !fake.state.lock().inventories.is_empty()).await;
    fake.kill();
    assert!(matches!(replica.farm.acquire(&known("foo.tgz")).await, Acquired::Away));
    replica.store.held.lock().unwrap().push(held(7));
    replica.farm.report_commit(blob("foo.tgz"));
    until("the outage is noticed", async || !replica.farm.state().is_connected).await;
    fake.state.lock().known.clear();
    fake.revive();
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
    assert_eq!(fake.state.lock().commits[0].lease_id, "");
    until("the new inventory", async || {
        fake.state.lock().inventories.last().is_some_and(|last| last.is_complete && last.blobs.len() == 1)
    })
    .await;
    let is_granted = async || matches!(replica.farm.acquire(&known("bar.tgz")).await, Acquired::Granted(_));
    until("leases are given again", is_granted).await;
    assert!(replica.farm.state().is_connected);
    assert_eq!(fake.state.lock().commits.len(), 1);
}

#[tokio::test]
async fn a_replica_that_starts_before_maintenance_finds_it_later() {
    let mut fake = Fake::start();
    fake.kill();
    let replica = Replica::start(&fake.endpoint()).await;
    assert!(matches!(replica.farm.acquire(&known("a")).await, Acquired::Away));
    fake.revive();
    until("a connection", async || replica.farm.state().is_connected).await;
    let script = fake.state.lock();
    assert_eq!(script.registrations[0].replica_id, "replica-1");
    assert_eq!(script.registrations[0].capacity_bytes, 1 << 30);
}

#[tokio::test]
async fn stopping_delivers_what_the_last_lease_leaves() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    let Acquired::Granted(hold) = replica.farm.acquire(&known("foo.tgz")).await else { panic!("no lease") };
    until("both streams", async || fake.state.open_streams() == 2).await;
    replica.tasks.soft().cancel();
    until("the streams are closed", async || fake.state.open_streams() == 0).await;
    hold.commit(blob("foo.tgz"));
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
}

#[tokio::test]
async fn without_maintenance_everything_is_away_and_nothing_waits() {
    let farm = Farm::detached();
    assert!(matches!(farm.acquire(&known("a")).await, Acquired::Away));
    farm.report_commit(blob("a"));
    assert_eq!(farm.state().reports_waiting, 0);
}
