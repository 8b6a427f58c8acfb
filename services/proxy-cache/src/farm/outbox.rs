//! Reports that must arrive: commits, released leases, imports, acknowledgements.
//!
//! They wait here, bounded, while maintenance is away; their order does not matter to it. What is lost from here (by a
//! restart, or the oldest of too many) is said by the next inventory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use prost::Message as _;
use rookery_proto::v1;
use service_kit::telemetry::propagation::TraceContext;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{Instrument as _, debug, info_span, warn};

use super::link::{Link, is_transient};

/// More than a day of misses at one every ten seconds.
const WAITING_MAX: usize = 10_000;

/// What reports of imports may take of our memory: one of them may have megabytes, all others together have less.
const IMPORT_OCTETS_MAX: usize = 32 << 20;

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
    /// Of those that may be long.
    fn octets(&self) -> usize {
        match self {
            Self::Import(request) => request.encoded_len(),
            Self::Commit(_) | Self::Release(_) | Self::Acknowledge(_) => 0,
        }
    }

    fn acknowledges(&self, id: &str) -> bool {
        matches!(self, Self::Acknowledge(request) if request.decision_id == id)
    }

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
        if waiting.has_acknowledgement(&queued) {
            return;
        }
        waiting.make_room_for_import(queued.report.octets());
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
        let mut give_up: Option<Instant> = None;
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
            let sent = link.before(give_up, send(link, &report).instrument(span)).await;
            drop(order);
            match sent {
                Ok(()) => self.remove(number),
                Err(status) if !is_transient(&status) => {
                    warn!(report = report.as_str(), %status, "maintenance refused a report");
                    self.remove(number);
                }
                Err(status) => {
                    if soft.is_cancelled() && self.leases.load(Ordering::Relaxed) == 0 {
                        let now = Instant::now();
                        if now >= *give_up.get_or_insert(now + link.timing.farewell) {
                            warn!(waiting = self.len(), %status, "stopping without the last reports");
                            return Ok(());
                        }
                    }
                    debug!(report = report.as_str(), %status, waiting = self.len(), "will be sent later");
                    self.postpone(number);
                    link.pause(&mut retry, &soft).await;
                    continue;
                }
            }
            retry.reset();
            give_up = None;
        }
    }

    fn first(&self) -> Option<(u64, Queued)> {
        let waiting = self.lock();
        Some((waiting.first, waiting.reports.front()?.clone()))
    }

    /// Puts the report with this number last, so that one that always fails does not stop the others. What became of an
    /// import is told before it is acknowledged, so that goes with it.
    fn postpone(&self, number: u64) {
        let mut waiting = self.lock();
        if waiting.first != number {
            return;
        }
        let Some(queued) = waiting.reports.pop_front() else { return };
        waiting.first += 1;
        let decision_id = match &queued.report {
            Report::Import(request) => request.decision_id.clone(),
            Report::Commit(_) | Report::Release(_) | Report::Acknowledge(_) => String::new(),
        };
        waiting.reports.push_back(queued);
        let its_own = waiting.reports.iter().position(|queued| queued.report.acknowledges(&decision_id));
        if let Some(acknowledgement) = its_own.and_then(|position| waiting.reports.remove(position)) {
            waiting.reports.push_back(acknowledgement);
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

impl Waiting {
    /// A decision that is delivered again and again is to be acknowledged once; what is said of it now counts. The first
    /// report may be on its way, so only the same one need not follow it.
    fn has_acknowledgement(&mut self, new: &Queued) -> bool {
        let Report::Acknowledge(request) = &new.report else { return false };
        let is_of_it = |(_, queued): &(usize, &mut Queued)| queued.report.acknowledges(&request.decision_id);
        match self.reports.iter_mut().enumerate().rfind(is_of_it) {
            None => false,
            Some((0, first)) => first.report == new.report,
            Some((_, waiting)) => {
                waiting.clone_from(new);
                true
            }
        }
    }

    /// Nobody waits any more for what an import did long ago. The first report may be on its way.
    fn make_room_for_import(&mut self, octets: usize) {
        if octets == 0 {
            return;
        }
        let mut all = octets + self.reports.iter().map(|queued| queued.report.octets()).sum::<usize>();
        while all > IMPORT_OCTETS_MAX {
            let oldest = self.reports.iter().skip(1).position(|queued| queued.report.octets() > 0);
            let Some(dropped) = oldest.and_then(|position| self.reports.remove(position + 1)) else { return };
            all -= dropped.report.octets();
            debug!("too many reports of imports wait for maintenance; the oldest is dropped");
        }
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

    fn import(decision_id: &str, octets: usize) -> Report {
        let report = v1::ImportReport { error: "x".repeat(octets), ..v1::ImportReport::default() };
        Report::Import(Box::new(v1::ReportImportRequest {
            decision_id: decision_id.to_owned(),
            reports: vec![report],
            ..v1::ReportImportRequest::default()
        }))
    }

    fn acknowledge(decision_id: &str, detail: &str) -> Report {
        Report::Acknowledge(v1::AcknowledgeDecisionRequest {
            decision_id: decision_id.to_owned(),
            detail: detail.to_owned(),
            ..v1::AcknowledgeDecisionRequest::default()
        })
    }

    fn waiting(outbox: &Outbox) -> Vec<Report> {
        outbox.lock().reports.iter().map(|queued| queued.report.clone()).collect()
    }

    #[test]
    fn reports_of_imports_take_no_more_than_they_may() {
        let outbox = Outbox::default();
        let octets = IMPORT_OCTETS_MAX / 4;
        outbox.push(release(0));
        for id in ["a", "b", "c", "d", "e"] {
            outbox.push(import(id, octets));
        }
        let left = [release(0), import("c", octets), import("d", octets), import("e", octets)];
        assert!(waiting(&outbox) == left);
    }

    #[test]
    fn an_acknowledgement_waits_once_as_it_was_said_last_and_behind_its_report() {
        let outbox = Outbox::default();
        outbox.push(acknowledge("a", "1"));
        outbox.push(acknowledge("a", "1"));
        assert_eq!(waiting(&outbox), [acknowledge("a", "1")]);
        outbox.push(acknowledge("a", "2"));
        outbox.push(acknowledge("a", "3"));
        assert_eq!(waiting(&outbox), [acknowledge("a", "1"), acknowledge("a", "3")]);
        outbox.remove(0);
        outbox.push(import("i", 1));
        outbox.push(acknowledge("i", ""));
        outbox.push(release(1));
        outbox.postpone(1);
        outbox.postpone(2);
        let order = [release(1), acknowledge("a", "3"), import("i", 1), acknowledge("i", "")];
        assert_eq!(waiting(&outbox), order);
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
