//! Who asked for what, and how the sources did: collected without ever making a request wait, reported in batches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rookery_proto::v1;
use tokio::sync::Notify;
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

/// The queue; one task, [`AccessLog::run`], empties it.
#[derive(Debug, Default)]
pub(super) struct AccessLog {
    waiting: Mutex<VecDeque<Access>>,
    batch_is_full: Notify,
    dropped: AtomicU64,
    pub(super) sources: SourceLog,
}

impl AccessLog {
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

    /// Reports until the process stops; then once more what is there.
    pub(super) async fn run(&self, link: &Link, soft: CancellationToken) -> anyhow::Result<()> {
        let process: u64 = rand::random();
        let mut number = 0_u64;
        while !soft.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(link.timing.access_flush) => {}
                () = self.batch_is_full.notified() => {}
                () = soft.cancelled() => {}
            }
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
    let mut registrations = link.registrations();
    loop {
        match link.call(async |mut client: Client| client.report_accesses(report.clone()).await).await {
            Ok(_) => return true,
            Err(status) if !is_transient(&status) => {
                warn!(%status, "maintenance refused a report of accesses");
                return true;
            }
            Err(_) if soft.is_cancelled() => return false,
            Err(status) => debug!(%status, "accesses will be reported later"),
        }
        tokio::select! {
            () = tokio::time::sleep(retry.next_pause()) => {}
            _ = registrations.changed() => {}
            () = soft.cancelled() => {}
        }
    }
}
