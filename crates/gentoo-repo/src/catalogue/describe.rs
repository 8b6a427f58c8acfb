//! Which description of a name is kept, when packages disagree.

use super::facts::{Description, Facts, PackageFacts};
use super::sources::Known;
use super::{Fault, FaultKind};

/// A package names a distfile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mention {
    pub(super) name: u32,
    /// Its position among all packages, sorted by name.
    pub(super) package: u32,
    pub(super) description: u32,
}

/// One description of a name and the packages that have it.
struct Variant {
    /// The number of the description, as long as no other was absorbed.
    number: u32,
    description: Description,
    packages: Vec<u32>,
}

/// Decides which description a name gets from those who mention it, in the order of the packages.
pub(super) fn describe(
    facts: &Facts,
    packages: &[(&str, &PackageFacts)],
    mentions: &[Mention],
    faults: &mut Vec<Fault>,
) -> Option<Known> {
    let mut variants: Vec<Variant> = Vec::new();
    for mention in mentions {
        let description = facts.descriptions.get(mention.description)?;
        let fitting = variants.iter_mut().find(|variant| {
            variant.number == mention.description || variant.description.agrees_with(description)
        });
        if let Some(variant) = fitting {
            if variant.number != mention.description {
                variant.description.digests.absorb(&description.digests);
            }
            variant.packages.push(mention.package);
        } else {
            let (number, description) = (mention.description, description.clone());
            variants.push(Variant { number, description, packages: vec![mention.package] });
        }
    }
    // The first among those with the most packages: they were found in the order of the packages' names.
    let most = variants.iter().map(|variant| variant.packages.len()).max()?;
    let at = variants.iter().position(|variant| variant.packages.len() == most)?;
    let kept = variants.swap_remove(at);
    let name = facts.names.get(mentions.first()?.name)?;
    let path = |package: u32| packages.get(package as usize).map_or("", |(key, _)| *key);
    for &package in variants.iter().flat_map(|variant| &variant.packages) {
        let keeper = path(kept.packages[0]);
        let what = format_args!("{name} is another file than in {keeper}, which was kept");
        faults.push(Fault::new(FaultKind::ConflictingDigests, format!("{}/Manifest", path(package)), &what));
    }
    Some(Known::new(name.clone(), kept.description, kept.packages))
}
