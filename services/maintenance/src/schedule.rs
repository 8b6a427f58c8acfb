//! What happens by itself: the nightly run, and sweeping up leases whose holders are gone.
//!
//! The run is due at its time of day in the host's time zone. It is due once, however many nights were
//! slept through, and never twice at the same time: one task does it, one after the other.

use std::sync::Arc;
use std::time::Duration;

use cache_policy::UnixMs;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::config::Nightly;
use crate::core::Core;
use crate::index::{IndexError, RunKind};

/// The wall clock is looked at this often, because it may be set and the host may sleep.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How long the catalogue of what was just published is waited for before planning without it.
const IMPORT_WAIT_MAX: Duration = Duration::from_mins(10);

const LEASES_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
const HISTORY_KEPT_MS: u64 = 400 * 24 * 60 * 60 * 1000;

/// Runs until the service stops.
pub(crate) async fn run(core: Arc<Core>, nightly: Nightly) -> anyhow::Result<()> {
    loop {
        // First of all wait: a run that is caught up after a restart finds sync-server and the replicas there.
        if core.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return Ok(());
        }
        if core.stop.run_until_cancelled(look(&core, nightly, &TimeZone::system())).await.is_none() {
            return Ok(());
        }
    }
}

async fn look(core: &Core, nightly: Nightly, zone: &TimeZone) {
    if let Err(error) = core.index.sweep_leases(core.clock.now(), core.terms, LEASES_KEPT_MS).await {
        tracing::error!(%error, "leases not swept");
    }
    let Nightly::At(time) = nightly else { return };
    match is_due(core, time, zone).await {
        Ok(true) => {
            if let Err(error) = run_nightly(core).await {
                tracing::error!(%error, "nightly run failed");
            }
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "can't tell whether the nightly run is due"),
    }
}

async fn is_due(core: &Core, time: Time, zone: &TimeZone) -> Result<bool, IndexError> {
    let now = core.clock.now();
    let last = core.index.last_begun(RunKind::Nightly).await?;
    Ok(next_due(last, now, time, zone).is_some_and(|due| due <= now))
}

/// The first `time` of day in `zone` after `last`. A `last` in the future (the clock was wrong then)
/// counts as now. In a night that skips that time it is as much later as the clock jumps.
fn next_due(last: UnixMs, now: UnixMs, time: Time, zone: &TimeZone) -> Option<UnixMs> {
    let last = Timestamp::from_millisecond(last.min(now).get()).ok()?;
    let mut date = last.to_zoned(zone.clone()).date();
    loop {
        let due = date.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp();
        if due > last {
            return Some(UnixMs::new(due.as_millisecond()));
        }
        date = date.tomorrow().ok()?;
    }
}

/// Publishes every module, waits for the catalogue, evicts. A step that fails doesn't keep the next from
/// doing what it safely can with what is there.
pub(crate) async fn run_nightly(core: &Core) -> Result<(), IndexError> {
    tracing::info!("nightly run begins");
    let run = core.index.begin_run(RunKind::Nightly, core.clock.now()).await?;
    let mut report = Vec::new();
    let mut succeeded = true;
    match core.publish("", false).await {
        Ok(published) => {
            for answer in &published {
                let Some(generation) = &answer.generation else { continue };
                let what = if answer.changed { "published" } else { "unchanged" };
                report.push(format!("{} {what} at generation {}", generation.module, generation.number));
                if !wait_for_import(core, &generation.module, generation.number).await? {
                    report.push(format!("{}: catalogue not imported in time", generation.module));
                    succeeded = false;
                }
            }
        }
        Err(status) => {
            report.push(format!("publish: {}", status.message()));
            succeeded = false;
        }
    }
    match core.evict().await {
        Ok(plans) => {
            let count: usize = plans.iter().map(|plan| plan.evictions.len()).sum();
            report.push(format!("{count} evictions decided"));
        }
        Err(error) => {
            report.push(error.to_string());
            succeeded = false;
        }
    }
    let now = core.clock.now();
    core.index.prune(now.before_ms(HISTORY_KEPT_MS)).await?;
    let report = report.join("; ");
    tracing::info!(succeeded, report, "nightly run ended");
    core.index.finish_run(run, succeeded, &report, now).await
}

/// Until the module's catalogue is at `generation` or later.
async fn wait_for_import(core: &Core, module: &str, generation: u64) -> Result<bool, IndexError> {
    let mut changes = core.catalogue.subscribe();
    let imported = async {
        loop {
            changes.borrow_and_update();
            let modules = core.index.modules().await?;
            if modules.iter().any(|state| state.name == module && state.generation >= generation) {
                return Ok(true);
            }
            if changes.changed().await.is_err() {
                return Ok(false);
            }
        }
    };
    tokio::time::timeout(IMPORT_WAIT_MAX, imported).await.unwrap_or(Ok(false))
}

#[cfg(test)]
mod tests {
    use cache_policy::eviction::BlobKey;
    use rookery_proto::v1::Generation;
    use service_kit::grpc::GrpcConfig;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::config::Config;
    use crate::index::{BlobRecord, Index, Inventory, Replica};

    fn at(text: &str) -> UnixMs {
        UnixMs::new(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn due(last: &str, zone: &str) -> UnixMs {
        let zone = TimeZone::get(zone).unwrap();
        next_due(at(last), at("2030-01-01T00:00:00Z"), Time::constant(3, 30, 0, 0), &zone).unwrap()
    }

    #[test]
    fn due_at_the_time_of_day_in_the_zone() {
        assert_eq!(due("2026-07-01T00:00:00Z", "UTC"), at("2026-07-01T03:30:00Z"));
        assert_eq!(due("2026-07-01T03:30:00Z", "UTC"), at("2026-07-02T03:30:00Z"));
        assert_eq!(due("2026-07-01T00:00:00Z", "Europe/Berlin"), at("2026-07-01T01:30:00Z"));
        assert_eq!(due("2026-12-31T23:59:59Z", "UTC"), at("2027-01-01T03:30:00Z"));
    }

    #[test]
    fn slept_nights_are_due_once_and_a_wrong_clock_does_not_stop_it() {
        // Ten nights later the due time is still the first one missed: one run, which moves `last`.
        assert_eq!(due("2026-07-01T12:00:00Z", "UTC"), at("2026-07-02T03:30:00Z"));
        let now = at("2026-07-01T12:00:00Z");
        let ahead = next_due(at("2099-01-01T00:00:00Z"), now, Time::constant(3, 30, 0, 0), &TimeZone::UTC);
        assert_eq!(ahead, Some(at("2026-07-02T03:30:00Z")));
    }

    #[test]
    fn nights_when_the_clocks_change() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let due = |last, time| next_due(at(last), at("2030-01-01T00:00:00Z"), time, &berlin).unwrap();
        let half_past_two = Time::constant(2, 30, 0, 0);
        // 02:30 does not exist on 29 March 2026; it is 03:30 summer time then.
        assert_eq!(due("2026-03-28T12:00:00Z", half_past_two), at("2026-03-29T01:30:00Z"));
        // It exists twice on 25 October 2026; the first one counts, and only that.
        assert_eq!(due("2026-10-24T12:00:00Z", half_past_two), at("2026-10-25T00:30:00Z"));
        assert_eq!(due("2026-10-25T00:30:00Z", half_past_two), at("2026-10-26T01:30:00Z"));
    }

    const NOON: &str = "2026-07-01T12:00:00Z";

    /// A core whose sync-server nobody answers for, with one module and one blob that it doesn't refer to.
    async fn core(dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Core {
        let index = Index::open(&dir.path().join("index.db"), clock.now()).await.unwrap();
        let generation = Generation { module: "gentoo".to_owned(), number: 1, ..Generation::default() };
        index.begin_import(&generation).await.unwrap();
        index.finish_import(&generation, true, clock.now()).await.unwrap();
        let replica = Replica {
            id: "r1".to_owned(),
            advertise: String::new(),
            capacity_bytes: 0,
            used_bytes: 0,
            version: String::new(),
        };
        index.register(&replica, clock.now()).await.unwrap();
        let blob = BlobRecord {
            blob: BlobKey::new([7; 64]),
            size_bytes: 1,
            names: vec!["old".to_owned()],
            last_access_ms: 0,
        };
        let inventory = Inventory { replica_id: "r1".to_owned(), blobs: vec![blob], ..Inventory::default() };
        index.replace_inventory(&inventory, clock.now()).await.unwrap();
        // Port 9 (discard) of this host: nothing listens there.
        let away = service_kit::grpc::connect(&GrpcConfig::default(), "http://127.0.0.1:9", LOOK_EVERY);
        let stop = CancellationToken::new();
        Core::new(&Config::default(), index, clock.clone(), away.unwrap(), stop)
    }

    #[tokio::test]
    async fn due_night_evicts_from_the_last_catalogue_although_sync_server_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(at(NOON)));
        let core = core(&dir, &clock).await;
        let decided = async || core.index.count_pending_decisions().await.unwrap();
        look(&core, Nightly::default(), &TimeZone::UTC).await;
        assert_eq!(core.index.last_done_ms(RunKind::Evict).await.unwrap(), 0, "not due on its first day");
        clock.advance_ms(8 * 24 * 60 * 60 * 1000);
        look(&core, Nightly::Off, &TimeZone::UTC).await;
        assert_eq!(decided().await, 0);
        look(&core, Nightly::default(), &TimeZone::UTC).await;
        assert_eq!(decided().await, 1);
        let first = core.index.last_done_ms(RunKind::Evict).await.unwrap();
        assert_eq!(first, clock.now().get());
        clock.advance_ms(60_000);
        look(&core, Nightly::default(), &TimeZone::UTC).await;
        assert_eq!(core.index.last_done_ms(RunKind::Evict).await.unwrap(), first, "eight nights, one run");
        clock.advance_ms(24 * 60 * 60 * 1000);
        look(&core, Nightly::default(), &TimeZone::UTC).await;
        assert!(core.index.last_done_ms(RunKind::Evict).await.unwrap() > first);
    }
}
