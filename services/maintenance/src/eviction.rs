//! Plans become decisions.

use cache_policy::UnixMs;

use crate::core::Core;
use crate::index::{CatalogueGap, IndexError, ReplicaPlan, RunKind};

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

impl Core {
    /// What would be evicted at `now`. Changes nothing.
    pub(crate) async fn plan(&self, now: UnixMs) -> Result<Vec<ReplicaPlan>, EvictionError> {
        self.index.plan(self.limits, now).await?.map_err(EvictionError::Gap)
    }

    /// Plans, stores the decisions and wakes the replicas' streams.
    pub(crate) async fn evict(&self) -> Result<Vec<ReplicaPlan>, EvictionError> {
        let _alone = self.evicting.lock().await;
        let now = self.clock.now();
        let run = self.index.begin_run(RunKind::Evict, now).await?;
        let planned = self.index.plan_and_decide(self.limits, now).await;
        let result = planned.map_err(EvictionError::from).and_then(|plan| plan.map_err(EvictionError::Gap));
        let report = match &result {
            Ok(plans) => summary(plans),
            Err(error) => error.to_string(),
        };
        self.index.finish_run(run, result.is_ok(), &report, self.clock.now()).await?;
        if result.is_ok() {
            tracing::info!(report, "eviction decided");
            self.decisions_made();
        } else {
            tracing::warn!(report, "eviction refused");
        }
        result
    }
}

/// One line for the log and the list of runs.
fn summary(plans: &[ReplicaPlan]) -> String {
    let evicted = plans.iter().flat_map(|plan| &plan.evictions);
    let (count, freed) =
        evicted.fold((0_u64, 0_u64), |(count, bytes), one| (count + 1, bytes.saturating_add(one.size_bytes)));
    let kept = plans.iter().fold(0_u64, |sum, plan| sum.saturating_add(plan.blobs_kept));
    format!("{count} blobs to evict ({}), {kept} kept", crate::text::bytes(freed))
}
