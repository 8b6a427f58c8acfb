//! One writer for each index.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::IndexError;

/// Held for as long as the index is open. The lock lies beside the index and not on it, because a corrupt
/// index is renamed while it is held.
#[derive(Debug)]
pub(super) struct IndexLock {
    _file: File,
}

impl IndexLock {
    pub(super) fn take(index: &Path) -> Result<Self, IndexError> {
        let path = suffixed(index, ".lock");
        let io = |source| IndexError::Io { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path: index.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// `path` with `suffix` after its last element.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
