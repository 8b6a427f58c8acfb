//! One process for each store.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::TreeError;

/// Keeps other processes out of a store until it is dropped.
#[derive(Debug)]
pub(crate) struct StoreLock(File);

impl StoreLock {
    pub(crate) fn take(path: &Path) -> Result<Self, TreeError> {
        let file =
            File::options().create(true).append(true).open(path).map_err(TreeError::store(path, "open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(TreeError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(TreeError::store(path, "lock")(error)),
        }
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // A program that another thread is just starting has the file open, too, until its exec: closing it
        // here would not end the lock. Where this fails, the lock ends with the last that has it open.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_even_if_a_program_is_just_being_started() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = StoreLock::take(&path).unwrap();
        assert!(matches!(StoreLock::take(&path), Err(TreeError::Locked { .. })));
        // What a process has between its fork and its exec.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        StoreLock::take(&path).unwrap();
        drop(inherited);
    }
}
