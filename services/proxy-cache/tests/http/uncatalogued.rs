//! What no tree lists: kept and answered with by the rules of RFC 9111, or passed through.

use std::path::Path;
use std::time::Duration;

use farm_sim::upstream::Gate;
use futures_util::future::join_all;
use proxy_cache::Config;
use service_kit::config::{ByteSize, HumanDuration};

use crate::origin::{Origin, Script};
use crate::replica::{Answer, Client, DEADLINE, Replica, config, named};

const FRESH: &str = "Cache-Control: max-age=3600\r\nETag: \"1\"\r\n";
const STALE: &str = "ETag: \"1\"\r\nContent-Type: text/index\r\n";

async fn start(dir: &Path) -> Replica {
    Replica::start(config(dir, &[])).await
}

/// Bodies that are kept.
fn kept(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("r0/responses/heads")).map_or(0, Iterator::count)
}

/// Waits until `tag`ged contents are found for a request with this `Accept`; nobody else is asked for that.
async fn until_kept(replica: &Replica, url: &str, accept: &str, tag: &str) {
    let headers = [("Cache-Control", "only-if-cached, max-stale"), ("Accept", accept)];
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = replica.ask("HEAD", url, &headers).await;
        if answer.status == 200 && answer.header("etag") == Some(tag) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{url} was never kept: {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
fn check(answer: &Answer, status: u16, body: &str, cache_status: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (status, body));
    assert!(answer.complete, "it broke");
    assert_eq!(answer.header("cache-status"), Some(cache_status));
}

#[tokio::test]
async fn a_fresh_response_costs_one_request_ranges_conditions_and_a_restart_included() {
    let dir = tempfile::tempdir().unwrap();
    let headers = format!("{FRESH}Content-Type: text/index\r\nAge: 7\r\nConnection: x-hop\r\nX-Hop: 1\r\n");
    let origin = Origin::start([Script::ok(&headers, "the index")]).await;
    let url = origin.url("/binpkgs/Packages");
    let replica = start(dir.path()).await;
    let first = replica.get(&url).await;
    check(&first, 200, "the index", "rookery; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(first.header("x-hop"), None);
    until_kept(&replica, &url, "*/*", "\"1\"").await;
    for round in 0..2 {
        let replica = if round == 0 { &replica } else { &start(dir.path()).await };
        if round == 1 {
            assert_eq!(kept(dir.path()), 1);
        }
        let again = replica.get(&url).await;
        let told = again.header("cache-status").unwrap().to_owned();
        assert!(told.starts_with("rookery; hit; ttl=35"), "{told}");
        assert_eq!((again.status, again.text().as_str()), (200, "the index"));
        assert_eq!((again.header("content-type"), again.header("etag")), (Some("text/index"), Some("\"1\"")));
        let age: u64 = again.header("age").unwrap().parse().unwrap();
        assert!((7..300).contains(&age), "{age}");
        let part = replica.get_range(&url, "bytes=4-6").await;
        assert_eq!((part.status, part.text().as_str()), (206, "ind"));
        assert_eq!(part.header("content-range"), Some("bytes 4-6/9"));
        assert_eq!(replica.ask("GET", &url, &[("If-None-Match", "\"1\"")]).await.status, 304);
        let head = replica.ask("HEAD", &url, &[]).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("9")));
        if round == 0 {
            replica.kit.tasks.soft().cancel();
            replica.kit.tasks.hard().cancel();
            replica.kit.tasks.finish().await;
        }
    }
    assert_eq!(origin.requests().len(), 1);
    assert!(named(dir.path()).is_empty(), "nothing of it gets a distfile's name");
}

#[tokio::test]
async fn a_stale_response_is_validated_and_upstreams_failure_is_bridged() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start([Script::ok(STALE, "the index")]).await;
    let url = origin.url("/Packages");
    let replica = start(dir.path()).await;
    replica.get(&url).await;
    until_kept(&replica, &url, "*/*", "\"1\"").await;
    origin.push(Script::status(304, "ETag: \"1\"\r\nX-New: 1\r\n"));
    check(&replica.get(&url).await, 200, "the index", "rookery; fwd=stale; fwd-status=304");
    assert!(origin.requests()[1].to_lowercase().contains("if-none-match: \"1\""), "{:?}", origin.requests());
    // The client has it, and upstream says that it is right.
    origin.push(Script::status(304, "ETag: \"1\"\r\n"));
    assert_eq!(replica.ask("GET", &url, &[("If-None-Match", "\"1\"")]).await.status, 304);
    origin.push(Script::status(503, ""));
    let bridged = "rookery; fwd=stale; fwd-status=503; detail=stale-if-error";
    check(&replica.get(&url).await, 200, "the index", bridged);
    // It closes without a word.
    check(&replica.get(&url).await, 200, "the index", "rookery; fwd=stale; detail=stale-if-error");
    let insisting = replica.ask("GET", &url, &[("Cache-Control", "no-cache")]).await;
    assert_eq!(insisting.status, 502);
    origin.push(Script::status(404, ""));
    assert_eq!(replica.get(&url).await.status, 404, "an answer is no failure");
    origin.push(Script::ok("ETag: \"2\"\r\n", "another index"));
    check(&replica.get(&url).await, 200, "another index", "rookery; fwd=stale; fwd-status=200; stored");
    until_kept(&replica, &url, "*/*", "\"2\"").await;
    origin.push(Script::status(304, "ETag: \"2\"\r\n"));
    check(&replica.get(&url).await, 200, "another index", "rookery; fwd=stale; fwd-status=304");
    assert_eq!(kept(dir.path()), 1);
}

#[tokio::test]
async fn what_is_stale_for_too_long_bridges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start([Script::ok(STALE, "old")]).await;
    let mut settings = config(dir.path(), &[]);
    settings.uncatalogued.stale_if_error = HumanDuration(Duration::ZERO);
    let replica = Replica::start(settings).await;
    let url = origin.url("/x");
    replica.get(&url).await;
    until_kept(&replica, &url, "*/*", "\"1\"").await;
    // Only whole seconds count, so the second in which it came may still.
    let mut last = replica.get(&url).await;
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while last.status == 200 && tokio::time::Instant::now() < deadline {
        last = replica.get(&url).await;
    }
    assert_eq!(last.status, 502);
}

#[tokio::test]
async fn what_must_not_be_kept_passes_through_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let replica = start(dir.path()).await;
    let plain: &[(&str, &str)] = &[];
    for (asked, answer, told) in [
        (plain, Script::ok("Cache-Control: no-store\r\n", "x"), "uri-miss; fwd-status=200; detail=no-store"),
        (
            plain,
            Script::ok("Cache-Control: Private, max-age=9\r\n", "x"),
            "uri-miss; fwd-status=200; detail=private",
        ),
        (
            plain,
            Script::ok(&format!("{FRESH}Set-Cookie: a=b\r\n"), "x"),
            "uri-miss; fwd-status=200; detail=set-cookie",
        ),
        (plain, Script::ok(&format!("{FRESH}Vary: *\r\n"), "x"), "uri-miss; fwd-status=200; detail=vary-all"),
        (plain, Script::ok("", "x"), "uri-miss; fwd-status=200; detail=no-validator"),
        (
            plain,
            Script::new(&format!("HTTP/1.1 200 OK\r\n{FRESH}Connection: close\r\n\r\nx")),
            "uri-miss; fwd-status=200; detail=unknown-end",
        ),
        (&[("Authorization", "Basic eA==")][..], Script::ok(FRESH, "x"), "bypass; fwd-status=200"),
        (&[("Cache-Control", "no-store")], Script::ok(FRESH, "x"), "bypass; fwd-status=200"),
        (
            &[("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT")],
            Script::ok(FRESH, "x"),
            "uri-miss; fwd-status=200",
        ),
        (&[("Range", "bytes=0-")], Script::ok(FRESH, "x"), "uri-miss; fwd-status=200"),
    ] {
        let origin = Origin::start([answer.clone(), answer]).await;
        for _ in 0..2 {
            let got = replica.ask("GET", &origin.url("/x"), asked).await;
            assert_eq!(got.header("cache-status"), Some(format!("rookery; fwd={told}").as_str()));
            assert_eq!((got.status, got.text().trim_end_matches("0\r\n\r\n").contains('x')), (200, true));
            assert_eq!(got.header("set-cookie"), None);
        }
        let requests = origin.requests();
        assert_eq!(requests.len(), 2, "{told}");
        assert_eq!(
            requests[0].to_lowercase().contains("authorization: basic"),
            asked.contains(&("Authorization", "Basic eA=="))
        );
    }
    assert_eq!(kept(dir.path()), 0);
}

#[tokio::test]
async fn a_body_without_a_length_is_kept_only_if_its_last_chunk_came() {
    let dir = tempfile::tempdir().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let whole = format!("{head}2\r\nde\r\n0\r\n\r\n");
    let origin = Origin::start([Script::new(&head), Script::new(&whole)]).await;
    let replica = start(dir.path()).await;
    let url = origin.url("/x");
    assert!(!replica.get(&url).await.complete, "a broken body looks whole");
    assert_eq!(kept(dir.path()), 0);
    assert!(replica.get(&url).await.complete);
    until_kept(&replica, &url, "*/*", "\"1\"").await;
    let again = replica.get(&url).await;
    assert_eq!((again.text().as_str(), again.header("content-length")), ("abcde", Some("5")));
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_not_kept_and_not_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let short = Script::new(&format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 10\r\n\r\nabc"));
    let origin = Origin::start([short, Script::ok(FRESH, "0123456789")]).await;
    let replica = start(dir.path()).await;
    let url = origin.url("/x");
    assert!(!replica.get(&url).await.complete);
    assert_eq!(replica.get(&url).await.text(), "0123456789");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_cost_one_request_and_see_it_grow() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::closed();
    let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 8\r\n\r\n1234");
    let origin = Origin::start([Script::new(&head).then(&gate, "5678")]).await;
    let replica = start(dir.path()).await;
    let url = origin.url("/x");
    let mut clients = join_all((0..30).map(|_| Client::send(&replica, "GET", &url, &[]))).await;
    let mut collapsed = 0;
    for client in &mut clients {
        let told = client.head().await.header("cache-status").unwrap().to_owned();
        collapsed += usize::from(told == "rookery; fwd=uri-miss; fwd-status=200; stored; collapsed");
        client.body_bytes(4).await;
    }
    assert_eq!(collapsed, 29);
    // Who made it start may go; the others stay.
    drop(clients.remove(0));
    gate.open();
    for answer in join_all(clients.into_iter().map(Client::rest)).await {
        assert_eq!((answer.text().as_str(), answer.complete), ("12345678", true));
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn what_vary_names_makes_another_response() {
    let dir = tempfile::tempdir().unwrap();
    let vary = format!("{FRESH}Vary: Accept\r\n");
    let origin = Origin::start([Script::ok(&vary, "a"), Script::ok(&vary, "b")]).await;
    let replica = start(dir.path()).await;
    let url = origin.url("/x");
    for (accept, body, told) in [
        ("text/a", "a", "fwd=uri-miss"),
        ("text/b", "b", "fwd=vary-miss"),
        ("text/a", "a", "hit"),
        ("text/b", "b", "hit"),
    ] {
        let answer = replica.ask("GET", &url, &[("Accept", accept)]).await;
        assert_eq!(answer.text(), body);
        assert!(answer.header("cache-status").unwrap().starts_with(&format!("rookery; {told}")), "{told}");
        if told != "hit" {
            until_kept(&replica, &url, accept, "\"1\"").await;
        }
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn its_room_is_bounded_and_taken_from_the_caches_own() {
    let dir = tempfile::tempdir().unwrap();
    let large = "x".repeat(300_000);
    let answers = (0..12).map(|_| Script::ok(FRESH, &large));
    let origin = Origin::start(answers).await;
    let mut settings = config(dir.path(), &[]);
    settings.capacity = ByteSize(10 << 20);
    settings.uncatalogued.object_max = ByteSize(400_000);
    let replica = Replica::start(settings).await;
    for number in 0..10 {
        let url = origin.url(&format!("/{number}"));
        assert_eq!(replica.get(&url).await.text(), large);
        // One that is still being written has its room for itself, and three of them leave none.
        until_kept(&replica, &url, "*/*", "\"1\"").await;
    }
    let bytes = || -> u64 {
        let bodies = std::fs::read_dir(dir.path().join("r0/responses/bodies")).unwrap();
        bodies.filter_map(|body| body.unwrap().metadata().ok()).map(|body| body.len()).sum()
    };
    assert!(bytes() <= 1 << 20, "{} bytes are kept", bytes());
    let told = replica.get(&origin.url("/9")).await;
    assert!(told.header("cache-status").unwrap().starts_with("rookery; hit"));
    origin.push(Script::ok(FRESH, &"y".repeat(400_001)));
    drop(replica.get(&origin.url("/10")).await);
    drop(replica.get(&origin.url("/11")).await);
    let refused = replica.get(&origin.url("/large")).await;
    assert_eq!(
        refused.header("cache-status"),
        Some("rookery; fwd=uri-miss; fwd-status=200; detail=too-large")
    );
    assert_eq!(refused.body.len(), 400_001);
}

#[tokio::test]
async fn nothing_is_kept_if_it_is_to_have_no_room_and_nobody_is_asked_if_the_client_forbids() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start([Script::ok(FRESH, "x"), Script::ok(FRESH, "x")]).await;
    let settings = Config {
        uncatalogued: proxy_cache::config::Uncatalogued { capacity: ByteSize(0), ..Default::default() },
        ..config(dir.path(), &[])
    };
    let replica = Replica::start(settings).await;
    for _ in 0..2 {
        check(&replica.get(&origin.url("/x")).await, 200, "x", "rookery; fwd=bypass; fwd-status=200");
    }
    assert_eq!(origin.requests().len(), 2);
    assert!(!dir.path().join("r0/responses").exists());
    let other = tempfile::tempdir().unwrap();
    let replica = start(other.path()).await;
    let answer = replica.ask("GET", &origin.url("/x"), &[("Cache-Control", "only-if-cached")]).await;
    assert_eq!((answer.status, origin.requests().len()), (504, 2));
}
