//! Where wrong files go, so that a person can look at them. Never served, and bounded.

use std::path::Path;

use crate::digest::BlobDigest;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::layout::Layout;

/// Files kept; beyond it, new ones are removed instead.
const FILES_MAX: usize = 8;
/// Octets of a name that are kept: all of a blob's, so that it can be told which one it was.
const NAME_CHARS_MAX: usize = 128;
/// Larger files are removed instead.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Takes `file` out of the way under a name that tells what it was meant to be.
pub(crate) fn put(disk: &Disk, layout: &Layout, file: &Path, meant: &str) -> Result<(), StoreError> {
    let dir = layout.quarantine();
    let small = disk.stat(file)?.len() <= FILE_BYTES_MAX;
    if small && disk.list(&dir)?.len() < FILES_MAX {
        // Names can be 255 octets long, which leaves no room for anything else.
        let meant: String = meant.chars().take(NAME_CHARS_MAX).collect();
        disk.rename(file, &dir.join(meant))
    } else {
        disk.remove(file)
    }
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
