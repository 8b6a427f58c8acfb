//! Caches that ask each other in a ring.

use std::net::SocketAddr;
use std::time::Duration;

use farm_sim::upstream::{Gate, Upstream};
use proxy_cache::config::{Config, MirrorUrl};
use service_kit::config::HumanDuration;

use crate::relay::Relay;
use crate::replica::{File, Replica, config, know, until};

const SIZE: u64 = 30_000;

fn free_address() -> SocketAddr {
    farm_sim::ports::free_address().unwrap()
}

fn mirror(address: SocketAddr) -> MirrorUrl {
    format!("http://{address}").try_into().unwrap()
}

/// Waits far longer than a test may, so that only finding the loop helps.
fn patient(dir: &std::path::Path, listen: SocketAddr, first: SocketAddr, last: &Upstream) -> Config {
    let mut config = config(dir, &[last]);
    config.listen = listen;
    config.mirrors.insert(0, mirror(first));
    config.timeouts.headers = HumanDuration(Duration::from_mins(5));
    config.timeouts.first_byte = HumanDuration(Duration::from_mins(5));
    config
}

#[tokio::test]
async fn a_ring_of_three_is_found_by_the_one_that_is_asked_twice() {
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("ring-1.tar", SIZE);
    upstream.put(&file.mirror_path(), file.object());
    let addresses = [free_address(), free_address(), free_address()];
    let mut ring = Vec::new();
    for number in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        know(dir.path(), "gentoo", &[&file]).await;
        let next = addresses[(number + 1) % 3];
        let replica = Replica::start(patient(dir.path(), addresses[number], next, &upstream)).await;
        ring.push((replica, dir));
    }
    ring[0].0.get(&file.mirror_path()).await.assert_is(&file);
    let log = upstream.log();
    assert_eq!(log.len(), 1, "the last of the ring asked elsewhere, once: {log:?}");
    let via = log[0].header("via").unwrap();
    assert_eq!(via.matches("1.1 rookery-").count(), 3, "who asks for whom is told: {via}");
}

#[tokio::test]
async fn two_that_ask_each_other_at_the_same_moment_do_not_wait_for_each_other() {
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("cross-1.tar", SIZE);
    upstream.put(&file.mirror_path(), file.object());
    let gate = Gate::closed();
    let addresses = [free_address(), free_address()];
    let mut relays = Vec::new();
    let mut caches = Vec::new();
    for number in 0..2 {
        let relay = Relay::start(addresses[1 - number], gate.clone()).await;
        let dir = tempfile::tempdir().unwrap();
        know(dir.path(), "gentoo", &[&file]).await;
        let mut config = patient(dir.path(), addresses[number], relay.address, &upstream);
        config.timeouts.loop_wait = HumanDuration(Duration::from_millis(200));
        caches.push((Replica::start(config).await, dir));
        relays.push(relay);
    }
    let path = file.mirror_path();
    // Each has begun its own download before the other one's question gets to it.
    let released = async {
        until("both ask", || relays.iter().all(|relay| relay.connections() > 0)).await;
        gate.open();
    };
    let (first, second, ()) = tokio::join!(caches[0].0.get(&path), caches[1].0.get(&path), released);
    first.assert_is(&file);
    second.assert_is(&file);
}

#[tokio::test]
async fn a_request_that_came_through_too_many_caches_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::start(config(dir.path(), &[])).await;
    let via = "1.1 another, ".repeat(17);
    assert_eq!(replica.ask("GET", "/distfiles/x", &[("Via", &via)]).await.status, 508);
}
