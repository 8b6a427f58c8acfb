//! What only the whole can show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farm_sim::upstream::{Fault, Gate, mirror_path};
use maintenance::clock::{Clock as _, ManualClock, SystemClock};
use rookery_proto::v1;

use crate::rig::{Rig, Sim, until, wires};

/// Reads at least so many bytes.
async fn read(response: &mut reqwest::Response, bytes: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < bytes {
        let chunk =
            tokio::time::timeout(Duration::from_secs(20), response.chunk()).await.expect("bytes come");
        read.extend_from_slice(&chunk.unwrap().expect("more was promised"));
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_replica_streams_what_the_first_one_is_fetching() {
    let file = Sim::new("large-1.tar.xz", 8 << 20);
    let rig = Rig::start(&[&file]).await;
    let (first, second) = (rig.replica(1, &file.name).await, rig.replica(2, &file.name).await);
    let gate = Gate::closed();
    let fault = Fault::Gated { after_bytes: 4 << 20, gate: gate.clone() };
    rig.upstream.add_fault(&mirror_path(&file.name), fault);

    let mut at_first = first.begin(&file).await;
    let mut from_first = read(&mut at_first, 1 << 20).await;
    let mut at_second = second.begin(&file).await;
    let mut from_second = read(&mut at_second, 1 << 20).await;
    let lease = rig.status().await.unwrap().leases;
    assert_eq!(lease.len(), 1, "{lease:?}");
    gate.open();
    from_first.extend_from_slice(&at_first.bytes().await.unwrap());
    from_second.extend_from_slice(&at_second.bytes().await.unwrap());
    assert!(from_first == file.contents.to_bytes() && from_second == from_first);
    let count = rig.upstream.count_of_distfile(&file.name);
    assert_eq!((count.requests, count.bytes), (1, 8 << 20), "once for the farm");
    rig.until_blobs(&[1, 1]).await;
    let savings = rig.status().await.unwrap().savings.unwrap_or_default();
    assert_eq!(savings.bytes_fetched, 8 << 20, "what a replica got from another one cost nothing");
    let status = rig.status().await.unwrap();
    assert!(status.leases.is_empty());
    let used: Vec<u64> = status.replicas.iter().map(|replica| replica.used_bytes).collect();
    assert_eq!(used, [8 << 20, 8 << 20], "without waiting for the next inventory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_before_the_first_catalogue_has_come_waits_for_it() {
    let file = Sim::new("early-1.tar.xz", 3 << 20);
    let gate = Gate::closed();
    let rig = Rig::gated(&[&file], gate.clone()).await;
    let replica = rig.new_replica(1, |_| {}).await;
    let answered = AtomicBool::new(false);
    let by_url = async || {
        // As a source's URL through the proxy, by a client that knows no mirror.
        let proxy = reqwest::Proxy::http(&replica.base).unwrap();
        let client = reqwest::Client::builder().proxy(proxy).build().unwrap();
        let url = format!("{}{}", rig.upstream.url(), mirror_path(&file.name));
        client.get(url).send().await.unwrap().bytes().await.unwrap()
    };
    let clients = async || {
        let (first, second, third) = tokio::join!(replica.fetch(&file), replica.fetch(&file), by_url());
        answered.store(true, Ordering::SeqCst);
        assert!(third == file.contents.to_bytes());
        (first, second)
    };
    let operator = async || {
        // Long enough that a pass-through would be over, and far less than the replica waits for a catalogue.
        for _ in 0..20 {
            let ready = replica.get("/readyz", false).await;
            assert_eq!(ready.status(), 503);
            assert!(ready.text().await.unwrap().contains("catalogue: none has come"));
        }
        assert!(!answered.load(Ordering::SeqCst));
        assert_eq!(rig.upstream.count_of_distfile(&file.name).requests, 0);
        gate.open();
    };
    let ((first, second), ()) = tokio::join!(clients(), operator());
    assert!(!(first + &second).contains("bypass"), "both came through the cache");
    let count = rig.upstream.count_of_distfile(&file.name);
    assert_eq!((count.requests, count.bytes), (1, 3 << 20), "once for the farm");
    until("it is ready", async || replica.get("/readyz", false).await.status() == 200).await;
    assert_eq!(replica.blobs_on_disk(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_of_three_replicas_cost_one_request() {
    // The soak asks for 100 MB.
    let size = std::env::var("ROOKERY_SOAK_CROWD_BYTES").map_or(16 << 20, |bytes| bytes.parse().unwrap());
    let file = Sim::new("popular-1.tar.xz", size);
    let rig = Rig::start(&[&file]).await;
    let mut replicas = Vec::new();
    for number in 1..=3 {
        replicas.push(rig.replica(number, &file.name).await);
    }
    let clients = (0..100).map(|number| {
        let (replica, file) = (&replicas[number % 3], &file);
        async move {
            let mut response = replica.begin(file).await;
            let mut at = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    let right = file.contents.chunk_at(at, rest.len());
                    assert!(rest[..right.len()] == right[..], "client {number} at {at}");
                    rest = &rest[right.len()..];
                    at += right.len() as u64;
                }
            }
            assert_eq!(at, size, "client {number}");
        }
    });
    futures_util::future::join_all(clients).await;
    let count = rig.upstream.count_of_distfile(&file.name);
    assert_eq!((count.requests, count.bytes), (1, size), "once for the farm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_maintenance_hits_and_misses_go_on_and_are_told_later() {
    let (old, new) = (Sim::new("old-1.tar.xz", 100_000), Sim::new("new-1.tar.xz", 2 << 20));
    let mut rig = Rig::start(&[&old, &new]).await;
    let replica = rig.replica(1, &old.name).await;
    assert!(replica.fetch(&old).await.contains("fwd=miss"));
    rig.until_blobs(&[1]).await;

    rig.kill_maintenance();
    assert!(replica.fetch(&old).await.contains("hit"));
    assert!(replica.fetch(&new).await.contains("fwd=miss"));
    until("the blob is in place", async || replica.fetch(&new).await.contains("hit")).await;
    assert_eq!(rig.upstream.count_of_distfile(&new.name).requests, 1);

    rig.start_maintenance().await;
    rig.until_blobs(&[2]).await;
    let all_is_counted = async || {
        let savings = rig.status().await.and_then(|status| status.savings).unwrap_or_default();
        savings.bytes_fetched == old.contents.size_bytes() + new.contents.size_bytes()
            && savings.requests >= 4
    };
    until("what was fetched meanwhile is counted", all_is_counted).await;
}

/// Has what is to go evicted, as soon as there is something.
async fn evict(rig: &Rig) -> Vec<v1::PlannedEviction> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        assert!(tokio::time::Instant::now() < deadline, "nothing is ever evicted");
        let answer = rig.admin().evict(v1::EvictRequest::default()).await.unwrap().into_inner();
        if !answer.evictions.is_empty() {
            return answer.evictions;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_module_refers_to_is_evicted_by_decision() {
    let (kept, dropped) = (Sim::new("kept-1.tar.xz", 50_000), Sim::new("dropped-1.tar.xz", 60_000));
    let rig = Rig::start(&[&kept, &dropped]).await;
    let replica = rig.replica(1, &kept.name).await;
    replica.fetch(&kept).await;
    replica.fetch(&dropped).await;
    rig.until_blobs(&[2]).await;
    assert_eq!(replica.blobs_on_disk(), 2);

    rig.tree.publish(2, wires(&[&kept]));
    let evictions = evict(&rig).await;
    assert_eq!(evictions[0].names, std::slice::from_ref(&dropped.name));
    assert!(!evictions[0].reason.is_empty());
    rig.until_blobs(&[1]).await;
    assert_eq!(replica.blobs_on_disk(), 1);
    let is_acknowledged = async || rig.status().await.is_some_and(|status| status.decisions_pending == 0);
    until("the decision is acknowledged", is_acknowledged).await;
    assert!(replica.fetch(&kept).await.contains("hit"));
    assert!(replica.fetch(&dropped).await.contains("bypass"), "nobody names it: it goes through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_index_is_rebuilt_from_the_inventories() {
    let (one, two) = (Sim::new("one-1.tar.xz", 2 << 20), Sim::new("two-1.tar.xz", 10_000));
    let mut rig = Rig::start(&[&one, &two]).await;
    let (first, second) = (rig.replica(1, &one.name).await, rig.replica(2, &one.name).await);
    first.fetch(&one).await;
    first.fetch(&two).await;
    second.fetch(&two).await;
    rig.until_blobs(&[2, 1]).await;

    rig.kill_maintenance();
    rig.delete_index();
    rig.start_maintenance().await;
    rig.until_blobs(&[2, 1]).await;
    let is_imported = async || {
        let status = rig.status().await.unwrap_or_default();
        status.modules.iter().all(|module| module.catalogue_generation == 1) && !status.modules.is_empty()
    };
    until("the catalogue is imported again", is_imported).await;
    second.fetch(&one).await;
    for file in [&one, &two] {
        assert_eq!(
            rig.upstream.count_of_distfile(&file.name).requests,
            1,
            "{} came from the peer",
            file.name
        );
    }
    rig.until_blobs(&[2, 2]).await;
}

/// The clock stands still, so that the second index counts its decisions from the same number as the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_index_made_anew_decides_is_carried_out_although_its_number_came_before() {
    let (kept, dropped) = (Sim::new("kept-1.tar.xz", 50_000), Sim::new("dropped-1.tar.xz", 60_000));
    let mut rig = Rig::start(&[&kept, &dropped]).await;
    rig.kill_maintenance();
    // Later than whatever clients ask for in this test.
    rig.clock = Arc::new(ManualClock::new(SystemClock.now().after_ms(10 * 60 * 1000)));
    let replica = rig.new_replica(1, |_| {}).await;
    let mut ids = Vec::new();
    for life in 1..=2 {
        rig.delete_index();
        rig.tree.publish(2 * life, wires(&[&kept, &dropped]));
        rig.start_maintenance().await;
        let knows = async || replica.get(&format!("/{}", dropped.name), true).await.status().is_success();
        until("the catalogue is imported", knows).await;
        replica.fetch(&dropped).await;
        rig.until_blobs(&[1]).await;
        rig.tree.publish(2 * life + 1, wires(&[&kept]));
        evict(&rig).await;
        let list = v1::ListDecisionsRequest::default();
        let decided = rig.admin().list_decisions(list).await.unwrap().into_inner().decisions;
        ids.extend(decided.into_iter().map(|decision| decision.id));
        until("it is evicted", async || replica.blobs_on_disk() == 0).await;
        rig.until_blobs(&[0]).await;
        rig.kill_maintenance();
    }
    let numbers: Vec<_> = ids.iter().filter_map(|id| id.rsplit('-').next()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1] && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_fails_is_a_problem_until_it_gives_a_file() {
    let (file, lacking) = (Sim::new("some-1.tar.xz", 10_000), Sim::new("lacking-1.tar.xz", 10_000));
    let rig = Rig::start(&[&file, &lacking]).await;
    let replica = rig.replica(1, &file.name).await;
    let failing = async || {
        let status = rig.status().await?;
        Some(status.problems.into_iter().find(|one| one.code == "source_failing"))
    };
    rig.upstream.add_fault_everywhere(Fault::Status(404));
    for _ in 0..4 {
        // That a mirror lacks a file is no failure.
        assert_eq!(replica.get(&format!("/distfiles/{}", lacking.name), false).await.status(), 404);
    }
    rig.upstream.clear_faults();
    rig.upstream.add_fault_everywhere(Fault::Status(503));
    for _ in 0..3 {
        assert_eq!(replica.get(&format!("/distfiles/{}", file.name), false).await.status(), 502);
    }
    until("the problem", async || failing().await.flatten().is_some()).await;
    let problem = failing().await.flatten().unwrap();
    assert_eq!(problem.subject, format!("source {}", rig.upstream.url()));
    assert!(
        problem.what.contains("3 failures in") && problem.what.ends_with("answered 503"),
        "{}",
        problem.what
    );
    rig.upstream.clear_faults();
    replica.fetch(&file).await;
    until("its end", async || failing().await.is_some_and(|problem| problem.is_none())).await;
}
