//! A file that another replica is fetching, when that one can't be reached, or not at once.

use std::net::SocketAddr;
use std::time::Duration;

use farm_sim::upstream::{Fault, Gate, mirror_path};
use proxy_cache::config::Advertise;
use service_kit::config::HumanDuration;

use crate::relay::Relay;
use crate::rig::{Rig, Sim, free_address};

fn at(address: SocketAddr) -> Advertise {
    Advertise::try_from(format!("http://{address}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_makes_progress_is_waited_for_although_it_can_not_be_reached() {
    let file = Sim::new("slow-1.tar.xz", 4 << 20);
    // So long that a busy machine does not look like a replica that makes no progress.
    let rig = Rig::with_lease(&[&file], HumanDuration(Duration::from_secs(3))).await;
    let (listen, gate) = (free_address(), Gate::closed());
    let relay = Relay::start(listen, gate.clone()).await;
    let hidden = |config: &mut proxy_cache::Config| {
        config.listen = listen;
        config.advertise = at(relay.address);
    };
    let first = rig.replica_with(1, &file.name, hidden).await;
    let impatient = |config: &mut proxy_cache::Config| {
        config.timeouts.headers = HumanDuration(Duration::from_millis(200));
    };
    let second = rig.replica_with(2, &file.name, impatient).await;
    rig.upstream.add_fault(&mirror_path(&file.name), Fault::RateLimit { bytes_per_second: 400_000 });

    let at_first = first.begin(&file).await;
    let at_second = async {
        let response = second.begin(&file).await;
        response.bytes().await.unwrap()
    };
    let opened = async {
        // More than two leases' lengths later.
        let has_most = |log: &[farm_sim::upstream::Exchange]| log[0].bytes_sent > 3 << 20;
        assert!(rig.upstream.wait_until(Duration::from_mins(1), has_most).await);
        assert_eq!(rig.upstream.total().requests, 1, "nobody else has asked");
        assert!(relay.connections() > 0, "the holder was tried");
        gate.open();
    };
    let (from_first, from_second, ()) = tokio::join!(at_first.bytes(), at_second, opened);
    assert!(from_first.unwrap() == file.contents.to_bytes() && from_second == file.contents.to_bytes());
    let count = rig.upstream.count_of_distfile(&file.name);
    assert_eq!((count.requests, count.bytes), (1, 4 << 20), "once for the farm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_would_give_up_gets_it_passed_through() {
    let file = Sim::new("stuck-1.tar.xz", 4 << 20);
    let rig = Rig::start(&[&file]).await;
    let hidden = |config: &mut proxy_cache::Config| config.advertise = Advertise::Never;
    let first = rig.replica_with(1, &file.name, hidden).await;
    let hurried = |config: &mut proxy_cache::Config| {
        config.timeouts.first_byte = HumanDuration(Duration::from_secs(1));
    };
    let second = rig.replica_with(2, &file.name, hurried).await;
    let gate = Gate::closed();
    let fault = Fault::Gated { after_bytes: 2 << 20, gate: gate.clone() };
    rig.upstream.add_fault_times(&mirror_path(&file.name), fault, 1);

    let at_first = first.begin(&file).await;
    let status = second.fetch(&file).await;
    assert_eq!(status, "rookery; fwd=bypass; detail=held-by-another-replica");
    assert_eq!(second.blobs_on_disk(), 0);
    gate.open();
    assert!(at_first.bytes().await.unwrap() == file.contents.to_bytes());
}
