//! What happens by itself: the nightly run, and sweeping up leases whose holders are gone.
//!
//! The run is due once, however many nights were slept through, and never twice at the same time: one
//! task does it, one after the other. A run that the end of the process cut off is due at once.

use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::index::{IndexError, RunKind};
use crate::nightly::{NightError, Step};

/// The wall clock is looked at this often, because it may be set and the host may sleep.
const LOOK_EVERY: Duration = Duration::from_mins(1);

const LEASES_KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// Runs until the service stops.
pub(crate) async fn run(core: Arc<Core>) -> anyhow::Result<()> {
    loop {
        // First of all wait: a run that is caught up after a restart finds sync-server and the replicas there.
        if core.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none()
            || core.stop.run_until_cancelled(look(&core)).await.is_none()
        {
            break;
        }
    }
    if let Err(error) = core.look_at_clock_last().await {
        tracing::warn!(%error, "what is known of the clock is not written down");
    }
    Ok(())
}

async fn look(core: &Core) {
    if let Err(error) = core.look_at_clock().await {
        tracing::error!(%error, "what the look at the clock found is not written down; the next eviction tries again");
    }
    if let Err(error) = close_cut_off(core).await {
        tracing::error!(%error, "can't tell whether a run was cut off");
    }
    // What is overdue by a clock that jumped ahead waits until it is believed.
    if core.doubt_at(core.reading()).is_some() {
        return;
    }
    if let Err(error) = core.index.sweep_leases(core.clock.now(), core.terms, LEASES_KEPT_MS).await {
        tracing::error!(%error, "leases not swept");
    }
    match is_due(core).await {
        Ok(true) => match core.run_nightly(&Step::ALL, false).await {
            Ok(_) => {}
            Err(NightError::UnderWay) => {
                tracing::info!("the nightly run is due; one by command is under way");
            }
            Err(error @ NightError::Index(_)) => tracing::error!(%error, "nightly run failed"),
        },
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "can't tell whether the nightly run is due"),
    }
}

/// An index that failed in the middle of a run could not be told that either.
async fn close_cut_off(core: &Core) -> Result<(), IndexError> {
    let (Ok(_run), Ok(_eviction)) = (core.running.try_lock(), core.evicting.try_lock()) else {
        return Ok(());
    };
    let closed = core.index.close_interrupted(core.clock.now()).await?;
    if closed > 0 {
        tracing::warn!(runs = closed, "cut off by a failing index");
    }
    Ok(())
}

async fn is_due(core: &Core) -> Result<bool, IndexError> {
    let now = core.clock.now();
    if core.schedule.nightly == crate::nights::Nightly::Off {
        return Ok(false);
    }
    let last = core.index.last_run(RunKind::Nightly).await?;
    if last.is_some_and(|run| run.outcome == crate::index::INTERRUPTED) {
        return Ok(true);
    }
    Ok(core.next_run(now).await?.is_some_and(|due| due <= now))
}

#[cfg(test)]
mod tests;
