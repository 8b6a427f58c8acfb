//! The catalogue beside an index: the distfiles that a generation refers to.
//!
//! It is made of the generation's own contents, never of the source directory, which may have changed
//! since.

use std::collections::{BTreeMap, HashSet};

use gentoo_repo::catalogue::Catalogue;
use gentoo_repo::{Digests, Distfile, DistfileName, HashAlgorithm, PackageKey, Restriction};

use crate::codec::{self, Misfit, Reader, Writer};

/// Magic and version.
pub(crate) const KIND: ([u8; 8], u32) = (*b"ROOKCATA", 2);
/// The fields of a distfile without any text in them.
const DISTFILE_BYTES: usize = 4 + 8 + 4 + 8 + 1 + 8;

/// Counts for a generation's summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) distfiles: u64,
    pub(crate) without_source: u64,
}

pub(crate) fn count(catalogue: &Catalogue) -> Counts {
    Counts { distfiles: catalogue.distfiles.len() as u64, without_source: catalogue.without_source() as u64 }
}

pub(crate) fn encode(catalogue: &Catalogue) -> std::io::Result<Vec<u8>> {
    let mut out = Writer::new(KIND);
    out.count(catalogue.distfiles.len());
    for distfile in catalogue.distfiles.values() {
        out.bytes(distfile.name.as_str().as_bytes());
        out.u64(distfile.size_bytes);
        encode_digests(&mut out, &distfile.digests);
        texts(&mut out, distfile.sources.iter().map(String::as_str));
        out.u8(match distfile.restriction {
            Restriction::None => 0,
            Restriction::Mirror => 1,
            Restriction::Fetch => 2,
        });
        texts(&mut out, distfile.packages.iter().map(PackageKey::as_str));
    }
    out.finish()
}

pub(crate) fn encode_digests(out: &mut Writer, digests: &Digests) {
    out.u32(u32::try_from(digests.len()).unwrap_or(u32::MAX));
    for (algorithm, digest) in digests {
        out.bytes(algorithm.manifest_name().as_bytes());
        out.bytes(digest);
    }
}

pub(crate) fn decode_digests(fields: &mut Reader<'_>) -> Result<Digests, Misfit> {
    let mut digests = Digests::new();
    for _ in 0..fields.u32()? {
        let algorithm = HashAlgorithm::from_manifest_name(fields.str()?).ok_or("an unknown algorithm")?;
        digests.insert(algorithm, fields.bytes()?).map_err(|_| "a digest of the wrong length")?;
    }
    Ok(digests)
}

fn texts<'a>(out: &mut Writer, texts: impl ExactSizeIterator<Item = &'a str>) {
    out.count(texts.len());
    for text in texts {
        out.bytes(text.as_bytes());
    }
}

/// Whether [`decode`] would get past the checksum, without making anything of the rest.
pub(crate) fn check(frame: &[u8]) -> Result<(), Misfit> {
    codec::check(KIND, frame).map(drop)
}

pub(crate) fn decode(frame: &[u8]) -> Result<Catalogue, Misfit> {
    let body = codec::unseal(KIND, frame)?;
    let mut fields = Reader::new(&body);
    let (mut distfiles, mut keys) = (BTreeMap::new(), HashSet::new());
    for _ in 0..fields.count(DISTFILE_BYTES)? {
        let distfile = decode_distfile(&mut fields, &mut keys)?;
        distfiles.insert(distfile.name.clone(), distfile);
    }
    fields.end()?;
    Ok(Catalogue { distfiles })
}

/// `keys` are the packages named so far, so that each text is in memory once.
fn decode_distfile(fields: &mut Reader<'_>, keys: &mut HashSet<PackageKey>) -> Result<Distfile, Misfit> {
    let name = DistfileName::try_from(fields.str()?).map_err(|_| "not a distfile name")?;
    let size_bytes = fields.u64()?;
    let digests = decode_digests(fields)?;
    let sources = decode_texts(fields, str::to_owned)?;
    let restriction = match fields.u8()? {
        0 => Restriction::None,
        1 => Restriction::Mirror,
        2 => Restriction::Fetch,
        _ => return Err("an unknown restriction"),
    };
    let packages = decode_texts(fields, |text| {
        if let Some(known) = keys.get(text) {
            return known.clone();
        }
        let key = PackageKey::from(text);
        keys.insert(key.clone());
        key
    })?;
    Ok(Distfile { name, size_bytes, digests, sources, restriction, packages })
}

fn decode_texts<T>(fields: &mut Reader<'_>, mut decode: impl FnMut(&str) -> T) -> Result<Vec<T>, Misfit> {
    let count = fields.count(4)?;
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        texts.push(decode(fields.str()?));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distfile(name: &str, restriction: Restriction, sources: &[&str]) -> Distfile {
        Distfile {
            name: name.parse().unwrap(),
            size_bytes: 17,
            digests: [(HashAlgorithm::Blake2b, vec![7; 64]), (HashAlgorithm::Sha512, vec![8; 64])]
                .into_iter()
                .collect(),
            sources: sources.iter().map(|&source| source.to_owned()).collect(),
            restriction,
            packages: vec!["a/b".into()],
        }
    }

    #[test]
    fn a_catalogue_comes_back() {
        let all = [
            distfile("a-1.tar.gz", Restriction::None, &["https://x.example/a"]),
            distfile("ä b%2F{}", Restriction::Fetch, &[]),
            distfile("c", Restriction::Mirror, &["https://x.example/c", "https://y.example/c"]),
        ];
        let catalogue = Catalogue {
            distfiles: all.into_iter().map(|distfile| (distfile.name.clone(), distfile)).collect(),
        };
        let frame = encode(&catalogue).unwrap();
        assert_eq!(check(&frame), Ok(()));
        assert_eq!(decode(&frame).unwrap().distfiles, catalogue.distfiles);
        assert_eq!(count(&catalogue), Counts { distfiles: 3, without_source: 0 });
        assert!(check(&frame[..frame.len() - 1]).is_err());
    }
}
