//! The replica's own copy of the catalogue: which distfiles exist, how big they are, what their
//! digests are and where they can be had.
//!
//! A local sqlite file that only `CacheIndex.WatchCatalogue` writes and only this process reads, so a
//! name is resolved without asking anybody and goes on being resolved while maintenance is away. It
//! is a copy: a damaged file is set aside and filled again.
//!
//! This module must not know of HTTP, of blobs or of leases. Start reading at [`Catalogue`].

use std::path::Path;

use gentoo_repo::{Distfile, DistfileName};

/// A distfile and the module whose tree refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDistfile {
    /// The module that was asked for, or the first one in the modules' order that has the name.
    pub module: String,
    /// Size, digests, sources, restriction, packages.
    pub distfile: Distfile,
}

/// The local copy could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// sqlite said no.
    #[error("the local catalogue: {0}")]
    Sql(#[from] sqlx::Error),
    /// The directory or the file can't be used.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A handle on the local copy; clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue;

impl Catalogue {
    /// Opens the copy at `path`, making it if it isn't there. A file that sqlite can't read, or of
    /// another schema, is renamed to `PATH.broken` and an empty one takes its place.
    ///
    /// # Errors
    /// The directory can't be written.
    #[allow(clippy::unused_async, reason = "becomes a database")]
    pub async fn open(path: &Path) -> Result<Self, CatalogueError> {
        let _ = path;
        Ok(Self)
    }

    /// True until one module was imported in full: such a replica passes through and publishes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// What `name` is in `module`, or in the first module of the order that has it.
    ///
    /// # Errors
    /// The local file can't be read.
    #[allow(clippy::unused_async, reason = "becomes a database")]
    pub async fn resolve(
        &self,
        name: &DistfileName,
        module: Option<&str>,
    ) -> Result<Option<KnownDistfile>, CatalogueError> {
        let _ = (name, module);
        Ok(None)
    }

    /// The distfile that has `url` among its sources. `http` and `https` count as the same source.
    ///
    /// # Errors
    /// The local file can't be read.
    #[allow(clippy::unused_async, reason = "becomes a database")]
    pub async fn resolve_source(&self, url: &str) -> Result<Option<KnownDistfile>, CatalogueError> {
        let _ = url;
        Ok(None)
    }
}
