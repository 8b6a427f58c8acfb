//! Where wrong files go, so that a person can look at them. Never served, and bounded: what lies here takes room beyond the
//! capacity, on a disk that may be no larger.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::SystemTime;

use crate::digest::BlobDigest;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::layout::Layout;

/// Files kept.
const FILES_MAX: usize = 8;
/// Octets of a name that are kept: all of a blob's, so that it can be told which one it was.
const NAME_CHARS_MAX: usize = 128;
/// Larger files are removed instead.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Hexadecimal digits of a part's key.
const KEY_CHARS: usize = 32;

/// What became of a file that was taken out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It is in quarantine.
    Kept,
    /// It is removed: larger than what quarantine takes.
    TooLarge,
    /// It is removed: quarantine is full of what may not go for it.
    Full,
}

impl Aside {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "in quarantine",
            Self::TooLarge => "removed (too large for quarantine)",
            Self::Full => "removed (quarantine is full)",
        }
    }
}

/// A file that is in quarantine.
struct Occupant {
    name: OsString,
    modified: Option<SystemTime>,
}

impl Occupant {
    /// What else a person put there is not ours to remove.
    fn is_download(&self) -> bool {
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        self.name.len() == KEY_CHARS && self.name.as_encoded_bytes().iter().copied().all(is_digit)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision<'a> {
    Keep,
    /// The place of this one is needed.
    KeepInsteadOf(&'a OsStr),
    Remove(Aside),
}

/// Blobs stay, the first ones that a disk spoilt: those that follow tell the same. Of downloads, which come as often as a bad
/// source likes, the newest stay, as far as blobs leave room.
fn decide<'a>(name: &OsStr, size_bytes: u64, present: &'a [Occupant]) -> Decision<'a> {
    if size_bytes > FILE_BYTES_MAX {
        return Decision::Remove(Aside::TooLarge);
    }
    if present.len() < FILES_MAX || present.iter().any(|occupant| occupant.name == name) {
        return Decision::Keep;
    }
    let downloads = present.iter().filter(|occupant| occupant.is_download());
    match downloads.min_by_key(|download| download.modified) {
        Some(oldest) => Decision::KeepInsteadOf(&oldest.name),
        None => Decision::Remove(Aside::Full),
    }
}

/// Takes `file` out of the way under a name that tells what it was meant to be.
pub(crate) fn put(disk: &Disk, layout: &Layout, file: &Path, meant: &str) -> Result<Aside, StoreError> {
    let dir = layout.quarantine();
    let mut present = Vec::new();
    for name in disk.list(&dir)? {
        // Somebody may remove it meanwhile.
        let modified = disk.stat(&dir.join(&name)).ok().and_then(|metadata| metadata.modified().ok());
        present.push(Occupant { name, modified });
    }
    // Names can be 255 octets long, which leaves no room for anything else.
    let meant: String = meant.chars().take(NAME_CHARS_MAX).collect();
    let place = dir.join(&meant);
    match decide(meant.as_ref(), disk.stat(file)?.len(), &present) {
        Decision::Keep => disk.rename(file, &place)?,
        Decision::KeepInsteadOf(oldest) => {
            disk.remove(&dir.join(oldest))?;
            disk.rename(file, &place)?;
        }
        Decision::Remove(why) => {
            disk.remove(file)?;
            return Ok(why);
        }
    }
    Ok(Aside::Kept)
}

/// The blobs that were damaged, and their lengths; parts that came out wrong, and what else is there, are for
/// people alone.
pub(crate) fn blobs(disk: &Disk, layout: &Layout) -> Result<Vec<(BlobDigest, u64)>, StoreError> {
    let dir = layout.quarantine();
    let names = disk.list(&dir)?.into_iter();
    let digests = names.filter_map(|name| BlobDigest::from_hex(name.to_str()?));
    digests.map(|digest| Ok((digest, disk.stat(&dir.join(digest.to_hex()))?.len()))).collect()
}

/// Removes a damaged blob; its length, `None` if it isn't there.
pub(crate) fn remove(disk: &Disk, layout: &Layout, digest: &BlobDigest) -> Result<Option<u64>, StoreError> {
    let Some((_, bytes)) = blobs(disk, layout)?.into_iter().find(|(one, _)| one == digest) else {
        return Ok(None);
    };
    disk.remove(&layout.quarantine().join(digest.to_hex()))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn occupants(names: &[String]) -> Vec<Occupant> {
        let at = |second| Some(UNIX_EPOCH + Duration::from_secs(second));
        (10..).zip(names).map(|(second, name)| Occupant { name: name.into(), modified: at(second) }).collect()
    }

    fn download(number: usize) -> String {
        format!("{number:032x}")
    }

    fn blob(number: usize) -> String {
        format!("{number:0128x}")
    }

    #[test]
    fn blobs_stay_and_of_downloads_the_newest_do() {
        let by = |present: &[String]| match decide(OsStr::new("new"), 1, &occupants(present)) {
            Decision::Keep => "kept".to_owned(),
            Decision::KeepInsteadOf(name) => name.to_str().unwrap().to_owned(),
            Decision::Remove(why) => why.as_str().to_owned(),
        };
        let full = Aside::Full.as_str();
        let downloads: Vec<String> = (0..8).map(download).collect();
        let blobs: Vec<String> = (0..8).map(blob).collect();
        let mixed = [&blobs[..6], &downloads[3..5]].concat();
        // A person's own file has no owner here who could say that it may go.
        let own = [&blobs[..7], &["notes.txt".to_owned()]].concat();
        for (present, expected) in [
            (&downloads[..7], "kept"),
            (&downloads[..], downloads[0].as_str()),
            (&mixed[..], downloads[3].as_str()),
            (&blobs[..], full),
            (&own[..], full),
        ] {
            assert_eq!(by(present), expected);
        }
    }

    #[test]
    fn the_same_file_takes_its_own_place_and_a_large_one_takes_none() {
        let present = occupants(&(0..8).map(blob).collect::<Vec<_>>());
        let (name, other) = (blob(3), blob(9));
        let of_size = |name: &String, bytes| decide(name.as_ref(), bytes, &present);
        assert_eq!(of_size(&name, FILE_BYTES_MAX), Decision::Keep);
        assert_eq!(of_size(&other, FILE_BYTES_MAX), Decision::Remove(Aside::Full));
        assert_eq!(of_size(&name, FILE_BYTES_MAX + 1), Decision::Remove(Aside::TooLarge));
    }
}
