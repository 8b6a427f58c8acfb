//! Opening the index file: lock, check, migrate; a damaged one is set aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache_policy::UnixMs;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::connection::{At, Pool};
use super::dialect::{QUICK_CHECK, code};
use super::lock::{IndexLock, suffixed};
use super::{Index, counter};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const READERS_MAX: u32 = 4;
/// Rows on their way from SQLite's thread. The library's 50 wake the other side so often that reading 200,000 of them
/// takes a tenth more processor time.
const ROWS_BUFFERED: usize = 4096;
/// How much of the file readers see without a system call for each page. Without it that plan takes more than twice the
/// processor time (2.5 s instead of 1.2 s), and a list of all blobs by name three times as long; caches of 128 MiB for
/// each reader instead leave it at 1.9 s. The price is that a disk which can't read, or somebody who truncates the file,
/// ends the process where there would be an error otherwise; the next start repairs or rebuilds the index, and replicas
/// serve on meanwhile.
const READ_MAPPED_BYTES: &str = "1073741824";

const LOOK_AT_MODE: &str = "look at the owner and the mode of the file and its directory, and at whether the file system is \
                            mounted read-only, or name another one (maintenance.index)";
const LOOK_AT_DISK: &str = "look at the disk and the kernel's log";

/// What can go wrong with the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has it.
    #[error(
        "index {}: another maintenance is using it; stop that one, or give this one an index of its own \
         (maintenance.index)", path.display()
    )]
    Locked {
        /// The index file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "index {}: written by a newer release (schema version {version}, this release knows up to {known}); \
         run that release, or move the file away to have the index rebuilt", path.display()
    )]
    Newer {
        /// The index file.
        path: PathBuf,
        /// The version that is in it and unknown here.
        version: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// Its schema is not one that any release wrote.
    #[error("index {}: {source}; move the file away to have the index rebuilt", path.display())]
    Schema {
        /// The index file.
        path: PathBuf,
        /// What the migration met.
        source: MigrateError,
    },
    /// A file can't be used.
    #[error("index {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can't be opened as a database.
    #[error("index {}: {source}; {}", path.display(), remedy(source))]
    Open {
        /// The index file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// Its pages contradict each other.
    #[error("index {}: {verdict}", path.display())]
    Corrupt {
        /// The index file.
        path: PathBuf,
        /// What SQLite found.
        verdict: String,
    },
    /// Nothing more can be written.
    #[error("index {}: the disk is full; make room there, nothing is lost ({source})", path.display())]
    Full {
        /// The index file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// Another program keeps it from being written.
    #[error(
        "index {}: another program has locked it (an sqlite3 shell, a backup?); end that. Nothing is lost: what a \
         service was refused it tries again, a command of yours has to be given again ({source})", path.display()
    )]
    Busy {
        /// The index file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// A query failed.
    #[error("index {}: {source}{}", path.display(), hint(source))]
    Query {
        /// The index file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// What it answered is not understood.
    #[error("index: {0}")]
    Sql(sqlx::Error),
    /// A row that no release writes.
    #[error("index: unexpected value in {0}")]
    Row(&'static str),
}

impl From<sqlx::Error> for IndexError {
    /// Says which file it is about if a connection of ours noted that.
    #[allow(clippy::wildcard_enum_match_arm, reason = "only the one that was noted is of interest")]
    fn from(source: sqlx::Error) -> Self {
        match source {
            sqlx::Error::AnyDriverError(boxed) => match boxed.downcast::<At>() {
                Ok(at) => Self::running(&at.path, at.source),
                Err(other) => Self::Sql(sqlx::Error::AnyDriverError(other)),
            },
            source => Self::Sql(source),
        }
    }
}

impl IndexError {
    /// Of a file that is in use.
    pub(super) fn running(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        match error_code(&source) {
            Some(code::FULL) => Self::Full { path, source },
            Some(code::BUSY) => Self::Busy { path, source },
            // So many wait for the one that writes.
            None if matches!(source, sqlx::Error::PoolTimedOut) => Self::Busy { path, source },
            Some(_) | None => Self::Query { path, source },
        }
    }

    /// Whether the file itself is damaged, as opposed to busy, full or unreadable.
    fn is_corruption(&self) -> bool {
        let source = match self {
            Self::Corrupt { .. } => return true,
            Self::Open { source, .. } | Self::Query { source, .. } => source,
            Self::Locked { .. }
            | Self::Newer { .. }
            | Self::Schema { .. }
            | Self::Io { .. }
            | Self::Full { .. }
            | Self::Busy { .. }
            | Self::Sql(_)
            | Self::Row(_) => {
                return false;
            }
        };
        matches!(error_code(source), Some(code::CORRUPT | code::NOTADB))
    }
}

/// SQLite's primary result code; extended ones keep it in the low octet.
fn error_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

/// The newest schema version that this release knows.
fn known_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl Index {
    /// Opens the index at `path`, which is made if it is not there.
    ///
    /// A corrupt one is renamed to `….corrupt-<now>` and a new one begun: the replicas' inventories and
    /// the next import fill it again, so all that is lost is history.
    pub(crate) async fn open(path: &Path, now: UnixMs) -> Result<Self, IndexError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|source| IndexError::Io { path: parent.to_owned(), source })?;
        }
        let lock = Arc::new(IndexLock::take(path)?);
        match Self::open_locked(path, now, &lock).await {
            Err(error) if error.is_corruption() => {
                let aside = set_aside(path, now)?;
                tracing::error!(
                    index = %path.display(), aside = %aside.display(), %error,
                    "the index is corrupt: set aside, and a new one begun; inventories and the next import fill it"
                );
                Self::open_locked(path, now, &lock).await
            }
            opened => opened,
        }
    }

    async fn open_locked(path: &Path, now: UnixMs, lock: &Arc<IndexLock>) -> Result<Self, IndexError> {
        let options = options(path);
        let open = |source| open_error(path, source);
        let pool = SqlitePoolOptions::new().max_connections(1);
        let writer = pool.connect_with(options.clone()).await.map_err(open)?;
        if let Err(error) = prepare(&writer, path, now).await {
            writer.close().await;
            return Err(error);
        }
        let readers = SqlitePoolOptions::new().max_connections(READERS_MAX);
        let options = options.read_only(true).create_if_missing(false).pragma("mmap_size", READ_MAPPED_BYTES);
        let reader = readers.connect_with(options).await;
        let (writer, reader) = (Pool::new(writer, path), Pool::new(reader.map_err(open)?, path));
        Ok(Self { writer, reader, inventories: Arc::default(), _lock: Arc::clone(lock) })
    }
}

fn open_error(path: &Path, source: sqlx::Error) -> IndexError {
    IndexError::Open { path: path.to_owned(), source }
}

/// What to do about an index that can't be opened.
fn remedy(source: &sqlx::Error) -> &'static str {
    match error_code(source) {
        Some(code::FULL) => "the disk is full: make room there, nothing is lost",
        Some(code::BUSY) => "another program has locked it (an sqlite3 shell, a backup?): end that",
        Some(code::READONLY | code::CANTOPEN | code::PERM) => LOOK_AT_MODE,
        Some(code::IOERR) => LOOK_AT_DISK,
        Some(_) | None => "if it stays so, move the file away to have the index rebuilt",
    }
}

/// What to do about one that was opened and then failed, if there is anything.
fn hint(source: &sqlx::Error) -> String {
    let hint = match error_code(source) {
        Some(code::READONLY | code::CANTOPEN | code::PERM) => LOOK_AT_MODE,
        Some(code::IOERR) => LOOK_AT_DISK,
        Some(code::CORRUPT | code::NOTADB) => {
            "restart maintenance: it checks the file, and sets a damaged one aside to have the index rebuilt"
        }
        Some(_) | None => return String::new(),
    };
    format!("; {hint}")
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL loses no consistency, only the last transactions when the host (not the process) dies.
        // What they held comes again: inventories, imports and reports are repeated, decisions are
        // re-sent, a lost lease is refused at its next renewal. Fences must not come again, so
        // `counter::begin` jumps over what may have been lost. An fsync for each lease would be the
        // price of FULL.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5))
        .pragma("cache_size", "-32768")
        .row_buffer_size(ROWS_BUFFERED)
}

async fn prepare(writer: &SqlitePool, path: &Path, now: UnixMs) -> Result<(), IndexError> {
    let open = |source| open_error(path, source);
    let verdict: String = sqlx::query_scalar(QUICK_CHECK).fetch_one(writer).await.map_err(open)?;
    if verdict != "ok" {
        return Err(IndexError::Corrupt { path: path.to_owned(), verdict });
    }
    MIGRATIONS.run(writer).await.map_err(|source| migration_error(path, source))?;
    let mut tx = Pool::new(writer.clone(), path).begin().await?;
    counter::begin(&mut tx, now).await?;
    tx.commit().await
}

#[allow(clippy::wildcard_enum_match_arm, reason = "whatever else a migration meets is a foreign schema")]
fn migration_error(path: &Path, source: MigrateError) -> IndexError {
    let path = path.to_owned();
    match source {
        MigrateError::VersionMissing(version) => IndexError::Newer { path, version, known: known_version() },
        // A statement that the schema doesn't take (code 1) is the schema's fault; a full disk is not.
        MigrateError::Execute(source) => open_error(&path, source),
        MigrateError::ExecuteMigration(source, _) if error_code(&source) != Some(code::ERROR) => {
            open_error(&path, source)
        }
        source => IndexError::Schema { path, source },
    }
}

fn set_aside(path: &Path, now: UnixMs) -> Result<PathBuf, IndexError> {
    let suffix = format!(".corrupt-{}", now.get());
    for part in ["", "-wal", "-shm"] {
        let from = suffixed(path, part);
        let to = suffixed(&from, &suffix);
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !part.is_empty() => {}
            Err(source) => return Err(IndexError::Io { path: from, source }),
        }
    }
    Ok(suffixed(path, &suffix))
}

#[cfg(test)]
mod tests {
    use cache_policy::eviction::catalogue::{Loss, Pace};
    use rookery_proto::v1::Distfile;

    use super::super::dialect::BEGIN_WRITE;
    use super::super::height;
    use super::*;

    type Held = (String, i64, i64, i64, i64, i64, i64, String);

    async fn pages_max(index: &Index, pages: i64) {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&index.writer).await.unwrap();
    }

    async fn staged(index: &Index) -> i64 {
        let count = "SELECT COUNT(*) FROM staged_distfiles";
        sqlx::query_scalar(count).fetch_one(&index.writer).await.unwrap()
    }

    /// SQLite gives the same answer where its file may not grow as where the disk is full.
    #[tokio::test]
    async fn a_full_disk_is_named_and_nothing_that_was_written_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let now = UnixMs::new(1_700_000_000_000);
        let index = Index::open(&path, now).await.unwrap();
        let distfiles = |first: usize| -> Vec<_> {
            (first..first + 1000)
                .map(|number| Distfile { name: format!("some-package-{number}.tar"), ..Distfile::default() })
                .collect()
        };
        index.stage(&distfiles(0), &[]).await.unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&index.writer).await.unwrap();
        pages_max(&index, pages + 2).await;
        let error = index.stage(&distfiles(1000), &[]).await.unwrap_err();
        assert!(matches!(error, IndexError::Full { .. }) && !error.is_corruption(), "{error}");
        let expected = format!("index {}: the disk is full; make room there", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(staged(&index).await, 1000, "all of a batch or nothing");
        let IndexError::Full { source, .. } = error else { unreachable!() };
        let error = open_error(&path, source).to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("make room there"), "{error}");
        pages_max(&index, 1 << 30).await;
        index.stage(&distfiles(1000), &[]).await.unwrap();
        drop(index);
        let again = Index::open(&path, now).await.unwrap();
        assert_eq!(staged(&again).await, 2000);
        assert!(!suffixed(&path, ".corrupt-1700000000000").exists(), "it was not set aside");
    }

    #[tokio::test]
    async fn what_keeps_it_from_being_opened_is_told_with_the_file_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixMs::new(1_700_000_000_000);
        let path = dir.path().join("index.db");
        std::fs::create_dir(&path).unwrap();
        let error = Index::open(&path, now).await.unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("look at the owner"), "{error}");

        let path = dir.path().join("held.db");
        let index = Index::open(&path, now).await.unwrap();
        index.close().await;
        drop(index);
        let foreign = SqlitePoolOptions::new().max_connections(1).connect_with(options(&path)).await.unwrap();
        let mut held = foreign.begin_with("BEGIN EXCLUSIVE").await.unwrap();
        sqlx::query("DELETE FROM pins").execute(&mut *held).await.unwrap();
        let error = Index::open(&path, now).await.unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("another program"), "{error}");
    }

    /// Every way to the file: through a transaction's connection, at its begin and at its end, and without one.
    #[tokio::test]
    async fn what_happens_to_an_open_index_is_told_with_the_file_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let index = Index::open(&path, UnixMs::new(1_700_000_000_000)).await.unwrap();
        let named = |error: IndexError, what: &str| {
            let text = error.to_string();
            let expected = format!("index {}: ", path.display());
            assert!(text.starts_with(&expected) && text.contains(what), "{text}");
            assert_eq!(text.matches(path.to_str().unwrap()).count(), 1, "{text}");
        };

        // That nothing may be written, as where the file system was remounted for its faults.
        sqlx::query("PRAGMA query_only = 1").execute(&index.writer).await.unwrap();
        let error = index.stage(&[Distfile::default()], &[]).await.unwrap_err();
        named(error, "mounted read-only");
        let error = index.close_interrupted(UnixMs::new(1)).await.unwrap_err();
        named(error, "the owner and the mode");
        sqlx::query("PRAGMA query_only = 0").execute(&index.writer).await.unwrap();

        sqlx::query("PRAGMA busy_timeout = 0").execute(&index.writer).await.unwrap();
        let foreign = SqlitePoolOptions::new().max_connections(1).connect_with(options(&path)).await.unwrap();
        let held = foreign.begin_with(BEGIN_WRITE).await.unwrap();
        let error = index.stage(&[Distfile::default()], &[]).await.unwrap_err();
        assert!(matches!(error, IndexError::Busy { .. }), "{error:?}");
        named(error, "end that");
        let error = index.close_interrupted(UnixMs::new(1)).await.unwrap_err();
        assert!(matches!(error, IndexError::Busy { .. }), "{error:?}");
        named(error, "end that");
        held.rollback().await.unwrap();

        // A constraint that is only looked at at the end.
        let mut tx = index.write().await.unwrap();
        let deferred = "PRAGMA defer_foreign_keys = 1;
                        CREATE TABLE one (id INTEGER PRIMARY KEY);
                        CREATE TABLE two (one INTEGER REFERENCES one (id));
                        INSERT INTO two VALUES (7)";
        sqlx::raw_sql(deferred).execute(&mut *tx).await.unwrap();
        named(tx.commit().await.unwrap_err(), "FOREIGN KEY");

        let error =
            IndexError::from(sqlx::query("SELECT 1 FROM nowhere").execute(&index.reader).await.unwrap_err());
        named(error, "nowhere");
        index.stage(&[Distfile::default()], &[]).await.unwrap();
    }

    /// The fifth version's tables are other ones, the seventh says more of losses: what was known is in them.
    #[tokio::test]
    async fn an_index_of_the_version_before_keeps_what_it_knew() {
        let dir = tempfile::tempdir().unwrap();
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options(&dir.path().join("index.db"))).await.unwrap();
        let all: Vec<_> = MIGRATIONS.iter().collect();
        let run = async |from: i64, to: i64| {
            for migration in all.iter().filter(|one| (from..=to).contains(&one.version)) {
                sqlx::raw_sql(migration.sql.clone()).execute(&pool).await.unwrap();
            }
        };
        run(1, 4).await;
        let rows = "INSERT INTO blobs (blake2b, size_bytes, last_access_ms, unreferenced_since_ms) VALUES (x'01', 7, 8, 9);
                    INSERT INTO holders (replica_id, blake2b, added_ms, inventory, verified_ms, quarantined)
                    VALUES ('r1', x'01', 3, 4, 5, 1), ('r2', x'02', 3, 4, 0, 0);
                    INSERT INTO names (replica_id, blake2b, name) VALUES ('r1', x'01', 'a');
                    INSERT INTO modules (name, position, suspect_before, suspect_lost) VALUES ('gentoo', 0, 100, 90)";
        sqlx::raw_sql(rows).execute(&pool).await.unwrap();
        run(5, i64::MAX).await;
        let sql = "SELECT h.replica_id, h.size_bytes, h.added_ms, h.inventory, h.verified_ms, h.quarantined,
                     COALESCE(b.unreferenced_since_ms, 0), COALESCE(n.name, '')
                   FROM holders h LEFT JOIN blobs b ON b.blake2b = h.blake2b
                     LEFT JOIN names n ON n.blake2b = h.blake2b ORDER BY h.replica_id";
        let held: Vec<Held> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        let row = |id: &str, size, verified, quarantined, since, name: &str| {
            (id.to_owned(), size, 3, 4, verified, quarantined, since, name.to_owned())
        };
        assert_eq!(held, [row("r1", 7, 5, 1, 9, "a"), row("r2", 0, 0, 0, 0, "")]);
        let mut tx = Pool::new(pool, dir.path()).begin().await.unwrap();
        let doubted = height::doubted(&mut tx, "gentoo").await.unwrap();
        let loss = Loss { pace: Pace::AtOnce, since: UnixMs::new(0), before: 100, lost: 90 };
        assert_eq!(doubted, Some(loss), "it is as little believed as before");
    }
}
