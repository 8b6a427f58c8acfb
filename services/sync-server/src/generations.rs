//! The task of each module: pull if its source is an upstream, look, verify, publish, collect.
//!
//! Whatever goes wrong, the last good generation stays live and the reason is kept where people look.

mod links;
mod look;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tree_store::{Generation, Store, TreeError};

use crate::module::{Looked, Module, Modules, Request};
use crate::upstream::{Master, Pulled, UpstreamError, repo_name};
use look::Manner;

pub(crate) use look::collect;

/// A source that was being written to is looked at again this soon.
const PASSING_PAUSE: Duration = Duration::from_secs(20);

/// The modules after one that pulls for longer than this don't wait for it.
const FIRST_PULL_WAIT: Duration = Duration::from_secs(5);

/// What all modules' tasks share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    modules: Modules,
    /// One look at a time: two would only fight over the disk.
    turn: Arc<Mutex<()>>,
    /// Rung whenever a module publishes.
    published: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(modules: Modules) -> Self {
        Self { modules, turn: Arc::default(), published: watch::Sender::new(()) }
    }

    /// For whoever changes a store from elsewhere.
    pub(crate) fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.turn)
    }
}

/// The first look at each module follows the one at the module before it: a repository comes after
/// its masters in the configuration, and finds their mirror lists. A master that is still being pulled is
/// not waited for: when it comes, its overlays are looked at again.
#[derive(Debug)]
pub(crate) struct FirstTurn {
    /// Dropped by the module before.
    pub(crate) before: Option<oneshot::Receiver<()>>,
    /// For the module after.
    pub(crate) done: oneshot::Sender<()>,
}

/// Runs until the soft stop.
pub(crate) async fn run(
    module: Arc<Module>,
    inbox: mpsc::Receiver<Request>,
    shared: Shared,
    first: FirstTurn,
    soft: CancellationToken,
) -> anyhow::Result<()> {
    let stored = module.live();
    let mut published = shared.published.subscribe();
    let FirstTurn { before, done } = first;
    let mut task = Task { module, inbox, shared, soft, before, done: Some(done) };
    let mut pause = task.look_and_answer(Vec::new(), false).await;
    task.done = None;
    let mut afresh = match stored {
        Some(stored) => is_damaged(stored, &task.soft).await,
        None => false,
    };
    loop {
        let mut waiting = Vec::new();
        let next = Instant::now() + pause;
        while !afresh && !task.soft.is_cancelled() {
            tokio::select! {
                () = task.soft.cancelled() => {}
                () = tokio::time::sleep_until(next) => break,
                request = task.inbox.recv() => {
                    waiting.extend(request);
                    break;
                }
                // The sender lives as long as `task`.
                _ = published.changed() => {
                    if task.masters_changed().await {
                        break;
                    }
                }
            }
        }
        if task.soft.is_cancelled() {
            return Ok(());
        }
        pause = task.look_and_answer(waiting, afresh).await;
        afresh = false;
    }
}

/// Reads all of a stored generation once, while it is served already.
async fn is_damaged(stored: Generation, soft: &CancellationToken) -> bool {
    let module = stored.module().to_owned();
    let reading = tokio::task::spawn_blocking(move || Store::scrub(&stored));
    let Some(Ok(damaged)) = soft.run_until_cancelled(reading).await else { return false };
    let Some(first) = damaged.first() else { return false };
    let (path, count) = (String::from_utf8_lossy(first), damaged.len());
    tracing::error!(module, %path, count, "stored contents are damaged: building all of it again");
    true
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("stopped")]
    Stopped,
}

/// One module's.
struct Task {
    module: Arc<Module>,
    inbox: mpsc::Receiver<Request>,
    shared: Shared,
    soft: CancellationToken,
    before: Option<oneshot::Receiver<()>>,
    done: Option<oneshot::Sender<()>>,
}

impl Task {
    /// One look, for everybody who waits for one by then. Says how long to wait for the next.
    async fn look_and_answer(&mut self, mut waiting: Vec<Request>, afresh: bool) -> Duration {
        self.take_requests(&mut waiting);
        // A pull may take hours: the other modules' turns don't wait for it.
        let pulled = self.pull(waiting.iter().any(|request| request.allow_older)).await;
        if let Some(before) = self.before.take() {
            // An error is the sign: the sender was dropped.
            let _dropped = self.soft.run_until_cancelled(before).await;
        }
        let turn = Arc::clone(&self.shared.turn);
        let Some(_turn) = self.soft.run_until_cancelled(turn.lock()).await else { return Duration::ZERO };
        self.take_requests(&mut waiting);
        // Whoever asks during a pull did not ask in vain.
        let wanted = waiting.iter().any(|request| request.allow_older);
        let outcome = match pulled {
            Ok(pulled) => {
                self.look(Manner { afresh, allow_older: wanted || pulled.allow_older }, pulled).await
            }
            Err(error) => Err(self.remember(wanted, error).await),
        };
        if matches!(outcome, Err(LookError::Stopped)) {
            return Duration::ZERO;
        }
        let pause = pause_after(&self.module, &outcome).await;
        let is_refused = matches!(outcome, Err(LookError::Tree(TreeError::Refused(_))));
        let report = if is_refused { self.module.refusals().latest() } else { None };
        let outcome = outcome.map_err(|error| error.to_string());
        self.module.note_attempt(&outcome, report, pause);
        match &outcome {
            Err(reason) => tracing::error!(module = self.module.name(), reason, "nothing published"),
            Ok(looked) if !looked.changed => tracing::debug!(module = self.module.name(), "nothing changed"),
            Ok(_) => {
                self.shared.published.send_replace(());
            }
        }
        for request in waiting {
            // Whoever asked may be gone.
            drop(request.answer.send(outcome.clone()));
        }
        pause
    }

    /// What is asked of the next look because this one had no tree; gives what to answer.
    async fn remember(&self, allow_older: bool, error: LookError) -> LookError {
        let (LookError::Upstream(_), Some(upstream), true) = (&error, self.module.upstream(), allow_older)
        else {
            return error;
        };
        upstream.allow_older_next().await.map_or_else(LookError::from, |()| error)
    }

    fn take_requests(&mut self, waiting: &mut Vec<Request>) {
        while let Ok(request) = self.inbox.try_recv() {
            waiting.push(request);
        }
    }

    /// Brings staging up to date where that is ours to do.
    async fn pull(&mut self, allow_older: bool) -> Result<Pulled, LookError> {
        let Some(upstream) = self.module.upstream() else { return Ok(Pulled::default()) };
        let live_seconds = self.module.live().map(|live| live.summary().timestamp_ms.div_euclid(1000));
        let masters = if upstream.wants_masters() { self.masters().await } else { Vec::new() };
        self.module.note_pulling();
        let mut pulling = std::pin::pin!(upstream.pull(live_seconds, allow_older, &masters));
        tokio::select! {
            () = self.soft.cancelled() => return Err(LookError::Stopped),
            pulled = &mut pulling => return Ok(pulled?),
            () = tokio::time::sleep(FIRST_PULL_WAIT) => self.done = None,
        }
        let pulled = self.soft.run_until_cancelled(pulling).await;
        Ok(pulled.ok_or(LookError::Stopped)??)
    }

    /// The other modules' repositories.
    async fn masters(&self) -> Vec<Master> {
        let (own, modules) = (Arc::clone(&self.module), self.shared.modules.clone());
        let named = move || {
            let others = modules.iter().filter(|module| module.name() != own.name());
            others.filter_map(|module| Some((repo_name(module.dir())?, module.dir().to_owned()))).collect()
        };
        tokio::task::spawn_blocking(named).await.unwrap_or_default()
    }

    async fn look(&self, manner: Manner, pulled: Pulled) -> Result<Looked, LookError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (own, modules, stopping) =
            (Arc::clone(&self.module), self.shared.modules.clone(), Arc::clone(&stop));
        let mut looking = tokio::task::spawn_blocking(move || look::look(&own, &modules, manner, &stopping));
        let joined = tokio::select! {
            joined = &mut looking => joined,
            () = self.soft.cancelled() => {
                stop.store(true, Ordering::Relaxed);
                looking.await
            }
        };
        let upstream = self.module.upstream();
        match joined {
            Ok(Ok(found)) => {
                if let Some(upstream) = upstream {
                    upstream.note_served().await?;
                }
                let notes = [pulled.note(), found.note];
                let note = notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
                Ok(Looked { generation: found.generation, changed: found.changed, note })
            }
            Ok(Err(TreeError::Stopped)) => Err(LookError::Stopped),
            Ok(Err(error)) => {
                if let (Some(upstream), TreeError::Refused(_)) = (upstream, &error) {
                    upstream.note_refused().await?;
                }
                Err(error.into())
            }
            Err(panic) => {
                let why = format!("the build ended early: {panic}");
                Err(TreeError::Setting { what: "a bug".to_owned(), why }.into())
            }
        }
    }

    /// Whether the live catalogue was made with other mirror lists than its masters have now.
    async fn masters_changed(&self) -> bool {
        let (own, modules) = (Arc::clone(&self.module), self.shared.modules.clone());
        let compared = tokio::task::spawn_blocking(move || look::masters_changed(&own, &modules)).await;
        compared.unwrap_or(false)
    }
}

async fn pause_after(module: &Module, outcome: &Result<Looked, LookError>) -> Duration {
    let pause = match module.upstream() {
        Some(upstream) => upstream.look_in().await,
        None => module.plan().config.poll(),
    };
    match outcome {
        Err(LookError::Tree(error)) if error.is_passing() => pause.min(PASSING_PAUSE),
        Err(LookError::Upstream(UpstreamError::Busy(_) | UpstreamError::State { .. })) => {
            pause.max(PASSING_PAUSE)
        }
        _ => pause,
    }
}
