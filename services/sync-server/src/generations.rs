//! The task of each module: look at the source, verify, publish, collect.
//!
//! Whatever goes wrong, the last good generation stays live and the reason is kept where people look.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use gentoo_repo::layout_conf;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tree_store::{BuildRequest, Built, Candidate, Generation, NodeKind, Store, TreeError, Verified};

use crate::module::{Looked, Module, Modules, Request};

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

/// One look, for everybody who waits for one by then. Says how long to wait for the next.
async fn look_and_answer(
    module: &Arc<Module>,
    inbox: &mut mpsc::Receiver<Request>,
    shared: &Shared,
    soft: &CancellationToken,
    mut waiting: Vec<Request>,
    afresh: bool,
) -> Duration {
    let Some(_turn) = soft.run_until_cancelled(shared.turn.lock()).await else { return Duration::ZERO };
    while let Ok(request) = inbox.try_recv() {
        waiting.push(request);
    }
    let outcome = look(module, &shared.modules, soft, afresh).await;
    let is_passing = outcome.as_ref().is_err_and(TreeError::is_passing);
    if matches!(outcome, Err(TreeError::Stopped)) {
        return Duration::ZERO;
    }
    let outcome = outcome.map_err(|error| error.to_string());
    module.note_attempt(&outcome);
    match &outcome {
        Err(reason) => tracing::error!(module = module.name(), reason, "nothing published"),
        Ok(looked) if !looked.changed => tracing::debug!(module = module.name(), "nothing changed"),
        Ok(_) => {}
    }
    for request in waiting {
        // Whoever asked may be gone.
        drop(request.send(outcome.clone()));
    }
    let poll = module.plan().config.poll();
    if is_passing { poll.min(PASSING_PAUSE) } else { poll }
}

async fn look(
    module: &Arc<Module>,
    modules: &Modules,
    soft: &CancellationToken,
    afresh: bool,
) -> Result<Looked, TreeError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (module, modules, stopping) = (Arc::clone(module), modules.clone(), Arc::clone(&stop));
    let mut looking =
        tokio::task::spawn_blocking(move || look_blocking(&module, &modules, afresh, &stopping));
    let joined = tokio::select! {
        joined = &mut looking => joined,
        () = soft.cancelled() => {
            stop.store(true, Ordering::Relaxed);
            looking.await
        }
    };
    joined.unwrap_or_else(|panic| {
        Err(TreeError::Setting { what: "a bug".to_owned(), why: format!("the build ended early: {panic}") })
    })
}

fn look_blocking(
    module: &Module,
    modules: &Modules,
    afresh: bool,
    stop: &AtomicBool,
) -> Result<Looked, TreeError> {
    let (plan, store) = (module.plan(), module.store());
    let started = std::time::Instant::now();
    let request = BuildRequest {
        source: &plan.dir,
        excludes: &plan.excludes,
        started: SystemTime::now(),
        afresh,
        stop,
    };
    let candidate = match store.build(&request)? {
        Built::Unchanged(generation) => return Ok(Looked { generation, changed: false }),
        Built::Candidate(candidate) => candidate,
    };
    let live = store.live();
    let mirrors = masters_mirrors(candidate.generation(), module, modules)?;
    let verified = tree_store::verify(candidate.generation(), live.as_ref(), &plan.verify, &mirrors)?;
    log_faults(module.name(), &verified);
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
    Ok(Looked { generation, changed: true })
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
