//! Ready only when every part can serve.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts of a process and what keeps each from serving.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

impl Readiness {
    /// Registers a part, not ready for `reason` until [`Part::ready`] is called.
    #[must_use]
    pub fn part(&self, name: &str, reason: &str) -> Part {
        let part = Part { readiness: self.clone(), name: name.to_owned() };
        part.not_ready(reason);
        part
    }

    /// `Ok` when all parts are ready, else each unready part with its reason.
    ///
    /// # Errors
    /// The parts that can't serve, as (name, reason).
    pub fn check(&self) -> Result<(), Vec<(String, String)>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let unready: Vec<_> = parts
            .iter()
            .filter_map(|(name, reason)| reason.as_ref().map(|reason| (name.clone(), reason.clone())))
            .collect();
        if unready.is_empty() { Ok(()) } else { Err(unready) }
    }

    fn set(&self, name: &str, reason: Option<String>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), reason);
    }
}

/// One part's hold on the process's readiness.
#[derive(Debug, Clone)]
pub struct Part {
    readiness: Readiness,
    name: String,
}

impl Part {
    /// The part can serve.
    pub fn ready(&self) {
        self.readiness.set(&self.name, None);
    }

    /// The part can't serve, and why.
    pub fn not_ready(&self, reason: &str) {
        self.readiness.set(&self.name, Some(reason.to_owned()));
    }
}
