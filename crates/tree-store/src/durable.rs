//! Files that are there whole or not at all, whatever moment the machine stops at.
//!
//! The order is always: write under a temporary name, fsync the file, rename, fsync the directory. Without
//! the first fsync a rename may survive a power cut that the octets did not; without the second the
//! rename itself may be lost after we reported success.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::TreeError;

/// Called before each step with its name. A test makes it fail, or copies the directory as a kill at that
/// moment would leave it.
pub type StepHook = dyn Fn(&'static str) -> io::Result<()> + Send + Sync;

/// Changes the state directory, step by step.
pub(crate) struct Steps {
    hook: Option<Box<StepHook>>,
}

impl Steps {
    pub(crate) fn new(hook: Option<Box<StepHook>>) -> Self {
        Self { hook }
    }

    fn step(&self, name: &'static str, path: &Path) -> Result<(), TreeError> {
        match &self.hook {
            Some(hook) => hook(name).map_err(TreeError::store(path, name)),
            None => Ok(()),
        }
    }

    /// Gives a file that was written at `temporary` its name, durably.
    pub(crate) fn name(&self, file: &File, temporary: &Path, path: &Path) -> Result<(), TreeError> {
        self.step("sync", temporary)?;
        file.sync_all().map_err(TreeError::store(temporary, "sync"))?;
        self.step("rename", path)?;
        fs::rename(temporary, path).map_err(TreeError::store(path, "rename"))?;
        self.step("sync directory", path)?;
        sync_directory(&parent(path))
    }

    /// Gives a file one more name, a temporary one.
    pub(crate) fn link(&self, path: &Path, temporary: &Path) -> Result<(), TreeError> {
        self.step("link", temporary)?;
        fs::hard_link(path, temporary).map_err(TreeError::store(temporary, "link"))
    }

    /// Writes a whole file, durably.
    pub(crate) fn write(&self, octets: &[u8], temporary: &Path, path: &Path) -> Result<(), TreeError> {
        self.step("create", temporary)?;
        let mut file = File::create(temporary).map_err(TreeError::store(temporary, "create"))?;
        let half = octets.len() / 2;
        for part in [&octets[..half], &octets[half..]] {
            self.step("write", temporary)?;
            file.write_all(part).map_err(TreeError::store(temporary, "write"))?;
        }
        self.name(&file, temporary, path)
    }

    /// Removes a file if it is there. Not durable by itself: what is not wanted is recognised as such
    /// at every start.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), TreeError> {
        self.step("remove", path)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(TreeError::store(path, "remove")(error))
            }
            _ => Ok(()),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), TreeError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(TreeError::store(path, "sync"))
}
