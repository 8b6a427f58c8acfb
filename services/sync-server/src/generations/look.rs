//! One look at a module's directory: build, verify, publish, collect. All of it blocks.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use gentoo_repo::{layout_conf, timestamp};
use tree_store::report::{Fault, FaultKind, Faults};
use tree_store::{
    BuildRequest, Built, Candidate, Generation, NodeKind, Refusal, Store, TreeError, Verified, Verify,
};

use super::links;
use crate::history::Origin;
use crate::module::{Module, Modules};

/// The file that says of which moment a tree is.
const TIMESTAMP: &str = "metadata/timestamp.chk";

/// Faults of one tree that are logged one by one.
const FAULTS_LOGGED_MAX: usize = 10;

/// How a look is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// All of it is read and stored again.
    pub(super) afresh: bool,
    /// What is older than the live generation may be published.
    pub(super) allow_older: bool,
}

/// What a look came to.
pub(super) struct Found {
    /// The live generation afterwards.
    pub(super) generation: Generation,
    /// Whether it is a new one.
    pub(super) changed: bool,
    /// What else there is to know; mostly nothing.
    pub(super) note: String,
}

impl Found {
    fn unchanged(generation: Generation) -> Self {
        Self { generation, changed: false, note: String::new() }
    }
}

/// Builds, verifies and publishes what the module's directory holds, if that is new.
pub(super) fn look(
    module: &Module,
    modules: &Modules,
    manner: Manner,
    stop: &AtomicBool,
) -> Result<Found, TreeError> {
    if !manner.allow_older
        && let Some(found) = held_back(module)
    {
        return Ok(found);
    }
    let found = look_at(module, modules, manner, stop)?;
    // What was wrong with the source before is mended.
    module.refusals().clear();
    Ok(found)
}

fn look_at(
    module: &Module,
    modules: &Modules,
    manner: Manner,
    stop: &AtomicBool,
) -> Result<Found, TreeError> {
    let (plan, store) = (module.plan(), module.store());
    let started = Instant::now();
    // What is damaged here may lie in a pack that others have, too.
    let others = if manner.afresh { Vec::new() } else { modules.live_besides(module) };
    let build_of = |afresh| {
        let (source, excludes, started) = (module.dir(), &plan.excludes, SystemTime::now());
        store.build_beside(&BuildRequest { source, excludes, started, afresh, stop }, &others)
    };
    let mut built = build_of(manner.afresh)?;
    if let Built::Unchanged(generation) = &built {
        let mirrors = masters_mirrors(generation, module, modules)?;
        if module.has_mirrors(fingerprint(&mirrors)) {
            return Ok(Found::unchanged(generation.clone()));
        }
        tracing::info!(
            module = module.name(),
            "its masters' mirror lists changed: making its catalogue again"
        );
        built = build_of(true)?;
    }
    let candidate = match built {
        Built::Unchanged(generation) => return Ok(Found::unchanged(generation)),
        Built::Candidate(candidate) => candidate,
    };
    let live = store.live();
    let newer_than = live.as_ref().filter(|_| !manner.allow_older);
    let mirrors = masters_mirrors(candidate.generation(), module, modules)?;
    let judged = judge(&candidate, newer_than, &plan.verify, &mirrors);
    if let Err(TreeError::Refused(refusal)) = &judged {
        keep_refusal(module, candidate.generation(), refusal);
    }
    let verified = judged?;
    log_faults(module.name(), &verified);
    let files_read = candidate.files_read();
    let origin = Origin { verify: plan.config.verify.as_str().to_owned(), copy_of: 0 };
    let ended = live.as_ref().and_then(|live| module.history().hold(live.number()));
    module.history().note(candidate.generation().number(), origin, None, &store.kept())?;
    let generation = publish(store, candidate, &verified)?;
    module.note_mirrors(fingerprint(&mirrors));
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
        verified = plan.config.verify.as_str(),
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
    let note = ended.map_or_else(String::new, |hold| {
        let note = format!("this ends the rollback to generation {}", hold.copy_of);
        tracing::warn!(module = module.name(), note);
        note
    });
    Ok(Found { generation, changed: true, note })
}

/// Whether the source has nothing newer than what an operator went back from.
fn held_back(module: &Module) -> Option<Found> {
    let live = module.store().live()?;
    let hold = module.history().hold(live.number())?;
    let octets = std::fs::read(module.dir().join(TIMESTAMP)).ok()?;
    // One that can't be read is said by the look.
    let seconds = timestamp::parse_chk(&octets).ok()?;
    (seconds <= hold.newer_than_s).then(|| Found { note: hold.describe(), ..Found::unchanged(live) })
}

/// Everything that keeps a candidate from being published, found out at once.
fn judge(
    candidate: &Candidate,
    live: Option<&Generation>,
    mode: &Verify,
    mirrors: &[Vec<u8>],
) -> Result<Verified, TreeError> {
    let mut faults = Faults::default();
    let older = older(candidate.generation(), live);
    // Said once is enough.
    let live = live.filter(|_| older.is_none());
    if let Some(older) = older {
        faults.push(older);
    }
    links::find_outward(candidate.generation(), &mut faults);
    match tree_store::verify(candidate, live, mode, mirrors) {
        Ok(verified) => faults.refuse().map(|()| verified),
        Err(TreeError::Refused(refusal)) => Err(TreeError::Refused(faults.followed_by(refusal))),
        Err(error) => Err(error),
    }
}

/// Writes down why it was refused. Without that the first fault is still told.
fn keep_refusal(module: &Module, candidate: &Generation, refusal: &Refusal) {
    let (verify, now_ms) = (module.plan().config.verify.as_str(), service_kit::clock::now_ms());
    match module.refusals().keep(verify, candidate, refusal, now_ms) {
        Ok(place) => tracing::info!(module = module.name(), report = %place.display(), "refused"),
        Err(error) => tracing::warn!(module = module.name(), %error, "no report of what was refused"),
    }
}

/// Boxes that have the newer tree would not take the older one anyway; and somebody who replays an old tree,
/// signed as it is, wants its holes back. A timestamp that can't be read is left to the verification.
fn older(candidate: &Generation, live: Option<&Generation>) -> Option<Fault> {
    let octets = read_small(candidate, Path::new(TIMESTAMP)).unwrap_or_default();
    let seconds = timestamp::parse_chk(&octets).ok()?;
    let live_seconds = live?.summary().timestamp_ms.div_euclid(1000);
    if seconds >= live_seconds {
        return None;
    }
    let [candidate, live] = [seconds, live_seconds].map(timestamp::format_chk);
    let why = format!(
        "{candidate} is older than what is served, of {live}; `rookery publish --allow-older` publishes it \
         all the same"
    );
    Some(Fault::new(FaultKind::Timestamp, TIMESTAMP, why))
}

fn publish(store: &Store, candidate: Candidate, verified: &Verified) -> Result<Generation, TreeError> {
    let now_ms = i64::try_from(service_kit::clock::now_ms()).unwrap_or(i64::MAX);
    store.publish(candidate, &verified.catalogue, now_ms, verified.timestamp_ms)
}

/// What could not be removed now is tried again after the next publish.
pub(crate) fn collect(store: &Store, keep: usize) {
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

/// Tells one set of mirror lists from another within this process.
fn fingerprint(mirrors: &[Vec<u8>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    mirrors.hash(&mut hasher);
    hasher.finish()
}

/// Whether a look would find other mirror lists than the live catalogue was made with.
pub(super) fn masters_changed(module: &Module, modules: &Modules) -> bool {
    let Some(live) = module.live() else { return false };
    // What can't be read now is said by the look.
    masters_mirrors(&live, module, modules).map_or(true, |mirrors| !module.has_mirrors(fingerprint(&mirrors)))
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
