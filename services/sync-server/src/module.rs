//! One module: its store, what is live, and how the last look at its source went.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use service_kit::readiness;
use tokio::sync::{mpsc, oneshot, watch};
use tree_store::{Generation, Store};

use crate::config::{Md5CacheMode, ModulePlan, PullConfig, Source};
use crate::history::History;
use crate::key_expiry;
use crate::key_expiry::KeyExpiry;
use crate::refusals::Refusals;
use crate::upstream::{self, Upstream};

/// Publish requests that may wait; more than that many callers get an error.
const REQUESTS_MAX: usize = 32;

/// A module as the rest of the process sees it.
#[derive(Debug)]
pub struct Module {
    plan: ModulePlan,
    store: Store,
    history: History,
    refusals: Refusals,
    /// Where its tree is on this host, and who brings it there if we do.
    dir: PathBuf,
    upstream: Option<Upstream>,
    live: watch::Sender<Option<Generation>>,
    attempt: Mutex<Attempt>,
    /// Of the masters' mirror lists that the live catalogue was made with, once that is known.
    mirrors: Mutex<Option<u64>>,
    /// Until when the keys can sign, once that was asked for.
    key_expiry: OnceLock<KeyExpiry>,
    requests: mpsc::Sender<Request>,
    part: readiness::Part,
}

/// How the last look at the source went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Why nothing could be published; empty when it could, or when nothing had changed.
    pub error: String,
    /// The directory with the report of what is wrong with the tree, if that is why.
    pub report: Option<PathBuf>,
    /// When it ended, milliseconds since the Unix epoch; 0 for never.
    pub at_ms: u64,
    /// When the next one is due; 0 for now.
    pub next_ms: u64,
}

/// What a look at the source came to.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The live generation.
    pub generation: Generation,
    /// Whether it is a new one.
    pub changed: bool,
    /// What else there is to know, for people; mostly nothing.
    pub note: String,
}

/// Somebody waits for a look.
#[derive(Debug)]
pub(crate) struct Request {
    /// A tree older than the live one is fine.
    pub(crate) allow_older: bool,
    pub(crate) answer: oneshot::Sender<Result<Looked, String>>,
}

impl Module {
    /// Opens the store and serves what is in it. Blocking.
    pub(crate) fn open(
        plan: ModulePlan,
        state_dir: &Path,
        pull: &PullConfig,
        readiness: &readiness::Readiness,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Request>)> {
        let part = readiness.part(&format!("module {}", plan.name), "no generation was published yet");
        let store = Store::open(state_dir, plan.name.clone())?;
        let history = History::open(state_dir, &plan.name)?;
        let refusals = Refusals::new(state_dir, &plan.name);
        let (dir, upstream) = match &plan.source {
            Source::Dir(dir) => (dir.clone(), None),
            Source::Pulled(origins) => {
                let pulled = upstream::Plan {
                    origins,
                    excludes: &plan.config.exclude,
                    commit_key: plan.commit_key(),
                    egencache: (plan.config.md5_cache == Md5CacheMode::Generate).then_some(&*pull.egencache),
                    poll: plan.config.poll(),
                    limits: pull.limits(),
                };
                let opened = Upstream::open(state_dir, &plan.name, &pulled);
                let upstream = opened.with_context(|| format!("module {}", plan.name))?;
                (upstream.tree(), Some(upstream))
            }
        };
        let live = store.live();
        if let Some(generation) = &live {
            tracing::info!(module = %plan.name, number = generation.number(), "serving the stored generation");
            part.ready();
        }
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let live = watch::Sender::new(live);
        let (attempt, mirrors, key_expiry) = (Mutex::default(), Mutex::default(), OnceLock::new());
        let module = Self {
            plan,
            store,
            history,
            refusals,
            dir,
            upstream,
            live,
            attempt,
            mirrors,
            key_expiry,
            requests,
            part,
        };
        Ok((module, inbox))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.plan.name.as_str()
    }

    pub(crate) fn plan(&self) -> &ModulePlan {
        &self.plan
    }

    /// The directory that generations are built from.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Who brings the tree there, if we do.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Where its tree comes from, in words.
    #[must_use]
    pub fn source(&self) -> String {
        self.upstream.as_ref().map_or_else(|| self.dir.display().to_string(), Upstream::describe)
    }

    /// Whether its tree comes from elsewhere.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.upstream.is_some()
    }

    /// What is being done to get its tree; mostly nothing.
    #[must_use]
    pub fn activity(&self) -> String {
        self.upstream.as_ref().map_or_else(String::new, Upstream::activity)
    }

    /// Its generations on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of them beyond their contents.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Why candidates were refused.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// That an operator rolled back, in words; empty if nobody did.
    #[must_use]
    pub fn hold(&self) -> String {
        let hold = self.live().and_then(|live| self.history.hold(live.number()));
        hold.map_or_else(String::new, |hold| hold.describe())
    }

    /// When the next of the keys that may sign its tree expires; 0 if none does or it is not known.
    #[must_use]
    pub fn key_expires_ms(&self) -> i64 {
        let now_ms = i64::try_from(service_kit::clock::now_ms()).unwrap_or(i64::MAX);
        self.key_expiry.get().map_or(0, |expiry| expiry.next_ms(now_ms))
    }

    /// Asks when they do. To be called once.
    pub(crate) async fn learn_key_expiry(&self) {
        let expiry = key_expiry::of(&self.plan).await;
        self.key_expiry.get_or_init(|| expiry);
    }

    /// The live generation; holding it pins it. `None` before the first one.
    #[must_use]
    pub fn live(&self) -> Option<Generation> {
        self.live.borrow().clone()
    }

    /// Notified of each new live generation.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Generation>> {
        self.live.subscribe()
    }

    /// How the last look at the source went.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the source now and publishes what is new; what is older than the live one only if
    /// `allow_older`.
    ///
    /// # Errors
    /// Why nothing could be published.
    pub async fn publish(&self, allow_older: bool) -> Result<Looked, String> {
        let (sender, answer) = oneshot::channel();
        let request = Request { allow_older, answer: sender };
        self.requests.try_send(request).map_err(|_| "too many publish requests wait already".to_owned())?;
        answer.await.map_err(|_| "the service is stopping".to_owned())?
    }

    pub(crate) fn note_pulling(&self) {
        if self.live().is_none() {
            self.part.not_ready("its first tree is being pulled");
        }
    }

    pub(crate) fn note_attempt(
        &self,
        outcome: &Result<Looked, String>,
        report: Option<PathBuf>,
        pause: Duration,
    ) {
        let at_ms = service_kit::clock::now_ms();
        let attempt = Attempt {
            error: outcome.as_ref().err().cloned().unwrap_or_default(),
            report,
            at_ms,
            next_ms: at_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        };
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
        if let Err(error) = outcome
            && self.live().is_none()
        {
            self.part.not_ready(&format!("nothing could be published: {error}"));
        }
    }

    /// Whether the catalogue was made with the mirror lists of this fingerprint. The first one that is named
    /// in this process is taken for the right one.
    pub(crate) fn has_mirrors(&self, fingerprint: u64) -> bool {
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        *mirrors.get_or_insert(fingerprint) == fingerprint
    }

    /// The catalogue was made with them.
    pub(crate) fn note_mirrors(&self, fingerprint: u64) {
        *self.mirrors.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
    }

    pub(crate) fn go_live(&self, generation: Generation) {
        self.live.send_replace(Some(generation));
        self.part.ready();
    }
}

/// All modules in the order of the configuration.
#[derive(Debug, Clone)]
pub struct Modules(Arc<Vec<Arc<Module>>>);

impl Modules {
    pub(crate) fn new(modules: Vec<Arc<Module>>) -> Self {
        Self(Arc::new(modules))
    }

    /// The live generations of all modules but one: what that one may share contents with.
    pub(crate) fn live_besides(&self, own: &Module) -> Vec<Generation> {
        let others = self.iter().filter(|module| module.name() != own.name());
        others.filter_map(|module| module.live()).collect()
    }

    /// Each module.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.0.iter()
    }

    /// One module.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Module>> {
        self.0.iter().find(|module| module.name() == name)
    }
}
