//! What verifying a generation found out, so that the next one is only looked into where it differs: what each
//! package's files say, and which contents fit what a signed Manifest says of them. A hint beside an index, never a
//! part of it: lost or damaged, everything is looked into once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use blake2::{Blake2b512, Digest as _};
use gentoo_repo::catalogue::facts::{
    Description, DistFacts, Facts, PackageFacts, Table, Tag, UriFacts, VersionFacts,
};
use gentoo_repo::restrict::Restrict;
use gentoo_repo::src_uri::Lift;
use gentoo_repo::{DistfileName, HashAlgorithm};

use crate::catalogue::{decode_digests, encode_digests};
use crate::codec::{self, Misfit, Reader, Writer};

/// Magic and version.
pub(crate) const KIND: ([u8; 8], u32) = (*b"ROOKKNOW", 2);

/// To be raised with every change of how Manifests, metadata or digests are read or judged: what an older program found
/// to be right is then found out anew.
const RULES: u32 = 1;

/// Stands for the program that found it out: its rules, its version and the digests that it can compute. What was right
/// to a program that didn't know a digest may be wrong to one that does.
pub(crate) fn rules() -> Tag {
    let algorithms =
        HashAlgorithm::ALL.map(|algorithm| (algorithm.manifest_name(), algorithm.is_collision_resistant()));
    rules_of(RULES, env!("CARGO_PKG_VERSION"), &algorithms)
}

fn rules_of(rules: u32, version: &str, algorithms: &[(&str, bool)]) -> Tag {
    let mut hasher = Blake2b512::new();
    hasher.update(rules.to_le_bytes());
    for (name, is_relied_on) in std::iter::once(&(version, false)).chain(algorithms) {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update([u8::from(*is_relied_on)]);
    }
    let mut tag = Tag::default();
    tag.copy_from_slice(&hasher.finalize()[..size_of::<Tag>()]);
    tag
}

/// What is known of one generation.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Its packages.
    pub(crate) facts: Facts,
    /// By position in the index: what the content was found to fit. Empty if no signature was asked for.
    pub(crate) fits: Vec<Option<Tag>>,
}

impl Memory {
    pub(crate) fn encode(&self, number: u64) -> std::io::Result<Vec<u8>> {
        let mut out = Writer::new(KIND);
        out.u64(number);
        out.raw(&rules());
        let Facts { names, uris, descriptions, packages } = &self.facts;
        out.count(names.len());
        names.values().for_each(|name| out.bytes(name.as_str().as_bytes()));
        out.count(uris.len());
        uris.values().for_each(|uri| out.bytes(uri.as_bytes()));
        out.count(descriptions.len());
        for description in descriptions.values() {
            out.u64(description.size_bytes);
            encode_digests(&mut out, &description.digests);
        }
        // What is wrong with a package is found again by reading it again.
        let whole = packages.iter().filter(|(_, package)| package.tag.is_some() && package.faults.is_empty());
        out.count(whole.clone().count());
        for (key, package) in whole {
            encode_package(&mut out, key, package);
        }
        out.count(self.fits.len());
        for tag in &self.fits {
            out.raw(&tag.unwrap_or_default());
        }
        out.finish()
    }

    pub(crate) fn decode(frame: &[u8], number: u64) -> Result<Self, Misfit> {
        let body = codec::unseal(KIND, frame)?;
        let mut fields = Reader::new(&body);
        if fields.u64()? != number {
            return Err("of another generation");
        }
        if fields.array::<{ size_of::<Tag>() }>()? != rules() {
            return Err("of a program with other rules");
        }
        let names = decode_table(&mut fields, |fields| {
            DistfileName::try_from(fields.str()?).map_err(|_| "not a distfile name")
        })?;
        let uris = decode_table(&mut fields, |fields| Ok(Arc::<str>::from(fields.str()?)))?;
        let descriptions = decode_table(&mut fields, |fields| {
            Ok(Description { size_bytes: fields.u64()?, digests: decode_digests(fields)? })
        })?;
        let mut facts = Facts { names, uris, descriptions, packages: BTreeMap::new() };
        for _ in 0..fields.count(4 + 16 + 8 + 8)? {
            let (key, package) = decode_package(&mut fields, &facts)?;
            facts.packages.insert(key, package);
        }
        let mut fits = Vec::new();
        for _ in 0..fields.count(size_of::<Tag>())? {
            let tag: Tag = fields.array()?;
            fits.push((tag != Tag::default()).then_some(tag));
        }
        fields.end()?;
        Ok(Self { facts, fits })
    }
}

fn decode_table<T: Eq + std::hash::Hash>(
    fields: &mut Reader<'_>,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, Misfit>,
) -> Result<Table<T>, Misfit> {
    let count = fields.count(4)?;
    let mut table = Table::with_capacity(count);
    for number in 0..count {
        if table.intern(decode(fields)?) as usize != number {
            return Err("a value stands twice in a table");
        }
    }
    Ok(table)
}

fn encode_package(out: &mut Writer, key: &str, package: &PackageFacts) {
    out.bytes(key.as_bytes());
    out.raw(&package.tag.unwrap_or_default());
    out.count(package.dists.len());
    for &DistFacts { name, description } in &package.dists {
        out.u32(name);
        out.u32(description);
    }
    out.count(package.versions.len());
    for version in &package.versions {
        out.bytes(version.pf.as_bytes());
        out.u8(u8::from(version.restrict.fetch) | u8::from(version.restrict.mirror) << 1);
        out.count(version.uris.len());
        for uri in &version.uris {
            out.u32(uri.name);
            out.u32(uri.uri.unwrap_or(u32::MAX));
            out.u8(match uri.lift {
                Lift::None => 0,
                Lift::Fetch => 1,
                Lift::Mirror => 2,
            });
        }
    }
}

fn decode_package(fields: &mut Reader<'_>, facts: &Facts) -> Result<(String, PackageFacts), Misfit> {
    let key = fields.str()?.to_owned();
    let mut package = PackageFacts { tag: Some(fields.array()?), ..PackageFacts::default() };
    let dists = fields.count(4 + 4)?;
    package.dists.reserve_exact(dists);
    for _ in 0..dists {
        let name = within(fields.u32()?, facts.names.len())?;
        let description = within(fields.u32()?, facts.descriptions.len())?;
        package.dists.push(DistFacts { name, description });
    }
    let versions = fields.count(4 + 1 + 8)?;
    package.versions.reserve_exact(versions);
    for _ in 0..versions {
        package.versions.push(decode_version(fields, facts)?);
    }
    let sorted = package.dists.is_sorted_by(|one, other| one.name < other.name)
        && package.versions.is_sorted_by(|one, other| one.pf < other.pf);
    if sorted { Ok((key, package)) } else { Err("a package's lists are not sorted") }
}

fn within(number: u32, length: usize) -> Result<u32, Misfit> {
    if (number as usize) < length { Ok(number) } else { Err("a number outside its table") }
}

fn decode_version(fields: &mut Reader<'_>, facts: &Facts) -> Result<VersionFacts, Misfit> {
    let pf = fields.str()?.into();
    let restrict = match fields.u8()? {
        bits @ 0..=3 => Restrict { fetch: bits & 1 != 0, mirror: bits & 2 != 0 },
        _ => return Err("an unknown restriction"),
    };
    let count = fields.count(4 + 4 + 1)?;
    let mut uris = Vec::with_capacity(count);
    for _ in 0..count {
        let name = within(fields.u32()?, facts.names.len())?;
        let uri = match fields.u32()? {
            u32::MAX => None,
            uri => Some(within(uri, facts.uris.len())?),
        };
        let lift = match fields.u8()? {
            0 => Lift::None,
            1 => Lift::Fetch,
            2 => Lift::Mirror,
            _ => return Err("an unknown prefix"),
        };
        uris.push(UriFacts { name, uri, lift });
    }
    Ok(VersionFacts { pf, restrict, uris: uris.into() })
}

#[cfg(test)]
mod tests {
    use gentoo_repo::CatalogueBuilder;

    use super::*;

    fn memory() -> Memory {
        let mut builder = CatalogueBuilder::new();
        let dist = |name: &str| format!("DIST {name} 7 BLAKE2B {}\n", "ab".repeat(64));
        builder.add_manifest("cat", "a", (dist("one") + &dist("two")).as_bytes());
        builder.add_cache_entry("cat", "a-1", b"EAPI=8\nRESTRICT=fetch\nSRC_URI=one mirror+http://h/two");
        builder.tag("cat", "a", [7; 16]);
        builder.add_manifest("cat", "broken", b"RUBBISH");
        builder.tag("cat", "broken", [8; 16]);
        let (_, _, facts) = builder.finish_with_facts();
        Memory { facts, fits: vec![None, Some([3; 16])] }
    }

    /// A whole frame again, with other rules in the place of ours.
    fn by_other_rules(frame: &[u8], other: Tag) -> Vec<u8> {
        let mut body = codec::unseal(KIND, frame).unwrap();
        let at = size_of::<u64>();
        assert_eq!(body[at..at + size_of::<Tag>()], rules());
        body[at..at + size_of::<Tag>()].copy_from_slice(&other);
        let mut out = Writer::new(KIND);
        out.raw(&body);
        out.finish().unwrap()
    }

    #[test]
    fn what_a_program_with_other_rules_found_out_is_not_believed() {
        let frame = memory().encode(5).unwrap();
        assert!(Memory::decode(&by_other_rules(&frame, rules()), 5).is_ok());
        let error = Memory::decode(&by_other_rules(&frame, [7; 16]), 5).unwrap_err();
        assert_eq!(error, "of a program with other rules");
        let algorithms = [("BLAKE2B", true), ("MD5", false)];
        let ours = rules_of(1, "0.1.0", &algorithms);
        for other in [
            rules_of(2, "0.1.0", &algorithms),
            rules_of(1, "0.1.1", &algorithms),
            rules_of(1, "0.1.0", &algorithms[..1]),
            rules_of(1, "0.1.0", &[("BLAKE2B", true), ("MD5", true)]),
        ] {
            assert_ne!(other, ours);
        }
    }

    #[test]
    fn what_is_known_comes_back_without_what_is_broken() {
        let frame = memory().encode(5).unwrap();
        assert!(Memory::decode(&frame, 4).is_err());
        let back = Memory::decode(&frame, 5).unwrap();
        assert_eq!(back.fits, [None, Some([3; 16])]);
        assert_eq!(back.facts.packages.keys().collect::<Vec<_>>(), ["cat/a"]);
        let mut resumed = CatalogueBuilder::resume(back.facts);
        assert!(resumed.recall("cat", "a", [7; 16]));
        let mut anew = CatalogueBuilder::resume(memory().facts);
        assert!(anew.recall("cat", "a", [7; 16]));
        assert_eq!(resumed.finish(), anew.finish());
    }
}
