//! Which stored times are put back, and that no other one is changed.

use std::collections::BTreeSet;

use cache_policy::ahead::Stored;
use proptest::prelude::*;

use super::*;

const NOW: UnixMs = UnixMs::new(1_700_000_000_000);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Every other column that holds a time or a day, and why it stays as it is.
const LEFT: [(&str, &str, &str); 17] = [
    ("accesses", "last_ms", "history: kept for longer"),
    ("catalogue_heights", "day", "counts as today's when it is read, by the policy"),
    ("days", "day", "is not shown before it comes, and added to then"),
    ("decisions", "unless_accessed_after_ms", "goes with its decision"),
    ("fetches", "at_ms", "history: kept for longer"),
    ("generations", "imported_ms", "nothing is made of it"),
    ("holders", "verified_ms", "counts as not known, by the policy, and is read again"),
    ("leases", "expires_ms", "goes with granted_ms: at most a day later"),
    ("modules", "imported_ms", "nothing is made of it"),
    ("modules", "published_ms", "sync-server's, and what a generation is known by"),
    ("modules", "suspect_since_ms", "for people"),
    ("pins", "pinned_ms", "for people"),
    ("reports", "received_ms", "history: kept for longer"),
    ("counters", "value", "numbers that only grow, but for created_ms: what the first night is counted from"),
    ("source_tries", "span", "removed instead"),
    ("_sqlx_migrations", "execution_time", "a duration"),
    ("_sqlx_migrations", "installed_on", "the library's own"),
];

async fn index(dir: &tempfile::TempDir) -> Index {
    Index::open(&dir.path().join("index.db"), NOW).await.unwrap()
}

#[tokio::test]
async fn of_each_stored_time_it_is_known_what_one_that_is_ahead_does() {
    let dir = tempfile::tempdir().unwrap();
    let is_time = |column: &str| {
        ["_ms", "day", "span", "value", "installed_on", "execution_time"]
            .iter()
            .any(|end| column.ends_with(end))
    };
    let sql =
        "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'";
    let columns: Vec<(String, String)> =
        sqlx::query_as(sql).fetch_all(&index(&dir).await.reader).await.unwrap();
    let found: BTreeSet<_> = columns.into_iter().filter(|(_, column)| is_time(column)).collect();
    let known = RULES.iter().map(|rule| (rule.table, rule.column));
    let known = known.chain(LEFT.iter().map(|(table, column, _)| (*table, *column)));
    let known: BTreeSet<_> = known.map(|(table, column)| (table.to_owned(), column.to_owned())).collect();
    assert_eq!(found, known);
}

/// A row of each table with all its times at `at`; `number` tells rows apart.
async fn fill(index: &Index, number: u8, at: i64) {
    for insert in [
        "decisions (sequence, id, replica_id, action, blake2b, reason, unless_accessed_after_ms, created_ms)
         SELECT n, n, 'r', 'evict', k, '', t, t",
        "decisions (sequence, id, replica_id, action, blake2b, reason, unless_accessed_after_ms, created_ms)
         SELECT n + 1000, n + 1000, 'r', 'verify', k, '', 0, t",
        "decisions (sequence, id, replica_id, action, blake2b, reason, unless_accessed_after_ms, created_ms,
                    outcome, closed_ms)
         SELECT n + 2000, n + 2000, 'r', 'evict', k, '', t, t, 'busy', t",
        "holders (replica_id, blake2b, size_bytes, added_ms, inventory) SELECT 'r', k, 1, t, 1",
        "blobs (blake2b, size_bytes, last_access_ms, unreferenced_since_ms) SELECT k, 1, t, t",
        "leases SELECT n, 'BLAKE2B', k, 1, n, n, 'r', 'held', 0, t, t + 30000",
        "replicas (replica_id, advertise, capacity_bytes, version, last_seen_ms) SELECT n, '', 1, '', t",
        "sources SELECT 'r', n, t, 3, t, t, ''",
        "source_tries SELECT 'r', n, t / 300000, 3, 3",
        "runs (id, kind, started_ms, finished_ms) SELECT n, 'nightly', t, t",
    ] {
        let sql = format!("INSERT INTO {insert} FROM (SELECT $1 AS n, $2 AS t, $3 AS k)");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(number)).bind(at);
        query.bind(vec![number; 64]).execute(&index.writer).await.unwrap();
    }
}

/// Every time that a rule is about, in the tables' order of rows.
async fn times(index: &Index) -> Vec<(&'static str, &'static str, Vec<i64>)> {
    let mut times = Vec::new();
    for Rule { table, key, column, .. } in &RULES {
        let sql = format!("SELECT {column} FROM {table} ORDER BY {key}");
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&index.reader).await.unwrap();
        times.push((*table, *column, rows));
    }
    times
}

async fn open_evictions(index: &Index) -> Vec<i64> {
    let sql = "SELECT sequence FROM decisions WHERE outcome IS NULL AND action = 'evict' ORDER BY sequence";
    sqlx::query_scalar(sql).fetch_all(&index.reader).await.unwrap()
}

async fn check(ats: &[i64]) {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    for (number, at) in (1_u8..).zip(ats) {
        fill(&index, number, *at).await;
    }
    let is_ahead = |at: i64| Stored::judge(UnixMs::new(at), NOW) == Stored::Ahead;
    let before = times(&index).await;
    let put_back = index.put_times_back(NOW).await.unwrap();
    for ((table, column, before), (_, _, after)) in before.into_iter().zip(times(&index).await) {
        for (before, after) in before.into_iter().zip(after) {
            let expected = if is_ahead(before) { NOW.get() } else { before };
            // Which of the open ones are closed is below.
            let is_open = column == "closed_ms" && before == 0;
            assert!(after == expected || is_open, "{table}.{column}: {before} became {after}");
        }
    }
    let stays: Vec<_> =
        (1_i64..).zip(ats).filter(|(_, at)| !is_ahead(**at)).map(|(number, _)| number).collect();
    assert_eq!(open_evictions(&index).await, stays);
    let count = |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&index.reader);
    let late = "SELECT COUNT(*) FROM leases WHERE expires_ms > granted_ms + 30000 OR expires_ms < granted_ms";
    assert_eq!(count(late).await.unwrap(), 0);
    assert_eq!(count("SELECT COUNT(*) FROM leases").await.unwrap(), i64::try_from(ats.len()).unwrap());
    assert_eq!(put_back.is_empty(), stays.len() == ats.len());
    assert_eq!(index.put_times_back(NOW).await.unwrap(), PutBack::new(), "once");
    let later = NOW.after_ms(1);
    assert_eq!(index.put_times_back(later).await.unwrap(), PutBack::new(), "what runs goes on running");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_ahead_is_put_back_once_and_nothing_else_is_touched(
        days in proptest::collection::vec(-40..40_i64, 1..8),
        hours in -2..3_i64,
    ) {
        let ats: Vec<_> =
            days.iter().map(|day| NOW.get() + day * DAY_MS + hours * 60 * 60 * 1000 + 1).collect();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(&ats));
    }
}

/// More rows than one transaction takes.
#[tokio::test]
async fn a_large_index_is_put_back_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let index = index(&dir).await;
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4500)
                INSERT INTO blobs (blake2b, size_bytes, last_access_ms)
                  SELECT CAST(printf('%064d', i) AS BLOB), 1, $1 FROM n";
    sqlx::query(rows).bind(NOW.get() + 365 * DAY_MS).execute(&index.writer).await.unwrap();
    assert_eq!(index.put_times_back(NOW).await.unwrap(), PutBack::from([("blobs", 4500)]));
    assert_eq!(index.put_times_back(NOW).await.unwrap(), PutBack::new());
}
