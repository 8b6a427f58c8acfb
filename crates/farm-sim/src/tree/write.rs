//! Files with fixed modification times.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Writes files below one directory, and counts them.
pub(super) struct Writer {
    root: PathBuf,
    files: usize,
    last_parent: PathBuf,
}

impl Writer {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: 0, last_parent: PathBuf::new() }
    }

    /// How many files were given to [`Self::file`].
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// Makes `path` hold `contents`. A file that does already is left alone.
    pub(super) fn file(&mut self, path: &str, contents: &[u8], mtime_s: i64) -> io::Result<()> {
        self.files += 1;
        let path = self.root.join(path);
        if let Some(parent) = path.parent()
            && parent != self.last_parent
        {
            fs::create_dir_all(parent)?;
            parent.clone_into(&mut self.last_parent);
        }
        if fs::read(&path).is_ok_and(|present| present == contents) {
            return Ok(());
        }
        let mut file = File::create(&path)?;
        file.write_all(contents)?;
        let age = Duration::from_secs(u64::try_from(mtime_s).unwrap_or(0));
        file.set_modified(SystemTime::UNIX_EPOCH + age)
    }
}
