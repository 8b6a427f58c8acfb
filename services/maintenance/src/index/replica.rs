//! Who the replicas are.

use cache_policy::UnixMs;

use super::connection::Connection;
use super::{Index, IndexError, from_sql, to_sql};

/// What a replica said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) advertise: String,
    pub(crate) capacity_bytes: u64,
    pub(crate) version: String,
}

impl Index {
    /// Remembers a replica, or what is new about it.
    pub(crate) async fn register(&self, replica: &Replica, now: UnixMs) -> Result<(), IndexError> {
        let sql = "INSERT INTO replicas
                     (replica_id, advertise, capacity_bytes, version, last_seen_ms)
                   VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (replica_id) DO UPDATE SET
                     advertise = excluded.advertise, capacity_bytes = excluded.capacity_bytes,
                     version = excluded.version, last_seen_ms = excluded.last_seen_ms";
        sqlx::query(sql)
            .bind(&replica.id)
            .bind(&replica.advertise)
            .bind(to_sql(replica.capacity_bytes))
            .bind(&replica.version)
            .bind(now.get())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Whether the replica is registered.
    pub(crate) async fn knows_replica(&self, replica_id: &str) -> Result<bool, IndexError> {
        let sql = "SELECT COUNT(*) FROM replicas WHERE replica_id = $1";
        let count: i64 = sqlx::query_scalar(sql).bind(replica_id).fetch_one(&self.reader).await?;
        Ok(count > 0)
    }
}

/// A replica's size, as (used, capacity) octets. Used is what the blobs that it is known to hold take.
pub(super) async fn usage(conn: &mut Connection, replica_id: &str) -> Result<(u64, u64), IndexError> {
    let sql = "SELECT COALESCE((SELECT SUM(h.size_bytes) FROM holders h
                                WHERE h.replica_id = r.replica_id), 0), r.capacity_bytes
               FROM replicas r WHERE r.replica_id = $1";
    let row: Option<(i64, i64)> = sqlx::query_as(sql).bind(replica_id).fetch_optional(conn).await?;
    let (used, capacity) = row.unwrap_or((0, 0));
    Ok((from_sql(used), from_sql(capacity)))
}

pub(super) async fn set_capacity(
    tx: &mut Connection,
    replica_id: &str,
    capacity_bytes: u64,
    now: UnixMs,
) -> Result<(), IndexError> {
    let sql = "UPDATE replicas SET capacity_bytes = $2, last_seen_ms = $3 WHERE replica_id = $1";
    let query = sqlx::query(sql).bind(replica_id).bind(to_sql(capacity_bytes));
    query.bind(now.get()).execute(tx).await?;
    Ok(())
}
