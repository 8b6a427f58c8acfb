//! One module: its store, what is live, and how the last look at its source went.

use std::sync::{Arc, Mutex, PoisonError};

use service_kit::readiness;
use tokio::sync::{mpsc, oneshot, watch};
use tree_store::{Generation, Store, TreeError};

use crate::config::ModulePlan;

/// Publish requests that may wait; more than that many callers get an error.
const REQUESTS_MAX: usize = 32;

/// A module as the rest of the process sees it.
#[derive(Debug)]
pub struct Module {
    plan: ModulePlan,
    store: Store,
    live: watch::Sender<Option<Generation>>,
    attempt: Mutex<Attempt>,
    requests: mpsc::Sender<Request>,
    part: readiness::Part,
}

/// How the last look at the source went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Why nothing could be published; empty when it could, or when nothing had changed.
    pub error: String,
    /// When it ended, milliseconds since the Unix epoch; 0 for never.
    pub at_ms: u64,
}

/// What a look at the source came to.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The live generation.
    pub generation: Generation,
    /// Whether it is a new one.
    pub changed: bool,
}

/// Somebody waits for a look.
pub(crate) type Request = oneshot::Sender<Result<Looked, String>>;

impl Module {
    /// Opens the store and serves what is in it. Blocking.
    pub(crate) fn open(
        plan: ModulePlan,
        state_dir: &std::path::Path,
        readiness: &readiness::Readiness,
    ) -> Result<(Self, mpsc::Receiver<Request>), TreeError> {
        let part = readiness.part(&format!("module {}", plan.name), "no generation was published yet");
        let store = Store::open(state_dir, plan.name.clone())?;
        let live = store.live();
        if let Some(generation) = &live {
            tracing::info!(module = %plan.name, number = generation.number(), "serving the stored generation");
            part.ready();
        }
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let attempt = Mutex::default();
        Ok((Self { plan, store, live: watch::Sender::new(live), attempt, requests, part }, inbox))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.plan.name.as_str()
    }

    pub(crate) fn plan(&self) -> &ModulePlan {
        &self.plan
    }

    /// Its generations on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
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

    /// Looks at the source now and publishes what is new.
    ///
    /// # Errors
    /// Why nothing could be published.
    pub async fn publish(&self) -> Result<Looked, String> {
        let (request, answer) = oneshot::channel();
        self.requests.try_send(request).map_err(|_| "too many publish requests wait already".to_owned())?;
        answer.await.map_err(|_| "the service is stopping".to_owned())?
    }

    pub(crate) fn note_attempt(&self, outcome: &Result<Looked, String>) {
        let attempt = Attempt {
            error: outcome.as_ref().err().cloned().unwrap_or_default(),
            at_ms: service_kit::clock::now_ms(),
        };
        *self.attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
        if let Err(error) = outcome
            && self.live().is_none()
        {
            self.part.not_ready(&format!("nothing could be published: {error}"));
        }
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
