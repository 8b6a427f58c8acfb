//! What the operator's screen shows.

use cache_policy::UnixMs;

use super::{Index, IndexError, counter, from_sql};

/// Sums since the index was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) bytes_served: u64,
    pub(crate) bytes_fetched: u64,
}

/// A lease that is held now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) name: String,
    pub(crate) replica_id: String,
    pub(crate) fence: u64,
    pub(crate) bytes_so_far: u64,
    pub(crate) size_bytes: u64,
}

/// A replica with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaRow {
    pub(crate) replica_id: String,
    pub(crate) advertise: String,
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) blobs: u64,
    pub(crate) last_seen_ms: i64,
}

impl Index {
    /// The totals for the savings.
    pub(crate) async fn totals(&self) -> Result<Totals, IndexError> {
        let mut tx = self.read().await?;
        Ok(Totals {
            requests: from_sql(counter::get(&mut tx, counter::REQUESTS).await?),
            hits: from_sql(counter::get(&mut tx, counter::HITS).await?),
            bytes_served: from_sql(counter::get(&mut tx, counter::BYTES_SERVED).await?),
            bytes_fetched: from_sql(counter::get(&mut tx, counter::BYTES_FETCHED).await?),
        })
    }

    /// The leases that are held at `now`.
    pub(crate) async fn held_leases(&self, now: UnixMs) -> Result<Vec<LeaseRow>, IndexError> {
        let sql = "SELECT name, replica_id, fence, bytes_so_far, size_bytes FROM leases
                   WHERE phase = 'held' AND expires_ms > $1 ORDER BY name LIMIT 1000";
        let rows: Vec<(String, String, i64, i64, i64)> =
            sqlx::query_as(sql).bind(now.get()).fetch_all(&self.reader).await?;
        let row = |(name, replica_id, fence, bytes, size)| LeaseRow {
            name,
            replica_id,
            fence: from_sql(fence),
            bytes_so_far: from_sql(bytes),
            size_bytes: from_sql(size),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Every replica that ever registered.
    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRow>, IndexError> {
        let sql = "SELECT r.replica_id, r.advertise, r.capacity_bytes,
                     COALESCE(SUM(h.size_bytes), 0), r.last_seen_ms, COUNT(h.size_bytes)
                   FROM replicas r LEFT JOIN holders h ON h.replica_id = r.replica_id
                   GROUP BY r.replica_id ORDER BY r.replica_id";
        let rows: Vec<(String, String, i64, i64, i64, i64)> =
            sqlx::query_as(sql).fetch_all(&self.reader).await?;
        let row = |(replica_id, advertise, capacity, used, last_seen_ms, blobs)| ReplicaRow {
            replica_id,
            advertise,
            capacity_bytes: from_sql(capacity),
            used_bytes: from_sql(used),
            blobs: from_sql(blobs),
            last_seen_ms,
        };
        Ok(rows.into_iter().map(row).collect())
    }
}
