//! Plans become decisions, unless a brake asks the operator first.

use cache_policy::eviction::catalogue::{Loss, Pace};
use rookery_proto::v1::Brake;

use crate::clock_trust;
use crate::core::Core;
use crate::index::{Agreement, CatalogueGap, FarmPlan, IndexError, RunKind, RunOutcome, Suspect};

/// Evictions of one run that are told to the log line by line.
const LOGGED_MAX: usize = 1000;

/// Why nothing was evicted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvictionError {
    /// The catalogue is not complete.
    #[error("nothing is evicted: {0}")]
    Gap(CatalogueGap),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl EvictionError {
    /// A gap is for the report; a failing index ends the run.
    pub(crate) fn into_report(self) -> Result<(RunOutcome, String), IndexError> {
        match self {
            Self::Gap(_) => Ok((RunOutcome::Failed, self.to_string())),
            Self::Index(error) => Err(error),
        }
    }
}

impl std::fmt::Display for CatalogueGap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoModules => out.write_str(
                "no module is known yet, so every blob would seem unreferenced; wait until sync-server was reached",
            ),
            Self::NotImported(modules) => write!(
                out,
                "the catalogue of {} is not imported yet, so what it refers to would seem unreferenced",
                modules.join(", ")
            ),
        }
    }
}

impl std::fmt::Display for Suspect {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { module, is_gone, loss, percent, percent_max } = self;
        let Loss { pace, since, before, lost } = loss;
        if *is_gone {
            return write!(out, "sync-server no longer has module {module}, which had {before} distfiles");
        }
        let slowly = match pace {
            Pace::AtOnce => String::new(),
            Pace::Gradual => format!(" little by little since {}", crate::text::date(*since)),
        };
        write!(
            out,
            "the catalogue of {module} lost {lost} of {before} distfiles{slowly} ({percent} %, \
             {percent_max} % are allowed)"
        )
    }
}

impl FarmPlan {
    /// What the operator has to agree to first.
    pub(crate) fn brakes(&self) -> Vec<Brake> {
        let catalogues = self.suspects.iter().map(|suspect| Brake {
            kind: "catalogue".to_owned(),
            subject: suspect.module.clone(),
            percent: suspect.percent.into(),
            percent_max: suspect.percent_max.into(),
            text: suspect.to_string(),
        });
        let shares = self.replicas.iter().filter_map(|plan| {
            let excess = plan.excess?;
            let (found, allowed) = (excess.percent, excess.percent_max);
            Some(Brake {
                kind: "share".to_owned(),
                subject: plan.replica_id.clone(),
                percent: found.into(),
                percent_max: allowed.into(),
                text: format!(
                    "the plan deletes {found} % of what replica {} has ({allowed} % are allowed)",
                    plan.replica_id
                ),
            })
        });
        let clock = self.doubt.map(clock_trust::brake);
        clock.into_iter().chain(catalogues).chain(shares).collect()
    }
}

impl Core {
    /// What would be evicted now. Changes nothing.
    pub(crate) async fn plan(&self) -> Result<FarmPlan, EvictionError> {
        let reading = self.reading();
        let (now, doubt) = (reading.now, self.doubt_at(reading));
        self.index.plan(self.policy, doubt, now).await?.map_err(EvictionError::Gap)
    }

    /// Plans, stores the decisions and wakes the replicas' streams. A plan that is braked, or a `dry_run`,
    /// is answered and not carried out.
    pub(crate) async fn evict(&self, agreed: &Agreement, dry_run: bool) -> Result<FarmPlan, EvictionError> {
        let _alone = self.evicting.lock().await;
        // Both of one reading: a plan of the time before the clock was put right must not pass for one of after it.
        let reading = self.reading();
        let now = reading.now;
        if dry_run {
            let doubt = self.doubt_at(reading).filter(|_| !agreed.clock);
            let planned = self.index.plan_and_decide(self.policy, agreed, doubt, true, now).await?;
            return planned.map_err(EvictionError::Gap);
        }
        // As with a catalogue: it stands, whatever else stops the plan.
        if agreed.clock {
            self.agree_to_clock(reading).await?;
        }
        self.check_times(reading).await?;
        let doubt = self.doubt_at(reading);
        let run = self.index.begin_run(RunKind::Evict, now).await?;
        let planned = self.index.plan_and_decide(self.policy, agreed, doubt, false, now).await;
        let result = planned.map_err(EvictionError::from).and_then(|plan| plan.map_err(EvictionError::Gap));
        let (outcome, report) = match &result {
            Ok(plan) if plan.is_braked() => {
                let why: Vec<_> = plan.brakes().into_iter().map(|brake| brake.text).collect();
                (RunOutcome::Stopped, why.join("; "))
            }
            Ok(plan) => (RunOutcome::Done, summary(plan)),
            Err(error) => (RunOutcome::Failed, error.to_string()),
        };
        self.index.finish_run(run, outcome, &report, self.clock.now()).await?;
        if outcome == RunOutcome::Done {
            for one in result.iter().flat_map(FarmPlan::evictions).take(LOGGED_MAX) {
                let name = one.names.first().map_or("", String::as_str);
                tracing::info!(
                    name,
                    bytes = one.size_bytes,
                    replica_id = one.replica_id,
                    reason = one.reason,
                    "evict"
                );
            }
            tracing::info!(report, "eviction decided");
            self.decisions_made();
        } else {
            tracing::warn!(report, outcome = outcome.as_str(), "nothing is evicted");
        }
        result
    }
}

/// One line for the log and the list of runs.
fn summary(plan: &FarmPlan) -> String {
    let (count, freed) = plan
        .evictions()
        .fold((0_u64, 0_u64), |(count, bytes), one| (count + 1, bytes.saturating_add(one.size_bytes)));
    format!("{count} blobs to evict ({}), {} kept", crate::text::bytes(freed), plan.kept().0)
}
