//! Everything that a replica says to maintenance, and everything that it is told.
//!
//! [`Farm`] is the handle that the rest of the crate holds. Nothing here ever keeps a client waiting
//! for long: [`Farm::acquire`] gives up after a bounded time, and at once while maintenance is known to
//! be away, and every report goes through a bounded queue that is emptied when maintenance is there.
//!
//! This module must not touch a blob file: it carries decisions to a [`DecisionExecutor`]. Start reading
//! at [`Farm`], then `link` (registration and calls); `catalogue_feed`, `decisions`, `inventory`,
//! `outbox` and `accesses` are one task each.

mod accesses;
mod catalogue_feed;
mod circuit;
mod decisions;
mod inventory;
mod lease;
mod link;
mod outbox;
mod seen;
mod sources;
mod types;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rookery_proto::v1;
use rookery_proto::v1::acquire_fetch_response::Outcome as Answer;
use service_kit::grpc::ClientChannel;
use service_kit::lifecycle::Tasks;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::advertise::is_reachable;
use crate::app::now_ms;
use crate::catalogue::{Catalogue, KnownDistfile};
use accesses::AccessLog;
pub use lease::LeaseHold;
use link::{Client, Link};
use outbox::{Outbox, Report};
pub use types::{
    Access, AccessOutcome, BlobHash, CommittedBlob, DecisionExecutor, Executed, HeldBlob, Identity,
    ImportMeter, Outcome, Timing,
};

/// Bounds of the pause before a lease that somebody else holds is asked for again.
const RETRY_IN_MIN: Duration = Duration::from_millis(50);
const RETRY_IN_MAX: Duration = Duration::from_secs(10);
/// Replicas that are asked for one blob.
const PEERS_MAX: usize = 16;

/// The answer to [`Farm::acquire`].
#[derive(Debug)]
pub enum Acquired {
    /// Fetch it: nobody else in the farm will.
    Granted(LeaseHold),
    /// Another replica is fetching it: stream from there, or ask again later.
    Held {
        /// Where that replica is reached, if it is.
        advertise: Option<String>,
        /// What it said last to have of it.
        bytes_so_far: u64,
        /// When to ask again.
        retry_in: Duration,
    },
    /// Other replicas have it.
    Present {
        /// Where they are reached; may be empty.
        advertise: Vec<String>,
    },
    /// Maintenance didn't answer in time: fetch it, and [`Farm::report_commit`] afterwards.
    Away,
}

/// What an operator may want to know of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarmState {
    /// Maintenance answered last time, and knows this replica.
    pub is_connected: bool,
    /// Commits, releases and acknowledgements that wait for it.
    pub reports_waiting: usize,
    /// Accesses that were never reported because too many waited.
    pub accesses_dropped: u64,
}

/// The replica's line to maintenance; clones share it.
#[derive(Debug, Clone)]
pub struct Farm {
    /// `None`: there is no maintenance.
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    catalogue: Catalogue,
    tasks: Tasks,
    outbox: Outbox,
    accesses: AccessLog,
}

impl Farm {
    /// Prepares the line. Nothing is sent before [`Self::start`] except what [`Self::acquire`] asks.
    #[must_use]
    pub fn new(
        channel: ClientChannel,
        identity: Identity,
        catalogue: Catalogue,
        tasks: Tasks,
        timing: Timing,
    ) -> Self {
        let link = Arc::new(Link::new(channel, identity, timing));
        let inner =
            Inner { link, catalogue, tasks, outbox: Outbox::default(), accesses: AccessLog::default() };
        Self { inner: Some(Arc::new(inner)) }
    }

    /// A replica that has no maintenance: always [`Acquired::Away`], reports go nowhere.
    #[must_use]
    pub fn detached() -> Self {
        Self { inner: None }
    }

    /// Registers, keeps the catalogue up to date, carries out decisions and sends reports, all in
    /// tasks of their own, until the process stops. Only the first call does anything.
    pub fn start(&self, executor: Arc<dyn DecisionExecutor>) {
        let Some(inner) = &self.inner else { return };
        if !inner.link.start() {
            return;
        }
        let tasks = &inner.tasks;
        let feed = catalogue_feed::run(Arc::clone(&inner.link), inner.catalogue.clone(), tasks.soft());
        tasks.spawn_critical("catalogue feed", feed);
        let inventory = inventory::run(Arc::clone(inner), Arc::clone(&executor), tasks.soft());
        tasks.spawn_critical("inventory", inventory);
        let (farm, soft) = (Arc::clone(inner), tasks.soft());
        tasks.spawn_critical("reports", async move { farm.outbox.run(&farm.link, soft).await });
        let (farm, soft) = (Arc::clone(inner), tasks.soft());
        tasks.spawn_critical("access reports", async move { farm.accesses.run(&farm.link, soft).await });
        decisions::Decisions::start(inner, executor);
    }

    /// Asks for the farm-wide right to fetch. Answers within [`Timing::acquire`], and at once while
    /// maintenance is known to be away.
    pub async fn acquire(&self, distfile: &KnownDistfile) -> Acquired {
        let Some(inner) = &self.inner else { return Acquired::Away };
        let link = &inner.link;
        let Some(object) = wire::fetch_object(distfile) else { return Acquired::Away };
        if !link.circuit.admits(Instant::now()) {
            return Acquired::Away;
        }
        let request =
            v1::AcquireFetchRequest { replica_id: link.identity.replica_id.clone(), object: Some(object) };
        let call = link.call(async |mut client: Client| client.acquire_fetch(request.clone()).await);
        match tokio::time::timeout(link.timing.acquire, call).await {
            Err(_) => {
                link.circuit.note_failure(Instant::now());
                debug!(name = %distfile.distfile.name, "maintenance did not answer in time");
                Acquired::Away
            }
            Ok(Err(status)) => {
                link.note(&status);
                debug!(name = %distfile.distfile.name, %status, "no lease");
                Acquired::Away
            }
            Ok(Ok(answer)) => acquired(inner, answer),
        }
    }

    /// Reports a blob that was fetched without a lease, or imported. Returns at once.
    pub fn report_commit(&self, blob: CommittedBlob) {
        let Some(inner) = &self.inner else { return };
        let request = wire::commit(&inner.link.identity.replica_id, None, blob);
        inner.outbox.push(Report::Commit(Box::new(request)));
    }

    /// Reports what became of directories that the configuration names. Returns at once.
    pub fn report_import(&self, reports: Vec<v1::ImportReport>) {
        if let Some(inner) = &self.inner {
            inner.report_import(String::new(), reports);
        }
    }

    /// A request begins: a stop waits for the word of [`Self::access_ends`].
    pub fn access_begins(&self) {
        if let Some(inner) = &self.inner {
            inner.accesses.open();
        }
    }

    /// It is over, however it ended.
    pub fn access_ends(&self, access: Access) {
        if let Some(inner) = &self.inner {
            inner.accesses.record(access);
            inner.accesses.close();
        }
    }

    /// Reports a request. Never blocks; when the queue is full the access is dropped and counted.
    pub fn record_access(&self, access: Access) {
        if let Some(inner) = &self.inner {
            inner.accesses.record(access);
        }
    }

    /// Reports that a request to a mirror, or to another place outside the farm, ended: well, or with a fault.
    /// Never blocks.
    pub fn record_source(&self, origin: &str, fault: Option<&str>) {
        if let Some(inner) = &self.inner {
            inner.accesses.sources.record(origin, fault, now_ms());
        }
    }

    /// Has the whole inventory reported soon: what is in the store changed in another way than by
    /// commits and decisions.
    pub fn request_inventory(&self) {
        if let Some(inner) = &self.inner {
            inner.outbox.inventory_due.notify_one();
        }
    }

    /// How the line is.
    #[must_use]
    pub fn state(&self) -> FarmState {
        let Some(inner) = &self.inner else {
            return FarmState { is_connected: false, reports_waiting: 0, accesses_dropped: 0 };
        };
        FarmState {
            is_connected: inner.link.is_registered() && !inner.link.circuit.is_away(),
            reports_waiting: inner.outbox.len(),
            accesses_dropped: inner.accesses.dropped(),
        }
    }
}

impl Inner {
    /// Tells how far an import is, whenever that changed, until it is dropped. Nothing waits for it, and what
    /// maintenance does not hear is not said again.
    async fn tell_progress(
        &self,
        decision_id: &str,
        mut progress: watch::Receiver<v1::ImportProgress>,
    ) -> Infallible {
        loop {
            tokio::time::sleep(self.link.timing.progress).await;
            if progress.changed().await.is_err() {
                return std::future::pending().await;
            }
            let request = v1::ReportImportProgressRequest {
                replica_id: self.link.identity.replica_id.clone(),
                decision_id: decision_id.to_owned(),
                progress: Some(progress.borrow_and_update().clone()),
            };
            let make = async |mut client: Client| client.report_import_progress(request.clone()).await;
            if let Err(status) = self.link.call(make).await {
                debug!(%status, "maintenance does not hear how far the import is");
            }
        }
    }

    fn report_import(&self, decision_id: String, reports: Vec<v1::ImportReport>) {
        self.outbox.push(Report::Import(Box::new(v1::ReportImportRequest {
            replica_id: self.link.identity.replica_id.clone(),
            decision_id,
            reports: wire::import_reports(reports),
        })));
    }
}

fn acquired(inner: &Arc<Inner>, answer: v1::AcquireFetchResponse) -> Acquired {
    let own = &inner.link.identity.advertise;
    let is_peer = |advertise: &String| is_reachable(advertise, own);
    match answer.outcome {
        Some(Answer::Granted(lease)) if !decisions::is_id(&lease.lease_id) => {
            warn!("maintenance granted a lease without a usable id");
            Acquired::Away
        }
        Some(Answer::Granted(lease)) => Acquired::Granted(LeaseHold::begin(inner, lease)),
        Some(Answer::Held(held)) => Acquired::Held {
            advertise: Some(held.advertise).filter(is_peer),
            bytes_so_far: held.bytes_so_far,
            retry_in: Duration::from_millis(held.retry_in_ms).clamp(RETRY_IN_MIN, RETRY_IN_MAX),
        },
        Some(Answer::Present(present)) => {
            let peers = present.advertise.into_iter().filter(is_peer).take(PEERS_MAX);
            Acquired::Present { advertise: peers.collect() }
        }
        None => {
            warn!("maintenance answered with something that this version does not know");
            Acquired::Away
        }
    }
}
