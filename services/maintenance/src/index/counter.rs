//! Numbers that only grow, and the two that are remembered of the clock.

use cache_policy::UnixMs;

use super::IndexError;
use super::connection::Connection;

pub(super) const FENCE: &str = "fence";
pub(super) const DECISION: &str = "decision";
pub(super) const REVISION: &str = "revision";
pub(super) const RUN: &str = "run";
pub(super) const CREATED_MS: &str = "created_ms";
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

/// At each start: fences and decision ids go on above everything ever given out, even by an index that
/// was lost (they start from the clock) or by transactions that were (they skip ahead).
pub(super) async fn skip_ahead(tx: &mut Connection, now: UnixMs) -> Result<(), IndexError> {
    for name in [FENCE, DECISION] {
        let last = get(tx, name).await?;
        raise(tx, name, last.saturating_add(LOST_MAX).max(now.get())).await?;
    }
    if get(tx, CREATED_MS).await? == 0 {
        raise(tx, CREATED_MS, now.get()).await?;
    }
    Ok(())
}
