//! Who asked for what, and how the sources did: collected without ever making a request wait, reported in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rookery_proto::v1;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::link::{Client, Link, is_transient};
use super::sources::SourceLog;
use super::types::Access;
use super::wire;

/// Accesses of one report.
const BATCH_MAX: usize = 500;
/// What an outage may pile up: some ten megabytes.
const WAITING_MAX: usize = 50_000;
/// How often a replica that stops looks whether its last client is done.
const STOPPING_FLUSH: Duration = Duration::from_millis(100);

/// The queue; one task, [`AccessLog::run`], empties it.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    waiting: Mutex<VecDeque<Access>>,
    batch_is_full: Notify,
    dropped: AtomicU64,
    /// Requests that are being answered, and will be recorded.
    open: AtomicUsize,
    pub(super) sources: SourceLog,
}

impl AccessLog {
    /// One more request is being answered.
    pub(super) fn open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// It is over, and recorded.
    pub(super) fn close(&self) {
        self.open.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn record(&self, access: Access) {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            drop(waiting);
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(waiting = WAITING_MAX, "accesses are dropped: too many wait for maintenance");
            }
            return;
        }
        waiting.push_back(access);
        if waiting.len() == BATCH_MAX {
            self.batch_is_full.notify_one();
        }
    }

    /// Accesses that were never reported because too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Reports until the process stops and nothing is being answered any more.
    pub(super) async fn run(&self, link: &Link, soft: CancellationToken) -> anyhow::Result<()> {
        let process: u64 = rand::random();
        let mut number = 0_u64;
        let mut is_last_round = false;
        while !is_last_round {
            tokio::select! {
                () = tokio::time::sleep(Self::flush_pause(link, &soft)) => {}
                () = self.batch_is_full.notified() => {}
                () = soft.cancelled(), if !soft.is_cancelled() => {}
            }
            is_last_round = soft.is_cancelled() && self.open.load(Ordering::Acquire) == 0;
            loop {
                let (is_last, accesses) = self.take();
                let sources = self.sources.take();
                if accesses.is_empty() && sources.is_empty() {
                    if is_last {
                        break;
                    }
                    continue;
                }
                number += 1;
                let report = v1::ReportAccessesRequest {
                    replica_id: link.identity.replica_id.clone(),
                    report_id: format!("{}-{process:016x}-{number}", link.identity.replica_id),
                    accesses,
                    sources,
                };
                if !deliver(link, &report, &soft).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Soon after the last request, nothing is to be waited for.
    fn flush_pause(link: &Link, soft: &CancellationToken) -> Duration {
        if soft.is_cancelled() {
            link.timing.access_flush.min(STOPPING_FLUSH)
        } else {
            link.timing.access_flush
        }
    }

    /// Whether nothing is left then, and the accesses of the next report.
    fn take(&self) -> (bool, Vec<v1::Access>) {
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH_MAX);
        let accesses = waiting.drain(..count).filter_map(wire::access).collect();
        (waiting.is_empty(), accesses)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Access>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats a report, under the same id, until maintenance has it. False if the process stops before.
async fn deliver(link: &Link, report: &v1::ReportAccessesRequest, soft: &CancellationToken) -> bool {
    let mut retry = link.retry();
    let mut give_up: Option<Instant> = None;
    loop {
        let call = link.call(async |mut client: Client| client.report_accesses(report.clone()).await);
        match link.before(give_up, call).await {
            Ok(_) => return true,
            Err(status) if !is_transient(&status) => {
                warn!(%status, "maintenance refused a report of accesses");
                return true;
            }
            Err(status) => {
                let now = Instant::now();
                if soft.is_cancelled() && now >= *give_up.get_or_insert(now + link.timing.farewell) {
                    debug!(%status, "stopping without the last accesses");
                    return false;
                }
                debug!(%status, "accesses will be reported later");
            }
        }
        link.pause(&mut retry, soft).await;
    }
}
