//! One replica's slot: the first of `r0`, `r1`, … that nobody has locked.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::layout::Layout;

/// Replicas that may share a volume.
const SLOTS_MAX: usize = 256;

/// A locked slot. The kernel gives the lock up when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) root: PathBuf,
    _lock: SlotLock,
}

#[derive(Debug)]
struct SlotLock(File);

impl SlotLock {
    /// `None`: somebody else has it.
    fn take(disk: &Disk, path: &Path) -> Result<Option<Self>, StoreError> {
        let file = disk.open_or_create(path)?;
        Ok(disk.try_lock(&file, path)?.then(|| Self(file)))
    }
}

impl Drop for SlotLock {
    fn drop(&mut self) {
        // A program that another thread is just starting has the file open, too, until its exec: closing it
        // here would not end the lock. Where this fails, the lock ends with the last that has it open.
        drop(self.0.unlock());
    }
}

/// Takes the first free slot of `cache_dir`.
pub(crate) fn lock_first_free(disk: &Disk, cache_dir: &Path) -> Result<Slot, StoreError> {
    disk.create_dir_all(cache_dir)?;
    for number in 0..SLOTS_MAX {
        let root = cache_dir.join(format!("r{number}"));
        disk.create_dir(&root)?;
        if let Some(lock) = SlotLock::take(disk, &root.join("lock"))? {
            return Ok(Slot { root, _lock: lock });
        }
    }
    Err(StoreError::NoFreeSlot { dir: cache_dir.to_owned(), slots: SLOTS_MAX })
}

/// The id that the replica of this slot keeps over restarts; made if it isn't there or isn't whole.
pub(crate) fn replica_id(disk: &Disk, layout: &Layout) -> Result<String, StoreError> {
    let path = layout.replica_id();
    if disk.stat(&path).is_ok() {
        let text = String::from_utf8_lossy(&disk.read_small(&path)?).trim().to_owned();
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text);
        }
    }
    let id = hex::encode(rand::random::<[u8; 16]>());
    let new = layout.tmp().join("replica-id");
    // Without an id no start of this slot came so far: here its directory may not last yet.
    if let Some(cache_dir) = layout.root().parent() {
        disk.sync_dir(cache_dir)?;
    }
    disk.replace_durably(&new, &path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_with_its_holder_gone_even_if_a_program_is_just_being_started() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let take = || SlotLock::take(&Disk::default(), &path).unwrap();
        let held = take().unwrap();
        assert!(take().is_none());
        // What a process has between its fork and its exec.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(take().is_some());
        drop(inherited);
    }
}
