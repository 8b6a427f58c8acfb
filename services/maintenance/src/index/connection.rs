//! Connections to the index whose errors say which file they are about.
//!
//! SQLite's own don't, and whoever reads one, in a log, a status or a refused call, has to find the file. Everything that
//! asks the index anything goes through [`Pool`] or [`Connection`].

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::sqlite::{SqlitePool, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo};
use sqlx::{Either, Execute, Executor, SqlStr, Sqlite, Transaction};

use super::{IndexError, dialect};

/// An error on its way through the library, which knows only its own.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(super) struct At {
    pub(super) path: Arc<Path>,
    pub(super) source: sqlx::Error,
}

fn at(path: &Arc<Path>) -> impl Fn(sqlx::Error) -> sqlx::Error + Send + 'static {
    let path = Arc::clone(path);
    move |source| sqlx::Error::AnyDriverError(Box::new(At { path: Arc::clone(&path), source }))
}

/// Several connections to the file at `path`.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pool: SqlitePool,
    path: Arc<Path>,
}

impl Pool {
    pub(super) fn new(pool: SqlitePool, path: &Path) -> Self {
        Self { pool, path: path.into() }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Several queries that see one state.
    pub(super) async fn begin(&self) -> Result<Tx, IndexError> {
        self.transaction(self.pool.begin().await)
    }

    /// As [`dialect::BEGIN_WRITE`] says.
    pub(super) async fn begin_write(&self) -> Result<Tx, IndexError> {
        self.transaction(self.pool.begin_with(dialect::BEGIN_WRITE).await)
    }

    fn transaction(
        &self,
        begun: Result<Transaction<'static, Sqlite>, sqlx::Error>,
    ) -> Result<Tx, IndexError> {
        let transaction = begun.map_err(|source| IndexError::running(&self.path, source))?;
        Ok(Tx(Connection { transaction, path: Arc::clone(&self.path) }))
    }
}

/// What is undone unless it is committed.
#[derive(Debug)]
pub(super) struct Tx(Connection);

impl Tx {
    pub(super) async fn commit(self) -> Result<(), IndexError> {
        let Connection { transaction, path } = self.0;
        transaction.commit().await.map_err(|source| IndexError::running(&path, source))
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// The connection of a transaction.
#[derive(Debug)]
pub(super) struct Connection {
    transaction: Transaction<'static, Sqlite>,
    path: Arc<Path>,
}

/// The two differ only in what the library is given.
macro_rules! executor {
    ($for:ty, $self:ident => $inner:expr) => {
        impl<'c> Executor<'c> for $for {
            type Database = Sqlite;

            fn fetch_many<'e, 'q: 'e, E>(
                $self,
                query: E,
            ) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>>
            where
                'c: 'e,
                E: 'q + Execute<'q, Sqlite>,
            {
                let at = at(&$self.path);
                $inner.fetch_many(query).map_err(at).boxed()
            }

            fn fetch_optional<'e, 'q: 'e, E>($self, query: E) -> BoxFuture<'e, sqlx::Result<Option<SqliteRow>>>
            where
                'c: 'e,
                E: 'q + Execute<'q, Sqlite>,
            {
                let at = at(&$self.path);
                $inner.fetch_optional(query).map_err(at).boxed()
            }

            fn prepare_with<'e>(
                $self,
                sql: SqlStr,
                parameters: &'e [SqliteTypeInfo],
            ) -> BoxFuture<'e, sqlx::Result<SqliteStatement>>
            where
                'c: 'e,
            {
                let at = at(&$self.path);
                $inner.prepare_with(sql, parameters).map_err(at).boxed()
            }

            fn describe<'e>($self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<sqlx::Describe<Sqlite>>>
            where
                'c: 'e,
            {
                let at = at(&$self.path);
                $inner.describe(sql).map_err(at).boxed()
            }
        }
    };
}

executor!(&'c Pool, self => (&self.pool));
executor!(&'c mut Connection, self => (&mut *self.transaction));
