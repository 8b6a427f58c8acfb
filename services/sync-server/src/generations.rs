//! The task of each module: pull if its source is an upstream, look, verify, publish, collect.
//!
//! Whatever goes wrong, the last good generation stays live and the reason is kept where people look.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use gentoo_repo::{layout_conf, timestamp};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tree_store::{BuildRequest, Built, Candidate, Generation, NodeKind, Store, TreeError, Verified};

use crate::module::{Looked, Module, Modules, Request};
use crate::upstream::{Pulled, UpstreamError};

/// A source that was being written to is looked at again this soon.
const PASSING_PAUSE: Duration = Duration::from_secs(20);

/// Faults of one tree that are logged one by one.
const FAULTS_LOGGED_MAX: usize = 10;

/// What all modules' tasks share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) modules: Modules,
    /// One look at a time: two would only fight over the disk.
    pub(crate) turn: Arc<Mutex<()>>,
}

/// The first look at each module follows the one at the module before it: a repository comes after
/// its masters in the configuration, and finds their mirror lists.
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
    mut inbox: mpsc::Receiver<Request>,
    shared: Shared,
    first: FirstTurn,
    soft: CancellationToken,
) -> anyhow::Result<()> {
    let stored = module.live();
    if let Some(before) = first.before {
        // An error is the sign: the sender was dropped.
        let _dropped = soft.run_until_cancelled(before).await;
    }
    let mut pause = look_and_answer(&module, &mut inbox, &shared, &soft, Vec::new(), false).await;
    drop(first.done);
    let mut afresh = match stored {
        Some(stored) => is_damaged(stored, &soft).await,
        None => false,
    };
    loop {
        let mut waiting = Vec::new();
        if !afresh {
            let next = Instant::now() + pause;
            tokio::select! {
                () = soft.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(next) => {}
                request = inbox.recv() => waiting.extend(request),
            }
        }
        if soft.is_cancelled() {
            return Ok(());
        }
        pause = look_and_answer(&module, &mut inbox, &shared, &soft, waiting, afresh).await;
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

/// How a look is made.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    /// All of it is read and stored again.
    afresh: bool,
    /// What is older than the live generation may be published.
    allow_older: bool,
}

/// One look, for everybody who waits for one by then. Says how long to wait for the next.
async fn look_and_answer(
    module: &Arc<Module>,
    inbox: &mut mpsc::Receiver<Request>,
    shared: &Shared,
    soft: &CancellationToken,
    mut waiting: Vec<Request>,
    afresh: bool,
) -> Duration {
    // A pull may take hours: the other modules' turns don't wait for it.
    let pulled = pull(module, soft).await;
    let Some(_turn) = soft.run_until_cancelled(shared.turn.lock()).await else { return Duration::ZERO };
    while let Ok(request) = inbox.try_recv() {
        waiting.push(request);
    }
    let manner = Manner { afresh, allow_older: waiting.iter().any(|request| request.allow_older) };
    let outcome = match pulled {
        Ok(pulled) => look(module, &shared.modules, soft, manner, pulled).await,
        Err(error) => Err(error),
    };
    if matches!(outcome, Err(LookError::Stopped)) {
        return Duration::ZERO;
    }
    let pause = pause_after(module, &outcome).await;
    let outcome = outcome.map_err(|error| error.to_string());
    module.note_attempt(&outcome);
    match &outcome {
        Err(reason) => tracing::error!(module = module.name(), reason, "nothing published"),
        Ok(looked) if !looked.changed => tracing::debug!(module = module.name(), "nothing changed"),
        Ok(_) => {}
    }
    for request in waiting {
        // Whoever asked may be gone.
        drop(request.answer.send(outcome.clone()));
    }
    pause
}

/// Brings staging up to date where that is ours to do.
async fn pull(module: &Module, soft: &CancellationToken) -> Result<Pulled, LookError> {
    let Some(upstream) = module.upstream() else { return Ok(Pulled::Whole) };
    let live_seconds = module.live().map(|live| live.summary().timestamp_ms.div_euclid(1000));
    let pulled = soft.run_until_cancelled(upstream.pull(live_seconds)).await;
    Ok(pulled.ok_or(LookError::Stopped)??)
}

async fn pause_after(module: &Module, outcome: &Result<Looked, LookError>) -> Duration {
    let pause = match module.upstream() {
        Some(upstream) => upstream.due_in().await,
        None => module.plan().config.poll(),
    };
    match outcome {
        Err(LookError::Tree(error)) if error.is_passing() => pause.min(PASSING_PAUSE),
        Err(LookError::Upstream(_)) => pause.max(PASSING_PAUSE),
        _ => pause,
    }
}

async fn look(
    module: &Arc<Module>,
    modules: &Modules,
    soft: &CancellationToken,
    manner: Manner,
    pulled: Pulled,
) -> Result<Looked, LookError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (own, modules, stopping) = (Arc::clone(module), modules.clone(), Arc::clone(&stop));
    let mut looking = tokio::task::spawn_blocking(move || look_blocking(&own, &modules, manner, &stopping));
    let joined = tokio::select! {
        joined = &mut looking => joined,
        () = soft.cancelled() => {
            stop.store(true, Ordering::Relaxed);
            looking.await
        }
    };
    match joined {
        Ok(Ok((generation, changed))) => Ok(Looked { generation, changed, note: pulled.note() }),
        Ok(Err(TreeError::Stopped)) => Err(LookError::Stopped),
        Ok(Err(error)) => {
            if let (Some(upstream), TreeError::Refused { .. }) = (module.upstream(), &error) {
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

/// The live generation afterwards, and whether it is a new one.
fn look_blocking(
    module: &Module,
    modules: &Modules,
    manner: Manner,
    stop: &AtomicBool,
) -> Result<(Generation, bool), TreeError> {
    let (plan, store) = (module.plan(), module.store());
    let started = std::time::Instant::now();
    let request = BuildRequest {
        source: module.dir(),
        excludes: &plan.excludes,
        started: SystemTime::now(),
        afresh: manner.afresh,
        stop,
    };
    let candidate = match store.build(&request)? {
        Built::Unchanged(generation) => return Ok((generation, false)),
        Built::Candidate(candidate) => candidate,
    };
    let live = store.live();
    let mirrors = masters_mirrors(candidate.generation(), module, modules)?;
    let verified = tree_store::verify(candidate.generation(), live.as_ref(), &plan.verify, &mirrors)?;
    log_faults(module.name(), &verified);
    if let Some(live) = live.as_ref().filter(|_| !manner.allow_older) {
        refuse_older(live.summary().timestamp_ms, verified.timestamp_ms)?;
    }
    let files_read = candidate.files_read();
    let generation = publish(store, candidate, &verified)?;
    module.go_live(generation.clone());
    let summary = generation.summary();
    tracing::info!(
        module = module.name(),
        number = generation.number(),
        files = summary.files,
        files_read,
        added = summary.changes.added,
        changed = summary.changes.changed,
        removed = summary.changes.removed,
        distfiles = summary.distfiles,
        verified = plan.verify.as_str(),
        took = ?started.elapsed(),
        "published"
    );
    if live.is_some_and(|live| live.summary().timestamp_ms == verified.timestamp_ms) {
        tracing::warn!(
            module = module.name(),
            "the tree changed but its metadata/timestamp.chk did not: boxes that have it will not sync"
        );
    }
    collect(store, plan.config.keep);
    Ok((generation, true))
}

/// Boxes that have the newer tree would not take the older one anyway; and somebody who replays an old tree,
/// signed as it is, wants its holes back.
fn refuse_older(live_ms: i64, candidate_ms: i64) -> Result<(), TreeError> {
    if candidate_ms >= live_ms {
        return Ok(());
    }
    let [live, candidate] = [live_ms, candidate_ms].map(|ms| timestamp::format_chk(ms.div_euclid(1000)));
    let why = format!(
        "{candidate} is older than what is served, of {live}; `rookery publish --allow-older` publishes it all the same"
    );
    Err(TreeError::Refused { path: "metadata/timestamp.chk".to_owned(), why })
}

fn publish(store: &Store, candidate: Candidate, verified: &Verified) -> Result<Generation, TreeError> {
    let now_ms = i64::try_from(service_kit::clock::now_ms()).unwrap_or(i64::MAX);
    store.publish(candidate, &verified.catalogue, now_ms, verified.timestamp_ms)
}

/// What could not be removed now is tried again after the next publish.
fn collect(store: &Store, keep: usize) {
    match store.collect(keep) {
        Ok(collected) if collected.generations.is_empty() => {}
        Ok(collected) => {
            tracing::info!(module = %store.module(), generations = ?collected.generations, packs = collected.packs, "collected");
        }
        Err(error) => tracing::warn!(module = %store.module(), %error, "could not collect"),
    }
}

fn log_faults(module: &str, verified: &Verified) {
    for fault in verified.faults.iter().take(FAULTS_LOGGED_MAX) {
        tracing::warn!(module, %fault, "published all the same");
    }
    if let Some(more) = verified.faults.len().checked_sub(FAULTS_LOGGED_MAX).filter(|&more| more > 0) {
        tracing::warn!(module, more, "more such faults");
    }
}

/// The mirror lists of the repositories that `candidate` names as its masters, as far as they are modules
/// here: an overlay writes `mirror://gnome/…` and leaves the list to its master.
fn masters_mirrors(
    candidate: &Generation,
    own: &Module,
    modules: &Modules,
) -> Result<Vec<Vec<u8>>, TreeError> {
    let layout = read_small(candidate, Path::new("metadata/layout.conf"));
    let masters = layout.and_then(|octets| layout_conf::parse(&octets).ok()?.masters).unwrap_or_default();
    let mut mirrors = Vec::new();
    for master in masters {
        let others = modules.iter().filter(|module| module.name() != own.name());
        let found = others.filter_map(|module| module.live()).find(|live| repo_name(live) == master);
        if let Some(live) = found {
            mirrors.extend(tree_store::thirdpartymirrors(&live)?);
        }
    }
    Ok(mirrors)
}

fn repo_name(generation: &Generation) -> String {
    let octets = read_small(generation, Path::new("profiles/repo_name")).unwrap_or_default();
    String::from_utf8_lossy(&octets).trim().to_owned()
}

fn read_small(generation: &Generation, path: &Path) -> Option<Vec<u8>> {
    let id = generation.lookup(path.as_os_str().as_encoded_bytes())?;
    if generation.node(id).kind != NodeKind::File {
        return None;
    }
    generation.read(id, 64 << 10).ok()
}
