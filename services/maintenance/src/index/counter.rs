//! Numbers that only grow, the two that are remembered of the clock, and the one that tells this index from all others.

use cache_policy::UnixMs;

use super::IndexError;
use super::connection::Connection;

pub(super) const FENCE: &str = "fence";
pub(super) const DECISION: &str = "decision";
pub(super) const REVISION: &str = "revision";
pub(super) const RUN: &str = "run";
pub(super) const CREATED_MS: &str = "created_ms";
/// Random, and never 0.
const IDENTITY: &str = "identity";
/// The last time that was believed, and what processes ran since.
pub(super) const CLOCK_BELIEVED_MS: &str = "clock_believed_ms";
/// For how long what came after it was doubted.
pub(super) const CLOCK_DOUBTED_MS: &str = "clock_doubted_ms";
pub(super) const REQUESTS: &str = "requests";
pub(super) const HITS: &str = "hits";
pub(super) const BYTES_SERVED: &str = "bytes_served";
pub(super) const BYTES_FETCHED: &str = "bytes_fetched";

/// More than could be given out and lost between the last sync and a crash of the host.
const LOST_MAX: i64 = 1_000_000;

/// Adds `step` and answers the sum.
pub(super) async fn add(tx: &mut Connection, name: &str, step: i64) -> Result<i64, IndexError> {
    let sql = "INSERT INTO counters (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value";
    Ok(sqlx::query_scalar(sql).bind(name).bind(step).fetch_one(tx).await?)
}

/// The number, 0 if it was never set.
pub(super) async fn get(conn: &mut Connection, name: &str) -> Result<i64, IndexError> {
    let sql = "SELECT value FROM counters WHERE name = $1";
    let value: Option<i64> = sqlx::query_scalar(sql).bind(name).fetch_optional(conn).await?;
    Ok(value.unwrap_or(0))
}

/// Sets the number to at least `value`.
pub(super) async fn raise(tx: &mut Connection, name: &str, value: i64) -> Result<(), IndexError> {
    let sql = "INSERT INTO counters (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value
                 WHERE counters.value < excluded.value";
    sqlx::query(sql).bind(name).bind(value).execute(tx).await?;
    Ok(())
}

/// Sets the number, whatever it was.
pub(super) async fn set(tx: &mut Connection, name: &str, value: i64) -> Result<(), IndexError> {
    let sql = "INSERT INTO counters (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(sql).bind(name).bind(value).execute(tx).await?;
    Ok(())
}

/// What tells this index from all others; [`begin`] made it.
pub(super) async fn identity(conn: &mut Connection) -> Result<u64, IndexError> {
    Ok(get(conn, IDENTITY).await?.cast_unsigned())
}

/// At each start: fences and numbers of decisions go on above everything ever given out, even by transactions that were
/// lost (they skip ahead), by the file of which this one is an old copy, or by an index that is gone (they start from the
/// clock). A clock that went back spoils the last two; fences have nothing else, ids of decisions have the identity.
pub(super) async fn begin(tx: &mut Connection, now: UnixMs) -> Result<(), IndexError> {
    for name in [FENCE, DECISION] {
        let last = get(tx, name).await?;
        raise(tx, name, last.saturating_add(LOST_MAX).max(now.get())).await?;
    }
    if get(tx, CREATED_MS).await? == 0 {
        raise(tx, CREATED_MS, now.get()).await?;
    }
    // An index of a release that gave none gets one, too.
    if get(tx, IDENTITY).await? == 0 {
        set(tx, IDENTITY, rand::random::<std::num::NonZeroI64>().get()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Index;
    use super::*;

    const NOW: UnixMs = UnixMs::new(1_700_000_000_000);

    async fn identity_at(path: &Path, forget: bool) -> u64 {
        let index = Index::open(path, NOW).await.unwrap();
        let mut tx = index.write().await.unwrap();
        let found = identity(&mut tx).await.unwrap();
        if forget {
            sqlx::query("DELETE FROM counters WHERE name = 'identity'").execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        index.close().await;
        found
    }

    #[tokio::test]
    async fn an_index_keeps_its_identity_and_no_other_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let first = identity_at(&path, false).await;
        assert_ne!(first, 0);
        assert_eq!(identity_at(&path, true).await, first);
        let second = identity_at(&path, false).await;
        assert!(second != 0 && second != first, "an index of a release that gave none gets one");
        assert_ne!(identity_at(&dir.path().join("new.db"), false).await, second);
    }
}
