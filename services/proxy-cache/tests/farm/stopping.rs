//! What waits when the process is asked to stop.

use std::time::Duration;

use proxy_cache::farm::{Access, AccessOutcome, Acquired, Timing};

use crate::fake::Fake;
use crate::replica::{Replica, TIMING, blob, known, until};

const DEADLINE: Duration = Duration::from_secs(20);

fn access() -> Access {
    Access {
        name: "foo.tgz".to_owned(),
        blake2b: None,
        client: [10, 0, 0, 7].into(),
        at_ms: 1,
        bytes_served: 3,
        outcome: AccessOutcome::Hit,
    }
}

#[tokio::test]
async fn what_the_last_lease_leaves_survives_a_call_that_fails() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    let Acquired::Granted(hold) = replica.farm.acquire(&known("foo.tgz")).await else { panic!("no lease") };
    replica.tasks.soft().cancel();
    fake.state.lock().failures.insert("commit_fetch", vec![tonic::Code::Unavailable; 2].into());
    hold.commit(blob("foo.tgz"));
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
}

#[tokio::test]
async fn accesses_survive_a_call_that_fails() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("both streams", async || fake.state.open_streams() == 2).await;
    fake.state.lock().failures.insert("report_accesses", vec![tonic::Code::Unavailable; 2].into());
    replica.farm.record_access(access());
    replica.tasks.soft().cancel();
    until("the third try", async || fake.state.lock().accesses.len() == 3).await;
}

#[tokio::test]
async fn a_maintenance_that_is_gone_does_not_hold_the_stop_up() {
    let mut fake = Fake::start();
    let timing = Timing { farewell: Duration::from_secs(1), ..TIMING };
    let replica = Replica::prepare(&fake.endpoint(), timing).await;
    replica.farm.start(replica.store.clone());
    until("both streams", async || fake.state.open_streams() == 2).await;
    fake.kill();
    replica.farm.report_commit(blob("foo.tgz"));
    tokio::time::timeout(DEADLINE, replica.tasks.finish()).await.expect("it stops");
}

#[tokio::test]
async fn an_inventory_under_way_does_not_hold_the_stop_up() {
    let fake = Fake::start();
    let timing = Timing { inventory: Duration::from_hours(1), ..TIMING };
    let replica = Replica::prepare(&fake.endpoint(), timing).await;
    let permits = replica.store.inventory_gate.available_permits();
    replica.store.inventory_gate.forget_permits(permits);
    replica.farm.start(replica.store.clone());
    let is_listing = async || {
        replica.farm.report_commit(blob("probe"));
        replica.farm.state().reports_waiting > 3
    };
    until("reports wait for the inventory", is_listing).await;
    let waiting = replica.farm.state().reports_waiting;
    tokio::time::timeout(DEADLINE, replica.tasks.finish()).await.expect("it stops");
    assert!(fake.state.lock().inventories.iter().all(|inventory| !inventory.is_complete));
    assert!(fake.state.lock().commits.len() >= waiting, "what waited for it is sent");
}

#[tokio::test]
async fn who_is_served_to_the_end_after_the_stop_is_counted() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    until("both streams", async || fake.state.open_streams() == 2).await;
    replica.farm.access_begins();
    replica.tasks.soft().cancel();
    until("the streams are closed", async || fake.state.open_streams() == 0).await;
    // As long as a last download takes, and longer than the reports are apart.
    tokio::time::sleep(5 * TIMING.access_flush).await;
    replica.farm.access_ends(access());
    until("its report", async || fake.state.lock().accesses.len() == 1).await;
    tokio::time::timeout(DEADLINE, replica.tasks.finish()).await.expect("it stops");
}
