//! Packs: the contents of files, back to back after a short head.
//!
//! A pack is written once, under a temporary name, and never changed: an index says where in it each
//! content lies. A pack's digest is not kept, its contents' digests are (in the indexes). Its file may have names in
//! the directories of several modules.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::TreeError;

const MAGIC: &[u8; 8] = b"ROOKPACK";
const VERSION: u32 = 1;
/// Magic, version, and four octets of zero that keep contents aligned to 16.
pub(crate) const HEAD_BYTES: u64 = HEAD as u64;
const HEAD: usize = 16;
const BUFFER_BYTES: usize = 1 << 20;

/// Tells a file from others, whatever names it has: device and inode. Only while somebody has it open.
pub(crate) type Identity = (u64, u64);

/// A pack open for reading.
#[derive(Debug)]
pub(crate) struct Pack {
    id: u32,
    path: PathBuf,
    file: Arc<File>,
    identity: Identity,
}

impl Pack {
    pub(crate) fn new(id: u32, path: PathBuf, file: File) -> Result<Self, TreeError> {
        let found = file.metadata().map_err(TreeError::store(&path, "stat"))?;
        Ok(Self { id, path, identity: (found.dev(), found.ino()), file: Arc::new(file) })
    }

    /// The same file under another id and path.
    pub(crate) fn renamed(&self, id: u32, path: PathBuf) -> Self {
        Self { id, path, file: Arc::clone(&self.file), identity: self.identity }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Opens a pack that must hold at least `length` octets.
    pub(crate) fn open(id: u32, path: &Path, length: u64) -> Result<Self, TreeError> {
        let damaged = |why| TreeError::Damaged { path: path.to_owned(), why };
        let file = File::open(path).map_err(TreeError::store(path, "open"))?;
        let found = file.metadata().map_err(TreeError::store(path, "stat"))?.len();
        if found < length {
            return Err(damaged("truncated"));
        }
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0).map_err(TreeError::store(path, "read"))?;
        if head != encode_head() {
            return Err(damaged("not a pack of this version"));
        }
        Self::new(id, path.to_owned(), file)
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub(crate) fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

fn encode_head() -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// A pack being written.
#[derive(Debug)]
pub(crate) struct PackWriter {
    id: u32,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    length: u64,
}

impl PackWriter {
    /// Creates the file at `path`, which must be a temporary name.
    pub(crate) fn create(id: u32, path: PathBuf) -> Result<Self, TreeError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(TreeError::store(&path, "create"))?;
        let buffer = encode_head().to_vec();
        Ok(Self { id, path, file, buffer, length: HEAD_BYTES })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Where the next octet will lie.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing was appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == HEAD_BYTES
    }

    pub(crate) fn append(&mut self, octets: &[u8]) -> Result<(), TreeError> {
        if self.buffer.len() + octets.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if octets.len() > BUFFER_BYTES {
            self.file.write_all(octets).map_err(TreeError::store(&self.path, "write"))?;
        } else {
            self.buffer.extend_from_slice(octets);
        }
        self.length += octets.len() as u64;
        Ok(())
    }

    /// Takes back what was appended since the pack had `length` octets.
    pub(crate) fn truncate(&mut self, length: u64) -> Result<(), TreeError> {
        self.flush()?;
        self.file.set_len(length).map_err(TreeError::store(&self.path, "truncate"))?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(length))
            .map_err(TreeError::store(&self.path, "seek"))?;
        self.length = length;
        Ok(())
    }

    /// Writes out the buffer, so that the pack can be read through [`Self::reader`].
    pub(crate) fn flush(&mut self) -> Result<(), TreeError> {
        self.file.write_all(&self.buffer).map_err(TreeError::store(&self.path, "write"))?;
        self.buffer.clear();
        Ok(())
    }

    /// The same file for reading: it stays readable when it gets its name.
    pub(crate) fn reader(&mut self, final_path: PathBuf) -> Result<Pack, TreeError> {
        self.flush()?;
        let file = self.file.try_clone().map_err(TreeError::store(&self.path, "duplicate"))?;
        Pack::new(self.id, final_path, file)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
