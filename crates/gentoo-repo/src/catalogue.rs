//! The catalogue: every distfile that a repository refers to, with its size and digests from the Manifests and its
//! sources from `SRC_URI`.
//!
//! [`CatalogueBuilder`] takes Manifests, cache entries and mirror lists in whatever order a walk finds them; the result
//! depends only on what they say. What is wrong with them becomes a [`Fault`] and costs as little as possible: a broken
//! line loses itself, not its Manifest.
//!
//! # Which description of a name is kept
//! Packages that share a distfile normally agree on its digests. Where they do not, the description that most packages
//! have is kept, and among equals the one of the first package by name; the packages with another one are left out of
//! the distfile, sources included, for their URLs may well give the other file.
//!
//! # What a restriction comes to
//! Within one package version the strictest reading counts ([`crate::restrict`]): conditions are ignored, `fetch`
//! implies `mirror`, and only the URI's own prefix lifts. Between the versions and packages that name the same file
//! with the same digests the most permissive counts, and only the URIs that some version permits become sources. That
//! is how Gentoo's own mirrors are filled (one unrestricted package is enough), and it is what a box does that
//! installs that package.
//! A file that no readable `SRC_URI` names has no sources and no restriction: nothing is known against mirrors.

mod builder;
mod describe;
pub mod facts;
mod fault;
mod merge;
mod sources;

use std::collections::BTreeMap;

pub use builder::CatalogueBuilder;
pub use fault::{Fault, FaultKind};
pub use sources::SOURCES_MAX;

use crate::{Distfile, DistfileName};

/// Every distfile of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By name; each key is the name of its value.
    pub distfiles: BTreeMap<DistfileName, Distfile>,
}

impl Catalogue {
    /// How many distfiles could be fetched if anybody knew from where.
    #[must_use]
    pub fn without_source(&self) -> usize {
        self.distfiles.values().filter(|distfile| distfile.lacks_source()).count()
    }
}

/// What changed from one catalogue to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff<'a> {
    /// New ones and changed ones as they are now, by name.
    pub upserts: Vec<&'a Distfile>,
    /// Names that are gone, sorted.
    pub removes: Vec<&'a DistfileName>,
}

/// What turns `old` into `new`.
#[must_use]
pub fn diff<'a>(old: &'a Catalogue, new: &'a Catalogue) -> Diff<'a> {
    let upserts = new.distfiles.iter().filter(|(name, distfile)| old.distfiles.get(*name) != Some(*distfile));
    let removes = old.distfiles.keys().filter(|name| !new.distfiles.contains_key(*name));
    Diff { upserts: upserts.map(|(_, distfile)| distfile).collect(), removes: removes.collect() }
}

#[cfg(test)]
mod tests;
