//! What waits when the process is asked to stop.

use std::time::Duration;

use proxy_cache::farm::Timing;

use crate::fake::Fake;
use crate::replica::{Replica, TIMING, blob, until};

const DEADLINE: Duration = Duration::from_secs(20);

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
