//! What the packages of one repository say, each text and description once.
//!
//! It outlives its [`super::CatalogueBuilder`]: the builder of the next generation takes over every package whose
//! files are still the same and reads only the others.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use indexmap::IndexSet;

use super::Fault;
use crate::restrict::Restrict;
use crate::src_uri::Lift;
use crate::{Digests, DistfileName};

/// Tells one state of a package's files from another: a digest over their digests.
pub type Tag = [u8; 16];

/// Values by number, each once.
#[derive(Debug, Clone)]
pub struct Table<T>(IndexSet<T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(IndexSet::new())
    }
}

impl<T: Eq + Hash> Table<T> {
    /// None yet, with room for `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self(IndexSet::with_capacity(count))
    }

    /// The number of a value; one that is new gets the next.
    pub fn intern(&mut self, value: T) -> u32 {
        // A table of 4 Gi values would not fit the memory that it is meant to save.
        u32::try_from(self.0.insert_full(value).0).unwrap_or(u32::MAX)
    }

    /// The value with a number that this table gave.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.0.get_index(number as usize)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values by number.
    #[must_use]
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter()
    }
}

impl<T: Eq + Hash> FromIterator<T> for Table<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
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
///
/// A tree has tens of thousands of packages with few entries each: sorted lists take a fraction of what maps do.
#[derive(Debug, Clone, Default)]
pub struct PackageFacts {
    /// Of the files that this was read from, if the builder was told.
    pub tag: Option<Tag>,
    /// The DIST lines, sorted by name.
    pub dists: Vec<DistFacts>,
    /// Sorted by `PF`.
    pub versions: Vec<VersionFacts>,
    /// What is wrong with the files themselves.
    pub faults: Vec<Fault>,
}

impl PackageFacts {
    /// The number of the description that its Manifest has for a name.
    #[must_use]
    pub fn description_of(&self, name: u32) -> Option<u32> {
        let at = self.dists.binary_search_by_key(&name, |dist| dist.name).ok()?;
        self.dists.get(at).map(|dist| dist.description)
    }

    pub(super) fn describe(&mut self, name: u32, description: u32) {
        match self.dists.binary_search_by_key(&name, |dist| dist.name) {
            Ok(at) => self.dists[at].description = description,
            Err(at) => self.dists.insert(at, DistFacts { name, description }),
        }
    }

    pub(super) fn add_version(&mut self, version: VersionFacts) {
        match self.versions.binary_search_by(|known| known.pf.cmp(&version.pf)) {
            Ok(at) => self.versions[at] = version,
            Err(at) => self.versions.insert(at, version),
        }
    }

    pub(super) fn shrink(&mut self) {
        self.dists.shrink_to_fit();
        self.versions.shrink_to_fit();
    }
}

/// What the DIST line of a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DistFacts {
    /// The number of the name.
    pub name: u32,
    /// The number of the size and digests.
    pub description: u32,
}

/// What one cache entry says.
#[derive(Debug, Clone)]
pub struct VersionFacts {
    /// Of which version.
    pub pf: Box<str>,
    /// Its `RESTRICT`.
    pub restrict: Restrict,
    /// Its `SRC_URI` in the order of the text.
    pub uris: Box<[UriFacts]>,
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
        let mut used = vec![false; self.names.len()];
        for package in self.packages.values() {
            let named = package.versions.iter().flat_map(|version| version.uris.iter()).map(|uri| uri.name);
            for name in package.dists.iter().map(|dist| dist.name).chain(named) {
                if let Some(slot) = used.get_mut(name as usize) {
                    *slot = true;
                }
            }
        }
        used.iter().filter(|used| **used).count() * 2 < used.len()
    }
}
