//! What the box's own Manifests say about distfiles, read independently of the mirror's parsers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;
use walkdir::WalkDir;

use super::BoxError;
use crate::contents::CHUNK_BYTES;

/// One DIST line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dist {
    /// Length.
    pub size_bytes: u64,
    /// BLAKE2B in hex, if the line has it.
    pub blake2b: Option<String>,
    /// SHA512 in hex, if the line has it.
    pub sha512: Option<String>,
}

/// Every DIST line of every `category/package/Manifest` below `repository`. Blocks.
///
/// # Errors
/// The tree can't be read.
pub fn read_manifests(repository: &Path) -> Result<BTreeMap<String, Dist>, BoxError> {
    let mut dists = BTreeMap::new();
    for entry in WalkDir::new(repository).min_depth(3).max_depth(3) {
        let entry = entry.map_err(std::io::Error::from)?;
        if entry.file_name() == "Manifest" {
            let text = fs::read_to_string(entry.path())?;
            dists.extend(text.lines().filter_map(parse));
        }
    }
    Ok(dists)
}

fn parse(line: &str) -> Option<(String, Dist)> {
    let mut words = line.strip_prefix("DIST ")?.split_whitespace();
    let name = words.next()?.to_owned();
    let mut dist = Dist { size_bytes: words.next()?.parse().ok()?, blake2b: None, sha512: None };
    while let (Some(algorithm), Some(value)) = (words.next(), words.next()) {
        match algorithm {
            "BLAKE2B" => dist.blake2b = Some(value.to_owned()),
            "SHA512" => dist.sha512 = Some(value.to_owned()),
            _ => {}
        }
    }
    Some((name, dist))
}

/// Whether the file at `path` is what `dist` says; if not, it is removed, as Portage does before it goes
/// on elsewhere.
pub(super) fn check(dist: &Dist, name: &str, path: &Path) -> Result<(), BoxError> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut blake2b, mut sha512, mut size) = (Blake2b512::new(), Sha512::new(), 0);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        blake2b.update(&buffer[..length]);
        sha512.update(&buffer[..length]);
        size += length as u64;
    }
    let differs = |expected: &Option<String>, found: &[u8]| {
        expected.as_ref().is_some_and(|expected| *expected != hex::encode(found))
    };
    let what = if size != dist.size_bytes {
        format!("{size} octets instead of {}", dist.size_bytes)
    } else if dist.blake2b.is_none() && dist.sha512.is_none() {
        "its DIST line has no digest that we know".to_owned()
    } else if differs(&dist.blake2b, &blake2b.finalize()) {
        "another BLAKE2B".to_owned()
    } else if differs(&dist.sha512, &sha512.finalize()) {
        "another SHA512".to_owned()
    } else {
        return Ok(());
    };
    fs::remove_file(path)?;
    Err(BoxError::Wrong { name: name.to_owned(), what })
}
