//! Upstreams that fail in every way: the client ends with the right bytes or with an error, never
//! with a clean short body, and nothing wrong ever gets a name.

use farm_sim::upstream::{Fault, Gate, Object, Upstream};
use service_kit::config::HumanDuration;

use crate::replica::{Client, File, HURRY, Held, Replica, config, know, named, until};

const SMALL: u64 = 40_000;
const LARGE: u64 = 5_000_000;

/// Two mirrors that both have the file; the first one has the fault.
struct Pair {
    dir: tempfile::TempDir,
    bad: Upstream,
    good: Upstream,
    file: File,
}

impl Pair {
    async fn new(size_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bad, good) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
        let file = File::new("a-1.tar", size_bytes);
        bad.put(&file.mirror_path(), file.object());
        good.put(&file.mirror_path(), file.object());
        know(dir.path(), "gentoo", &[&file]).await;
        Self { dir, bad, good, file }
    }

    fn fail(&self, fault: Fault) {
        self.bad.add_fault(&self.file.mirror_path(), fault);
    }

    async fn with_both(&self) -> Replica {
        Replica::start(config(self.dir.path(), &[&self.bad, &self.good])).await
    }

    async fn with_bad_only(&self) -> Replica {
        let mut config = config(self.dir.path(), &[&self.bad]);
        config.timeouts.headers = HumanDuration(HURRY);
        config.timeouts.chunk = HumanDuration(HURRY);
        Replica::start(config).await
    }
}

/// Everything that shows before, or while, the body comes: the next source takes over, and the
/// client notices nothing.
fn faults_that_show(size: u64) -> Vec<Fault> {
    vec![
        Fault::Status(404),
        Fault::Status(500),
        Fault::Status(403),
        Fault::SilentHead,
        Fault::SilentBody { after_bytes: size / 2 },
        Fault::Truncated { after_bytes: size / 2 },
        Fault::Truncated { after_bytes: 0 },
        Fault::Reset { after_bytes: size / 2 },
        Fault::CleanShort { missing_bytes: 1 },
        Fault::Overlong { extra_bytes: 1 },
        Fault::WrongLength { off_by: 5 },
        Fault::WrongLength { off_by: -5 },
        Fault::NoLength,
        Fault::Redirect { to: "http://127.0.0.1:1/".to_owned() },
        Fault::Redirect { to: "ftp://127.0.0.1/".to_owned() },
    ]
}

#[tokio::test]
async fn the_next_source_takes_over() {
    for size in [SMALL, LARGE] {
        for fault in faults_that_show(size) {
            let pair = Pair::new(size).await;
            pair.fail(fault.clone());
            let mut config = config(pair.dir.path(), &[&pair.bad, &pair.good]);
            config.timeouts.headers = HumanDuration(HURRY);
            config.timeouts.chunk = HumanDuration(HURRY);
            let replica = Replica::start(config).await;
            let answer = replica.get(&pair.file.mirror_path()).await;
            assert!(
                answer.complete && answer.body == pair.file.bytes(),
                "{size} {fault:?}: {}",
                answer.status
            );
            until("stored", || named(pair.dir.path()) == ["a-1.tar"]).await;
        }
    }
}

#[tokio::test]
async fn a_resume_goes_on_where_the_last_source_stopped() {
    let pair = Pair::new(LARGE).await;
    pair.fail(Fault::Truncated { after_bytes: 3_000_000 });
    let replica = pair.with_both().await;
    replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
    let start = pair.good.log()[0].range_start.unwrap();
    assert!((1..=3_000_000).contains(&start), "{start}");
    assert_eq!(pair.good.total().bytes, LARGE - start);
}

#[tokio::test]
async fn the_only_source_is_asked_again_for_the_rest() {
    for fault in [Fault::Truncated { after_bytes: 2_000_000 }, Fault::Reset { after_bytes: 2_000_000 }] {
        let pair = Pair::new(LARGE).await;
        pair.bad.add_fault_times(&pair.file.mirror_path(), fault, 2);
        let replica = pair.with_bad_only().await;
        replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
        assert!(pair.bad.log().iter().any(|exchange| exchange.range_start > Some(0)));
    }
}

#[tokio::test]
async fn sources_that_answer_a_resume_wrongly_are_not_believed() {
    for fault in [Fault::IgnoresRange, Fault::WrongRangeStart { shift: 1 }, Fault::Status(416)] {
        let pair = Pair::new(LARGE).await;
        let third = Upstream::start().await.unwrap();
        third.put(&pair.file.mirror_path(), pair.file.object());
        pair.fail(Fault::Truncated { after_bytes: 3_000_000 });
        pair.good.add_fault(&pair.file.mirror_path(), fault.clone());
        let replica = Replica::start(config(pair.dir.path(), &[&pair.bad, &pair.good, &third])).await;
        let answer = replica.get(&pair.file.mirror_path()).await;
        assert!(answer.complete && answer.body == pair.file.bytes(), "{fault:?}");
        let all_again = matches!(fault, Fault::IgnoresRange);
        assert_eq!(third.total().requests == 0, all_again, "{fault:?}");
    }
}

#[tokio::test]
async fn a_small_wrong_file_costs_only_time() {
    let pair = Pair::new(SMALL).await;
    pair.fail(Fault::WrongByte { at: SMALL - 1 });
    let replica = pair.with_both().await;
    replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
    until("stored", || named(pair.dir.path()) == ["a-1.tar"]).await;
}

#[tokio::test]
async fn who_gave_a_wrong_file_is_asked_last_for_it_and_after_three_for_everything() {
    let pair = Pair::new(SMALL).await;
    let others: Vec<File> = (0..4).map(|number| File::new(&format!("b-{number}.tar"), SMALL)).collect();
    for file in &others {
        pair.bad.put(&file.mirror_path(), file.object());
        pair.good.put(&file.mirror_path(), file.object());
    }
    let all: Vec<&File> = std::iter::once(&pair.file).chain(&others).collect();
    know(pair.dir.path(), "gentoo", &all).await;
    let replica = pair.with_both().await;
    let asked = |file: &File| {
        let path = file.mirror_path();
        (pair.bad.count_of_path(&path).requests, pair.good.count_of_path(&path).requests)
    };
    pair.fail(Fault::WrongByte { at: 0 });
    replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
    assert_eq!(asked(&pair.file), (1, 1));
    // One wrong file says nothing about the others.
    replica.get(&others[0].mirror_path()).await.assert_is(&others[0]);
    assert_eq!(asked(&others[0]), (1, 0));
    for file in &others[1..3] {
        pair.bad.add_fault(&file.mirror_path(), Fault::WrongByte { at: 0 });
        replica.get(&file.mirror_path()).await.assert_is(file);
        assert_eq!(asked(file), (1, 1));
    }
    replica.get(&others[3].mirror_path()).await.assert_is(&others[3]);
    assert_eq!(asked(&others[3]), (0, 1), "three different ones do");
}

#[tokio::test]
async fn a_large_wrong_file_breaks_the_connection_and_the_next_client_gets_the_right_one() {
    let pair = Pair::new(LARGE).await;
    let gate = Gate::closed();
    pair.fail(Fault::WrongByte { at: 1000 });
    pair.fail(Fault::Gated { after_bytes: 2_000_000, gate: gate.clone() });
    let replica = pair.with_both().await;
    let path = pair.file.mirror_path();
    let broken = replica.get_broken(&path, &gate).await;
    assert!(broken.body.len() as u64 <= LARGE - 65536);
    assert!(named(pair.dir.path()).is_empty());
    // wget would now ask for the rest and keep its wrong prefix.
    let range = format!("bytes={}-", broken.body.len());
    assert_eq!(replica.get_range(&path, &range).await.status, 404);
    replica.get(&path).await.assert_is(&pair.file);
    assert_eq!(pair.good.total().requests, 1);
    assert_eq!(replica.get_range(&path, &range).await.status, 404, "still the same client");
    let quarantine = std::fs::read_dir(pair.dir.path().join("r0/quarantine")).unwrap();
    assert_eq!(quarantine.count(), 1);
}

#[tokio::test]
async fn when_every_source_fails_the_status_tells_why() {
    for (size, fault, status) in [
        (SMALL, Fault::Status(404), 404),
        (SMALL, Fault::Status(410), 404),
        (SMALL, Fault::Status(500), 502),
        (SMALL, Fault::Status(403), 502),
        (SMALL, Fault::SilentHead, 504),
        (SMALL, Fault::SilentBody { after_bytes: 10 }, 504),
        (SMALL, Fault::WrongByte { at: 3 }, 502),
        (SMALL, Fault::WrongLength { off_by: 1 }, 502),
        (SMALL, Fault::CleanShort { missing_bytes: 1 }, 502),
        (LARGE, Fault::Status(404), 404),
        (LARGE, Fault::Status(503), 502),
        (LARGE, Fault::SilentHead, 504),
    ] {
        let pair = Pair::new(size).await;
        pair.fail(fault.clone());
        if let Fault::Status(404) = fault {
            pair.bad.remove(&pair.file.mirror_path());
        }
        let replica = pair.with_bad_only().await;
        let answer = replica.get(&pair.file.mirror_path()).await;
        assert_eq!(answer.status, status, "{fault:?}: {}", answer.text());
        assert!(named(pair.dir.path()).is_empty());
    }
}

#[tokio::test]
async fn a_body_that_can_not_be_completed_breaks_the_connection() {
    let pair = Pair::new(LARGE).await;
    pair.fail(Fault::SilentBody { after_bytes: 2_000_000 });
    // Every later request stops at once.
    let replica = pair.with_bad_only().await;
    let mut client = Client::get(&replica, &pair.file.mirror_path()).await;
    client.head().await;
    client.body_bytes(1_000_000).await;
    pair.fail(Fault::Status(500));
    let answer = client.rest().await;
    assert!(!answer.complete && answer.body.len() < 5_000_000);
    assert!(answer.body == pair.file.bytes()[..answer.body.len()]);
    assert!(named(pair.dir.path()).is_empty());
}

#[tokio::test]
async fn a_host_that_is_not_there_is_skipped() {
    let pair = Pair::new(SMALL).await;
    let mut config = config(pair.dir.path(), &[&pair.good]);
    let nobody = proxy_cache::config::MirrorUrl::try_from("http://127.0.0.1:1".to_owned()).unwrap();
    config.mirrors.insert(0, nobody);
    let replica = Replica::start(config).await;
    replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
}

#[tokio::test]
async fn a_download_that_everybody_left_is_kept_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("huge-1.tar", 20_000_000);
    upstream.put(&file.mirror_path(), file.object());
    let gate = Gate::closed();
    upstream.add_fault_times(
        &file.mirror_path(),
        Fault::Gated { after_bytes: 5_000_000, gate: gate.clone() },
        1,
    );
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let mut client = Client::get(&replica, &file.mirror_path()).await;
    client.head().await;
    client.body_bytes(4_000_000).await;
    drop(client);
    replica.get(&file.mirror_path()).await.assert_is(&file);
    let log = upstream.log();
    // Whether the second request found the first download or had to resume it, nothing came twice.
    assert!(log.len() <= 2, "{log:?}");
    if let Some(second) = log.get(1) {
        assert!(second.range_start > Some(0), "{second:?}");
    }
    gate.open();
}

#[tokio::test]
async fn a_small_download_is_finished_although_its_client_left() {
    let held = Held::start("a-1.tar", LARGE, 3_000_000).await;
    let Held { upstream, file, gate, replica, .. } = &held;
    let mut client = Client::get(replica, &file.mirror_path()).await;
    client.head().await;
    client.body_bytes(2_000_000).await;
    drop(client);
    gate.open();
    until("stored", || named(held.dir.path()) == ["a-1.tar"]).await;
    assert_eq!(upstream.total().requests, 1);
}

#[tokio::test]
async fn junk_without_a_length_is_dropped_and_the_next_source_gives_all() {
    let pair = Pair::new(SMALL).await;
    pair.bad.put(&pair.file.mirror_path(), Object::Bytes("an error page".into()));
    pair.fail(Fault::NoLength);
    let replica = pair.with_both().await;
    replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
    assert_eq!(pair.good.log()[0].range_start, None, "nothing of the junk is built on");
    until("stored", || named(pair.dir.path()) == ["a-1.tar"]).await;
}

#[tokio::test]
async fn a_wrong_prefix_does_not_cost_the_source_that_completed_it() {
    for (size, breaks_once) in [(SMALL, false), (LARGE, true)] {
        let pair = Pair::new(size).await;
        pair.fail(Fault::WrongByte { at: 10 });
        pair.fail(Fault::Truncated { after_bytes: size / 2 });
        let replica = pair.with_both().await;
        let path = pair.file.mirror_path();
        if breaks_once {
            let gate = Gate::closed();
            pair.good.add_fault_times(&path, Fault::Gated { after_bytes: 1000, gate: gate.clone() }, 1);
            let broken = replica.get_broken(&path, &gate).await;
            let range = format!("bytes={}-", broken.body.len());
            assert_eq!(replica.get_range(&path, &range).await.status, 404);
        }
        replica.get(&path).await.assert_is(&pair.file);
        assert_eq!(pair.good.log().last().unwrap().range_start, None, "alone, from the beginning");
        until("stored", || named(pair.dir.path()) == ["a-1.tar"]).await;
    }
}

#[tokio::test]
async fn a_known_file_that_passes_through_is_verified_too() {
    for size in [SMALL, LARGE] {
        for fault in [
            Fault::WrongByte { at: 10 },
            Fault::WrongByte { at: size - 1 },
            Fault::Truncated { after_bytes: size / 2 },
        ] {
            let pair = Pair::new(size).await;
            pair.fail(fault.clone());
            if matches!(fault, Fault::Truncated { .. }) {
                // A clean end for who sees no length.
                pair.fail(Fault::NoLength);
            }
            let mut config = config(pair.dir.path(), &[&pair.bad, &pair.good]);
            config.capacity.0 = 1000;
            let replica = Replica::start(config).await;
            let broken = replica.get(&pair.file.mirror_path()).await;
            assert_eq!(broken.header("cache-status"), Some("rookery; fwd=bypass"));
            assert!(!broken.complete, "{size} {fault:?}: looked complete");
            replica.get(&pair.file.mirror_path()).await.assert_is(&pair.file);
            assert!(named(pair.dir.path()).is_empty());
        }
    }
}
