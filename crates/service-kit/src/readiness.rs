//! Ready only when every part can serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What is wrong although every part can serve, as (subject, what).
pub type Warnings = Vec<(String, String)>;

/// The parts of a process and what keeps each from serving.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    parts: Arc<watch::Sender<BTreeMap<String, Option<String>>>>,
    warnings: Arc<watch::Sender<BTreeMap<String, Warnings>>>,
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
        let unready: Vec<_> = self
            .parts
            .borrow()
            .iter()
            .filter_map(|(name, reason)| reason.as_ref().map(|reason| (name.clone(), reason.clone())))
            .collect();
        if unready.is_empty() { Ok(()) } else { Err(unready) }
    }

    /// What `/readyz` tells besides: what is wrong although every part can serve, as (subject, what).
    /// Replaces what the same part of the process told before.
    pub fn warn(&self, part: &str, warnings: &[(String, String)]) {
        self.warnings.send_if_modified(|told| {
            told.insert(part.to_owned(), warnings.to_vec()).unwrap_or_default() != warnings
        });
    }

    /// What is wrong although every part can serve.
    #[must_use]
    pub fn warnings(&self) -> Warnings {
        self.warnings.borrow().values().flatten().cloned().collect()
    }

    /// The same, of one part of the process.
    #[must_use]
    pub fn warnings_of(&self, part: &str) -> Warnings {
        self.warnings.borrow().get(part).cloned().unwrap_or_default()
    }

    /// Returns as soon as all parts are ready.
    pub async fn wait(&self) {
        let mut parts = self.parts.subscribe();
        // The sender lives as long as `self`, so that the wait can't fail.
        drop(parts.wait_for(|parts| parts.values().all(Option::is_none)).await);
    }

    /// Notified of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<String, Option<String>>> {
        self.parts.subscribe()
    }

    fn set(&self, name: &str, reason: Option<String>) {
        self.parts.send_if_modified(|parts| parts.insert(name.to_owned(), reason.clone()) != Some(reason));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_only_when_all_parts_are() {
        let readiness = Readiness::default();
        let tree = readiness.part("tree", "no generation yet");
        let store = readiness.part("store", "opening");
        store.ready();
        assert_eq!(readiness.check(), Err(vec![("tree".to_owned(), "no generation yet".to_owned())]));
        let waiting = readiness.clone();
        let (ready, ()) = tokio::join!(waiting.wait(), async { tree.ready() });
        assert_eq!(ready, ());
        assert_eq!(readiness.check(), Ok(()));
        store.not_ready("disk full");
        assert!(readiness.check().is_err());
    }
}
