//! What sync-server last said of itself, kept for when it is away.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cache_policy::UnixMs;
use rookery_proto::v1::Module;

/// The last listing of modules, and what went wrong since.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    state: Mutex<Seen>,
}

/// A copy of what is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// `None` until sync-server was reached for the first time.
    pub(crate) modules: Option<Vec<Module>>,
    /// Why sync-server can't be reached now.
    pub(crate) away: Option<String>,
    /// Why a module's last import failed.
    pub(crate) import_errors: BTreeMap<String, String>,
}

impl Trees {
    pub(crate) fn seen(&self) -> Seen {
        self.state().clone()
    }

    /// sync-server answered with its modules.
    pub(crate) fn listed(&self, modules: Vec<Module>) {
        let mut state = self.state();
        state.import_errors.retain(|name, _| modules.iter().any(|module| module.name == *name));
        state.modules = Some(modules);
        state.away = None;
    }

    /// When the newest tree was made, as it says itself.
    pub(crate) fn newest(&self) -> Option<UnixMs> {
        let state = self.state();
        let live = state.modules.iter().flatten().filter_map(|module| module.live.as_ref());
        live.map(|live| live.timestamp_ms).filter(|made_ms| *made_ms > 0).max().map(UnixMs::new)
    }

    /// sync-server does not answer.
    pub(crate) fn away(&self, reason: String) {
        self.state().away = Some(reason);
    }

    /// How the module's last import ended.
    pub(crate) fn imported(&self, module: &str, error: Option<String>) {
        let mut state = self.state();
        match error {
            Some(error) => state.import_errors.insert(module.to_owned(), error),
            None => state.import_errors.remove(module),
        };
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call to sync-server failed, in few words: its own, or what the system said of the connection.
pub(crate) fn reason(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<tonic::Status>() { status.message().to_owned() } else { cause.to_string() }
}
