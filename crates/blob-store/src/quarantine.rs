//! Where wrong files go, so that a person can look at them. Never served, and bounded.

use std::path::Path;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::layout::Layout;

/// Files kept; beyond it, new ones are removed instead.
const FILES_MAX: usize = 8;
/// Larger files are removed instead.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Takes `file` out of the way under a name that tells what it was meant to be.
pub(crate) fn put(disk: &Disk, layout: &Layout, file: &Path, meant: &str) -> Result<(), StoreError> {
    let dir = layout.quarantine();
    let small = disk.stat(file)?.len() <= FILE_BYTES_MAX;
    if small && disk.list(&dir)?.len() < FILES_MAX {
        // Names can be 255 octets long, which leaves no room for anything else.
        let meant: String = meant.chars().take(64).collect();
        disk.rename(file, &dir.join(meant))
    } else {
        disk.remove(file)
    }
}
