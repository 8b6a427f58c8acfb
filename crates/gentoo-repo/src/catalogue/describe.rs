//! Which description of a name is kept, when packages disagree.

use std::collections::BTreeMap;

use super::builder::{Description, Package};
use super::sources::Known;
use super::{Fault, FaultKind};
use crate::{Distfile, DistfileName, Restriction};

/// One description of a name and the packages that have it.
struct Variant {
    description: Description,
    packages: Vec<String>,
}

/// Decides which description each name gets.
pub(super) fn describe(
    packages: &BTreeMap<String, Package>,
    faults: &mut Vec<Fault>,
) -> BTreeMap<DistfileName, Known> {
    let mut variants: BTreeMap<&DistfileName, Vec<Variant>> = BTreeMap::new();
    for (key, package) in packages {
        for (name, description) in &package.dists {
            let known = variants.entry(name).or_default();
            if let Some(variant) =
                known.iter_mut().find(|variant| variant.description.agrees_with(description))
            {
                variant.description.digests.absorb(&description.digests);
                variant.packages.push(key.clone());
            } else {
                known.push(Variant { description: description.clone(), packages: vec![key.clone()] });
            }
        }
    }
    variants
        .into_iter()
        .filter_map(|(name, variants)| Some((name.clone(), keep_one(name, variants, faults)?)))
        .collect()
}

fn keep_one(name: &DistfileName, variants: Vec<Variant>, faults: &mut Vec<Fault>) -> Option<Known> {
    // The first among those with the most packages: they were found in the order of the packages' names.
    let most = variants.iter().map(|variant| variant.packages.len()).max()?;
    let kept = variants.iter().position(|variant| variant.packages.len() == most)?;
    let keeper = variants[kept].packages[0].clone();
    let mut kept_variant = None;
    for (index, variant) in variants.into_iter().enumerate() {
        if index == kept {
            kept_variant = Some(variant);
            continue;
        }
        for package in &variant.packages {
            let detail = format!("{name} is another file than in {keeper}, which was kept");
            faults.push(Fault {
                kind: FaultKind::ConflictingDigests,
                path: format!("{package}/Manifest"),
                detail,
            });
        }
    }
    kept_variant.map(|Variant { description: Description { size_bytes, digests }, packages }| Known {
        distfile: Distfile {
            name: name.clone(),
            size_bytes,
            digests,
            sources: Vec::new(),
            restriction: Restriction::None,
            packages,
        },
        restriction: None,
    })
}
