//! Savings by day.

use cache_policy::UnixMs;

use super::connection::Connection;
use super::status::Totals;
use super::{Index, IndexError, from_sql, to_sql};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The day's number, counted from 1 January 1970, UTC.
fn number(at: UnixMs) -> i64 {
    at.get().div_euclid(DAY_MS)
}

/// Adds to the day of `now`.
pub(super) async fn add(tx: &mut Connection, now: UnixMs, more: Totals) -> Result<(), IndexError> {
    let sql = "INSERT INTO days (day, requests, hits, bytes_served, bytes_fetched)
               VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (day) DO UPDATE SET
                 requests = days.requests + excluded.requests, hits = days.hits + excluded.hits,
                 bytes_served = days.bytes_served + excluded.bytes_served,
                 bytes_fetched = days.bytes_fetched + excluded.bytes_fetched";
    let query = sqlx::query(sql).bind(number(now)).bind(to_sql(more.requests)).bind(to_sql(more.hits));
    query.bind(to_sql(more.bytes_served)).bind(to_sql(more.bytes_fetched)).execute(tx).await?;
    Ok(())
}

impl Index {
    /// The sums of the last `days` days, the one of `now` included.
    pub(crate) async fn totals_of(&self, now: UnixMs, days: i64) -> Result<Totals, IndexError> {
        let sql = "SELECT COALESCE(SUM(requests), 0), COALESCE(SUM(hits), 0),
                     COALESCE(SUM(bytes_served), 0), COALESCE(SUM(bytes_fetched), 0)
                   FROM days WHERE day > $1 AND day <= $2";
        let query = sqlx::query_as(sql).bind(number(now) - days).bind(number(now));
        let (requests, hits, served, fetched): (i64, i64, i64, i64) = query.fetch_one(&self.reader).await?;
        Ok(Totals {
            requests: from_sql(requests),
            hits: from_sql(hits),
            bytes_served: from_sql(served),
            bytes_fetched: from_sql(fetched),
        })
    }
}
