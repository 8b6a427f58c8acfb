//! Whatever is wrong is told everywhere: on the status screen, in the metrics, below `/readyz`, and to the
//! webhook; and that it is over is told, too.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]

mod support;

use std::sync::{Arc, Mutex};

use rookery_proto::v1::{Access, AccessOutcome, EvictRequest, ReportAccessesRequest, SourceTally};
use serde_json::Value;
use support::{DAY_MS, Rig, START_MS, blob, distfile, eventually};

const MIRROR: &str = "https://mirror.example";
const MINUTE_MS: i64 = 60_000;

/// Where everything is told, and what has come there.
struct Farm {
    rig: Rig,
    /// Codes that came and that went, as the webhook was told.
    told: Arc<Mutex<Vec<String>>>,
    webhook: String,
    generation: u64,
    report: u64,
}

impl Farm {
    async fn start() -> Self {
        service_kit::process::install_crypto_provider();
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook = format!("http://{}/", listener.local_addr().unwrap());
        let hear = axum::routing::post({
            let told = Arc::clone(&told);
            async move |axum::Json(message): axum::Json<Value>| {
                for (list, sign) in [("came", '+'), ("went", '-')] {
                    let codes = message[list].as_array().unwrap().iter();
                    let codes = codes.map(|one| {
                        format!(
                            "{sign}{} {}",
                            one["code"].as_str().unwrap(),
                            one["subject"].as_str().unwrap()
                        )
                    });
                    told.lock().unwrap().extend(codes);
                }
            }
        });
        let router = axum::Router::new().route("/", hear);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let rig = Rig::start_with(|config| config.health.webhook.clone_from(&webhook)).await;
        let mut farm = Self { rig, told, webhook, generation: 0, report: 0 };
        farm.rig.register("r1").await;
        farm.rig.tree.publish_at("gentoo", 1, &[distfile("a")], START_MS);
        farm.rig.imported("gentoo", 1).await;
        farm.look().await;
        farm
    }

    /// A new generation of another module makes maintenance look at once.
    async fn look(&mut self) {
        self.generation += 1;
        let name = format!("file-{}", self.generation);
        self.rig.tree.publish_at("guru", self.generation, &[distfile(&name)], self.rig.now_ms());
        self.rig.imported("guru", self.generation).await;
    }

    async fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.rig.running.web_addr);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// What the replica saw of a mirror.
    async fn saw(&mut self, ok: bool, tries: u64) {
        self.report += 1;
        let now = self.rig.now_ms();
        let failures = if ok { 0 } else { tries };
        let tally = SourceTally {
            origin: MIRROR.to_owned(),
            tries,
            failures,
            last_ok_ms: if ok { now } else { 0 },
            failing_since_ms: if ok { 0 } else { now },
            row: failures,
            last_failed_ms: if ok { 0 } else { now },
            fault: if ok { String::new() } else { "connecting timed out".to_owned() },
        };
        let request = ReportAccessesRequest {
            replica_id: "r1".to_owned(),
            report_id: self.report.to_string(),
            sources: vec![tally],
            ..ReportAccessesRequest::default()
        };
        // However often it comes.
        for _ in 0..2 {
            self.rig.client().report_accesses(request.clone()).await.unwrap();
        }
    }

    async fn is_problem(&self, code: &str, subject: &str, what: &str) -> bool {
        let problems = self.rig.status().await.problems;
        problems.iter().any(|one| one.code == code && one.subject == subject && one.what.contains(what))
    }

    /// It is a problem everywhere.
    async fn assert_told(&mut self, code: &str, subject: &str, what: &str) {
        assert!(
            self.is_problem(code, subject, what).await,
            "{code} {subject} {what}: {:?}",
            self.rig.status().await.problems
        );
        self.look().await;
        eventually(async || {
            self.get("/metrics").await.contains(&format!("rookery_problem{{code=\"{code}\"}} 1\n"))
                && self.get("/readyz").await.contains(&format!("warning: {subject}: "))
                && self.get("/status.json").await.contains(&format!("\"code\":\"{code}\""))
                && self.told.lock().unwrap().contains(&format!("+{code} {subject}"))
        })
        .await;
        assert!(!self.told.lock().unwrap().contains(&format!("-{code} {subject}")));
    }

    /// It is over everywhere.
    async fn assert_over(&mut self, code: &str, subject: &str) {
        self.look().await;
        eventually(async || {
            !self.is_problem(code, subject, "").await
                && self.get("/metrics").await.contains(&format!("rookery_problem{{code=\"{code}\"}} 0\n"))
                && !self.get("/readyz").await.contains(&format!("warning: {subject}: "))
                && self.told.lock().unwrap().contains(&format!("-{code} {subject}"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_mirror_that_fails_for_long_is_told_until_it_answers() {
    let mut farm = Farm::start().await;
    let (code, subject) = ("source_failing", "source https://mirror.example");
    for _ in 0..3 {
        assert!(!farm.is_problem(code, subject, "").await, "not yet");
        farm.saw(false, 1).await;
        farm.rig.clock.advance_ms(5 * MINUTE_MS);
    }
    let what = "3 failures in 15 min without a success, seen by replica r1: connecting timed out";
    farm.assert_told(code, subject, what).await;
    farm.saw(true, 1).await;
    farm.assert_over(code, subject).await;
}

#[tokio::test]
async fn a_mirror_that_fails_often_is_told_until_nobody_knows_any_more() {
    let mut farm = Farm::start().await;
    let (code, subject) = ("source_failing", "source https://mirror.example");
    for _ in 0..12 {
        farm.saw(true, 1).await;
        farm.saw(false, 1).await;
        farm.rig.clock.advance_ms(1000);
    }
    farm.assert_told(code, subject, "12 of 24 requests failed within an hour, seen by replica r1").await;
    farm.rig.clock.advance_ms(61 * MINUTE_MS);
    farm.assert_over(code, subject).await;
}

#[tokio::test]
async fn a_failing_mirror_is_still_known_after_a_restart() {
    let mut farm = Farm::start().await;
    for _ in 0..3 {
        farm.saw(false, 1).await;
        farm.rig.clock.advance_ms(6 * MINUTE_MS);
    }
    farm.rig.restart().await;
    assert!(farm.is_problem("source_failing", "source https://mirror.example", "3 failures").await);
}

#[tokio::test]
async fn what_is_over_when_it_starts_again_is_told_and_what_lasts_is_no_news() {
    let mut farm = Farm::start().await;
    let gentoo = "module gentoo";
    farm.rig.tree.last_error("gentoo", "its signature is not good");
    farm.assert_told("tree_refused", gentoo, "its signature is not good").await;
    farm.rig.clock.advance_ms(2 * DAY_MS);
    farm.look().await;
    farm.assert_told("tree_old", gentoo, "2 d old").await;
    // What is told next is told after that was written down.
    farm.rig.tree.key_expires("gentoo", farm.rig.now_ms() + DAY_MS);
    farm.assert_told("key_expires", gentoo, "a key that may sign").await;
    farm.rig.stop().await;
    farm.rig.tree.publish_at("gentoo", 2, &[distfile("a")], farm.rig.now_ms());
    let count = |told: &str| farm.told.lock().unwrap().iter().filter(|one| *one == told).count();
    assert_eq!(count("-tree_old module gentoo"), 0);

    let webhook = farm.webhook.clone();
    farm.rig.start_again_with(|config| config.health.webhook.clone_from(&webhook)).await;
    eventually(async || count("-tree_old module gentoo") == 1).await;
    assert_eq!((count("+tree_refused module gentoo"), count("-tree_refused module gentoo")), (1, 0));

    // Whoever is somebody else has heard of nothing.
    farm.rig.stop().await;
    let other = format!("{webhook}?other");
    farm.rig.start_again_with(|config| config.health.webhook = other).await;
    eventually(async || count("+tree_refused module gentoo") == 2).await;
    assert_eq!(count("-tree_old module gentoo"), 1);
}

#[tokio::test]
async fn an_odd_report_of_sources_is_left_out_and_a_flood_of_them_refused() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let tally = |origin: String| SourceTally {
        origin,
        tries: 100,
        failures: 100,
        row: 100,
        failing_since_ms: START_MS - DAY_MS / 2,
        last_failed_ms: i64::MAX,
        ..SourceTally::default()
    };
    let report = |id: usize, sources: Vec<SourceTally>| ReportAccessesRequest {
        replica_id: "r1".to_owned(),
        report_id: id.to_string(),
        sources,
        ..ReportAccessesRequest::default()
    };
    let odd = SourceTally { tries: 1, ..tally("https://liar.example".to_owned()) };
    let sources = vec![tally("a b".to_owned()), tally("x".repeat(301)), odd, tally(MIRROR.to_owned())];
    rig.client().report_accesses(report(0, sources)).await.unwrap();
    let failing = async || {
        let problems = rig.status().await.problems;
        problems
            .into_iter()
            .filter(|one| one.code == "source_failing")
            .map(|one| one.subject)
            .collect::<Vec<_>>()
    };
    assert_eq!(failing().await, [format!("source {MIRROR}")]);
    let many =
        |from: usize, count: usize| (from..from + count).map(|n| tally(format!("http://m{n:04}"))).collect();
    assert!(rig.client().report_accesses(report(1, many(0, 257))).await.is_err());
    for number in 0..10 {
        rig.client().report_accesses(report(2 + number, many(number * 200, 200))).await.unwrap();
    }
    assert_eq!(failing().await.len(), 1000, "a replica can't fill the index");
    rig.clock.advance_ms(61 * MINUTE_MS);
    assert!(failing().await.is_empty(), "a clock that is ahead makes nothing last");
}

#[tokio::test]
async fn an_old_tree_is_told_until_a_newer_one_is_published() {
    let mut farm = Farm::start().await;
    let (code, gentoo) = ("tree_old", "module gentoo");
    assert!(!farm.is_problem(code, gentoo, "").await);
    farm.rig.clock.advance_ms(2 * DAY_MS);
    farm.look().await;
    farm.assert_told(code, gentoo, "its tree is 2 d old").await;
    farm.rig.tree.publish_at("gentoo", 2, &[distfile("a")], farm.rig.now_ms());
    farm.assert_over(code, gentoo).await;
}

#[tokio::test]
async fn a_tree_that_was_refused_and_a_key_that_expires_are_told_until_that_is_mended() {
    let mut farm = Farm::start().await;
    let gentoo = "module gentoo";
    farm.rig.tree.last_error("gentoo", "its signature is not good");
    farm.assert_told("tree_refused", gentoo, "not published: its signature is not good").await;
    farm.rig.tree.last_error("gentoo", "");
    farm.assert_over("tree_refused", gentoo).await;
    farm.rig.tree.key_expires("gentoo", farm.rig.now_ms() + DAY_MS);
    farm.assert_told("key_expires", gentoo, "a key that may sign its tree expires in").await;
    farm.rig.tree.key_expires("gentoo", 0);
    farm.assert_over("key_expires", gentoo).await;
}

#[tokio::test]
async fn a_replica_that_is_gone_and_a_disk_that_stays_full_are_told() {
    let mut farm = Farm::start().await;
    let r1 = "replica r1";
    farm.rig.inventory_of("r1", vec![blob("a")], 1000).await;
    assert!(!farm.is_problem("disk_full", r1, "").await, "nobody has tried to make room yet");
    farm.rig.admin().evict(EvictRequest::default()).await.unwrap();
    farm.assert_told("disk_full", r1, "above the high water although evictions were made").await;
    farm.rig.inventory_of("r1", vec![blob("a")], 1 << 30).await;
    farm.assert_over("disk_full", r1).await;
    farm.rig.clock.advance_ms(6 * MINUTE_MS);
    farm.assert_told("replica_gone", r1, "not heard of for 6 min").await;
    farm.rig.register("r1").await;
    farm.assert_over("replica_gone", r1).await;
}

#[tokio::test]
async fn a_flood_of_accesses_in_one_report_is_refused_and_counts_nothing() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let access = Access {
        name: "a".to_owned(),
        client: "10.0.0.1".to_owned(),
        at_ms: START_MS,
        bytes_served: 1,
        outcome: AccessOutcome::Hit.into(),
        ..Access::default()
    };
    let report = |count| ReportAccessesRequest {
        replica_id: "r1".to_owned(),
        report_id: "flood".to_owned(),
        accesses: vec![access.clone(); count],
        ..ReportAccessesRequest::default()
    };
    let refused = rig.client().report_accesses(report(10_001)).await.unwrap_err();
    assert_eq!(refused.message(), "accesses: at most 10000 are expected, found 10001");
    assert_eq!(rig.status().await.savings.unwrap().requests, 0);
    rig.client().report_accesses(report(10_000)).await.unwrap();
    assert_eq!(rig.status().await.savings.unwrap().requests, 10_000, "the id is not used up");
}
