//! A distfile as large as a test wants it, added to a generated tree.

use std::fs;
use std::io;
use std::path::Path;

use farm_sim::contents::{CHUNK_BYTES, Contents};
use farm_sim::upstream::{Object, Upstream, mirror_path};

/// One extra distfile of the tree.
#[derive(Debug, Clone)]
pub struct ExtraDistfile {
    /// Its name in DISTDIR.
    pub name: String,
    /// What it holds.
    pub contents: Contents,
}

impl ExtraDistfile {
    /// A file of that length, whose contents follow from its name.
    #[must_use]
    pub fn new(name: &str, size_bytes: u64) -> Self {
        Self { name: name.to_owned(), contents: Contents::new(9, name, size_bytes) }
    }

    /// Writes the package `app-test/NAME` that needs it to the tree at `dir`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn add_to_tree(&self, dir: &Path, source_base: &str) -> io::Result<()> {
        let package = self.name.split('-').next().unwrap_or("extra");
        let digests = self.contents.digests();
        let manifest = format!(
            "DIST {} {} BLAKE2B {} SHA512 {}\n",
            self.name,
            self.contents.size_bytes(),
            hex::encode(digests.blake2b),
            hex::encode(digests.sha512)
        );
        let folder = dir.join("app-test").join(package);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("Manifest"), manifest)?;
        let cache = dir.join("metadata/md5-cache/app-test");
        fs::create_dir_all(&cache)?;
        let entry = format!(
            "DEFINED_PHASES=-\nDESCRIPTION=A large file\nEAPI=8\nSLOT=0\nSRC_URI={source_base}/src/{}\n",
            self.name
        );
        fs::write(cache.join(format!("{package}-1")), entry)
    }

    /// Lets `upstream` serve it where a mirror would.
    pub fn put(&self, upstream: &Upstream) {
        upstream.put(&self.mirror_path(), Object::Generated(self.contents));
    }

    /// Where a mirror has it.
    #[must_use]
    pub fn mirror_path(&self) -> String {
        mirror_path(&self.name)
    }

    /// Whether the file at `path` holds exactly this.
    ///
    /// # Errors
    /// It can't be read.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        use std::io::Read as _;
        let mut file = fs::File::open(path)?;
        if file.metadata()?.len() != self.contents.size_bytes() {
            return Ok(false);
        }
        let mut found = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        while offset < self.contents.size_bytes() {
            let expected = self.contents.chunk_at(offset, CHUNK_BYTES);
            file.read_exact(&mut found[..expected.len()])?;
            if found[..expected.len()] != expected[..] {
                return Ok(false);
            }
            offset += expected.len() as u64;
        }
        Ok(true)
    }
}
