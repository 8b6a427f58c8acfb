//! Start, soft stop, hard stop: every task is tracked, and a crashed one ends the process.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where every task is spawned.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    fate: Arc<Fate>,
}

/// What has become of the tasks.
#[derive(Debug, Default)]
struct Fate {
    panics: AtomicU64,
    crash: Mutex<Option<Crash>>,
    crashed: CancellationToken,
}

/// Why a critical task ended before it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task}: {reason}")]
pub struct Crash {
    /// The task's name.
    pub task: &'static str,
    /// Its error, or the panic's message.
    pub reason: String,
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
    /// that reason, and so does an `Ok` before [`Self::soft`] is cancelled. It must return `Ok` soon after
    /// that, and is dropped at the hard stop.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let tasks = self.clone();
        let supervised = async move {
            let outcome = tasks.hard.run_until_cancelled(AssertUnwindSafe(task).catch_unwind()).await;
            let reason = match outcome {
                None => return,
                Some(Ok(Ok(()))) if tasks.soft.is_cancelled() => return,
                Some(Ok(Ok(()))) => "ended although nobody asked it to".to_owned(),
                Some(Ok(Err(error))) => format!("{error:#}"),
                Some(Err(panic)) => tasks.count_panic(panic.as_ref()),
            };
            tasks.crash(name, reason);
        };
        drop(self.tracker.spawn(supervised));
    }

    /// Runs a task for one peer or one piece of work. It is dropped at the hard stop (and then gives
    /// `None`); a panic in it is logged and counted and ends only this task (`None` as well).
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> tokio::task::JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            match tasks.hard.run_until_cancelled(AssertUnwindSafe(task).catch_unwind()).await? {
                Ok(output) => Some(output),
                Err(panic) => {
                    let reason = tasks.count_panic(panic.as_ref());
                    tracing::error!(task = name, reason, "a task panicked; the others go on");
                    None
                }
            }
        })
    }

    /// How many tasks panicked since the start.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.fate.panics.load(Ordering::Relaxed)
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits for the first critical task that crashes.
    pub async fn crashed(&self) -> Crash {
        loop {
            self.fate.crashed.cancelled().await;
            if let Some(crash) = self.crash_so_far() {
                return crash;
            }
        }
    }

    /// The first critical task that crashed, if one did.
    #[must_use]
    pub fn crash_so_far(&self) -> Option<Crash> {
        self.fate.crash.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks all tasks to finish ([`Self::soft`]) and waits until none is left.
    pub async fn finish(&self) {
        self.soft.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends all tasks where they are ([`Self::hard`]) and waits until none is left.
    pub async fn stop(&self) {
        self.hard.cancel();
        self.finish().await;
    }

    fn crash(&self, task: &'static str, reason: String) {
        tracing::error!(task, reason, "a task that the process can't do without ended");
        let mut crash = self.fate.crash.lock().unwrap_or_else(PoisonError::into_inner);
        // Later ones are mostly the first one's victims.
        crash.get_or_insert(Crash { task, reason });
        drop(crash);
        self.fate.crashed.cancel();
    }

    fn count_panic(&self, panic: &(dyn Any + Send)) -> String {
        self.fate.panics.fetch_add(1, Ordering::Relaxed);
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        format!("panicked: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_plain_task_is_counted_and_ends_only_that_task() {
        let tasks = Tasks::new();
        let bad = tasks.spawn("bad", async { panic!("on purpose") });
        let good = tasks.spawn("good", async { 7 });
        assert_eq!(bad.await.unwrap(), None::<()>);
        assert_eq!(good.await.unwrap(), Some(7));
        assert_eq!(tasks.panics(), 1);
        assert_eq!(tasks.crash_so_far(), None);
    }

    #[tokio::test]
    async fn each_way_a_critical_task_can_end_early_is_a_crash() {
        for (task, reason) in [
            (async { Err(anyhow::anyhow!("disk").context("store")) }.boxed(), "store: disk"),
            (async { panic!("boom") }.boxed(), "panicked: boom"),
            (async { Ok(()) }.boxed(), "ended although nobody asked it to"),
        ] {
            let tasks = Tasks::new();
            tasks.spawn_critical("part", task);
            assert_eq!(tasks.crashed().await, Crash { task: "part", reason: reason.to_owned() });
        }
    }

    #[tokio::test]
    async fn a_soft_stop_is_no_crash_and_a_hard_one_drops_what_is_left() {
        let tasks = Tasks::new();
        let soft = tasks.soft();
        tasks.spawn_critical("polite", async move {
            soft.cancelled().await;
            Ok(())
        });
        tasks.finish().await;
        assert_eq!(tasks.crash_so_far(), None);

        let tasks = Tasks::new();
        tasks.spawn_critical("deaf", std::future::pending());
        let deaf = tasks.spawn("deaf too", std::future::pending::<()>());
        tasks.stop().await;
        assert_eq!(deaf.await.unwrap(), None);
        assert_eq!((tasks.running(), tasks.crash_so_far()), (0, None));
    }
}
