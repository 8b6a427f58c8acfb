//! What a hit knows of a file before it is asked for: the store's index has as much.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// One file.
pub(crate) struct Entry {
    pub(crate) file: Arc<File>,
    /// All of it, mapped.
    pub(crate) mapped: Bytes,
    pub(crate) size_bytes: u64,
    pub(crate) etag: String,
}

/// The files of a directory by name.
pub(crate) struct Files(HashMap<String, Entry>);

impl Files {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut files = HashMap::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let file = File::open(entry.path())?;
            let size_bytes = file.metadata()?.len();
            let mapped = Bytes::from_owner(map(&file)?);
            // As long as a BLAKE2B digest is.
            let etag = format!("\"{:0>128}\"", name.len());
            files.insert(name, Entry { file: Arc::new(file), mapped, size_bytes, etag });
        }
        Ok(Self(files))
    }

    /// By request target: its last element counts, whatever the layout.
    pub(crate) fn find(&self, target: &str) -> Option<&Entry> {
        self.0.get(target.rsplit('/').next()?)
    }
}

#[allow(unsafe_code, reason = "a map has no safe constructor; nobody writes to the files of a measurement")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the files are made before this program starts and left alone until it ends.
    unsafe { memmap2::Mmap::map(file) }
}
