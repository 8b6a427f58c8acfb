//! What each package version adds to a distfile: its sources and how far they may be used.

use std::sync::Arc;

use super::facts::{Description, Table, UriFacts};
use super::{Fault, FaultKind};
use crate::mirrors::{NoExpansion, ThirdPartyMirrors, is_fetchable};
use crate::restrict::Restrict;
use crate::{Distfile, DistfileName, PackageKey, Restriction};

/// Sources of one distfile beyond this many are dropped; the most that real trees give is some hundred.
pub const SOURCES_MAX: usize = 1000;

/// A distfile of which not every source is known yet.
pub(super) struct Known {
    name: DistfileName,
    description: Description,
    /// Positions of the packages that have this description, growing.
    packages: Vec<u32>,
    sources: Vec<String>,
    /// Numbers of URIs that are among the sources: the versions of a package mostly repeat each other's.
    expanded: Vec<u32>,
    /// The most permissive one so far; `None` while no version said anything.
    restriction: Option<Restriction>,
}

impl Known {
    pub(super) fn new(name: DistfileName, description: Description, packages: Vec<u32>) -> Self {
        let (sources, expanded) = (Vec::new(), Vec::new());
        Self { name, description, packages, sources, expanded, restriction: None }
    }

    /// Whether the package at a position has this description of the name.
    pub(super) fn is_of(&self, package: u32) -> bool {
        self.packages.binary_search(&package).is_ok()
    }

    /// `keys` are those of all packages.
    pub(super) fn finish(self, keys: &[PackageKey]) -> Distfile {
        let mut packages = Vec::with_capacity(self.packages.len());
        packages.extend(self.packages.iter().filter_map(|&at| keys.get(at as usize)).cloned());
        let mut sources = self.sources;
        sources.shrink_to_fit();
        Distfile {
            name: self.name,
            size_bytes: self.description.size_bytes,
            digests: self.description.digests,
            sources,
            restriction: self.restriction.unwrap_or_default(),
            packages,
        }
    }
}

/// Adds the sources that one version gives.
pub(super) struct Sources<'a> {
    pub(super) mirrors: &'a ThirdPartyMirrors,
    pub(super) uris: &'a Table<Arc<str>>,
    /// Of the cache entry.
    pub(super) path: &'a dyn Fn() -> String,
    pub(super) faults: &'a mut Vec<Fault>,
}

impl Sources<'_> {
    pub(super) fn add(&mut self, known: &mut Known, restrict: Restrict, uris: &[UriFacts]) {
        let highest = uris.iter().map(|uri| uri.lift).max().unwrap_or_default();
        let restriction = restrict.for_file(highest);
        known.restriction = Some(known.restriction.map_or(restriction, |earlier| earlier.min(restriction)));
        for number in uris.iter().filter(|uri| restrict.permits(uri.lift)).filter_map(|uri| uri.uri) {
            if known.expanded.contains(&number) {
                continue;
            }
            let faults_before = self.faults.len();
            for source in self.expand(self.uris.get(number).map_or("", |uri| uri)) {
                if known.sources.contains(&source) {
                    continue;
                }
                if known.sources.len() == SOURCES_MAX {
                    let detail = format!("{} has more than {SOURCES_MAX} sources", known.name);
                    return self.fault(FaultKind::TooManySources, detail);
                }
                known.sources.push(source);
            }
            // Each version that has a fault is told of it.
            if self.faults.len() == faults_before && known.expanded.len() < SOURCES_MAX {
                known.expanded.push(number);
            }
        }
    }

    fn expand(&mut self, uri: &str) -> Vec<String> {
        if let Some(name_and_path) = uri.strip_prefix("mirror://") {
            return self.mirrors.expand(name_and_path).unwrap_or_else(|reason| {
                let detail = match reason {
                    NoExpansion::UnknownMirror(name) => format!("no list knows mirror://{name}/"),
                    NoExpansion::NoPath => format!("{uri} has no path"),
                };
                self.fault(FaultKind::UnknownMirror, detail);
                Vec::new()
            });
        }
        if is_fetchable(uri) {
            return vec![uri.to_owned()];
        }
        self.fault(FaultKind::UnsupportedSource, format!("{uri} is neither http, https nor ftp"));
        Vec::new()
    }

    fn fault(&mut self, kind: FaultKind, detail: String) {
        self.faults.push(Fault { kind, path: (self.path)(), detail });
    }
}
