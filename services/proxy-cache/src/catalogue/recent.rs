//! Names that were looked up a moment ago: a farm asks for the same ones, box after box.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use gentoo_repo::DistfileName;

use super::KnownDistfile;

/// Names that are kept: more than one night's update asks for. Then it begins anew.
const NAMES_MAX: usize = 4096;

/// What the local copy said since it last changed.
#[derive(Debug, Default)]
pub(super) struct Recent(RwLock<Found>);

#[derive(Debug, Default)]
struct Found {
    /// How often the copy has changed.
    changes: u64,
    by_name: HashMap<DistfileName, Vec<Asked>>,
}

/// What was asked for under a name: with the module that was named, if one was.
type Asked = (Option<String>, Arc<KnownDistfile>);

impl Recent {
    /// What was found, or how often the copy had changed before it is asked.
    pub(super) fn get(&self, name: &DistfileName, module: Option<&str>) -> Result<Arc<KnownDistfile>, u64> {
        let found = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_name = found.by_name.get(name).into_iter().flatten();
        let mut of_module = of_name.filter(|(asked, _)| asked.as_deref() == module);
        of_module.next().map(|(_, known)| Arc::clone(known)).ok_or(found.changes)
    }

    /// Keeps what was found, unless the copy has changed since.
    pub(super) fn keep(
        &self,
        changes: u64,
        name: &DistfileName,
        module: Option<&str>,
        known: &Arc<KnownDistfile>,
    ) {
        let mut found = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if found.changes != changes {
            return;
        }
        if found.by_name.len() >= NAMES_MAX {
            found.by_name.clear();
        }
        let of_name = found.by_name.entry(name.clone()).or_default();
        of_name.retain(|(asked, _)| asked.as_deref() != module);
        of_name.push((module.map(str::to_owned), Arc::clone(known)));
    }

    /// The copy has changed.
    pub(super) fn forget(&self) {
        let mut found = self.0.write().unwrap_or_else(PoisonError::into_inner);
        found.changes += 1;
        found.by_name.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{row, tests::wire};

    fn known(module: &str, name: &str, version: u8) -> Arc<KnownDistfile> {
        let distfile = row::from_wire(&wire(name, version)).unwrap();
        Arc::new(KnownDistfile { module: module.to_owned(), distfile })
    }

    #[test]
    fn what_was_found_before_a_change_is_not_kept_after_it() {
        let (recent, name) = (Recent::default(), "a-1.tar".parse().unwrap());
        let (one, other) = (known("m", "a-1.tar", 5), known("n", "a-1.tar", 6));
        let changes = recent.get(&name, None).unwrap_err();
        recent.keep(changes, &name, None, &one);
        recent.keep(changes, &name, Some("n"), &other);
        assert_eq!(recent.get(&name, None), Ok(one.clone()));
        assert_eq!(recent.get(&name, Some("n")), Ok(other));
        assert!(recent.get(&name, Some("m")).is_err());
        recent.forget();
        assert!(recent.get(&name, None).is_err());
        // Asked before the change, answered after it.
        recent.keep(changes, &name, None, &one);
        assert!(recent.get(&name, None).is_err());
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let recent = Recent::default();
        for number in 0..=(NAMES_MAX * 2) {
            let text = format!("a-{number}.tar");
            let name = text.parse().unwrap();
            recent.keep(0, &name, None, &known("m", &text, 5));
            assert!(recent.get(&name, None).is_ok());
        }
        assert!(recent.0.read().unwrap().by_name.len() <= NAMES_MAX);
    }
}
