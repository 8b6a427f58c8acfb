//! Encoded file lists, made once for all clients that ask for the same of one generation.
//!
//! A list of a whole tree takes a second and ten megabytes. What is kept is bounded, and so is what connections
//! hold of lists that are no longer kept: whoever asks for one list too many is told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rsync_wire::options::SourcePath;
use rsync_wire::{ExitCode, FileList, ListPlan, Refusal, WireError};

/// Octets of lists that are kept for the next client.
const KEPT_BYTES_MAX: usize = 96 << 20;
/// Octets of all lists that some connection still needs.
const LIVE_BYTES_MAX: usize = 512 << 20;
/// What a compiled filter rule takes, roughly.
const RULE_BYTES: usize = 512;

/// One generation of the module that the plan names, and what is listed of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    generation: u64,
    plan: ListPlan,
}

#[derive(Debug)]
struct Kept {
    list: Arc<FileList>,
    /// The list and what is asked for by it: a long list of names may find nothing.
    bytes: usize,
    used: u64,
}

impl Key {
    fn bytes(&self) -> usize {
        let of_source = |source: &SourcePath| size_of::<SourcePath>() + source.root.len() + source.name.len();
        self.plan.sources.iter().map(of_source).sum::<usize>() + self.plan.filters.len() * RULE_BYTES
    }
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Key, Kept>,
    kept_bytes: usize,
    live: Vec<Weak<FileList>>,
    /// Counts look-ups, to tell what was used last.
    clock: u64,
}

/// The lists of all modules.
#[derive(Debug)]
pub(super) struct Lists {
    state: Mutex<State>,
    kept_bytes_max: usize,
    live_bytes_max: usize,
}

impl Default for Lists {
    fn default() -> Self {
        Self::new(KEPT_BYTES_MAX, LIVE_BYTES_MAX)
    }
}

impl Lists {
    fn new(kept_bytes_max: usize, live_bytes_max: usize) -> Self {
        Self { state: Mutex::default(), kept_bytes_max, live_bytes_max }
    }

    /// The list of an equal plan over the same generation, if it is kept.
    pub(super) fn find(&self, generation: u64, plan: &ListPlan) -> Option<Arc<FileList>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let used = state.clock;
        let kept = state.kept.get_mut(&Key { generation, plan: plan.clone() })?;
        kept.used = used;
        Some(Arc::clone(&kept.list))
    }

    /// Finds a list, or builds it with `build` and keeps it. Blocking.
    pub(super) fn find_or_build(
        &self,
        generation: u64,
        plan: ListPlan,
        build: impl FnOnce(&ListPlan) -> Result<FileList, WireError>,
    ) -> Result<Arc<FileList>, WireError> {
        // Another connection may have built it while this one waited for its turn.
        if let Some(list) = self.find(generation, &plan) {
            return Ok(list);
        }
        self.make_room()?;
        let list = Arc::new(build(&plan)?);
        self.keep(Key { generation, plan }, &list);
        Ok(list)
    }

    /// Refuses when the lists that connections hold are more than there may be.
    fn make_room(&self) -> Result<(), WireError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.live.retain(|list| list.strong_count() > 0);
        let live_bytes: usize = state.live.iter().filter_map(Weak::upgrade).map(|list| list.bytes()).sum();
        if live_bytes < self.live_bytes_max {
            return Ok(());
        }
        tracing::warn!(live_bytes, "rsync: too many different file lists are in use");
        let text = "rsync: too many different file lists are in use -- try again later";
        Err(WireError::Refused(Refusal::new(ExitCode::Selection, text)))
    }

    fn keep(&self, key: Key, list: &Arc<FileList>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.live.push(Arc::downgrade(list));
        let bytes = list.bytes() + key.bytes();
        if bytes > self.kept_bytes_max {
            return;
        }
        state.clock += 1;
        state.kept_bytes += bytes;
        let kept = Kept { list: Arc::clone(list), bytes, used: state.clock };
        if let Some(replaced) = state.kept.insert(key, kept) {
            state.kept_bytes -= replaced.bytes;
        }
        while state.kept_bytes > self.kept_bytes_max {
            let oldest = state.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(removed) = oldest.and_then(|key| state.kept.remove(&key)) else { break };
            state.kept_bytes -= removed.bytes;
        }
    }

    /// Forgets the lists of generations that are not live.
    pub(super) fn forget_others(&self, module: &str, generation: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = 0;
        state.kept.retain(|key, kept| {
            let stays = key.plan.module != module || key.generation >= generation;
            freed += if stays { 0 } else { kept.bytes };
            stays
        });
        state.kept_bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsync_wire::memory::MemoryTree;
    use rsync_wire::options::parse_path;
    use std::cell::Cell;

    fn plan(module: &str, path: &str) -> ListPlan {
        let source = parse_path(module, path.as_bytes(), false).unwrap();
        ListPlan { module: module.to_owned(), sources: vec![source], recurse: true, ..ListPlan::default() }
    }

    fn tree() -> MemoryTree {
        let mut tree = MemoryTree::new(0);
        for number in 0..100 {
            tree.file(&format!("d{}/f{number}", number % 7), b"x", 0o644, (1, 0));
        }
        tree
    }

    #[test]
    fn equal_plans_share_a_list_and_others_do_not() {
        let (lists, tree, builds) = (Lists::default(), tree(), Cell::new(0));
        let get = |generation, plan: ListPlan| {
            let build = |plan: &ListPlan| {
                builds.set(builds.get() + 1);
                plan.build(&tree)
            };
            lists.find_or_build(generation, plan, build).unwrap()
        };
        let first = get(1, plan("m", "m/"));
        assert!(Arc::ptr_eq(&first, &get(1, plan("m", "m/"))));
        assert_eq!(builds.get(), 1);
        for (generation, other) in [
            (2, plan("m", "m/")),
            (1, plan("other", "other/")),
            (1, plan("m", "m/d1")),
            (1, ListPlan { owner: true, ..plan("m", "m/") }),
            (1, ListPlan { owner: true, names: true, ..plan("m", "m/") }),
            (1, ListPlan { hard_links: true, ..plan("m", "m/") }),
        ] {
            assert!(!Arc::ptr_eq(&first, &get(generation, other)));
        }
        assert_eq!(builds.get(), 7);
        lists.forget_others("m", 2);
        assert!(lists.find(1, &plan("m", "m/")).is_none());
        assert!(
            lists.find(2, &plan("m", "m/")).is_some() && lists.find(1, &plan("other", "other/")).is_some()
        );
    }

    #[test]
    fn what_is_kept_and_what_is_held_are_bounded() {
        let tree = tree();
        let key = Key { generation: 1, plan: plan("m", "m/") };
        let one = key.plan.build(&tree).unwrap().bytes() + key.bytes();
        let lists = Lists::new(one * 2, one * 4);
        let mut held = Vec::new();
        let mut get = |generation| {
            let list = lists.find_or_build(generation, plan("m", "m/"), |plan| plan.build(&tree));
            list.map(|list| held.push(list))
        };
        (1..=5).for_each(|generation| get(generation).unwrap());
        let refused = get(6).unwrap_err().refusal();
        assert!(refused.text().contains("try again later"));
        assert!(get(5).is_ok(), "what is kept is served all the same");
        let state = lists.state.lock().unwrap();
        assert_eq!((state.kept.len(), state.kept_bytes), (2, one * 2));
        drop(state);
        held.clear();
        lists.find_or_build(6, plan("m", "m/"), |plan| plan.build(&tree)).unwrap();
        assert!(lists.find(4, &plan("m", "m/")).is_none(), "the one that was not used for longest goes");
    }
}
