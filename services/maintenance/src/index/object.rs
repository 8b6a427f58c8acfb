//! What the farm has, as the operator asks for it.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite};

use super::connection::Connection;
use super::decision::blob_key;
use super::{Index, IndexError, ROWS_PER_INSERT, dialect, from_sql};
use cache_policy::eviction::BlobKey;

/// What is listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct ObjectQuery {
    /// Part of a name; empty: any.
    pub(crate) name: String,
    /// Empty: any.
    pub(crate) replica_id: String,
    pub(crate) state: Option<ObjectState>,
    pub(crate) order: ObjectOrder,
    pub(crate) descending: bool,
    pub(crate) limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectState {
    Referenced,
    Unreferenced,
    Pinned,
    Quarantined,
}

impl ObjectState {
    const ALL: [(&'static str, Self); 4] = [
        ("referenced", Self::Referenced),
        ("unreferenced", Self::Unreferenced),
        ("pinned", Self::Pinned),
        ("quarantined", Self::Quarantined),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, state)| state)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ObjectOrder {
    #[default]
    Name,
    Size,
    LastAccess,
    Requests,
}

/// One blob with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectRow {
    pub(crate) blob: BlobKey,
    pub(crate) size_bytes: u64,
    pub(crate) names: Vec<String>,
    pub(crate) replicas: Vec<String>,
    pub(crate) state: &'static str,
    pub(crate) pinned: bool,
    pub(crate) last_access_ms: i64,
    pub(crate) requests: u64,
    pub(crate) boxes: u64,
    pub(crate) verified_ms: i64,
}

/// A page of them, and how many there are in all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    pub(crate) rows: Vec<ObjectRow>,
    pub(crate) matching: u64,
    pub(crate) matching_bytes: u64,
}

const PINNED: &str = "b.blake2b IN (SELECT n.blake2b FROM pins p JOIN names n ON n.name = p.name)";

impl Index {
    pub(crate) async fn objects(&self, query: &ObjectQuery) -> Result<Objects, IndexError> {
        let mut tx = self.read().await?;
        let mut sql =
            QueryBuilder::<Sqlite>::new("SELECT COUNT(*), COALESCE(SUM(b.size_bytes), 0) FROM blobs b ");
        filter(&mut sql, query);
        let (matching, bytes): (i64, i64) = sql.build_query_as().fetch_one(&mut *tx).await?;
        let mut sql = QueryBuilder::<Sqlite>::new(
            "SELECT b.blake2b, b.size_bytes, b.last_access_ms,
               CASE WHEN b.unreferenced_since_ms IS NULL THEN 0 ELSE 1 END FROM blobs b ",
        );
        filter(&mut sql, query);
        let direction = if query.descending { " DESC" } else { "" };
        sql.push(match query.order {
            ObjectOrder::Name => {
                " ORDER BY (SELECT MIN(n.name) FROM names n WHERE n.blake2b = b.blake2b)"
            }
            ObjectOrder::Size => " ORDER BY b.size_bytes",
            ObjectOrder::LastAccess => " ORDER BY b.last_access_ms",
            ObjectOrder::Requests => {
                " ORDER BY (SELECT COALESCE(SUM(a.requests), 0) FROM names n JOIN accesses a ON a.name = n.name
                            WHERE n.blake2b = b.blake2b)"
            }
        });
        sql.push(direction).push(", b.blake2b LIMIT ").push_bind(i64::from(query.limit));
        let rows: Vec<(Vec<u8>, i64, i64, i64)> = sql.build_query_as().fetch_all(&mut *tx).await?;
        let keys: Vec<Vec<u8>> = rows.iter().map(|row| row.0.clone()).collect();
        let mut details = details(&mut tx, &keys).await?;
        let rows = rows
            .into_iter()
            .map(|(key, size, last_access_ms, unreferenced)| {
                let Details { mut names, replicas, quarantined, verified_ms, pinned, requests, boxes } =
                    details.remove(&key).unwrap_or_default();
                names.dedup();
                Ok(ObjectRow {
                    blob: blob_key(&key)?,
                    size_bytes: from_sql(size),
                    names,
                    replicas,
                    state: if quarantined {
                        "quarantined"
                    } else if unreferenced == 1 {
                        "unreferenced"
                    } else {
                        "referenced"
                    },
                    pinned,
                    last_access_ms,
                    requests: from_sql(requests),
                    boxes: from_sql(boxes),
                    verified_ms,
                })
            })
            .collect::<Result<_, IndexError>>()?;
        Ok(Objects { rows, matching: from_sql(matching), matching_bytes: from_sql(bytes) })
    }
}

fn filter(sql: &mut QueryBuilder<Sqlite>, query: &ObjectQuery) {
    sql.push("WHERE EXISTS (SELECT 1 FROM holders h WHERE h.blake2b = b.blake2b");
    if !query.replica_id.is_empty() {
        sql.push(" AND h.replica_id = ").push_bind(query.replica_id.clone());
    }
    sql.push(match query.state {
        Some(ObjectState::Quarantined) => " AND h.quarantined = 1)",
        Some(ObjectState::Referenced | ObjectState::Unreferenced) => " AND h.quarantined = 0)",
        Some(ObjectState::Pinned) | None => ")",
    });
    match query.state {
        Some(ObjectState::Referenced) => sql.push(" AND b.unreferenced_since_ms IS NULL"),
        Some(ObjectState::Unreferenced) => sql.push(" AND b.unreferenced_since_ms IS NOT NULL"),
        Some(ObjectState::Pinned) => sql.push(" AND ").push(PINNED),
        Some(ObjectState::Quarantined) | None => sql,
    };
    if !query.name.is_empty() {
        let (before, after) = dialect::contains("n.name");
        // One look at all names, and not one at the names of each blob.
        sql.push(" AND b.blake2b IN (SELECT n.blake2b FROM names n WHERE ");
        sql.push(before).push_bind(query.name.clone()).push(after).push(")");
    }
}

#[derive(Default)]
struct Details {
    names: Vec<String>,
    replicas: Vec<String>,
    quarantined: bool,
    verified_ms: i64,
    pinned: bool,
    requests: i64,
    boxes: i64,
}

/// Names, holders and accesses of one page.
async fn details(conn: &mut Connection, keys: &[Vec<u8>]) -> Result<HashMap<Vec<u8>, Details>, IndexError> {
    let mut details: HashMap<Vec<u8>, Details> = HashMap::new();
    for part in keys.chunks(ROWS_PER_INSERT) {
        let list = |before: &str, after: &str| {
            let mut sql = QueryBuilder::<Sqlite>::new(before);
            let mut values = sql.separated(", ");
            for key in part {
                values.push_bind(key.clone());
            }
            sql.push(after);
            sql
        };
        let mut sql = list(
            "SELECT h.blake2b, h.replica_id, h.quarantined, h.verified_ms FROM holders h WHERE h.blake2b IN (",
            ") ORDER BY h.replica_id",
        );
        let rows: Vec<(Vec<u8>, String, i64, i64)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (key, replica_id, quarantined, verified_ms) in rows {
            let of = details.entry(key).or_default();
            of.replicas.push(replica_id);
            of.quarantined |= quarantined == 1;
            of.verified_ms = of.verified_ms.max(verified_ms);
        }
        let mut sql = list(
            "SELECT n.blake2b, n.name, CASE WHEN p.name IS NULL THEN 0 ELSE 1 END
             FROM names n LEFT JOIN pins p ON p.name = n.name WHERE n.blake2b IN (",
            ") ORDER BY n.name",
        );
        let rows: Vec<(Vec<u8>, String, i64)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (key, name, pinned) in rows {
            let of = details.entry(key).or_default();
            of.names.push(name);
            of.pinned |= pinned == 1;
        }
        let mut sql = list(
            "SELECT u.blake2b, SUM(a.requests), COUNT(DISTINCT a.client)
             FROM (SELECT DISTINCT n.blake2b AS blake2b, n.name AS name FROM names n WHERE n.blake2b IN (",
            ")) u JOIN accesses a ON a.name = u.name GROUP BY u.blake2b",
        );
        let rows: Vec<(Vec<u8>, i64, i64)> = sql.build_query_as().fetch_all(&mut *conn).await?;
        for (key, requests, boxes) in rows {
            let of = details.entry(key).or_default();
            (of.requests, of.boxes) = (requests, boxes);
        }
    }
    Ok(details)
}
