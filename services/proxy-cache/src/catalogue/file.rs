//! The file itself: opened, checked, set aside when it is damaged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, SqliteConnection};
use tracing::{info, warn};

use super::CatalogueError;

/// Of `schema.sql`, kept in the file as `user_version`.
const SCHEMA_VERSION: i64 = 1;
/// A PRAGMA takes no bound values.
const SET_SCHEMA_VERSION: &str = "PRAGMA user_version = 1";
/// Requests that look a name up at the same time; each costs a thread.
const READERS_MAX: u32 = 4;
/// What the write-ahead log may keep on disk after a large import.
const WAL_KEPT_BYTES: &str = "16777216";

/// One writer and some readers on the same file.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    pub(super) reader: SqlitePool,
    pub(super) writer: SqlitePool,
}

impl Pools {
    pub(super) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Opens the file at `path`; one that is damaged or of another schema is set aside first.
pub(super) async fn open(path: &Path) -> Result<Pools, CatalogueError> {
    if let Some(directory) = path.parent() {
        tokio::fs::create_dir_all(directory)
            .await
            .map_err(|source| CatalogueError::File { path: directory.to_owned(), source })?;
    }
    match prepare(path).await {
        Ok(()) => {}
        Err(error) if error.is_damage() => {
            warn!(path = %path.display(), %error, "the local catalogue is set aside and filled again");
            set_aside(path).await?;
            prepare(path).await?;
        }
        Err(error) => return Err(error),
    }
    let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options(path)).await?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .test_before_acquire(false)
        .connect_with(options(path).pragma("query_only", "1"))
        .await?;
    Ok(Pools { reader, writer })
}

/// Renames the file to `PATH.broken`, over an earlier one, and forgets its write-ahead log.
pub(super) async fn set_aside(path: &Path) -> Result<(), CatalogueError> {
    let broken = with_suffix(path, ".broken");
    tokio::fs::rename(path, &broken)
        .await
        .map_err(|source| CatalogueError::File { path: path.to_owned(), source })?;
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        match tokio::fs::remove_file(&beside).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(CatalogueError::File { path: beside, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `synchronous = NORMAL`: after a power cut the last import may be missing, never half there.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
}

/// Makes the schema in a new file; checks an old one.
async fn prepare(path: &Path) -> Result<(), CatalogueError> {
    let mut connection = SqliteConnection::connect_with(&options(path)).await?;
    let checked = check(&mut connection).await;
    connection.close().await?;
    if checked? {
        info!(path = %path.display(), "made an empty local catalogue");
    }
    Ok(())
}

/// Whether the file was new.
async fn check(connection: &mut SqliteConnection) -> Result<bool, CatalogueError> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let objects: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if version == 0 && objects == 0 {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *transaction).await?;
        sqlx::query(SET_SCHEMA_VERSION).execute(&mut *transaction).await?;
        transaction.commit().await?;
        return Ok(true);
    }
    if version != SCHEMA_VERSION {
        return Err(CatalogueError::Damaged(format!("schema {version}, expected {SCHEMA_VERSION}")));
    }
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await?;
    if verdict != "ok" {
        return Err(CatalogueError::Damaged(verdict));
    }
    Ok(false)
}
