//! Nights, minute by minute, and what the clock does meanwhile.

mod jump;

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;
use jiff::Timestamp;
use rookery_proto::v1::Generation;
use service_kit::grpc::GrpcConfig;
use service_kit::lifecycle::Tasks;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::config::Config;
use crate::index::{Agreement, BlobRecord, Index, Inventory, ObjectQuery, Replica};
use crate::nights::{Nightly, Schedule};

fn at(text: &str) -> UnixMs {
    UnixMs::new(text.parse::<Timestamp>().unwrap().as_millisecond())
}

const NOON: &str = "2026-07-01T12:00:00Z";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// What the replica has from the beginning.
const OLD: u8 = 7;

/// The replica has these, and says when they were last asked for.
async fn inventory(index: &Index, now: UnixMs, blobs: &[(u8, i64)]) {
    let blob = |(number, last_access_ms): &(u8, i64)| BlobRecord {
        blob: BlobKey::new([*number; 64]),
        size_bytes: 1,
        names: vec![format!("file-{number}")],
        last_access_ms: *last_access_ms,
        quarantined: false,
    };
    let blobs = blobs.iter().map(blob).collect();
    let inventory = Inventory { replica_id: "r1".to_owned(), blobs, begun: now, ..Inventory::default() };
    index.replace_inventory(&inventory, now).await.unwrap();
}

/// A core whose sync-server nobody answers for, with one module and one blob that it doesn't refer to.
async fn core(dir: &tempfile::TempDir, clock: &Arc<ManualClock>, nightly: Nightly) -> Core {
    let index = Index::open(&dir.path().join("index.db"), clock.now()).await.unwrap();
    let generation = Generation { module: "gentoo".to_owned(), number: 1, ..Generation::default() };
    index.begin_import(&generation).await.unwrap();
    let brakes = crate::core::policy(&Config::default()).brakes;
    index.finish_import(&generation, true, brakes, clock.now()).await.unwrap();
    let replica =
        Replica { id: "r1".to_owned(), advertise: String::new(), capacity_bytes: 0, version: String::new() };
    index.register(&replica, clock.now()).await.unwrap();
    inventory(&index, clock.now(), &[(OLD, 0)]).await;
    index.close().await;
    drop(index);
    over(dir, clock, nightly).await
}

/// One more process over the index that is there.
async fn over(dir: &tempfile::TempDir, clock: &Arc<ManualClock>, nightly: Nightly) -> Core {
    let index = Index::open(&dir.path().join("index.db"), clock.now()).await.unwrap();
    // Port 9 (discard) of this host: nothing listens there.
    let away = service_kit::grpc::connect(&GrpcConfig::default(), "http://127.0.0.1:9", LOOK_EVERY);
    let time_zone = "UTC".parse().unwrap();
    let schedule = Schedule { nightly, time_zone, ..Schedule::default() };
    let config = Config { schedule, ..Config::default() };
    let remembered = index.remembered_clock().await.unwrap();
    Core::new(&config, index, clock.clone(), remembered, away.unwrap(), Tasks::new())
}

#[tokio::test]
async fn due_night_evicts_from_the_last_catalogue_although_sync_server_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::default()).await;
    let decided = async || core.index.count_pending_decisions().await.unwrap();
    look(&core).await;
    assert_eq!(core.index.last_done_ms(RunKind::Evict).await.unwrap(), 0, "not due on its first day");
    clock.advance_ms(8 * DAY_MS);
    look(&core).await;
    // One to evict, and before that it was read.
    assert_eq!(decided().await, 2);
    let first = core.index.last_done_ms(RunKind::Evict).await.unwrap();
    assert_eq!(first, clock.now().get());
    let run = core.index.last_run(RunKind::Nightly).await.unwrap().unwrap();
    let outcomes: Vec<_> = run.steps.iter().map(|step| (step.name.as_str(), step.outcome.as_str())).collect();
    let expected = [
        ("publish", "failed"),
        ("catalogue", "failed"),
        ("import", "skipped"),
        ("scrub", "done"),
        ("plan", "done"),
        ("evict", "done"),
    ];
    assert_eq!(outcomes, expected);
    clock.advance_ms(60_000);
    look(&core).await;
    assert_eq!(core.index.last_done_ms(RunKind::Evict).await.unwrap(), first, "eight nights, one run");
    clock.advance_ms(DAY_MS);
    look(&core).await;
    assert!(core.index.last_done_ms(RunKind::Evict).await.unwrap() > first);
}

#[tokio::test]
async fn off_is_never_and_what_was_cut_off_is_due_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let off = core(&dir, &clock, Nightly::Off).await;
    clock.advance_ms(8 * DAY_MS);
    look(&off).await;
    assert_eq!(off.index.last_run(RunKind::Nightly).await.unwrap(), None);
    off.index.close().await;
    drop(off);

    let core = core(&dir, &clock, Nightly::default()).await;
    look(&core).await;
    assert!(!is_due(&core).await.unwrap());
    core.index.begin_run(RunKind::Nightly, clock.now()).await.unwrap();
    assert!(!is_due(&core).await.unwrap(), "it is under way");
    assert_eq!(core.index.close_interrupted(clock.now()).await.unwrap(), 1);
    assert!(is_due(&core).await.unwrap());
    look(&core).await;
    assert!(!is_due(&core).await.unwrap());
    // An index that failed in mid-run has one left that is under way, while none is.
    core.index.begin_run(RunKind::Nightly, clock.now()).await.unwrap();
    let held = core.running.lock().await;
    look(&core).await;
    assert_eq!(core.index.last_run(RunKind::Nightly).await.unwrap().unwrap().outcome, "", "it is under way");
    drop(held);
    look(&core).await;
    assert!(!is_due(&core).await.unwrap());
    assert_eq!(core.index.last_run(RunKind::Nightly).await.unwrap().unwrap().outcome, "failed");
}

#[tokio::test]
async fn a_run_of_a_clock_that_was_ahead_keeps_no_night_from_coming() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::default()).await;
    clock.advance_ms(20_000 * DAY_MS);
    look(&core).await;
    let began = async || core.index.last_run(RunKind::Nightly).await.unwrap().unwrap().started_ms;
    assert_eq!(began().await, clock.now().get());
    clock.advance_ms(-19_999 * DAY_MS);
    for _ in 0..3 {
        look(&core).await;
        let now = clock.now().get();
        assert_eq!(began().await, now, "once when the clock is right again, then night by night");
        clock.advance_ms(60_000);
        look(&core).await;
        assert_eq!(began().await, now, "and not twice");
        clock.advance_ms(DAY_MS);
    }
}

/// When each blob was last asked for, in the order of their digests.
async fn accesses(core: &Core) -> Vec<i64> {
    let all = ObjectQuery { limit: 10, ..ObjectQuery::default() };
    let mut rows = core.index.objects(&all).await.unwrap().rows;
    rows.sort_by_key(|row| row.blob);
    rows.into_iter().map(|row| row.last_access_ms).collect()
}

async fn looks(core: &Core, clock: &ManualClock, count: usize) {
    for _ in 0..count {
        clock.advance_ms(60_000);
        look(core).await;
    }
}

async fn evictions(core: &Core) -> u64 {
    core.index.pending_evictions().await.unwrap().iter().map(|(_, count)| count).sum()
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_protects_for_one_grace() {
    const YEARS: i64 = 10 * 365 * DAY_MS;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::default()).await;
    looks(&core, &clock, 12).await;
    clock.advance_ms(YEARS);
    let ahead = clock.now();
    let told = [(OLD, ahead.get()), (OLD + 1, ahead.get())];
    inventory(&core.index, ahead, &told).await;
    look(&core).await;
    assert_eq!(accesses(&core).await, [ahead.get(); 2]);
    clock.advance_ms(-YEARS);
    looks(&core, &clock, 9).await;
    assert_eq!(accesses(&core).await, [ahead.get(); 2], "the clock was changed just now");
    looks(&core, &clock, 1).await;
    let put_back = clock.now().get();
    assert_eq!(accesses(&core).await, [put_back; 2]);
    for _ in 0..6 {
        clock.advance_ms(DAY_MS);
        // The replica's own clock is right again, too, and what it wrote is not.
        inventory(&core.index, clock.now(), &told).await;
        looks(&core, &clock, 1).await;
        assert_eq!((accesses(&core).await, evictions(&core).await), (vec![put_back; 2], 0));
    }
    clock.advance_ms(2 * DAY_MS);
    looks(&core, &clock, 1).await;
    assert_eq!(evictions(&core).await, 2);
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_decided_is_called_back_and_its_copies_can_go() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::Off).await;
    clock.advance_ms(400 * DAY_MS);
    inventory(&core.index, clock.now(), &[(OLD, 0), (OLD + 1, 0)]).await;
    core.evict(&Agreement::default(), false).await.unwrap();
    assert_eq!(evictions(&core).await, 1, "its grace seemed to be over");
    clock.advance_ms(-399 * DAY_MS);
    looks(&core, &clock, 10).await;
    assert_eq!(evictions(&core).await, 0);
    // What is not there any more is forgotten, whenever it came.
    clock.advance_ms(1);
    inventory(&core.index, clock.now(), &[(OLD, 0)]).await;
    assert_eq!(accesses(&core).await.len(), 1);
    clock.advance_ms(7 * DAY_MS);
    core.evict(&Agreement::default(), false).await.unwrap();
    assert_eq!(evictions(&core).await, 1, "now it is");
}

#[tokio::test]
async fn a_clock_that_is_behind_for_a_while_after_a_start_changes_no_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::Off).await;
    let asked = clock.now().get();
    inventory(&core.index, clock.now(), &[(OLD, asked)]).await;
    clock.advance_ms(-5000 * DAY_MS);
    looks(&core, &clock, 9).await;
    core.evict(&Agreement::default(), false).await.unwrap();
    clock.advance_ms(5000 * DAY_MS);
    looks(&core, &clock, 3).await;
    assert_eq!(accesses(&core).await, [asked]);
    clock.advance_ms(-20 * DAY_MS);
    core.evict(&Agreement::default(), false).await.unwrap();
    assert_eq!(accesses(&core).await, [asked], "nobody has looked at it since");
}

#[tokio::test]
async fn never_two_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = core(&dir, &clock, Nightly::default()).await;
    let held = core.running.lock().await;
    assert!(matches!(core.run_nightly(&Step::ALL, false).await, Err(NightError::UnderWay)));
    drop(held);
    let run = core.run_nightly(&[Step::Plan, Step::Scrub], true).await.unwrap();
    let names: Vec<_> = run.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["scrub", "plan"], "in the run's order");
    assert_eq!(core.index.count_pending_decisions().await.unwrap(), 0, "a dry run changes nothing");
    assert_eq!(core.index.last_run(RunKind::Nightly).await.unwrap(), None);
}
