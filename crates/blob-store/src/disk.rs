//! Every file operation of the store, each with a place where a test can make it fail.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::error::StoreError;

/// A kind of file operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileOp {
    /// `mkdir`
    CreateDir,
    /// `open` for writing
    Create,
    /// `open` for reading
    Open,
    /// `read`, `pread`
    Read,
    /// `write`, `pwrite`
    Write,
    /// `ioctl(FICLONE)`
    Reflink,
    /// `fsync` of a file
    Sync,
    /// `fsync` of a directory
    SyncDir,
    /// `rename`
    Rename,
    /// `symlink`
    Symlink,
    /// `unlink`
    Remove,
    /// `readdir`
    ReadDir,
    /// `lstat`, `readlink`
    Stat,
    /// `flock`
    Lock,
}

impl FileOp {
    /// For messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateDir => "create directory",
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Reflink => "reflink",
            Self::Sync => "sync",
            Self::SyncDir => "sync directory",
            Self::Rename => "rename to",
            Self::Symlink => "link",
            Self::Remove => "remove",
            Self::ReadDir => "list",
            Self::Stat => "look at",
            Self::Lock => "lock",
        }
    }
}

/// Asked before every file operation; an error is what the operation then returns. For tests.
pub type FaultHook = Arc<dyn Fn(FileOp, &Path) -> io::Result<()> + Send + Sync>;

/// The operations, in the words of the store.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) faults: Option<FaultHook>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Disk {
    fn run<T>(&self, op: FileOp, path: &Path, action: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let asked = self.faults.as_ref().map_or(Ok(()), |hook| hook(op, path));
        asked.and_then(|()| action()).map_err(|source| StoreError::io(op, path, source))
    }

    /// Makes one directory below an existing one; true if it was not there.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<bool> {
        self.run(FileOp::CreateDir, path, || match fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Makes a directory durable in its parent before anything in it has to be.
    pub(crate) fn create_dir_durably(&self, path: &Path) -> Result<()> {
        if self.create_dir(path)?
            && let Some(parent) = path.parent()
        {
            self.sync_dir(parent)?;
        }
        Ok(())
    }

    pub(crate) fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.run(FileOp::CreateDir, path, || fs::create_dir_all(path))
    }

    /// For reading and writing, kept as it is if it is there.
    pub(crate) fn open_or_create(&self, path: &Path) -> Result<File> {
        self.run(FileOp::Create, path, || {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        })
    }

    pub(crate) fn open(&self, path: &Path) -> Result<File> {
        self.run(FileOp::Open, path, || File::open(path))
    }

    /// The same if the kernel has all in memory that leads to the file; else, or where it can't say, `WouldBlock`.
    pub(crate) fn open_cached(&self, path: &Path) -> Result<File> {
        self.run(FileOp::Open, path, || {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED);
            opened.map(File::from).map_err(|_| io::ErrorKind::WouldBlock.into())
        })
    }

    /// A small file: what we wrote ourselves, so never above 64 KiB.
    pub(crate) fn read_small(&self, path: &Path) -> Result<Vec<u8>> {
        self.run(FileOp::Read, path, || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(File::open(path)?, 64 << 10), &mut bytes)?;
            Ok(bytes)
        })
    }

    pub(crate) fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.run(FileOp::Write, path, || fs::write(path, bytes))
    }

    /// Puts a whole file in the place of another one: what is there afterwards is the old one or the new one, and the new
    /// one has all its bytes even after a power cut. `new` is where it is written first. That it is the new one lasts
    /// only once the directory is synced.
    pub(crate) fn replace(&self, new: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
        self.remove(new)?;
        let file = self.open_or_create(new)?;
        self.write_at(&file, new, bytes, 0)?;
        self.sync(&file, new)?;
        self.rename(new, path)
    }

    /// The same, to last.
    pub(crate) fn replace_durably(&self, new: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
        self.replace(new, path, bytes)?;
        path.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    pub(crate) fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
        self.run(FileOp::Write, path, || file.write_all_at(bytes, offset))
    }

    /// Lets an empty file share all blocks of another one; false where the file system can't.
    pub(crate) fn reflink(&self, to: &File, path: &Path, from: &File) -> Result<bool> {
        self.run(FileOp::Reflink, path, || Ok(rustix::fs::ioctl_ficlone(to, from).is_ok()))
    }

    pub(crate) fn read_at(&self, file: &File, path: &Path, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.run(FileOp::Read, path, || {
            loop {
                match file.read_at(buf, offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            }
        })
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<()> {
        self.run(FileOp::Sync, path, || file.sync_all())
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.run(FileOp::SyncDir, path, || File::open(path)?.sync_all())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run(FileOp::Rename, to, || fs::rename(from, to))
    }

    pub(crate) fn symlink(&self, target: &Path, link: &Path) -> Result<()> {
        self.run(FileOp::Symlink, link, || symlink(target, link))
    }

    /// Removes a file or a link; one that isn't there is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        self.run(FileOp::Remove, path, || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        })
    }

    /// What is in a directory, by name, in no order.
    pub(crate) fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        self.run(FileOp::ReadDir, path, || {
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
        })
    }

    /// Of an open file; `None` if it can't be looked at. `path` is only asked for where faults are planted: to make one
    /// takes as long as to look at the file, and this is in every hit.
    pub(crate) fn stat_open(&self, file: &File, path: impl Fn() -> PathBuf) -> Option<Metadata> {
        if let Some(hook) = &self.faults {
            hook(FileOp::Stat, &path()).ok()?;
        }
        file.metadata().ok()
    }

    pub(crate) fn stat(&self, path: &Path) -> Result<Metadata> {
        self.run(FileOp::Stat, path, || fs::symlink_metadata(path))
    }

    pub(crate) fn read_link(&self, path: &Path) -> Result<PathBuf> {
        self.run(FileOp::Stat, path, || fs::read_link(path))
    }

    pub(crate) fn try_lock(&self, file: &File, path: &Path) -> Result<bool> {
        self.run(FileOp::Lock, path, || {
            match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }
}
