//! What is known of a module's generations beyond their contents: how each was verified, and whether an
//! operator rolled back. One small file for each module, `state_dir/.history/MODULE.toml`, written before
//! the generation that it speaks of is published.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use service_kit::durable;
use tree_store::{ModuleName, TreeError};

/// The file's contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Facts {
    hold: Option<Hold>,
    /// By number, as text.
    generations: BTreeMap<String, Origin>,
}

/// Where a generation comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Origin {
    /// "signed", "consistent" or "none".
    pub(crate) verify: String,
    /// The generation that it is a copy of; 0 if it was built from the source.
    pub(crate) copy_of: u64,
}

/// An operator rolled back: what the source had by then is not published again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// The generation that the rollback published. If a newer one is not live, the rollback never happened.
    pub(crate) number: u64,
    /// What it is a copy of.
    pub(crate) copy_of: u64,
    /// What was live before.
    pub(crate) instead_of: u64,
    /// The source's tree has to be newer than this to be published: seconds since the Unix epoch.
    pub(crate) newer_than_s: i64,
}

impl Hold {
    /// In words, for people.
    pub(crate) fn describe(&self) -> String {
        format!(
            "rolled back from generation {} to {}: until the source has a newer tree, it is not published by itself",
            self.instead_of, self.copy_of
        )
    }
}

/// One module's.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    facts: Mutex<Facts>,
}

impl History {
    /// Reads what is there. What can't be understood is forgotten, with a warning. Blocking.
    pub(crate) fn open(state_dir: &Path, module: &ModuleName) -> Result<Self, TreeError> {
        // No module's name starts with a dot.
        let directory = state_dir.join(".history");
        fs::create_dir_all(&directory).map_err(store(&directory, "create"))?;
        let path = directory.join(format!("{module}.toml"));
        let facts = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "not understood: forgotten");
                Facts::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Facts::default(),
            Err(error) => return Err(store(&path, "read")(error)),
        };
        Ok(Self { path, facts: Mutex::new(facts) })
    }

    /// Of a generation; of one that nothing is known of, an empty one.
    pub(crate) fn origin(&self, number: u64) -> Origin {
        self.lock().generations.get(&number.to_string()).cloned().unwrap_or_default()
    }

    /// The rollback that is in force.
    pub(crate) fn hold(&self, live: u64) -> Option<Hold> {
        self.lock().hold.clone().filter(|hold| hold.number == live)
    }

    /// The generation `number` is about to be published. `kept` are those that stay. Blocking, durable.
    pub(crate) fn note(
        &self,
        number: u64,
        origin: Origin,
        hold: Option<Hold>,
        kept: &[u64],
    ) -> Result<(), TreeError> {
        let mut facts = self.lock().clone();
        facts.generations.retain(|number, _| kept.iter().any(|kept| kept.to_string() == *number));
        facts.generations.insert(number.to_string(), origin);
        // The hold before stays until the generation that ends it is live: its number tells.
        if hold.is_some() {
            facts.hold = hold;
        }
        self.write(&facts).map_err(store(&self.path, "write"))?;
        *self.lock() = facts;
        Ok(())
    }

    fn write(&self, facts: &Facts) -> io::Result<()> {
        let text = toml::to_string(facts).map_err(io::Error::other)?;
        durable::replace(&self.path, &self.path.with_extension("toml.new"), text.as_bytes())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn store(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |error| TreeError::Store { path, doing, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_only_of_what_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let module = "m".parse().unwrap();
        let open = || History::open(directory.path(), &module).unwrap();
        let history = open();
        let origin = |verify: &str, copy_of| Origin { verify: verify.to_owned(), copy_of };
        history.note(1, origin("none", 0), None, &[]).unwrap();
        let hold = Hold { number: 3, copy_of: 1, instead_of: 2, newer_than_s: 7 };
        history.note(2, origin("signed", 0), None, &[1]).unwrap();
        history.note(3, origin("none", 1), Some(hold.clone()), &[1, 2]).unwrap();
        for history in [history, open()] {
            assert_eq!(history.origin(2), origin("signed", 0));
            assert_eq!(history.origin(3), origin("none", 1));
            assert_eq!((history.hold(3), history.hold(2)), (Some(hold.clone()), None));
        }
        let history = open();
        history.note(4, origin("none", 0), None, &[3]).unwrap();
        assert_eq!((history.origin(2), history.origin(3)), (Origin::default(), origin("none", 1)));
        assert_eq!(history.hold(4), None, "a newer generation ends it");
        fs::write(directory.path().join(".history/m.toml"), "generations = 1").unwrap();
        assert_eq!(open().origin(4), Origin::default());
    }
}
