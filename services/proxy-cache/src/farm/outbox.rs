//! Reports that must arrive: commits, released leases, imports, acknowledgements.
//!
//! They wait here, bounded, while maintenance is away; their order does not matter to it. What is lost from here (by a
//! restart, or the oldest of too many) is said by the next inventory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rookery_proto::v1;
use service_kit::telemetry::propagation::TraceContext;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{Instrument as _, debug, info_span, warn};

use super::link::{Link, is_transient};

/// More than a day of misses at one every ten seconds.
const WAITING_MAX: usize = 10_000;

/// One report, and the trace of what it reports: that is over when the report is sent.
#[derive(Debug, Clone)]
struct Queued {
    report: Report,
    origin: TraceContext,
}

/// One report.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Report {
    Commit(Box<v1::CommitFetchRequest>),
    Release(v1::ReleaseFetchRequest),
    Acknowledge(v1::AcknowledgeDecisionRequest),
    Import(Box<v1::ReportImportRequest>),
}

impl Report {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Release(_) => "release",
            Self::Acknowledge(_) => "acknowledgement",
            Self::Import(_) => "import",
        }
    }
}

/// The queue; one task, [`Outbox::run`], empties it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
    leases: AtomicUsize,
    /// Held while a report is sent and while an inventory is: an inventory replaces what maintenance
    /// knew, so a commit must not overtake the one that was listed before it.
    pub(super) order: tokio::sync::Mutex<()>,
    /// Wakes whoever reports inventories.
    pub(super) inventory_due: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    reports: VecDeque<Queued>,
    /// Number of the first of `reports`, counted from the start of the process.
    first: u64,
}

impl Outbox {
    /// What is sent because of it belongs to the caller's trace.
    pub(super) fn push(&self, report: Report) {
        let queued = Queued { report, origin: TraceContext::current() };
        let mut waiting = self.lock();
        if waiting.reports.len() == WAITING_MAX {
            waiting.reports.pop_front();
            waiting.first += 1;
            self.inventory_due.notify_one();
            debug!("too many reports wait for maintenance; the next inventory will tell");
        }
        waiting.reports.push_back(queued);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Takes back the release of a lease that was granted again meanwhile.
    pub(super) fn keep_lease(&self, lease_id: &str, fence: u64) {
        let mut waiting = self.lock();
        let is_release = |queued: &Queued| match &queued.report {
            Report::Release(release) => release.lease_id == lease_id && release.fence == fence,
            Report::Commit(_) | Report::Acknowledge(_) | Report::Import(_) => false,
        };
        // The first one may be on its way, and its number must stay.
        if let Some(position) = waiting.reports.iter().skip(1).position(is_release) {
            waiting.reports.remove(position + 1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().reports.len()
    }

    pub(super) fn lease_began(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lease_ended(&self) {
        self.leases.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Sends what waits, until the process stops: then once more for what the last leases leave.
    pub(super) async fn run(&self, link: &Link, soft: CancellationToken) -> anyhow::Result<()> {
        let mut retry = link.retry();
        let mut registrations = link.registrations();
        loop {
            let Some((number, Queued { report, origin })) = self.first() else {
                if soft.is_cancelled() && self.leases.load(Ordering::Relaxed) == 0 {
                    return Ok(());
                }
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = soft.cancelled(), if !soft.is_cancelled() => {}
                }
                continue;
            };
            let order = self.order.lock().await;
            let span = info_span!("report", kind = report.as_str());
            origin.adopt(&span);
            let sent = send(link, &report).instrument(span).await;
            drop(order);
            match sent {
                Ok(()) => self.remove(number),
                Err(status) if !is_transient(&status) => {
                    warn!(report = report.as_str(), %status, "maintenance refused a report");
                    self.remove(number);
                }
                Err(_) if soft.is_cancelled() => return Ok(()),
                Err(status) => {
                    debug!(report = report.as_str(), %status, waiting = self.len(), "will be sent later");
                    self.postpone(number);
                    tokio::select! {
                        () = tokio::time::sleep(retry.next_pause()) => {}
                        _ = registrations.changed() => {}
                        () = soft.cancelled() => {}
                    }
                    continue;
                }
            }
            retry.reset();
        }
    }

    fn first(&self) -> Option<(u64, Queued)> {
        let waiting = self.lock();
        Some((waiting.first, waiting.reports.front()?.clone()))
    }

    /// Puts the report with this number last, so that one that always fails does not stop the others.
    fn postpone(&self, number: u64) {
        let mut waiting = self.lock();
        if waiting.first == number
            && let Some(queued) = waiting.reports.pop_front()
        {
            waiting.reports.push_back(queued);
            waiting.first += 1;
        }
    }

    /// Removes the report with this number, unless it was dropped meanwhile.
    fn remove(&self, number: u64) {
        let mut waiting = self.lock();
        if waiting.first == number && waiting.reports.pop_front().is_some() {
            waiting.first += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(link: &Link, report: &Report) -> Result<(), Status> {
    match report {
        Report::Commit(request) => {
            let make = async |mut client: super::link::Client| client.commit_fetch((**request).clone()).await;
            link.call(make).await.map(|answer| {
                if !answer.lease_was_current {
                    debug!("committed without a current lease: one more copy");
                }
            })
        }
        Report::Release(request) => {
            let make = async |mut client: super::link::Client| client.release_fetch(request.clone()).await;
            link.call(make).await.map(drop)
        }
        Report::Acknowledge(request) => {
            let make =
                async |mut client: super::link::Client| client.acknowledge_decision(request.clone()).await;
            link.call(make).await.map(drop)
        }
        Report::Import(request) => {
            let make =
                async |mut client: super::link::Client| client.report_import((**request).clone()).await;
            link.call(make).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: usize) -> Report {
        Report::Release(v1::ReleaseFetchRequest {
            lease_id: number.to_string(),
            fence: 1,
            ..v1::ReleaseFetchRequest::default()
        })
    }

    #[test]
    fn the_oldest_of_too_many_is_dropped_and_removal_goes_by_number() {
        let outbox = Outbox::default();
        for number in 0..WAITING_MAX {
            outbox.push(release(number));
        }
        let first = || outbox.first().map(|(number, queued)| (number, queued.report));
        assert_eq!(first(), Some((0, release(0))));
        outbox.push(release(WAITING_MAX));
        assert_eq!(outbox.len(), WAITING_MAX);
        outbox.remove(0);
        assert_eq!(first(), Some((1, release(1))), "0 was dropped, so nothing else is");
        outbox.remove(1);
        assert_eq!(first(), Some((2, release(2))));
    }

    #[test]
    fn a_release_that_waits_is_taken_back_when_the_lease_is_granted_again() {
        let outbox = Outbox::default();
        (0..3).for_each(|number| outbox.push(release(number)));
        outbox.keep_lease("1", 1);
        outbox.keep_lease("2", 9);
        outbox.keep_lease("0", 1);
        assert_eq!(outbox.len(), 2, "one is kept for its fence, one may be on its way");
    }
}
