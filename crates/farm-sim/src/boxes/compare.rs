//! Whether two trees are the same, as `rsync -rlpt --checksum --omit-dir-times --delete` would see it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// What Portage never syncs, at the top of a tree.
pub(super) const EXCLUDED: &[&str] = &["distfiles", "local", "packages", "lost+found", ".git"];

/// One way in which a path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Relative to the trees' roots.
    pub path: PathBuf,
    /// What differs: "missing", "too many", "contents", …
    pub what: &'static str,
}

/// Every difference between the tree at `source` and the one at `copy`, top-level `distfiles`, `local`,
/// `packages`, `lost+found` and `.git` left out. Blocks.
///
/// # Errors
/// Either can't be read.
pub fn differences(source: &Path, copy: &Path) -> io::Result<Vec<Difference>> {
    let mut left = list(source)?;
    let mut found = Vec::new();
    for (path, metadata) in list(copy)? {
        let what = match left.remove(&path) {
            None => Some("too many"),
            Some(expected) => difference(&source.join(&path), &expected, &copy.join(&path), &metadata)?,
        };
        found.extend(what.map(|what| Difference { path, what }));
    }
    found.extend(left.into_keys().map(|path| Difference { path, what: "missing" }));
    Ok(found)
}

fn list(root: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let walk = WalkDir::new(root).min_depth(1).into_iter();
    walk.filter_entry(|entry| {
        entry.depth() != 1 || !EXCLUDED.iter().any(|excluded| entry.file_name() == *excluded)
    })
    .map(|entry| {
        let entry = entry?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
        Ok((path, entry.metadata()?))
    })
    .collect()
}

fn difference(
    source: &Path,
    expected: &Metadata,
    copy: &Path,
    metadata: &Metadata,
) -> io::Result<Option<&'static str>> {
    if expected.file_type() != metadata.file_type() {
        return Ok(Some("kind"));
    }
    if expected.is_symlink() {
        return Ok((fs::read_link(source)? != fs::read_link(copy)?).then_some("target"));
    }
    if expected.mode() != metadata.mode() {
        return Ok(Some("permissions"));
    }
    if !expected.is_file() {
        return Ok(None);
    }
    if expected.len() != metadata.len() || !same_contents(source, copy)? {
        return Ok(Some("contents"));
    }
    Ok((expected.mtime() != metadata.mtime()).then_some("modification time"))
}

fn same_contents(one: &Path, two: &Path) -> io::Result<bool> {
    let (mut one, mut two) = (File::open(one)?, File::open(two)?);
    let (mut left, mut right) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(two.read(&mut right)? == 0);
        }
        if two.read_exact(&mut right[..length]).is_err() || left[..length] != right[..length] {
            return Ok(false);
        }
    }
}
