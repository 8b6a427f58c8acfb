//! What the packages of one repository say, each text and description once.
//!
//! It outlives its [`super::CatalogueBuilder`]: the builder of the next generation takes over every package whose
//! files are still the same and reads only the others.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::Fault;
use crate::restrict::Restrict;
use crate::src_uri::Lift;
use crate::{Digests, DistfileName};

/// Tells one state of a package's files from another: a digest over their digests.
pub type Tag = [u8; 16];

/// Values by number, each once.
#[derive(Debug, Clone)]
pub struct Table<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// The number of a value; one that is new gets the next.
    pub fn intern(&mut self, value: T) -> u32 {
        if let Some(&known) = self.numbers.get(&value) {
            return known;
        }
        // A table of 4 Gi values would not fit the memory that it is meant to save.
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    /// The value with a number that this table gave.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }

    /// All values by number.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl<T: Clone + Eq + Hash> FromIterator<T> for Table<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut table = Self::default();
        for value in values {
            table.intern(value);
        }
        table
    }
}

/// What DIST lines say of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Description {
    /// The file's length.
    pub size_bytes: u64,
    /// Its digests.
    pub digests: Digests,
}

impl Description {
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.size_bytes == other.size_bytes && self.digests.agrees_with(&other.digests)
    }
}

/// What the files of one package say. Numbers are those of the tables of its [`Facts`].
#[derive(Debug, Clone, Default)]
pub struct PackageFacts {
    /// Of the files that this was read from, if the builder was told.
    pub tag: Option<Tag>,
    /// The DIST lines: name and description.
    pub dists: BTreeMap<u32, u32>,
    /// By `PF`.
    pub versions: BTreeMap<String, VersionFacts>,
    /// What is wrong with the files themselves.
    pub faults: Vec<Fault>,
}

/// What one cache entry says.
#[derive(Debug, Clone)]
pub struct VersionFacts {
    /// Its `RESTRICT`.
    pub restrict: Restrict,
    /// Its `SRC_URI` in the order of the text.
    pub uris: Vec<UriFacts>,
}

/// One URI of a cache entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UriFacts {
    /// The number of the file's name.
    pub name: u32,
    /// The number of the URI, `None` for a bare file name.
    pub uri: Option<u32>,
    /// What its prefix lifts.
    pub lift: Lift,
}

/// The packages of one repository.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Names of distfiles.
    pub names: Table<DistfileName>,
    /// URIs as written.
    pub uris: Table<Arc<str>>,
    /// Sizes and digests.
    pub descriptions: Table<Description>,
    /// By `category/package`.
    pub packages: BTreeMap<String, PackageFacts>,
}

impl Facts {
    /// Whether so much of the tables belongs to packages that are gone that starting anew costs less than
    /// carrying it on.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut used = vec![false; self.names.values().len()];
        for package in self.packages.values() {
            let named = package.versions.values().flat_map(|version| &version.uris).map(|uri| &uri.name);
            for &name in package.dists.keys().chain(named) {
                if let Some(slot) = used.get_mut(name as usize) {
                    *slot = true;
                }
            }
        }
        used.iter().filter(|used| **used).count() * 2 < used.len()
    }
}
