//! How mirrors and other upstreams do, as the replicas report it.

use std::collections::BTreeMap;

use cache_policy::UnixMs;
use cache_policy::source::Record;

use super::connection::Connection;
use super::{Index, IndexError, from_sql, to_sql};

/// Five minutes.
const SPAN_MS: i64 = 5 * 60 * 1000;
/// The spans of an hour.
const SPANS: i64 = 12;
/// Places remembered of one replica: it can't fill the index with names that it made up.
const ORIGINS_MAX: i64 = 1000;
/// Who was not asked for so long is forgotten.
const FORGET_MS: u64 = 24 * 60 * 60 * 1000;

/// What a replica saw of one place since its last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceReport {
    pub(crate) origin: String,
    pub(crate) tries: u64,
    pub(crate) failures: u64,
    /// 0 for none.
    pub(crate) last_ok_ms: i64,
    /// 0 if the last request succeeded.
    pub(crate) failing_since_ms: i64,
    pub(crate) row: u64,
    pub(crate) last_failed_ms: i64,
    pub(crate) fault: String,
}

/// What one replica knows of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceRow {
    pub(crate) origin: String,
    pub(crate) replica_id: String,
    pub(crate) record: Record,
    /// What was wrong the last time.
    pub(crate) fault: String,
}

impl Index {
    /// The places that failed within the last day, and for how many requests.
    pub(crate) async fn failing_sources(&self, now: UnixMs) -> Result<Vec<SourceRow>, IndexError> {
        let mut tx = self.read().await?;
        let first = span(now) - SPANS + 1;
        let sql = "SELECT replica_id, origin, SUM(tries), SUM(failures) FROM source_tries
                   WHERE span >= $1 GROUP BY replica_id, origin";
        let rows: Vec<(String, String, i64, i64)> =
            sqlx::query_as(sql).bind(first).fetch_all(&mut *tx).await?;
        let counts: BTreeMap<_, _> = rows
            .into_iter()
            .map(|(replica, origin, tries, failures)| ((replica, origin), (tries, failures)))
            .collect();
        let sql = "SELECT replica_id, origin, failing_since_ms, failures_in_row, last_failed_ms, fault
                   FROM sources WHERE last_failed_ms > $1 ORDER BY origin, replica_id";
        let rows: Vec<(String, String, i64, i64, i64, String)> =
            sqlx::query_as(sql).bind(now.before_ms(FORGET_MS).get()).fetch_all(&mut *tx).await?;
        let row = |(replica_id, origin, since, row, last_failed, fault)| {
            let key = (replica_id, origin);
            let (tries, failures) = counts.get(&key).copied().unwrap_or((0, 0));
            SourceRow {
                record: Record {
                    failing_since: (since > 0).then_some(UnixMs::new(since)),
                    row: from_sql(row),
                    last_failed: UnixMs::new(last_failed),
                    tries: from_sql(tries),
                    failures: from_sql(failures),
                },
                replica_id: key.0,
                origin: key.1,
                fault,
            }
        };
        Ok(rows.into_iter().map(row).collect())
    }
}

/// Part of the transaction that counts a report once.
pub(super) async fn note(
    tx: &mut Connection,
    replica_id: &str,
    reports: &[SourceReport],
    now: UnixMs,
) -> Result<(), IndexError> {
    if reports.is_empty() {
        return Ok(());
    }
    for (sql, before) in [
        ("DELETE FROM source_tries WHERE span < $1", span(now) - SPANS + 1),
        ("DELETE FROM sources WHERE last_failed_ms < $1 AND last_ok_ms < $1", now.before_ms(FORGET_MS).get()),
    ] {
        sqlx::query(sql).bind(before).execute(&mut *tx).await?;
    }
    let sql = "SELECT COUNT(*) FROM sources WHERE replica_id = $1";
    let mut known: i64 = sqlx::query_scalar(sql).bind(replica_id).fetch_one(&mut *tx).await?;
    for report in reports {
        if known >= ORIGINS_MAX && !knows(tx, replica_id, &report.origin).await? {
            continue;
        }
        known += 1;
        store(tx, replica_id, report, now).await?;
    }
    Ok(())
}

/// Of a clock that was ahead: they would count as of the last hour for as long as that. Answers how many there were.
pub(super) async fn forget_tries_after(conn: &mut Connection, latest: UnixMs) -> Result<u64, IndexError> {
    let sql = "DELETE FROM source_tries WHERE span > $1";
    Ok(sqlx::query(sql).bind(span(latest)).execute(conn).await?.rows_affected())
}

async fn knows(tx: &mut Connection, replica_id: &str, origin: &str) -> Result<bool, IndexError> {
    let sql = "SELECT COUNT(*) FROM sources WHERE replica_id = $1 AND origin = $2";
    let count: i64 = sqlx::query_scalar(sql).bind(replica_id).bind(origin).fetch_one(tx).await?;
    Ok(count > 0)
}

async fn store(
    tx: &mut Connection,
    replica_id: &str,
    report: &SourceReport,
    now: UnixMs,
) -> Result<(), IndexError> {
    // A replica whose clock is ahead must not have a failure last for ever.
    let past = |at_ms: i64| at_ms.clamp(0, now.get());
    let (ok, since, failed) =
        (past(report.last_ok_ms), past(report.failing_since_ms), past(report.last_failed_ms));
    // A row goes on over reports until something succeeds.
    let sql = "INSERT INTO sources (replica_id, origin, failing_since_ms, failures_in_row, last_failed_ms,
                                    last_ok_ms, fault)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (replica_id, origin) DO UPDATE SET
                 failing_since_ms = CASE WHEN excluded.last_ok_ms > 0 OR sources.failing_since_ms = 0
                                         THEN excluded.failing_since_ms ELSE sources.failing_since_ms END,
                 failures_in_row = CASE WHEN excluded.last_ok_ms > 0 THEN excluded.failures_in_row
                                        ELSE sources.failures_in_row + excluded.failures_in_row END,
                 last_failed_ms = CASE WHEN sources.last_failed_ms < excluded.last_failed_ms
                                       THEN excluded.last_failed_ms ELSE sources.last_failed_ms END,
                 last_ok_ms = CASE WHEN sources.last_ok_ms < excluded.last_ok_ms
                                   THEN excluded.last_ok_ms ELSE sources.last_ok_ms END,
                 fault = CASE WHEN excluded.fault = '' THEN sources.fault ELSE excluded.fault END";
    let query = sqlx::query(sql).bind(replica_id).bind(&report.origin).bind(since);
    let query = query.bind(to_sql(report.row)).bind(failed).bind(ok).bind(&report.fault);
    query.execute(&mut *tx).await?;
    let sql =
        "INSERT INTO source_tries (replica_id, origin, span, tries, failures) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (replica_id, origin, span) DO UPDATE SET
                 tries = source_tries.tries + excluded.tries,
                 failures = source_tries.failures + excluded.failures";
    let query = sqlx::query(sql).bind(replica_id).bind(&report.origin).bind(span(now));
    query.bind(to_sql(report.tries)).bind(to_sql(report.failures)).execute(tx).await?;
    Ok(())
}

fn span(at: UnixMs) -> i64 {
    at.get().div_euclid(SPAN_MS)
}
