//! Files below a directory, opened so that nothing outside it is ever reached.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

/// A directory that nothing opened through it lies outside of.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// A directory's entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) stat: Stat,
}

impl Entry {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl Root {
    /// Opens the directory; its own path may lead through links, as an operator may like it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory below; the empty path is this one.
    pub(crate) fn dir(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = rustix::fs::openat(&self.0, ".", flags, Mode::empty())?;
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the path leads out of its directory",
                ));
            };
            dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
        }
        Ok(Self(dir))
    }

    /// Opens a file below for reading. A pipe or a device is opened without waiting; the caller looks at
    /// what it got.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let (dir, name) = self.split(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&dir.0, name, flags, Mode::empty())?))
    }

    /// The same, but links are followed as long as they lead to something below; where the kernel can't
    /// tell, none is.
    pub(crate) fn file_following(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(file) => Ok(File::from(file)),
            // An old kernel, or a container that forbids the call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => self.file(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file below, if it is still the one that was opened and nobody has written to it since.
    /// False if it is not.
    pub(crate) fn remove_if_same(&self, path: &Path, opened: &Stat) -> io::Result<bool> {
        let (dir, name) = self.split(path)?;
        let now = rustix::fs::statat(&dir.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_same(&now, opened) {
            return Ok(false);
        }
        rustix::fs::unlinkat(&dir.0, name, AtFlags::empty())?;
        Ok(true)
    }

    /// Everything in it but `.` and `..`, sorted by name; at most `entries_max`, and whether that is all.
    pub(crate) fn list(&self, entries_max: usize) -> io::Result<(Vec<Entry>, bool)> {
        let mut entries = Vec::new();
        let mut is_all = true;
        for entry in Dir::read_from(self.0.as_fd())? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == entries_max {
                is_all = false;
                break;
            }
            match rustix::fs::statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(Entry { name, stat }),
                // Somebody has just removed it.
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((entries, is_all))
    }

    fn split<'a>(&self, path: &'a Path) -> io::Result<(Self, &'a std::ffi::OsStr)> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of its directory");
        let Some(Component::Normal(name)) = path.components().next_back() else { return Err(outside()) };
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

/// The same file, and unchanged.
pub(crate) fn is_same(one: &Stat, other: &Stat) -> bool {
    State::of(one) == State::of(other)
}

/// A file as it is before somebody writes to it, or puts another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    file: (u64, u64),
    size_bytes: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl State {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            file: (stat.st_dev, stat.st_ino),
            size_bytes: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed_and_nothing_outside_is_reached() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("dir");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(scratch.path().join("secret"), "x").unwrap();
        fs::write(dir.join("sub/file"), "y").unwrap();
        symlink("sub/file", dir.join("inside")).unwrap();
        symlink("..", dir.join("up")).unwrap();
        let root = Root::open(&dir).unwrap();
        assert!(root.file(Path::new("sub/file")).is_ok());
        for path in
            ["inside", "up/secret", "../secret", "/etc/passwd", "", ".", "sub/../../secret", "missing"]
        {
            assert!(root.file(Path::new(path)).is_err(), "{path}");
        }
        let (entries, is_all) = root.list(10).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.to_str().unwrap()).collect();
        assert_eq!((names, is_all), (vec!["inside", "sub", "up"], true));
        assert!(!root.list(2).unwrap().1);
    }

    fn stat(root: &Root, name: &str) -> Stat {
        rustix::fs::statat(&root.0, name, AtFlags::SYMLINK_NOFOLLOW).unwrap()
    }

    #[test]
    fn a_file_that_was_replaced_or_written_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let opened = stat(&root, "file");
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(!root.remove_if_same(Path::new("file"), &opened).unwrap());
        let opened = stat(&root, "file");
        fs::write(&path, "three").unwrap();
        assert!(!root.remove_if_same(Path::new("file"), &opened).unwrap());
        let opened = stat(&root, "file");
        assert!(root.remove_if_same(Path::new("file"), &opened).unwrap());
        assert!(!path.exists());
    }
}
