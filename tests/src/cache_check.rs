//! Whether a cache directory holds only what it says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blake2::{Blake2b512, Digest as _};

/// Every file below `blobs/` whose BLAKE2B is not its name, and every distfile name that leads nowhere.
///
/// # Errors
/// The directory can't be read.
pub fn faults(cache_dir: &Path) -> io::Result<Vec<String>> {
    let mut faults = Vec::new();
    for path in files_below(cache_dir)? {
        let text = path.display().to_string();
        if text.contains("/blobs/") {
            let mut hasher = Blake2b512::new();
            io::copy(&mut fs::File::open(&path)?, &mut hasher)?;
            let digest = hex::encode(hasher.finalize());
            if path.file_name().is_some_and(|name| name.to_string_lossy() != digest) {
                faults.push(format!("{text} holds {digest}"));
            }
        } else if text.contains("/distfiles/") && path.is_symlink() && !path.exists() {
            faults.push(format!("{text} leads nowhere"));
        }
    }
    Ok(faults)
}

/// How many blobs there are.
///
/// # Errors
/// The directory can't be read.
pub fn blob_count(cache_dir: &Path) -> io::Result<usize> {
    Ok(files_below(cache_dir)?.iter().filter(|path| path.display().to_string().contains("/blobs/")).count())
}

fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}
