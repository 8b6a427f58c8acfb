//! From Manifests and cache entries to the catalogue.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::describe::describe;
use super::sources::{Sources, by_name};
use super::{Catalogue, Fault, FaultKind};
use crate::mirrors::ThirdPartyMirrors;
use crate::restrict::{self, Restrict};
use crate::src_uri::{self, Lift};
use crate::{Digests, DistfileName, cleartext, manifest, md5_cache, package_of_pf};

/// Collects what the files of one repository say.
#[derive(Debug, Default)]
pub struct CatalogueBuilder {
    mirrors: ThirdPartyMirrors,
    /// By `category/package`.
    packages: BTreeMap<String, Package>,
    /// Names and URIs, each once: versions of a package share nearly all of theirs.
    names: HashSet<DistfileName>,
    uris: HashSet<Arc<str>>,
    faults: Vec<Fault>,
}

#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) dists: BTreeMap<DistfileName, Description>,
    /// By `PF`.
    versions: BTreeMap<String, Version>,
}

/// What DIST lines say of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Description {
    pub(super) size_bytes: u64,
    pub(super) digests: Digests,
}

#[derive(Debug)]
pub(super) struct Version {
    uris: Vec<Uri>,
    restrict: Restrict,
}

#[derive(Debug)]
pub(super) struct Uri {
    pub(super) text: Option<Arc<str>>,
    pub(super) name: DistfileName,
    pub(super) lift: Lift,
}

impl CatalogueBuilder {
    /// Nothing collected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a `profiles/thirdpartymirrors`. A repository with masters (`layout.conf`) needs theirs too, added before
    /// its own; otherwise the order of calls means nothing.
    pub fn add_thirdpartymirrors(&mut self, octets: &[u8]) {
        if let Err(error) = self.mirrors.add(octets) {
            self.fault(FaultKind::BrokenMirrorList, "profiles/thirdpartymirrors".to_owned(), &error);
        }
    }

    /// Adds the Manifest of a package, signed or not. Lines for files of the tree are checked and left out.
    pub fn add_manifest(&mut self, category: &str, package: &str, octets: &[u8]) {
        let key = format!("{category}/{package}");
        let path = format!("{key}/Manifest");
        let text = match cleartext::strip(octets) {
            Ok(text) => text,
            Err(error) => return self.fault(FaultKind::BrokenManifest, path, &error),
        };
        self.packages.entry(key.clone()).or_default();
        for (line, entry) in manifest::entries(&text) {
            match entry {
                Ok(manifest::Entry::Dist(dist)) => self.add_dist(&key, &format!("{path}:{line}"), dist),
                Ok(_) => {}
                Err(error) => self.fault(FaultKind::BrokenManifest, format!("{path}:{line}"), &error),
            }
        }
    }

    fn add_dist(&mut self, key: &str, path: &str, dist: manifest::Dist) {
        let manifest::Dist { name, size_bytes, digests } = dist;
        let is_weak = digests.best().is_none_or(|(algorithm, _)| !algorithm.is_collision_resistant());
        if is_weak {
            self.fault(FaultKind::WeakDigests, path.to_owned(), &name);
        }
        let name = self.intern_name(name);
        let description = Description { size_bytes, digests };
        let Some(package) = self.packages.get_mut(key) else { return };
        let Some(known) = package.dists.get_mut(&name) else {
            package.dists.insert(name, description);
            return;
        };
        if known.agrees_with(&description) {
            known.digests.absorb(&description.digests);
            return;
        }
        // The smaller one, so that the order of the lines means nothing.
        if description < *known {
            *known = description;
        }
        self.fault(FaultKind::ConflictingDigests, path.to_owned(), &format_args!("{name} is here twice"));
    }

    /// Adds the cache entry of one package version: `metadata/md5-cache/CATEGORY/PF`. Each at most once.
    pub fn add_cache_entry(&mut self, category: &str, pf: &str, octets: &[u8]) {
        let path = format!("metadata/md5-cache/{category}/{pf}");
        let Some(package) = package_of_pf(pf) else {
            return self.fault(
                FaultKind::BrokenCacheEntry,
                path,
                &"a file name PACKAGE-VERSION was expected",
            );
        };
        let entry = match md5_cache::parse(octets) {
            Ok(entry) => entry,
            Err(error) => return self.fault(FaultKind::BrokenCacheEntry, path, &error),
        };
        let restrict = restrict::parse(&entry.restrict()).unwrap_or_else(|error| {
            self.fault(FaultKind::BrokenRestrict, path.clone(), &error);
            Restrict::ALL
        });
        let text = entry.src_uri();
        let uris = match src_uri::parse(&text, &entry.eapi()) {
            Ok(uris) => uris,
            Err(error) => return self.fault(FaultKind::BrokenSrcUri, path, &error),
        };
        if uris.is_empty() {
            return;
        }
        let uris = uris.into_iter().map(|src_uri::SourceUri { uri, name, lift }| Uri {
            text: uri.map(|uri| self.intern_uri(uri)),
            name: self.intern_name(name),
            lift,
        });
        let version = Version { uris: uris.collect(), restrict };
        let versions = &mut self.packages.entry(format!("{category}/{package}")).or_default().versions;
        versions.insert(pf.to_owned(), version);
    }

    /// The catalogue, and everything that was wrong, sorted.
    #[must_use]
    pub fn finish(self) -> (Catalogue, Vec<Fault>) {
        let Self { mirrors, packages, mut faults, .. } = self;
        let mut distfiles = describe(&packages, &mut faults);
        for (key, package) in &packages {
            let mut missing = BTreeSet::new();
            for (pf, version) in &package.versions {
                let category = key.split('/').next().unwrap_or_default();
                let path = format!("metadata/md5-cache/{category}/{pf}");
                let mut sources = Sources { mirrors: &mirrors, path: &path, faults: &mut faults };
                for (name, uris) in by_name(&version.uris) {
                    if !package.dists.contains_key(name) {
                        if missing.insert(name) {
                            sources.fault(FaultKind::MissingDist, format!("no DIST line for {name}"));
                        }
                        continue;
                    }
                    let Some(known) = distfiles.get_mut(name) else { continue };
                    // A package with another description is no part of the distfile.
                    if known.distfile.packages.binary_search(key).is_ok() {
                        sources.add(known, version.restrict, &uris);
                    }
                }
            }
        }
        faults.sort();
        faults.dedup();
        let distfiles = distfiles.into_iter().map(|(name, known)| (name, known.finish())).collect();
        (Catalogue { distfiles }, faults)
    }

    fn intern_name(&mut self, name: DistfileName) -> DistfileName {
        if let Some(known) = self.names.get(&name) {
            return known.clone();
        }
        self.names.insert(name.clone());
        name
    }

    fn intern_uri(&mut self, uri: &str) -> Arc<str> {
        if let Some(known) = self.uris.get(uri) {
            return known.clone();
        }
        let uri: Arc<str> = uri.into();
        self.uris.insert(uri.clone());
        uri
    }

    fn fault(&mut self, kind: FaultKind, path: String, detail: &dyn std::fmt::Display) {
        self.faults.push(Fault { kind, path, detail: detail.to_string() });
    }
}

impl Description {
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.size_bytes == other.size_bytes && self.digests.agrees_with(&other.digests)
    }
}
