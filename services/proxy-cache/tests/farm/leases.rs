//! Leases: renewed with progress, lost, given back, committed.

use std::time::Duration;

use proxy_cache::farm::{Acquired, LeaseHold};
use rookery_proto::v1;
use rookery_proto::v1::acquire_fetch_response::Outcome;

use crate::fake::Fake;
use crate::replica::{Replica, TIMING, blob, known, until};

async fn granted(replica: &Replica, name: &str) -> LeaseHold {
    match replica.farm.acquire(&known(name)).await {
        Acquired::Granted(hold) => hold,
        other => panic!("{other:?}"),
    }
}

fn short_leases() -> Fake {
    let fake = Fake::start();
    fake.state.lock().lease_ms = 90;
    fake
}

#[tokio::test]
async fn renewals_carry_the_bytes_so_far_until_the_commit() {
    let fake = short_leases();
    let replica = Replica::start(&fake.endpoint()).await;
    let hold = granted(&replica, "foo.tgz").await;
    for bytes in [10, 20, 30] {
        hold.progress(bytes);
        let is_told = async || fake.state.lock().renewals.iter().any(|renewal| renewal.bytes_so_far == bytes);
        until("the renewal", is_told).await;
    }
    hold.progress(5);
    assert!(!hold.lost().is_cancelled());
    hold.commit(blob("foo.tgz"));
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
    let script = fake.state.lock();
    assert!(
        script
            .renewals
            .iter()
            .all(|renewal| (renewal.lease_id.as_str(), renewal.fence) == ("lease-of-foo.tgz", 1))
    );
    assert!(script.renewals.is_sorted_by_key(|renewal| renewal.bytes_so_far));
    let commit = &script.commits[0];
    assert_eq!((commit.lease_id.as_str(), commit.fence, commit.upstream_bytes), ("lease-of-foo.tgz", 1, 12));
    assert_eq!(commit.object.as_ref().unwrap().digest.as_ref().unwrap().algorithm, "BLAKE2B");
    assert_eq!(commit.blob.as_ref().unwrap().names, ["foo.tgz"]);
    assert!(script.releases.is_empty(), "a committed lease is not released too");
}

#[tokio::test]
async fn a_lease_that_was_taken_over_is_lost_and_its_blob_still_committed() {
    let fake = short_leases();
    let replica = Replica::start(&fake.endpoint()).await;
    let hold = granted(&replica, "foo.tgz").await;
    fake.state.lock().stale.insert("lease-of-foo.tgz".to_owned());
    tokio::time::timeout(Duration::from_secs(10), hold.lost().cancelled()).await.expect("the lease is lost");
    hold.commit(blob("foo.tgz"));
    until("the commit", async || fake.state.lock().commits.len() == 1).await;
}

#[tokio::test]
async fn a_lease_survives_failed_renewals_and_a_forgotten_replica() {
    let fake = short_leases();
    let replica = Replica::start(&fake.endpoint()).await;
    let hold = granted(&replica, "foo.tgz").await;
    {
        let mut script = fake.state.lock();
        script.failures.insert("renew_fetch", vec![tonic::Code::Unavailable; 3].into());
        script.known.clear();
    }
    until("a renewal", async || !fake.state.lock().renewals.is_empty()).await;
    assert!(!hold.lost().is_cancelled());
    until("registered again", async || fake.state.lock().registrations.len() >= 2).await;
}

#[tokio::test]
async fn a_dropped_lease_is_released_and_so_is_a_released_one() {
    let fake = Fake::start();
    let replica = Replica::start(&fake.endpoint()).await;
    drop(granted(&replica, "foo.tgz").await);
    granted(&replica, "bar.tgz").await.release("every source said 404");
    until("two releases", async || fake.state.lock().releases.len() == 2).await;
    let script = fake.state.lock();
    assert_eq!((script.releases[0].lease_id.as_str(), script.releases[0].fence), ("lease-of-foo.tgz", 1));
    assert_eq!(script.releases[1].reason, "every source said 404");
}

#[tokio::test]
async fn what_others_hold_or_have_is_told_with_where_they_are() {
    let fake = Fake::start();
    let held = |advertise: &str, retry_in_ms| {
        let advertise = advertise.to_owned();
        Outcome::Held(v1::Held { advertise, retry_in_ms, ..v1::Held::default() })
    };
    let present = ["http://127.0.0.1:9", "", "http://peer:1"].map(str::to_owned).to_vec();
    fake.state.lock().answers.extend([
        ("held".to_owned(), held("http://peer:1", 300)),
        ("hidden".to_owned(), held("", 0)),
        ("present".to_owned(), Outcome::Present(v1::Present { advertise: present })),
    ]);
    let replica = Replica::start(&fake.endpoint()).await;
    match replica.farm.acquire(&known("held")).await {
        Acquired::Held { advertise, retry_in, bytes_so_far: 0 } => {
            assert_eq!((advertise.as_deref(), retry_in), (Some("http://peer:1"), Duration::from_millis(300)));
        }
        other => panic!("{other:?}"),
    }
    match replica.farm.acquire(&known("hidden")).await {
        Acquired::Held { advertise: None, retry_in, .. } => assert!(retry_in >= Duration::from_millis(50)),
        other => panic!("{other:?}"),
    }
    match replica.farm.acquire(&known("present")).await {
        Acquired::Present { advertise } => assert_eq!(advertise, ["http://peer:1"], "itself is left out"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lease_is_granted_before_anything_is_started() {
    let fake = Fake::start();
    let replica = Replica::prepare(&fake.endpoint(), TIMING).await;
    drop(granted(&replica, "foo.tgz").await);
    assert_eq!(fake.state.lock().registrations.len(), 1);
}
