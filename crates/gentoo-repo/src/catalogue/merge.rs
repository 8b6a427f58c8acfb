//! From what each package says to what the repository says.

use std::collections::BTreeSet;

use super::describe::{Mention, describe};
use super::facts::{DistFacts, Facts, PackageFacts};
use super::sources::{Known, Sources};
use super::{Catalogue, Fault, FaultKind};
use crate::PackageKey;
use crate::mirrors::ThirdPartyMirrors;

pub(super) fn merge(facts: &Facts, mirrors: &ThirdPartyMirrors, faults: &mut Vec<Fault>) -> Catalogue {
    let packages: Vec<(&str, &PackageFacts)> =
        facts.packages.iter().map(|(key, package)| (key.as_str(), package)).collect();
    let mut known = describe_all(facts, &packages, faults);
    for (position, (key, package)) in (0_u32..).zip(&packages) {
        let category = key.split('/').next().unwrap_or_default();
        let mut missing = BTreeSet::new();
        for version in &package.versions {
            let pf = &version.pf;
            let path = || format!("metadata/md5-cache/{category}/{pf}");
            // By the file that they give, each in the order of the text.
            let mut uris = version.uris.clone();
            uris.sort_by_key(|uri| uri.name);
            for uris in uris.chunk_by(|one, other| one.name == other.name) {
                let name = uris[0].name;
                if package.description_of(name).is_none() {
                    if missing.insert(name) {
                        let name = facts.names.get(name).map_or("", |name| name.as_str());
                        let what = format_args!("no DIST line for {name}");
                        faults.push(Fault::new(FaultKind::MissingDist, path(), &what));
                    }
                    continue;
                }
                // A package with another description is no part of the distfile.
                let slot = known.get_mut(name as usize).and_then(Option::as_mut);
                let Some(known) = slot.filter(|known| known.is_of(position)) else { continue };
                let mut sources = Sources { mirrors, uris: &facts.uris, path: &path, faults: &mut *faults };
                sources.add(known, version.restrict, uris);
            }
        }
    }
    let keys: Vec<PackageKey> = packages.iter().map(|(key, _)| PackageKey::from(*key)).collect();
    let distfiles = known.into_iter().flatten().map(|known| known.finish(&keys));
    Catalogue { distfiles: distfiles.map(|distfile| (distfile.name.clone(), distfile)).collect() }
}

/// What each name is, by its number.
fn describe_all(
    facts: &Facts,
    packages: &[(&str, &PackageFacts)],
    faults: &mut Vec<Fault>,
) -> Vec<Option<Known>> {
    let mut mentions: Vec<Mention> = (0_u32..)
        .zip(packages)
        .flat_map(|(position, (_, package))| {
            package.dists.iter().map(move |&DistFacts { name, description }| Mention {
                name,
                package: position,
                description,
            })
        })
        .collect();
    mentions.sort_unstable_by_key(|mention| (mention.name, mention.package));
    let mut known: Vec<Option<Known>> = facts.names.values().map(|_| None).collect();
    for mentions in mentions.chunk_by(|one, other| one.name == other.name) {
        let name = mentions[0].name;
        if let Some(slot) = known.get_mut(name as usize) {
            *slot = describe(facts, packages, mentions, faults);
        }
    }
    known
}
