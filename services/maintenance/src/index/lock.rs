//! One writer for each index.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::IndexError;

/// Held for as long as the index is open. The lock lies beside the index and not on it, because a corrupt
/// index is renamed while it is held.
#[derive(Debug)]
pub(super) struct IndexLock {
    file: File,
}

impl IndexLock {
    pub(super) fn take(index: &Path) -> Result<Self, IndexError> {
        let path = suffixed(index, ".lock");
        let io = |source| IndexError::Io { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path: index.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        // A program that another thread is just starting has the file open, too, until its exec: closing it
        // here would not end the lock. Where this fails, the lock ends with the last that has it open.
        drop(self.file.unlock());
    }
}

/// `path` with `suffix` after its last element.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_even_if_a_program_is_just_being_started() {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index.db");
        let held = IndexLock::take(&index).unwrap();
        assert!(matches!(IndexLock::take(&index), Err(IndexError::Locked { .. })));
        // What a process has between its fork and its exec.
        let inherited = held.file.try_clone().unwrap();
        drop(held);
        IndexLock::take(&index).unwrap();
        drop(inherited);
    }
}
