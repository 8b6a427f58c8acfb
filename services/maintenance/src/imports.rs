//! Imports by command, and questions of a dry run: handed to the replica that has the directory, and waited for.
//!
//! They are not kept in the index: an import that is interrupted is repeated by whoever wanted it, and
//! what was adopted before is found to be stored. This module must not look at the directory: it is on
//! the replica's host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rookery_proto::v1::{ImportDirectory, ImportReport};
use tokio::sync::oneshot;

/// Imports that wait at the same time, over all replicas.
const WAITING_MAX: usize = 64;

/// One import that a replica has not reported on.
#[derive(Debug, Clone)]
pub(crate) struct PendingImport {
    pub(crate) sequence: u64,
    pub(crate) decision_id: String,
    pub(crate) directory: ImportDirectory,
}

#[derive(Debug)]
struct Entry {
    replica_id: String,
    pending: PendingImport,
    answer: oneshot::Sender<Vec<ImportReport>>,
}

/// Everything that waits. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Imports {
    /// Tells this process's decisions from those of the one before, which replicas remember.
    process: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    sequence: u64,
    waiting: BTreeMap<u64, Entry>,
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    imports: Imports,
    sequence: u64,
    pub(crate) decision_id: String,
    pub(crate) answer: oneshot::Receiver<Vec<ImportReport>>,
}

impl Imports {
    /// `process`: a random number.
    pub(crate) fn new(process: u64) -> Self {
        Self { process, state: Arc::default() }
    }

    /// Queues an import for a replica; `None` when too many wait.
    pub(crate) fn queue(&self, replica_id: &str, directory: ImportDirectory) -> Option<Waiting> {
        let mut state = self.lock();
        if state.waiting.len() >= WAITING_MAX {
            return None;
        }
        state.sequence += 1;
        let sequence = state.sequence;
        let (sender, answer) = oneshot::channel();
        let decision_id = format!("import-{:x}-{sequence}", self.process);
        let pending = PendingImport { sequence, decision_id: decision_id.clone(), directory };
        state.waiting.insert(sequence, Entry { replica_id: replica_id.to_owned(), pending, answer: sender });
        Some(Waiting { imports: self.clone(), sequence, decision_id, answer })
    }

    /// What waits for a replica behind `after`, oldest first.
    pub(crate) fn pending(&self, replica_id: &str, after: u64) -> Vec<PendingImport> {
        let state = self.lock();
        let behind = state.waiting.range(after.saturating_add(1)..);
        behind
            .filter(|(_, entry)| entry.replica_id == replica_id)
            .map(|(_, entry)| entry.pending.clone())
            .collect()
    }

    /// Hands a report to whoever waits for it; false if nobody does, or another replica was asked.
    pub(crate) fn report(&self, replica_id: &str, decision_id: &str, reports: Vec<ImportReport>) -> bool {
        let mut state = self.lock();
        let asked =
            |entry: &Entry| entry.replica_id == replica_id && entry.pending.decision_id == decision_id;
        let Some(sequence) = state.waiting.iter().find(|(_, entry)| asked(entry)).map(|(key, _)| *key) else {
            return false;
        };
        state.waiting.remove(&sequence).is_some_and(|entry| entry.answer.send(reports).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.imports.lock().waiting.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reaches_who_waits_and_only_from_the_replica_that_was_asked() {
        let imports = Imports::new(7);
        let mut first = imports.queue("a", ImportDirectory::default()).unwrap();
        let second = imports.queue("b", ImportDirectory::default()).unwrap();
        let pending = imports.pending("a", 0);
        assert_eq!(pending.len(), 1);
        assert!(imports.pending("a", pending[0].sequence).is_empty(), "sent already");
        let id = &pending[0].decision_id;
        assert!(!imports.report("b", id, Vec::new()), "not its own");
        assert!(imports.report("a", id, vec![ImportReport::default()]));
        assert!(!imports.report("a", id, Vec::new()), "told twice");
        assert_eq!(first.answer.try_recv().unwrap().len(), 1);
        drop(second);
        assert!(imports.pending("b", 0).is_empty(), "nobody waits any more");
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let imports = Imports::new(1);
        let waiting: Vec<_> =
            (0..WAITING_MAX).map(|_| imports.queue("a", ImportDirectory::default()).unwrap()).collect();
        assert!(imports.queue("a", ImportDirectory::default()).is_none());
        drop(waiting);
        assert!(imports.queue("a", ImportDirectory::default()).is_some());
    }
}
