//! The replica's own copy of the catalogue: which distfiles exist, how big they are, what their
//! digests are and where they can be had.
//!
//! A local sqlite file that only `CacheIndex.WatchCatalogue` writes and only this process reads, so a
//! name is resolved without asking anybody and goes on being resolved while maintenance is away. It
//! is a copy: a damaged file is set aside and filled again.
//!
//! This module must not know of HTTP, of blobs or of leases. Start reading at [`Catalogue`]; `step`
//! is how it changes, `schema.sql` what is in the file.

mod file;
mod recent;
mod row;
mod source_url;
mod step;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gentoo_repo::{Distfile, DistfileName};
use rookery_proto::v1::ModuleGeneration;
use sqlx::Row as _;
use tokio::sync::Notify;
use tracing::warn;

use file::Pools;
use recent::Recent;
use source_url::SourceKey;
pub use step::Step;

/// Distfiles that one URL is looked at for; more than one is rare.
const CANDIDATES_MAX: i64 = 16;

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
    /// The database said no.
    #[error("the local catalogue: {0}")]
    Sql(#[from] sqlx::Error),
    /// The file is not what this version wrote.
    #[error("the local catalogue is damaged: {0}")]
    Damaged(String),
    /// Maintenance sent what makes no sense.
    #[error("the catalogue's changes: {0}")]
    Protocol(String),
    /// The directory or the file can't be used.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CatalogueError {
    /// Whether a new file would help: `SQLITE_CORRUPT`, `SQLITE_NOTADB`, a row or a schema that this
    /// version did not write.
    fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Sql(sqlx::Error::ColumnDecode { .. }) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                let primary = error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
                matches!(primary, Some(11 | 26))
            }
            Self::Sql(_) | Self::Protocol(_) | Self::File { .. } => false,
        }
    }
}

/// A handle on the local copy; clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    pools: RwLock<Pools>,
    recent: Recent,
    /// Modules that were imported in full at least once.
    modules: AtomicU64,
    filled: Notify,
    is_damaged: AtomicBool,
    damaged: Notify,
}

impl Catalogue {
    /// Opens the copy at `path`, making it if it isn't there. A file that can't be read, or of another
    /// schema, is renamed to `PATH.broken` and an empty one takes its place.
    ///
    /// # Errors
    /// The directory can't be written, or another process has the file.
    pub async fn open(path: &Path) -> Result<Self, CatalogueError> {
        let pools = file::open(path).await?;
        let catalogue = Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                pools: RwLock::new(pools),
                recent: Recent::default(),
                modules: AtomicU64::new(0),
                filled: Notify::new(),
                is_damaged: AtomicBool::new(false),
                damaged: Notify::new(),
            }),
        };
        catalogue.count_modules().await?;
        Ok(catalogue)
    }

    /// True until one module was imported in full: such a replica passes through and publishes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.modules.load(Ordering::Acquire) == 0
    }

    /// Waits until it is not empty.
    pub async fn filled(&self) {
        let mut notified = std::pin::pin!(self.shared.filled.notified());
        // Before looking, so that what happens between is not missed.
        notified.as_mut().enable();
        if self.is_empty() {
            notified.await;
        }
    }

    /// What `name` is in `module`, or in the first module of the order that has it.
    ///
    /// # Errors
    /// The local file can't be read.
    pub async fn resolve(
        &self,
        name: &DistfileName,
        module: Option<&str>,
    ) -> Result<Option<Arc<KnownDistfile>>, CatalogueError> {
        let changes = match self.shared.recent.get(name, module) {
            Ok(known) => return Ok(Some(known)),
            Err(changes) => changes,
        };
        let found = sqlx::query(
            "SELECT module.name AS module_name, distfile.name, size_bytes, restriction, digests, sources, packages
             FROM module CROSS JOIN distfile ON distfile.module = module.id
             WHERE distfile.name = ?1 AND (?2 IS NULL OR module.name = ?2)
             ORDER BY module.rank, module.name LIMIT 1",
        )
        .bind(name.as_str())
        .bind(module)
        .fetch_optional(&self.pools().reader)
        .await
        .map_err(CatalogueError::from)
        .and_then(|row| row.as_ref().map(known).transpose());
        let found = self.noticing_damage(found)?.map(Arc::new);
        if let Some(known) = &found {
            self.shared.recent.keep(changes, name, module, known);
        }
        Ok(found)
    }

    /// What `name` is in each module that has it, in the modules' order.
    ///
    /// # Errors
    /// The local file can't be read.
    pub async fn resolve_all(&self, name: &DistfileName) -> Result<Vec<KnownDistfile>, CatalogueError> {
        let found = sqlx::query(
            "SELECT module.name AS module_name, distfile.name, size_bytes, restriction, digests, sources, packages
             FROM module CROSS JOIN distfile ON distfile.module = module.id
             WHERE distfile.name = ?1
             ORDER BY module.rank, module.name LIMIT ?2",
        )
        .bind(name.as_str())
        .bind(CANDIDATES_MAX)
        .fetch_all(&self.pools().reader)
        .await
        .map_err(CatalogueError::from)
        .and_then(|rows| rows.iter().map(known).collect());
        self.noticing_damage(found)
    }

    /// The distfile that has `url` among its sources. `http` and `https` count as the same source.
    /// `None` also when the URL is to give different contents to different distfiles: then nobody can
    /// say which one is meant.
    ///
    /// # Errors
    /// The local file can't be read.
    pub async fn resolve_source(&self, url: &str) -> Result<Option<KnownDistfile>, CatalogueError> {
        let Some(key) = SourceKey::parse(url) else { return Ok(None) };
        let found = sqlx::query(
            "SELECT module.name AS module_name, distfile.name, size_bytes, restriction, digests, sources, packages
             FROM source JOIN distfile ON distfile.id = source.distfile JOIN module ON module.id = distfile.module
             WHERE url_hash = ?1
             ORDER BY module.rank, module.name, distfile.name LIMIT ?2",
        )
        .bind(key.hash())
        .bind(CANDIDATES_MAX)
        .fetch_all(&self.pools().reader)
        .await
        .map_err(CatalogueError::from)
        .and_then(|rows| rows.iter().map(known).collect::<Result<Vec<_>, _>>());
        let has_url = |known: &KnownDistfile| {
            known.distfile.sources.iter().any(|source| SourceKey::parse(source).as_ref() == Some(&key))
        };
        let mut candidates = self.noticing_damage(found)?.into_iter().filter(has_url);
        let Some(first) = candidates.next() else { return Ok(None) };
        let agrees = |other: KnownDistfile| {
            other.distfile.size_bytes == first.distfile.size_bytes
                && other.distfile.digests.agrees_with(&first.distfile.digests)
        };
        Ok(candidates.all(agrees).then_some(first))
    }

    /// Which generation of each module the copy holds, for `WatchCatalogue`.
    ///
    /// # Errors
    /// The local file can't be read.
    pub async fn have(&self) -> Result<Vec<ModuleGeneration>, CatalogueError> {
        let rows: Result<Vec<(String, i64)>, _> =
            sqlx::query_as("SELECT name, generation FROM module WHERE generation > 0 ORDER BY name")
                .fetch_all(&self.pools().reader)
                .await;
        let rows = self.noticing_damage(rows.map_err(CatalogueError::from))?;
        let generation = |(module, generation)| ModuleGeneration {
            module,
            generation: u64::try_from(generation).unwrap_or(0),
        };
        Ok(rows.into_iter().map(generation).collect())
    }

    /// Starts a module's step to `generation`. There is one step at a time; another one waits.
    ///
    /// # Errors
    /// The local file can't be written.
    pub async fn begin(&self, module: &str, generation: u64) -> Result<Step, CatalogueError> {
        Step::begin(self.clone(), module, generation).await
    }

    /// Sets the order in which modules are asked for a name. An empty order changes nothing.
    ///
    /// # Errors
    /// The local file can't be written.
    pub async fn set_module_order(&self, order: &[String]) -> Result<(), CatalogueError> {
        let mut transaction = self.pools().writer.begin().await?;
        step::set_order(&mut transaction, order).await?;
        transaction.commit().await?;
        self.shared.recent.forget();
        Ok(())
    }

    /// Waits until reading or writing met damage.
    pub async fn damaged(&self) {
        let notified = self.shared.damaged.notified();
        if !self.shared.is_damaged.load(Ordering::Acquire) {
            notified.await;
        }
    }

    /// If damage was met, sets the file aside and starts an empty one; otherwise does nothing.
    ///
    /// # Errors
    /// The directory can't be written.
    pub async fn replace_if_damaged(&self) -> Result<(), CatalogueError> {
        if !self.shared.is_damaged.load(Ordering::Acquire) {
            return Ok(());
        }
        let path = &self.shared.path;
        warn!(path = %path.display(), "the local catalogue is damaged: set aside, to be filled again");
        self.pools().close().await;
        if tokio::fs::try_exists(path).await.unwrap_or(true) {
            file::set_aside(path).await?;
        }
        let pools = file::open(path).await?;
        *self.shared.pools.write().unwrap_or_else(PoisonError::into_inner) = pools;
        self.shared.recent.forget();
        self.shared.is_damaged.store(false, Ordering::Release);
        self.count_modules().await
    }

    fn pools(&self) -> Pools {
        self.shared.pools.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn count_modules(&self) -> Result<(), CatalogueError> {
        let modules: i64 = sqlx::query_scalar("SELECT count(*) FROM module WHERE generation > 0")
            .fetch_one(&self.pools().reader)
            .await?;
        self.shared.modules.store(u64::try_from(modules).unwrap_or(0), Ordering::Release);
        if modules > 0 {
            self.shared.filled.notify_waiters();
        }
        Ok(())
    }

    fn noticing_damage<T>(&self, result: Result<T, CatalogueError>) -> Result<T, CatalogueError> {
        result.inspect_err(|error| self.note_error(error))
    }

    /// Tells the copy of an error that a [`Step`] met, in case it was damage.
    pub(crate) fn note_error(&self, error: &CatalogueError) {
        if error.is_damage() {
            self.note_damage();
        }
    }

    fn note_damage(&self) {
        self.shared.is_damaged.store(true, Ordering::Release);
        self.shared.damaged.notify_waiters();
    }
}

fn known(row: &sqlx::sqlite::SqliteRow) -> Result<KnownDistfile, CatalogueError> {
    Ok(KnownDistfile { module: row.try_get("module_name")?, distfile: row::decode(row)? })
}
