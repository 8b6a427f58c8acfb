//! The nightly run: publish, catalogue, import, scrub, plan, evict.
//!
//! Every step may be repeated, and none rests on what an earlier one left in memory: a run that was cut
//! off is finished by the next one, which does all of it again. A step that fails doesn't keep the next
//! from doing what it safely can with what is there.

use std::time::Duration;

use cache_policy::UnixMs;
use rookery_proto::v1::{ImportCounts, ImportDirectory, ListModulesRequest, Progress};
use tokio::time::Instant;

use crate::core::Core;
use crate::index::{Agreement, FarmPlan, IndexError, RunKind, RunOutcome, RunRow, StepRow};
use crate::progress::Task;
use crate::text::bytes;
use crate::trees;

/// How long the catalogue of what was just published is waited for before planning without it.
const IMPORT_WAIT_MAX: Duration = Duration::from_mins(10);

/// How long the replicas may take to adopt what lies in their import directories.
const ADOPT_WAIT_MAX: Duration = Duration::from_hours(1);

/// How long the report waits for evictions; those that take longer go on without it.
const EVICT_WAIT_MAX: Duration = Duration::from_mins(2);

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// sync-server looks at its sources.
    Publish,
    /// What it serves is in the catalogue.
    Catalogue,
    /// Replicas adopt what lies in their import directories.
    Import,
    /// A share of all blobs is read.
    Scrub,
    /// What goes, and why.
    Plan,
    /// It goes.
    Evict,
}

impl Step {
    /// In the order in which they are done.
    pub(crate) const ALL: [Self; 6] =
        [Self::Publish, Self::Catalogue, Self::Import, Self::Scrub, Self::Plan, Self::Evict];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Catalogue => "catalogue",
            Self::Import => "import",
            Self::Scrub => "scrub",
            Self::Plan => "plan",
            Self::Evict => "evict",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NightError {
    /// Never two at once.
    #[error("a run is under way; `rookery status` shows how far it is")]
    UnderWay,
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

type Report = (RunOutcome, String);

impl Core {
    /// Does these steps, in their order. With `dry_run`, each only says what it would do.
    pub(crate) async fn run_nightly(&self, steps: &[Step], dry_run: bool) -> Result<RunRow, NightError> {
        let Ok(_alone) = self.running.try_lock() else { return Err(NightError::UnderWay) };
        let started = self.clock.now();
        let whole = Step::ALL.iter().all(|step| steps.contains(step));
        let kind = if whole { RunKind::Nightly } else { RunKind::Command };
        let run = if dry_run { None } else { Some(self.index.begin_run(kind, started).await?) };
        tracing::info!(dry_run, steps = steps.len(), "run begins");
        let steps: Vec<_> = Step::ALL.into_iter().filter(|step| steps.contains(step)).collect();
        let under_way = self.under_way.begin(Progress {
            kind: "run".to_owned(),
            steps: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            started_ms: started.get(),
            ..Progress::default()
        });
        let mut done = Vec::new();
        let mut worst = RunOutcome::Done;
        for (position, step) in (0_u32..).zip(steps) {
            under_way.step(step.as_str(), position);
            let (outcome, report) = self.do_step(step, dry_run, &under_way).await?;
            tracing::info!(step = step.as_str(), outcome = outcome.as_str(), report, "step");
            let row =
                StepRow { name: step.as_str().to_owned(), outcome: outcome.as_str().to_owned(), report };
            if let Some(run) = run {
                self.index.finish_step(run, position.into(), &row).await?;
            }
            worst = match (worst, outcome) {
                (RunOutcome::Failed, _) | (_, RunOutcome::Failed) => RunOutcome::Failed,
                (RunOutcome::Stopped, _) | (_, RunOutcome::Stopped) => RunOutcome::Stopped,
                (_, RunOutcome::Done | RunOutcome::Skipped) => RunOutcome::Done,
            };
            done.push(row);
        }
        let now = self.clock.now();
        if let Some(run) = run {
            let reading = self.reading();
            if self.doubt_at(reading).is_none() {
                self.index.prune(reading.now).await?;
            } else {
                tracing::warn!("nothing is pruned: the clock is doubted");
            }
            let reports: Vec<_> = done.iter().map(|row| format!("{}: {}", row.name, row.report)).collect();
            self.index.finish_run(run, worst, &reports.join("; "), now).await?;
        }
        tracing::info!(dry_run, outcome = worst.as_str(), "run ended");
        Ok(RunRow {
            started_ms: started.get(),
            finished_ms: now.get(),
            outcome: worst.as_str().to_owned(),
            steps: done,
        })
    }

    async fn do_step(&self, step: Step, dry_run: bool, under_way: &Task) -> Result<Report, IndexError> {
        match step {
            Step::Publish => Ok(self.publish_step(dry_run, under_way).await),
            Step::Catalogue => self.catalogue_step(dry_run, under_way).await,
            Step::Import => self.import_step(dry_run, under_way).await,
            Step::Scrub => {
                let now = self.clock.now();
                let next_run = self.next_run(now).await?;
                let scrub = self.index.scrub(now, next_run, self.scrub_nights, dry_run).await?;
                self.decisions_made();
                let verb = if dry_run { "would be" } else { "are" };
                Ok((RunOutcome::Done, format!("{} blobs ({}) {verb} read", scrub.blobs, bytes(scrub.bytes))))
            }
            Step::Plan => match self.plan().await {
                Ok(plan) => Ok((RunOutcome::Done, plan_text(&plan))),
                Err(error) => error.into_report(),
            },
            Step::Evict => self.evict_step(dry_run, under_way).await,
        }
    }

    async fn publish_step(&self, dry_run: bool, under_way: &Task) -> Report {
        if dry_run {
            return match self.tree().list_modules(ListModulesRequest {}).await {
                Ok(listing) => {
                    let names: Vec<_> =
                        listing.into_inner().modules.into_iter().map(|module| module.name).collect();
                    (RunOutcome::Done, format!("would look at the sources of {}", names.join(", ")))
                }
                Err(status) => (RunOutcome::Failed, format!("sync-server: {}", trees::reason(&status))),
            };
        }
        let count = |_: &str, done, total| under_way.count("modules", done, total);
        match self.publish("", false, count).await {
            Ok(published) => {
                let text = |answer: &rookery_proto::v1::PublishResponse| {
                    let generation = answer.generation.as_ref()?;
                    let what = if answer.changed { "published" } else { "unchanged" };
                    Some(format!("{} {what} at generation {}", generation.module, generation.number))
                };
                let texts: Vec<_> = published.iter().filter_map(text).collect();
                (RunOutcome::Done, texts.join(", "))
            }
            Err(status) => (RunOutcome::Failed, status.message().to_owned()),
        }
    }

    async fn catalogue_step(&self, dry_run: bool, under_way: &Task) -> Result<Report, IndexError> {
        let modules = match self.tree().list_modules(ListModulesRequest {}).await {
            Ok(listing) => listing.into_inner().modules,
            Err(status) => {
                let why = trees::reason(&status);
                return Ok((RunOutcome::Failed, format!("going on with the last one: {why}")));
            }
        };
        let mut outcome = RunOutcome::Done;
        let mut texts = Vec::new();
        let live: Vec<_> = modules.into_iter().filter_map(|module| module.live).collect();
        let total = live.len() as u64;
        for (done, live) in (0..).zip(live) {
            under_way.count("modules", done, total);
            let is_here = if dry_run {
                let known = self.index.modules().await?;
                known.iter().any(|one| one.name == live.module && one.generation >= live.number)
            } else {
                self.wait_for_import(&live.module, live.number).await?
            };
            if is_here {
                texts.push(format!("{} at generation {}", live.module, live.number));
            } else {
                let verb = if dry_run { "would be" } else { "not" };
                texts.push(format!("{} {verb} imported at generation {}", live.module, live.number));
                outcome = if dry_run { outcome } else { RunOutcome::Failed };
            }
        }
        for suspect in self.index.suspects(self.policy.brakes).await? {
            texts.push(suspect.to_string());
        }
        Ok((outcome, texts.join(", ")))
    }

    /// Until the module's catalogue is at `generation` or later.
    async fn wait_for_import(&self, module: &str, generation: u64) -> Result<bool, IndexError> {
        let mut changes = self.catalogue.subscribe();
        let imported = async {
            loop {
                changes.borrow_and_update();
                let modules = self.index.modules().await?;
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

    async fn import_step(&self, dry_run: bool, under_way: &Task) -> Result<Report, IndexError> {
        let replicas = self.presence.connected();
        if replicas.is_empty() {
            return Ok((RunOutcome::Skipped, "no replica is connected".to_owned()));
        }
        if dry_run {
            return Ok(self.would_import(replicas, under_way).await);
        }
        let ids = self.decide_imports(&replicas).await?;
        for row in self.index.decisions(&ids, 0).await? {
            under_way.expect(&row.id, &row.replica_id);
        }
        self.wait_for_decisions(&ids, ADOPT_WAIT_MAX).await?;
        under_way.expect_nothing();
        let mut outcome = RunOutcome::Done;
        let mut texts = Vec::new();
        for row in self.index.decisions(&ids, 0).await? {
            let said = match (row.outcome.as_deref(), &row.imported) {
                (Some("done"), Some(counts)) if row.detail.is_empty() => import_text(counts),
                (Some("done"), Some(counts)) => {
                    outcome = RunOutcome::Failed;
                    format!("{} ({})", import_text(counts), row.detail)
                }
                (Some("done"), None) => row.detail.clone(),
                (Some(_), _) => {
                    outcome = RunOutcome::Failed;
                    format!("not done: {}", row.detail)
                }
                (None, _) => {
                    outcome = RunOutcome::Failed;
                    // Else tomorrow's would be this one, and today's report would be about nothing.
                    self.index.withdraw(&row.id, "no answer in time", self.clock.now()).await?;
                    "no answer in time".to_owned()
                }
            };
            texts.push(format!("{}: {said}", row.replica_id));
        }
        Ok((outcome, texts.join(", ")))
    }

    /// Asks the replicas what they would adopt. Unlike the order, the question is not kept in the index.
    async fn would_import(&self, replicas: Vec<String>, under_way: &Task) -> Report {
        let question = ImportDirectory { dry_run: true, ..ImportDirectory::default() };
        let queue = |id: String| (self.imports.queue(&id, question.clone()), id);
        let asked: Vec<_> = replicas.into_iter().map(queue).collect();
        for (waiting, replica_id) in &asked {
            if let Some(waiting) = waiting {
                under_way.expect(&waiting.decision_id, replica_id);
            }
        }
        self.decisions_made();
        let until = Instant::now() + ADOPT_WAIT_MAX;
        let mut outcome = RunOutcome::Done;
        let mut texts = Vec::new();
        for (waiting, replica_id) in asked {
            let said = match waiting {
                None => Err("too many imports wait"),
                Some(mut waiting) => match tokio::time::timeout_at(until, &mut waiting.answer).await {
                    Ok(Ok(reports)) => Ok(reports),
                    Ok(Err(_)) | Err(_) => Err("no answer in time"),
                },
            };
            let (text, is_whole) = match said {
                Ok(reports) => {
                    let counts = import_text(&ImportCounts::of(&reports));
                    let failed = reports.iter().find(|report| !report.error.is_empty());
                    let why = failed.map(|report| format!(" ({}: {})", report.dir, report.error));
                    (format!("would be: {counts}{}", why.clone().unwrap_or_default()), why.is_none())
                }
                Err(why) => (why.to_owned(), false),
            };
            if !is_whole {
                outcome = RunOutcome::Failed;
            }
            texts.push(format!("{replica_id}: {text}"));
        }
        under_way.expect_nothing();
        (outcome, texts.join(", "))
    }

    /// Tells the replicas to adopt what lies in their import directories.
    async fn decide_imports(&self, replicas: &[String]) -> Result<Vec<String>, IndexError> {
        let reason = "import: adopt what lies in proxy.import_dirs";
        let ids = self.index.decide_imports(replicas, reason, self.clock.now()).await?;
        self.decisions_made();
        Ok(ids)
    }

    /// Until none of them is open, or for so long.
    async fn wait_for_decisions(&self, ids: &[String], wait_max: Duration) -> Result<(), IndexError> {
        let mut acknowledged = self.acknowledged.subscribe();
        let closed = async {
            loop {
                acknowledged.borrow_and_update();
                if self.index.count_open(ids).await? == 0 || acknowledged.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(wait_max, closed).await.unwrap_or(Ok(()))
    }

    async fn evict_step(&self, dry_run: bool, under_way: &Task) -> Result<Report, IndexError> {
        let plan = match self.evict(&Agreement::default(), dry_run).await {
            Ok(plan) => plan,
            Err(error) => return error.into_report(),
        };
        if plan.is_braked() {
            let why: Vec<_> = plan.brakes().into_iter().map(|brake| brake.text).collect();
            return Ok((RunOutcome::Stopped, why.join("; ")));
        }
        let count = plan.evictions().count();
        if dry_run {
            return Ok((RunOutcome::Done, format!("{count} evictions would be decided")));
        }
        let open = self.wait_for_evictions(under_way).await?;
        let text = format!("{count} evictions decided, {open} of them not carried out yet");
        Ok((RunOutcome::Done, text))
    }

    /// Until the connected replicas have answered for all evictions, or for so long. Answers how many are
    /// open, with those of replicas that are away.
    async fn wait_for_evictions(&self, under_way: &Task) -> Result<u64, IndexError> {
        let mut acknowledged = self.acknowledged.subscribe();
        let closed = async {
            let mut total = 0;
            loop {
                acknowledged.borrow_and_update();
                let pending = self.index.pending_evictions().await?;
                let open: u64 = pending.iter().map(|(_, count)| count).sum();
                total = total.max(open);
                under_way.count("evictions", total - open, total);
                let waits = pending.iter().any(|(replica_id, _)| self.presence.is_connected(replica_id));
                if !waits || acknowledged.changed().await.is_err() {
                    return Ok::<_, IndexError>(());
                }
            }
        };
        // Those that take longer go on after the run.
        tokio::time::timeout(EVICT_WAIT_MAX, closed).await.unwrap_or(Ok(()))?;
        Ok(self.index.pending_evictions().await?.iter().map(|(_, count)| count).sum())
    }

    /// When the next nightly run is due.
    pub(crate) async fn next_run(&self, now: UnixMs) -> Result<Option<UnixMs>, IndexError> {
        let last = self.index.last_begun(RunKind::Nightly).await?;
        Ok(self.schedule.next_due(last, now, self.index.salt().await?))
    }
}

fn plan_text(plan: &FarmPlan) -> String {
    let (mut count, mut freed) = (0_u64, 0_u64);
    let mut classes: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for one in plan.evictions() {
        (count, freed) = (count + 1, freed.saturating_add(one.size_bytes));
        *classes.entry(one.class).or_default() += 1;
    }
    let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
    let by_class = if classes.is_empty() { String::new() } else { format!(": {}", classes.join(", ")) };
    let (kept, _) = plan.kept();
    format!("{count} blobs to evict ({}){by_class}; {kept} kept", bytes(freed))
}

fn import_text(counts: &ImportCounts) -> String {
    format!(
        "{} adopted ({}), {} known, {} removed; left: {} unknown, {} with other contents, {} failed",
        counts.adopted,
        bytes(counts.adopted_bytes),
        counts.known,
        counts.removed,
        counts.unknown,
        counts.differing,
        counts.failed
    )
}
