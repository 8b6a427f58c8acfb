//! What takes long and is under way: runs, and imports and looks at sources by command.
//!
//! It is kept in memory alone and for whoever waits; a process that ends takes it along. Only who began
//! something can have progress told of it, so that what replicas report takes no room of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rookery_proto::v1::{ImportProgress, Progress};

/// Everything that is under way. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderWay {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    tasks: BTreeMap<u64, Progress>,
    /// By decision.
    imports: HashMap<String, Import>,
}

#[derive(Debug)]
struct Import {
    task: u64,
    replica_id: String,
    latest: ImportProgress,
}

/// Something that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Task {
    under_way: UnderWay,
    number: u64,
}

impl UnderWay {
    pub(crate) fn begin(&self, progress: Progress) -> Task {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.tasks.insert(number, progress);
        Task { under_way: self.clone(), number }
    }

    /// In the order in which it was begun.
    pub(crate) fn all(&self) -> Vec<Progress> {
        self.lock().tasks.values().cloned().collect()
    }

    /// What a replica says of an import; nothing if nobody expects it from this replica.
    pub(crate) fn report(&self, replica_id: &str, decision_id: &str, told: ImportProgress) {
        let mut state = self.lock();
        let State { tasks, imports, .. } = &mut *state;
        let Some(import) = imports.get_mut(decision_id).filter(|import| import.replica_id == replica_id)
        else {
            return;
        };
        import.latest = told;
        let number = import.task;
        let of_task: Vec<_> =
            imports.values().filter(|import| import.task == number).map(|import| &import.latest).collect();
        let sum =
            |of: fn(&ImportProgress) -> u64| of_task.iter().copied().map(of).fold(0, u64::saturating_add);
        if let Some(progress) = tasks.get_mut(&number) {
            "files".clone_into(&mut progress.unit);
            progress.done = sum(|one| one.files_done);
            progress.total = sum(|one| one.files);
            progress.bytes_done = sum(|one| one.bytes_done);
            progress.bytes = sum(|one| one.bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    /// Step `done` of a run begins.
    pub(crate) fn step(&self, what: &str, steps_done: u32) {
        self.change(|progress| {
            *progress = Progress {
                kind: std::mem::take(&mut progress.kind),
                what: what.to_owned(),
                steps_done,
                steps: progress.steps,
                started_ms: progress.started_ms,
                ..Progress::default()
            };
        });
    }

    /// It is the turn of `what`.
    pub(crate) fn at(&self, what: &str) {
        self.change(|progress| what.clone_into(&mut progress.what));
    }

    pub(crate) fn count(&self, unit: &str, done: u64, total: u64) {
        self.change(|progress| {
            unit.clone_into(&mut progress.unit);
            (progress.done, progress.total) = (done, total);
        });
    }

    /// The replica will tell how far this decision of an import is.
    pub(crate) fn expect(&self, decision_id: &str, replica_id: &str) {
        let import = Import {
            task: self.number,
            replica_id: replica_id.to_owned(),
            latest: ImportProgress::default(),
        };
        self.under_way.lock().imports.insert(decision_id.to_owned(), import);
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(progress) = self.under_way.lock().tasks.get_mut(&self.number) {
            change(progress);
        }
    }

    /// What was expected is not any more: the step is over.
    pub(crate) fn expect_nothing(&self) {
        self.under_way.lock().imports.retain(|_, import| import.task != self.number);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.expect_nothing();
        self.under_way.lock().tasks.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files_done: u64) -> ImportProgress {
        ImportProgress { files_done, files: 10, bytes_done: files_done * 7, bytes: 70, ..Default::default() }
    }

    #[test]
    fn only_what_is_expected_from_a_replica_counts_and_only_while_it_is_under_way() {
        let under_way = UnderWay::default();
        let task = under_way.begin(Progress { kind: "run".to_owned(), steps: 2, ..Progress::default() });
        task.step("import", 1);
        under_way.report("r1", "d1", told(9));
        assert_eq!(under_way.all()[0].total, 0, "nobody expects it");
        task.expect("d1", "r1");
        task.expect("d2", "r2");
        under_way.report("r2", "d1", told(9));
        assert_eq!(under_way.all()[0].total, 0, "it is another replica's");
        under_way.report("r1", "d1", told(3));
        under_way.report("r2", "d2", told(4));
        let now = under_way.all().remove(0);
        assert_eq!(
            (now.what.as_str(), now.unit.as_str(), now.steps_done, now.steps),
            ("import", "files", 1, 2)
        );
        assert_eq!((now.done, now.total, now.bytes_done, now.bytes), (7, 20, 49, 140));
        task.expect_nothing();
        task.step("scrub", 2);
        under_way.report("r1", "d1", told(9));
        assert_eq!(under_way.all()[0].total, 0, "the step is over");
        drop(task);
        assert!(under_way.all().is_empty() && under_way.lock().imports.is_empty());
    }
}
