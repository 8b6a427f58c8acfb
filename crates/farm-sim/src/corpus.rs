//! Lays out a real repository's tree from a list of its files: random contents of the listed sizes, and
//! the real metadata over it.
//!
//! A list has one line a path, `MODE SIZE MTIME PATH`: an octal mode, a length in octets, seconds since
//! the Unix epoch with nine decimals, and a path to the line's end. A directory has `d` for its length. A
//! symbolic link has `l` for its mode and its target for its length. The empty path is the root.
//!
//! Several copies of a list stand in for a larger tree: each has categories of its own, so that all of them count as
//! packages, and what is in no category lies below `profiles/copy-N`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use xz2::read::XzDecoder;

use crate::contents::Contents;

/// No file of a tree is larger; a list that says otherwise is wrong.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why a tree could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A line of the list is wrong.
    #[error("line {line} of the list: {what}")]
    List {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The archive has a file that the list doesn't, or of another length.
    #[error("{path} of the archive: {what}")]
    Archive {
        /// The path.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk, or a damaged archive.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaidOut {
    /// Directories, the root included.
    pub directories: usize,
    /// Regular files.
    pub files: usize,
    /// Symbolic links.
    pub symlinks: usize,
    /// Regular files that hold what they hold in reality.
    pub real_files: usize,
}

/// Lays `copies` copies of a tree out in `dir` from the xz-compressed list and tar archive at `list` and `metadata`.
/// Blocks.
///
/// # Errors
/// See [`CorpusError`].
pub fn lay_out_files(
    list: &Path,
    metadata: &Path,
    dir: &Path,
    seed: u64,
    copies: usize,
) -> Result<LaidOut, CorpusError> {
    let open = |path: &Path| File::open(path).map_err(|source| at(path, source));
    let list = BufReader::new(XzDecoder::new(open(list)?));
    lay_out(list, XzDecoder::new(open(metadata)?), dir, seed, copies)
}

/// Lays `copies` copies of a tree out in `dir` from a list and a tar archive, both uncompressed.
///
/// # Errors
/// See [`CorpusError`].
pub fn lay_out(
    list: impl BufRead,
    metadata: impl Read,
    dir: &Path,
    seed: u64,
    copies: usize,
) -> Result<LaidOut, CorpusError> {
    let real = read_archive(metadata)?;
    let lines: Vec<String> = list.lines().collect::<Result<_, _>>().map_err(|source| at(dir, source))?;
    let mut layout = Layout { dir, seed, real, done: LaidOut::default(), directories: Vec::new() };
    for copy in 0..copies {
        layout.lay_out_copy(&lines, copy)?;
    }
    layout.finish()
}

struct Layout<'a> {
    dir: &'a Path,
    seed: u64,
    real: BTreeMap<String, Vec<u8>>,
    done: LaidOut,
    directories: Vec<(PathBuf, u32, SystemTime)>,
}

impl Layout<'_> {
    fn lay_out_copy(&mut self, lines: &[String], copy: usize) -> Result<(), CorpusError> {
        let mut unlisted: BTreeSet<String> = self.real.keys().cloned().collect();
        for (index, line) in lines.iter().enumerate() {
            let entry = Entry::parse(line).map_err(|what| CorpusError::List { line: index + 1, what })?;
            unlisted.remove(entry.path);
            self.lay_out_entry(&entry, copy)?;
        }
        match unlisted.into_iter().next() {
            Some(path) => Err(archive(&path, "not in the list")),
            None => Ok(()),
        }
    }

    fn lay_out_entry(&mut self, entry: &Entry<'_>, copy: usize) -> Result<(), CorpusError> {
        let place = place_of_copy(entry.path, copy);
        let path = self.dir.join(&*place);
        match entry.kind {
            Kind::Directory => {
                fs::create_dir_all(&path).map_err(|source| at(&path, source))?;
                self.done.directories += 1;
                // Writing into it would change its time, and its mode may forbid that.
                self.directories.push((path, entry.mode, entry.mtime));
            }
            Kind::Symlink(target) => {
                symlink(target, &path).map_err(|source| at(&path, source))?;
                self.done.symlinks += 1;
            }
            Kind::File(size_bytes) => {
                let contents = match self.real.get(entry.path) {
                    Some(contents) if contents.len() as u64 == size_bytes => {
                        self.done.real_files += 1;
                        Cow::Borrowed(contents.as_slice())
                    }
                    Some(_) => return Err(archive(entry.path, "another length than in the list")),
                    None => Cow::Owned(Contents::new(self.seed, &place, size_bytes).to_bytes().into()),
                };
                write(&path, &contents, entry.mode, entry.mtime).map_err(|source| at(&path, source))?;
                self.done.files += 1;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<LaidOut, CorpusError> {
        for (path, mode, mtime) in self.directories.into_iter().rev() {
            finish(&path, mode, mtime).map_err(|source| at(&path, source))?;
        }
        Ok(self.done)
    }
}

/// Where a path of the list lies in a copy; the first copy is the tree itself.
fn place_of_copy(path: &str, copy: usize) -> Cow<'_, str> {
    if copy == 0 {
        return Cow::Borrowed(path);
    }
    let cache = "metadata/md5-cache/";
    let (before, below) = path.strip_prefix(cache).map_or(("", path), |below| (cache, below));
    let (category, package) = below.split_once('/').unwrap_or((below, ""));
    let is_category = category.contains('-') && (!package.is_empty() || !category.contains('.'));
    Cow::Owned(match (is_category, package) {
        (true, "") => format!("{before}{category}-{copy}"),
        (true, package) => format!("{before}{category}-{copy}/{package}"),
        (false, _) => format!("profiles/copy-{copy}/{path}"),
    })
}

struct Entry<'a> {
    kind: Kind<'a>,
    mode: u32,
    mtime: SystemTime,
    path: &'a str,
}

enum Kind<'a> {
    Directory,
    File(u64),
    Symlink(&'a str),
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Result<Self, &'static str> {
        let mut columns = line.splitn(4, ' ');
        let mut column = |what| columns.next().ok_or(what);
        let (mode, size) = (column("no mode")?, column("no length")?);
        let (mtime, path) = (column("no time")?, column("no path")?);
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err("the path leaves the tree");
        }
        let mtime = parse_mtime(mtime).ok_or("the time is no number")?;
        let (kind, mode) = if mode == "l" {
            (Kind::Symlink(size), 0o777)
        } else {
            let mode = u32::from_str_radix(mode, 8).map_err(|_| "the mode is not octal")?;
            let kind = if size == "d" {
                Kind::Directory
            } else {
                let size = size.parse().map_err(|_| "the length is no number")?;
                Kind::File(Some(size).filter(|size| *size <= FILE_BYTES_MAX).ok_or("the file is too large")?)
            };
            (kind, mode & 0o7777)
        };
        Ok(Self { kind, mode, mtime, path })
    }
}

fn parse_mtime(text: &str) -> Option<SystemTime> {
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let nanos = format!("{decimals:0<9}").get(..9)?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds.parse().ok()?, nanos))
}

/// Every regular file of a tar archive.
fn read_archive(metadata: impl Read) -> Result<BTreeMap<String, Vec<u8>>, CorpusError> {
    let broken = |source| at(Path::new("the archive"), source);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(metadata).entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(broken)?.to_string_lossy().trim_start_matches("./").to_owned();
        let mut contents = Vec::new();
        entry.take(FILE_BYTES_MAX).read_to_end(&mut contents).map_err(broken)?;
        files.insert(path, contents);
    }
    Ok(files)
}

fn write(path: &Path, contents: &[u8], mode: u32, mtime: SystemTime) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(contents)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_modified(mtime)
}

fn finish(directory: &Path, mode: u32, mtime: SystemTime) -> io::Result<()> {
    let directory = File::open(directory)?;
    directory.set_permissions(Permissions::from_mode(mode))?;
    directory.set_modified(mtime)
}

fn at(path: &Path, source: io::Error) -> CorpusError {
    CorpusError::Io { path: path.to_owned(), source }
}

fn archive(path: &str, what: &'static str) -> CorpusError {
    CorpusError::Archive { path: path.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const LIST: &str = "755 d 1700000000.5000000000 \n\
        775 d 1700000001.0000000000 app-misc\n\
        664 2000 1700000002.2500000000 app-misc/a b.ebuild\n\
        664 5 1700000003.0000000000 app-misc/Manifest\n\
        l Manifest 1700000004.0000000000 app-misc/link\n";

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, contents) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, path, *contents).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn modes_times_lengths_and_real_contents_are_those_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let archive = tar_of(&[("./app-misc/Manifest", b"DIST\n")]);
        let done = lay_out(LIST.as_bytes(), &archive[..], &root, 1, 1).unwrap();
        assert_eq!(done, LaidOut { directories: 2, files: 2, symlinks: 1, real_files: 1 });
        assert_eq!(fs::read(root.join("app-misc/Manifest")).unwrap(), b"DIST\n");
        assert_eq!(fs::read_link(root.join("app-misc/link")).unwrap(), Path::new("Manifest"));
        let about = |path: &str| {
            let metadata = fs::metadata(root.join(path)).unwrap();
            (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec())
        };
        assert_eq!(about(""), (0o755, 1_700_000_000, 500_000_000));
        assert_eq!(about("app-misc"), (0o775, 1_700_000_001, 0));
        assert_eq!(about("app-misc/a b.ebuild"), (0o664, 1_700_000_002, 250_000_000));
        assert_eq!(fs::read(root.join("app-misc/a b.ebuild")).unwrap().len(), 2000);
    }

    #[test]
    fn copies_have_categories_of_their_own() {
        for (path, place) in [
            ("app-misc", "app-misc-3"),
            ("app-misc/a/Manifest", "app-misc-3/a/Manifest"),
            ("metadata/md5-cache/app-misc/a-1", "metadata/md5-cache/app-misc-3/a-1"),
            ("metadata/md5-cache", "profiles/copy-3/metadata/md5-cache"),
            ("profiles/repo_name", "profiles/copy-3/profiles/repo_name"),
            ("", "profiles/copy-3/"),
        ] {
            assert_eq!(place_of_copy(path, 3), place);
            assert_eq!(place_of_copy(path, 0), path);
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let archive = tar_of(&[("./app-misc/Manifest", b"DIST\n")]);
        let done = lay_out(LIST.as_bytes(), &archive[..], &root, 1, 2).unwrap();
        assert_eq!(done, LaidOut { directories: 4, files: 4, symlinks: 2, real_files: 2 });
        assert_eq!(fs::read(root.join("app-misc-1/Manifest")).unwrap(), b"DIST\n");
        let other = |copy: &str| fs::read(root.join(copy).join("a b.ebuild")).unwrap();
        assert_ne!(other("app-misc"), other("app-misc-1"));
    }

    #[test]
    fn wrong_lists_and_archives_are_named() {
        let say = |list: &str, files: &[(&str, &[u8])]| {
            let dir = tempfile::tempdir().unwrap();
            lay_out(list.as_bytes(), &tar_of(files)[..], dir.path(), 1, 1).unwrap_err().to_string()
        };
        assert_eq!(say("664 5 1", &[]), "line 1 of the list: no path");
        assert_eq!(say("664 5 1.0 ../x", &[]), "line 1 of the list: the path leaves the tree");
        assert_eq!(say("664 5 1.0 /etc/x", &[]), "line 1 of the list: the path leaves the tree");
        assert_eq!(say("9 5 1.0 x", &[]), "line 1 of the list: the mode is not octal");
        assert_eq!(say("664 999999999999 1.0 x", &[]), "line 1 of the list: the file is too large");
        assert_eq!(say(LIST, &[("surplus", b"")]), "surplus of the archive: not in the list");
        assert!(say(LIST, &[("app-misc/Manifest", b"1234")]).contains("another length"));
    }
}
