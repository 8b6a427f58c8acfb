//! From Manifests and cache entries to the catalogue.

use std::sync::Arc;

use super::facts::{Description, Facts, PackageFacts, Tag, UriFacts, VersionFacts};
use super::{Catalogue, Fault, FaultKind, merge};
use crate::mirrors::ThirdPartyMirrors;
use crate::restrict::{self, Restrict};
use crate::{cleartext, manifest, md5_cache, package_of_pf, src_uri};

/// Collects what the files of one repository say.
#[derive(Debug, Default)]
pub struct CatalogueBuilder {
    mirrors: ThirdPartyMirrors,
    facts: Facts,
    /// Packages of an earlier builder that nobody has asked for yet.
    earlier: std::collections::BTreeMap<String, PackageFacts>,
    /// What belongs to no package.
    faults: Vec<Fault>,
}

impl CatalogueBuilder {
    /// Nothing collected yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing collected yet, but what an earlier builder found out can be had by [`Self::recall`].
    #[must_use]
    pub fn resume(mut facts: Facts) -> Self {
        let earlier = std::mem::take(&mut facts.packages);
        Self { facts, earlier, ..Self::default() }
    }

    /// Takes over a package from the earlier builder if its files had this tag; `false` if it has to be read. Its
    /// files must not be added then.
    pub fn recall(&mut self, category: &str, package: &str, tag: Tag) -> bool {
        let key = format!("{category}/{package}");
        match self.earlier.remove(&key) {
            Some(known) if known.tag == Some(tag) => {
                self.facts.packages.insert(key, known);
                true
            }
            _ => false,
        }
    }

    /// Says what tag the files of a package have, for the builder after this one. All of them must be added.
    pub fn tag(&mut self, category: &str, package: &str, tag: Tag) {
        let package = self.facts.packages.entry(format!("{category}/{package}")).or_default();
        package.tag = Some(tag);
        package.shrink();
    }

    /// Adds a `profiles/thirdpartymirrors`. A repository with masters (`layout.conf`) needs theirs too, added before
    /// its own; otherwise the order of calls means nothing.
    pub fn add_thirdpartymirrors(&mut self, octets: &[u8]) {
        if let Err(error) = self.mirrors.add(octets) {
            let path = "profiles/thirdpartymirrors".to_owned();
            self.faults.push(Fault::new(FaultKind::BrokenMirrorList, path, &error));
        }
    }

    /// Adds the Manifest of a package, signed or not. Lines for files of the tree are checked and left out.
    pub fn add_manifest(&mut self, category: &str, package: &str, octets: &[u8]) {
        let key = format!("{category}/{package}");
        let path = format!("{key}/Manifest");
        let Facts { names, descriptions, packages, .. } = &mut self.facts;
        let package = packages.entry(key).or_default();
        let text = match cleartext::strip(octets) {
            Ok(text) => text,
            Err(error) => return package.faults.push(Fault::new(FaultKind::BrokenManifest, path, &error)),
        };
        for (line, entry) in manifest::entries(&text) {
            let fault = |kind, what: &dyn std::fmt::Display| Fault::new(kind, format!("{path}:{line}"), what);
            let dist = match entry {
                Ok(manifest::Entry::Dist(dist)) => dist,
                Ok(_) => continue,
                Err(error) => {
                    package.faults.push(fault(FaultKind::BrokenManifest, &error));
                    continue;
                }
            };
            let manifest::Dist { name, size_bytes, digests } = dist;
            if digests.best().is_none_or(|(algorithm, _)| !algorithm.is_collision_resistant()) {
                package.faults.push(fault(FaultKind::WeakDigests, &name));
            }
            let description = Description { size_bytes, digests };
            let name_number = names.intern(name);
            let known = package.description_of(name_number).and_then(|number| descriptions.get(number));
            let kept = match known {
                None => description,
                Some(known) => {
                    if !known.agrees_with(&description) {
                        let name = names.get(name_number).map_or("", |name| name.as_str());
                        let what = format_args!("{name} is here twice");
                        package.faults.push(fault(FaultKind::ConflictingDigests, &what));
                    }
                    combine(known, description)
                }
            };
            package.describe(name_number, descriptions.intern(kept));
        }
    }

    /// Adds the cache entry of one package version: `metadata/md5-cache/CATEGORY/PF`. Each at most once.
    pub fn add_cache_entry(&mut self, category: &str, pf: &str, octets: &[u8]) {
        let path = format!("metadata/md5-cache/{category}/{pf}");
        let Some(package) = package_of_pf(pf) else {
            let what = "a file name PACKAGE-VERSION was expected";
            return self.faults.push(Fault::new(FaultKind::BrokenCacheEntry, path, &what));
        };
        let Facts { names, uris, packages, .. } = &mut self.facts;
        let package = packages.entry(format!("{category}/{package}")).or_default();
        let entry = match md5_cache::parse(octets) {
            Ok(entry) => entry,
            Err(error) => {
                return package.faults.push(Fault::new(FaultKind::BrokenCacheEntry, path, &error));
            }
        };
        let restrict = restrict::parse(&entry.restrict()).unwrap_or_else(|error| {
            package.faults.push(Fault::new(FaultKind::BrokenRestrict, path.clone(), &error));
            Restrict::ALL
        });
        let text = entry.src_uri();
        let found = match src_uri::parse(&text, &entry.eapi()) {
            Ok(found) => found,
            Err(error) => return package.faults.push(Fault::new(FaultKind::BrokenSrcUri, path, &error)),
        };
        if found.is_empty() {
            return;
        }
        let found = found.into_iter().map(|src_uri::SourceUri { uri, name, lift }| UriFacts {
            uri: uri.map(|uri| uris.intern(Arc::from(uri))),
            name: names.intern(name),
            lift,
        });
        package.add_version(VersionFacts { pf: pf.into(), uris: found.collect(), restrict });
    }

    /// The catalogue, and everything that was wrong, sorted.
    #[must_use]
    pub fn finish(self) -> (Catalogue, Vec<Fault>) {
        let (catalogue, faults, _) = self.finish_with_facts();
        (catalogue, faults)
    }

    /// As [`Self::finish`], with what the next builder can go on with.
    #[must_use]
    pub fn finish_with_facts(self) -> (Catalogue, Vec<Fault>, Facts) {
        let Self { mirrors, facts, mut faults, earlier: _ } = self;
        faults.extend(facts.packages.values().flat_map(|package| package.faults.iter().cloned()));
        let catalogue = merge::merge(&facts, &mirrors, &mut faults);
        faults.sort();
        faults.dedup();
        (catalogue, faults, facts)
    }
}

/// What remains of two descriptions of one name in one Manifest. Of two that contradict each other the smaller one, so
/// that the order of the lines means nothing.
fn combine(known: &Description, other: Description) -> Description {
    if known.agrees_with(&other) {
        let mut both = known.clone();
        both.digests.absorb(&other.digests);
        both
    } else if other < *known {
        other
    } else {
        known.clone()
    }
}
