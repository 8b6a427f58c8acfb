//! A clock that jumps ahead: nothing goes for its age until it is believed.

use cache_policy::lease::Fence;
use rookery_proto::v1::{Module, Problem};

use super::*;
use crate::index::{Acquisition, Object, RunRow};

const YEARS: i64 = 10 * 365 * DAY_MS;
const REPORT: &str = "report";

/// sync-server serves a tree that was made then.
fn tree_of(core: &Core, made: UnixMs) {
    let live = Generation {
        module: "gentoo".to_owned(),
        number: 1,
        timestamp_ms: made.get(),
        ..Generation::default()
    };
    core.trees.listed(vec![Module { name: "gentoo".to_owned(), live: Some(live), ..Module::default() }]);
}

async fn night(core: &Core) -> Option<RunRow> {
    core.index.last_run(RunKind::Nightly).await.unwrap()
}

async fn problem(core: &Core) -> Option<Problem> {
    let seen = core.trees.seen();
    let problems = core.problems(core.clock.now(), &seen, &[], &[], None).await.unwrap();
    problems.into_iter().find(|problem| problem.subject == "clock")
}

/// Whether the report, which is kept for 30 days, is forgotten.
async fn is_pruned(core: &Core) -> bool {
    core.index.count_accesses("r1", REPORT, &[], &[], core.clock.now()).await.unwrap()
}

/// One that has one blob which may go in a week, and a report.
async fn begun(dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Core {
    let core = core(dir, clock, Nightly::default()).await;
    inventory(&core.index, clock.now(), &[(OLD, 0), (OLD + 1, 0)]).await;
    assert!(is_pruned(&core).await);
    looks(&core, clock, 70).await;
    core
}

/// The process ends and the next one begins, after so long.
async fn again(core: Core, dir: &tempfile::TempDir, clock: &Arc<ManualClock>, off_ms: i64) -> Core {
    core.index.close().await;
    drop(core);
    clock.set_by_ms(off_ms);
    over(dir, clock, Nightly::default()).await
}

async fn lease(core: &Core) -> (String, Fence) {
    let object = Object {
        name: "fetched".to_owned(),
        algorithm: "BLAKE2B".to_owned(),
        digest: vec![9; 64],
        size_bytes: 9,
    };
    match core.index.acquire(&object, "r1", core.clock.now(), core.terms, |_| false).await.unwrap() {
        Acquisition::Granted { lease_id, fence, .. } => (lease_id, fence),
        Acquisition::Held { .. } | Acquisition::Present { .. } => panic!("somebody has it"),
    }
}

#[tokio::test]
async fn nothing_goes_for_its_age_until_the_clock_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = begun(&dir, &clock).await;
    clock.set_by_ms(YEARS);
    let asked = core.evict(&Agreement::default(), false).await.unwrap();
    assert!(asked.evictions().next().is_some() && asked.is_braked(), "before the next look, too");
    looks(&core, &clock, 60).await;
    assert_eq!((night(&core).await, evictions(&core).await), (None, 0));
    let told = problem(&core).await.unwrap();
    assert_eq!(told.code, "clock_ahead");
    assert!(told.what.contains("2036-06-28T14:10:00Z, 3650 d after 2026-07-01T14:10:00Z"), "{}", told.what);
    assert!(
        told.what_to_do.contains("--yes-clock") && told.what_to_do.contains("2 d"),
        "{}",
        told.what_to_do
    );
    // A run by command asks, and keeps what is old.
    let kinds: Vec<_> = core.plan().await.unwrap().brakes().into_iter().map(|brake| brake.kind).collect();
    assert_eq!(kinds, ["clock"]);
    let run = core.run_nightly(&Step::ALL, false).await.unwrap();
    assert_eq!(run.steps.last().unwrap().outcome, "stopped");
    assert!(evictions(&core).await == 0 && !is_pruned(&core).await);

    clock.set_by_ms(-YEARS);
    looks(&core, &clock, 1).await;
    assert_eq!(problem(&core).await, None);
    clock.advance_ms(DAY_MS);
    looks(&core, &clock, 1).await;
    assert_eq!(night(&core).await.unwrap().started_ms, clock.now().get());
    assert!(evictions(&core).await == 0 && !is_pruned(&core).await, "its grace is not over");
}

#[tokio::test]
async fn a_lease_outlives_a_jump_that_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = begun(&dir, &clock).await;
    let renew = async |(lease_id, fence): &(String, Fence)| {
        core.index.renew("r1", lease_id, *fence, 1, clock.now(), core.terms).await.unwrap()
    };
    let held = lease(&core).await;
    clock.set_by_ms(YEARS);
    look(&core).await;
    clock.set_by_ms(-YEARS);
    assert!(renew(&held).await.is_ok());
    clock.advance_ms(YEARS);
    look(&core).await;
    assert!(renew(&held).await.is_err(), "these years did pass");
}

#[tokio::test]
async fn a_host_that_was_off_for_months_goes_on_with_the_first_new_tree() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = begun(&dir, &clock).await;
    tree_of(&core, clock.now());
    let core = again(core, &dir, &clock, 90 * DAY_MS).await;
    assert!(
        core.evict(&Agreement::default(), false).await.unwrap().is_braked(),
        "before the first look, too"
    );
    tree_of(&core, at(NOON));
    looks(&core, &clock, 30).await;
    assert_eq!((night(&core).await, problem(&core).await.unwrap().code.as_str()), (None, "clock_ahead"));
    tree_of(&core, clock.now());
    looks(&core, &clock, 1).await;
    assert_eq!(night(&core).await.unwrap().started_ms, clock.now().get());
    assert_eq!((problem(&core).await, is_pruned(&core).await), (None, true));
    // It stays believed, although the tree gets old.
    clock.advance_ms(8 * DAY_MS);
    looks(&core, &clock, 1).await;
    let core = again(core, &dir, &clock, DAY_MS).await;
    looks(&core, &clock, 1).await;
    assert_eq!(problem(&core).await, None);
}

#[tokio::test]
async fn an_operator_says_that_it_is_right_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = begun(&dir, &clock).await;
    clock.set_by_ms(YEARS);
    looks(&core, &clock, 2).await;
    let agreed = Agreement { clock: true, percent: 100, ..Agreement::default() };
    let dry = core.evict(&agreed, true).await.unwrap();
    assert!(!dry.is_braked() && core.plan().await.unwrap().doubt.is_some(), "a dry run changes nothing");
    assert!(!core.evict(&agreed, false).await.unwrap().is_braked());
    assert_eq!((evictions(&core).await, problem(&core).await), (2, None));
    let core = again(core, &dir, &clock, 60_000).await;
    looks(&core, &clock, 1).await;
    assert_eq!(problem(&core).await, None);
    assert!(night(&core).await.is_some() && is_pruned(&core).await);
}

#[tokio::test]
async fn a_clock_that_is_behind_the_newest_tree_is_told_and_puts_no_time_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(at(NOON)));
    let core = begun(&dir, &clock).await;
    let asked = clock.now().get();
    inventory(&core.index, clock.now(), &[(OLD, asked)]).await;
    tree_of(&core, clock.now());
    clock.set_by_ms(-YEARS);
    looks(&core, &clock, 60).await;
    core.evict(&Agreement::default(), false).await.unwrap();
    assert_eq!(accesses(&core).await, [asked]);
    let told = problem(&core).await.unwrap();
    assert!(told.code == "clock_behind" && told.what_to_do.contains("set the clock"), "{told:?}");
    clock.set_by_ms(YEARS);
    looks(&core, &clock, 1).await;
    assert_eq!((problem(&core).await, accesses(&core).await), (None, vec![asked]));
}
