//! Times that a clock wrote that was ahead, put back to now: once, where they are stored.
//!
//! `cache_policy::ahead` says which those are, and when the clock of today is to be believed. What is shown to people
//! only, what is history and kept for a time, and what is judged right with a time in the future is left as it is:
//! the tests beside it have the list.

use std::collections::BTreeMap;

use cache_policy::UnixMs;
use cache_policy::ahead::latest_past;
use sqlx::AssertSqlSafe;

use super::{Index, IndexError, source};

/// Rows that one transaction puts back: no lease waits for 200,000 blobs.
const ROWS_PER_WRITE: i64 = 2000;

/// Rows of `table` whose `column` is ahead, and what becomes of them: `$1` is now.
struct Rule {
    table: &'static str,
    key: &'static str,
    column: &'static str,
    and: &'static str,
    set: &'static str,
}

impl Rule {
    /// Every row of the table.
    const fn of(table: &'static str, key: &'static str, column: &'static str, set: &'static str) -> Self {
        Self { table, key, column, and: "", set }
    }
}

const HOLDER: &str = "replica_id, blake2b";
const SOURCE: &str = "replica_id, origin";

const RULES: [Rule; 13] = [
    // What was planned for a time that has not come. The next plan finds what is still to go.
    Rule {
        table: "decisions",
        key: "sequence",
        column: "created_ms",
        and: "AND outcome IS NULL AND action = 'evict'",
        set: "outcome = 'withdrawn', detail = 'decided by a clock that was ahead', created_ms = $1, closed_ms = $1",
    },
    Rule::of("decisions", "sequence", "created_ms", "created_ms = $1"),
    Rule::of("decisions", "sequence", "closed_ms", "closed_ms = $1"),
    Rule::of("holders", HOLDER, "added_ms", "added_ms = $1"),
    Rule::of("blobs", "blake2b", "last_access_ms", "last_access_ms = $1"),
    Rule::of("blobs", "blake2b", "unreferenced_since_ms", "unreferenced_since_ms = $1"),
    // Whoever holds it still may renew it, as any that ran out.
    Rule::of("leases", "name, algorithm, digest", "granted_ms", "granted_ms = $1, expires_ms = $1"),
    Rule::of("replicas", "replica_id", "last_seen_ms", "last_seen_ms = $1"),
    Rule::of("sources", SOURCE, "failing_since_ms", "failing_since_ms = $1"),
    Rule::of("sources", SOURCE, "last_failed_ms", "last_failed_ms = $1"),
    Rule::of("sources", SOURCE, "last_ok_ms", "last_ok_ms = $1"),
    Rule::of("runs", "id", "started_ms", "started_ms = $1"),
    Rule::of("runs", "id", "finished_ms", "finished_ms = $1"),
];

/// How many times were put back, by table.
type PutBack = BTreeMap<&'static str, u64>;

impl Index {
    /// Puts back what is ahead of `now`, which has to be believed. Broken off, it is gone on with the next time.
    pub(crate) async fn put_times_back(&self, now: UnixMs) -> Result<PutBack, IndexError> {
        let latest = latest_past(now);
        let mut put_back = PutBack::new();
        for rule in &RULES {
            while self.has_ahead(rule, latest).await? {
                let Rule { table, key, column, and, set } = rule;
                let sql = format!(
                    "UPDATE {table} SET {set} WHERE ({key}) IN
                       (SELECT {key} FROM {table} WHERE {column} > $2 {and} LIMIT $3)"
                );
                let query = sqlx::query(AssertSqlSafe(sql)).bind(now.get()).bind(latest.get());
                let done = query.bind(ROWS_PER_WRITE).execute(&self.writer).await?;
                *put_back.entry(table).or_default() += done.rows_affected();
            }
        }
        let mut tx = self.write().await?;
        let removed = source::forget_tries_after(&mut tx, latest).await?;
        tx.commit().await?;
        if removed > 0 {
            put_back.insert("source_tries", removed);
        }
        Ok(put_back)
    }

    /// Mostly nothing is, and to find that out nobody has to wait.
    async fn has_ahead(&self, rule: &Rule, latest: UnixMs) -> Result<bool, IndexError> {
        let Rule { table, column, and, .. } = rule;
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} > $1 {and})");
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).bind(latest.get()).fetch_one(&self.reader).await?)
    }
}

#[cfg(test)]
mod tests;
