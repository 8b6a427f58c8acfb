//! `WatchDecisions`: carried out by the [`DecisionExecutor`], acknowledged through the outbox.
//!
//! Evictions, verifications, fetches and imports have lanes of their own: an eviction that makes room must not
//! wait behind the download of a large file.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gentoo_repo::DistfileName;
use rookery_proto::v1;
use rookery_proto::v1::decision::Action;
use service_kit::backoff::Backoff;
use service_kit::grpc::without_deadline;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Inner;
use super::outbox::Report;
use super::seen::{Before, Seen};
use super::types::{BlobHash, DecisionExecutor, Executed, ImportMeter, Outcome};
use super::wire;

/// Decisions that wait in one lane; one more is answered Busy.
const LANE_WAITING_MAX: usize = 1024;
/// Downloads that nobody waits for, at the same time.
const FETCHES_MAX: usize = 2;

/// The longest path that maintenance takes in a report.
const PATH_OCTETS_MAX: usize = 4096;

/// What is done, with its arguments checked.
enum Work {
    Evict { blob: BlobHash, unless_accessed_after_ms: i64 },
    EvictQuarantined { blob: BlobHash },
    Verify { blob: BlobHash },
    Fetch { name: DistfileName },
    Import { order: v1::ImportDirectory },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evict { blob, .. } => write!(f, "evict {}", hex::encode(blob)),
            Self::EvictQuarantined { blob } => write!(f, "evict {} from quarantine", hex::encode(blob)),
            Self::Verify { blob } => write!(f, "verify {}", hex::encode(blob)),
            Self::Fetch { name } => write!(f, "fetch {name}"),
            Self::Import { order } => write!(f, "import {}", order.dir),
        }
    }
}

struct Job {
    id: String,
    work: Work,
}

/// What takes decisions in.
pub(super) struct Decisions {
    farm: Arc<Inner>,
    executor: Arc<dyn DecisionExecutor>,
    seen: Mutex<Seen>,
    evictions: mpsc::Sender<Job>,
    verifications: mpsc::Sender<Job>,
    fetches: mpsc::Sender<Job>,
    imports: mpsc::Sender<Job>,
}

impl Decisions {
    /// Spawns the lanes and the task that watches.
    pub(super) fn start(farm: &Arc<Inner>, executor: Arc<dyn DecisionExecutor>) {
        let (evictions, evictions_queue) = mpsc::channel(LANE_WAITING_MAX);
        let (verifications, verifications_queue) = mpsc::channel(LANE_WAITING_MAX);
        let (fetches, fetches_queue) = mpsc::channel(LANE_WAITING_MAX);
        let (imports, imports_queue) = mpsc::channel(LANE_WAITING_MAX);
        let decisions = Arc::new(Self {
            farm: Arc::clone(farm),
            executor,
            seen: Mutex::default(),
            evictions,
            verifications,
            fetches,
            imports,
        });
        let lanes = [
            (evictions_queue, 1),
            (verifications_queue, 1),
            (fetches_queue, FETCHES_MAX),
            (imports_queue, 1),
        ];
        for (queue, workers) in lanes {
            let queue = Arc::new(tokio::sync::Mutex::new(queue));
            for _ in 0..workers {
                let worker = Arc::clone(&decisions).work(Arc::clone(&queue), farm.tasks.soft());
                farm.tasks.spawn_critical("decisions' lane", worker);
            }
        }
        farm.tasks.spawn_critical("decisions", decisions.watch(farm.tasks.soft()));
    }

    async fn watch(self: Arc<Self>, soft: CancellationToken) -> anyhow::Result<()> {
        let link = &self.farm.link;
        let mut retry = link.retry();
        while !soft.is_cancelled() {
            let ended = tokio::select! {
                ended = self.watch_once(&mut retry) => ended,
                () = soft.cancelled() => return Ok(()),
            };
            if let Err(status) = ended {
                debug!(%status, "no decisions come");
            }
            link.pause(&mut retry, &soft).await;
        }
        Ok(())
    }

    /// One connection, until it breaks. However it breaks, the next one registers again: maintenance
    /// may have been replaced, and learns the inventory anew.
    async fn watch_once(&self, retry: &mut Backoff) -> Result<(), tonic::Status> {
        let link = &self.farm.link;
        let epoch = link.ensure_registered().await?;
        let ended = async {
            let request = v1::WatchDecisionsRequest { replica_id: link.identity.replica_id.clone() };
            let mut decisions = link.client().watch_decisions(without_deadline(request)).await?.into_inner();
            while let Some(decision) = decisions.message().await? {
                self.take(decision);
            }
            Ok(())
        };
        let began = Instant::now();
        let ended = ended.await;
        link.stream_ended(began, retry);
        link.forget_registration(epoch);
        ended
    }

    /// Queues a decision that is new, answers one that was carried out, ignores one under way.
    fn take(&self, decision: v1::Decision) {
        let id = decision.id;
        if !is_id(&id) {
            // Nor would maintenance take an acknowledgement of it.
            warn!(decision = wire::text(&id), "no decision has such an id; it is not carried out");
            return;
        }
        let reason = wire::text(&decision.reason);
        let work = match check(decision.action) {
            Ok(work) => work,
            Err(executed) => {
                info!(
                    decision = id,
                    reason,
                    detail = executed.detail,
                    "a decision that can't be carried out"
                );
                return self.acknowledge(&id, &executed);
            }
        };
        let before = self.seen().begin(&id);
        match before {
            Before::Running => return,
            Before::Answered(executed) => {
                debug!(decision = id, "delivered again");
                return self.acknowledge(&id, &executed);
            }
            Before::Never => {}
        }
        info!(decision = id, reason, %work, "decision");
        let lane = match work {
            Work::Evict { .. } | Work::EvictQuarantined { .. } => &self.evictions,
            Work::Verify { .. } => &self.verifications,
            Work::Fetch { .. } => &self.fetches,
            Work::Import { .. } => &self.imports,
        };
        if let Err(refused) = lane.try_send(Job { id, work }) {
            let id = refused.into_inner().id;
            self.seen().forget(&id);
            self.acknowledge(&id, &Executed::new(Outcome::Busy, "too many decisions wait"));
        }
    }

    /// One worker of a lane, until the process stops. What is under way then is not acknowledged, so it
    /// comes again.
    async fn work(
        self: Arc<Self>,
        queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>,
        soft: CancellationToken,
    ) -> anyhow::Result<()> {
        let next = async || queue.lock().await.recv().await;
        while let Some(Some(Job { id, work })) = soft.run_until_cancelled(next()).await {
            let executor = Arc::clone(&self.executor);
            let farm = Arc::clone(&self.farm);
            let executing = execute(farm, executor, id.clone(), work);
            let running = self.farm.tasks.spawn("decision", executing);
            let Some(ran) = soft.run_until_cancelled(running).await else { return Ok(()) };
            let crashed = || Executed::new(Outcome::Busy, "carrying it out crashed");
            self.answer(&id, ran.ok().flatten().unwrap_or_else(crashed));
        }
        Ok(())
    }

    fn answer(&self, id: &str, executed: Executed) {
        info!(decision = id, outcome = executed.outcome.as_str(), detail = executed.detail, "carried out");
        self.acknowledge(id, &executed);
        if executed.outcome == Outcome::Damaged {
            // What lies in quarantine now.
            self.farm.outbox.inventory_due.notify_one();
        }
        self.seen().finish(id, executed);
    }

    fn acknowledge(&self, decision_id: &str, executed: &Executed) {
        self.farm.outbox.push(Report::Acknowledge(v1::AcknowledgeDecisionRequest {
            replica_id: self.farm.link.identity.replica_id.clone(),
            decision_id: decision_id.to_owned(),
            outcome: wire::outcome(executed.outcome).into(),
            detail: wire::text(&executed.detail),
            imported: executed.imported,
        }));
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What maintenance takes for an id, and gives.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.:".contains(&octet);
    (1..=128).contains(&text.len()) && text.bytes().all(is_plain)
}

fn check(action: Option<Action>) -> Result<Work, Executed> {
    let hash = |blake2b: Vec<u8>| {
        BlobHash::try_from(blake2b).map_err(|_| Executed::new(Outcome::Gone, "no blob has such a name"))
    };
    match action {
        Some(Action::Evict(evict)) if evict.quarantined => {
            Ok(Work::EvictQuarantined { blob: hash(evict.blake2b)? })
        }
        Some(Action::Evict(evict)) => Ok(Work::Evict {
            blob: hash(evict.blake2b)?,
            unless_accessed_after_ms: evict.unless_accessed_after_ms,
        }),
        Some(Action::Verify(verify)) => Ok(Work::Verify { blob: hash(verify.blake2b)? }),
        Some(Action::Fetch(fetch)) => DistfileName::try_from(fetch.name.as_str())
            .map(|name| Work::Fetch { name })
            .map_err(|error| Executed::new(Outcome::Gone, error.to_string())),
        Some(Action::Import(v1::ImportDirs { dry_run })) => {
            Ok(Work::Import { order: v1::ImportDirectory { dry_run, ..v1::ImportDirectory::default() } })
        }
        Some(Action::ImportDirectory(order))
            if order.dir.len() > PATH_OCTETS_MAX || order.dir.contains(char::is_control) =>
        {
            Err(Executed::new(Outcome::Gone, "no directory has such a path"))
        }
        Some(Action::ImportDirectory(order)) => Ok(Work::Import { order }),
        None => Err(Executed::new(Outcome::Busy, "this version does not know such a decision")),
    }
}

async fn execute(
    farm: Arc<Inner>,
    executor: Arc<dyn DecisionExecutor>,
    decision_id: String,
    work: Work,
) -> Executed {
    match work {
        Work::Evict { blob, unless_accessed_after_ms } => {
            executor.evict(blob, unless_accessed_after_ms).await
        }
        Work::EvictQuarantined { blob } => executor.evict_quarantined(blob).await,
        Work::Verify { blob } => executor.verify(blob).await,
        Work::Fetch { name } => executor.fetch(&name).await,
        Work::Import { order } => {
            let meter = ImportMeter::default();
            let telling = farm.tell_progress(&decision_id, meter.subscribe());
            let reports = tokio::select! {
                reports = executor.import(&order, &meter) => reports,
                never = telling => match never {},
            };
            let failed = reports.iter().find(|report| !report.error.is_empty());
            let detail = failed.map(|report| format!("{}: {}", report.dir, report.error));
            let imported = Some(v1::ImportCounts::of(&reports));
            farm.report_import(decision_id, reports);
            Executed { imported, ..Executed::new(Outcome::Done, detail.unwrap_or_default()) }
        }
    }
}
