//! A replica that is gone for good is forgotten.

use cache_policy::UnixMs;

use super::connection::Connection;
use super::decision::WITHDRAWN;
use super::{Index, IndexError, from_sql, references};

/// What was known of a replica, and is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forgotten {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// Blobs that no other replica holds.
    pub(crate) only_here: u64,
    pub(crate) leases: u64,
    pub(crate) decisions: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forgetting {
    /// Done; with a dry run, what would be.
    Done(Forgotten),
    /// No such replica.
    Unknown,
    /// It has the right to fetch this, for so long.
    Fetches { name: String, left_ms: u64 },
}

/// All that is the replica's own. What was fetched and asked for is the farm's history, and stays.
const OF_REPLICA: [&str; 8] = [
    "DELETE FROM names WHERE replica_id = $1",
    "DELETE FROM holders WHERE replica_id = $1",
    "DELETE FROM leases WHERE replica_id = $1",
    "DELETE FROM sources WHERE replica_id = $1",
    "DELETE FROM source_tries WHERE replica_id = $1",
    "DELETE FROM contradictions WHERE replica_id = $1",
    "DELETE FROM reports WHERE replica_id = $1",
    "DELETE FROM replicas WHERE replica_id = $1",
];

impl Index {
    /// Forgets a replica, unless a lease of its own is still running. Whether it is connected, the caller
    /// knows.
    pub(crate) async fn forget_replica(
        &self,
        replica_id: &str,
        now: UnixMs,
        dry_run: bool,
    ) -> Result<Forgetting, IndexError> {
        // An inventory that is being taken over would bring it back by halves.
        let _alone = self.inventories.lock().await;
        let mut tx = self.write().await?;
        let known = "SELECT COUNT(*) FROM replicas WHERE replica_id = $1";
        if count(&mut tx, known, replica_id).await? == 0 {
            return Ok(Forgetting::Unknown);
        }
        let held = "SELECT name, expires_ms FROM leases
                    WHERE replica_id = $1 AND phase = 'held' AND expires_ms > $2 ORDER BY name LIMIT 1";
        let query = sqlx::query_as(held).bind(replica_id).bind(now.get());
        let held: Option<(String, i64)> = query.fetch_optional(&mut *tx).await?;
        if let Some((name, expires_ms)) = held {
            return Ok(Forgetting::Fetches { name, left_ms: UnixMs::new(expires_ms).since_ms(now) });
        }
        let forgotten = of(&mut tx, replica_id).await?;
        if dry_run {
            return Ok(Forgetting::Done(forgotten));
        }
        for sql in OF_REPLICA {
            sqlx::query(sql).bind(replica_id).execute(&mut *tx).await?;
        }
        let sql = "UPDATE decisions SET outcome = $2, closed_ms = $3, detail = 'the replica was forgotten'
                   WHERE replica_id = $1 AND outcome IS NULL";
        let query = sqlx::query(sql).bind(replica_id).bind(WITHDRAWN).bind(now.get());
        query.execute(&mut *tx).await?;
        // Its names may have been the reason for another replica's blob.
        references::refresh_all_in(&mut tx, now).await?;
        tx.commit().await?;
        Ok(Forgetting::Done(forgotten))
    }
}

async fn of(tx: &mut Connection, replica_id: &str) -> Result<Forgotten, IndexError> {
    let only_here = "SELECT COUNT(*) FROM holders h WHERE h.replica_id = $1 AND NOT EXISTS
                       (SELECT 1 FROM holders o WHERE o.blake2b = h.blake2b AND o.replica_id <> h.replica_id)";
    let bytes = "SELECT COALESCE(SUM(size_bytes), 0) FROM holders WHERE replica_id = $1";
    let decisions = "SELECT COUNT(*) FROM decisions WHERE replica_id = $1 AND outcome IS NULL";
    Ok(Forgotten {
        blobs: count(tx, "SELECT COUNT(*) FROM holders WHERE replica_id = $1", replica_id).await?,
        bytes: count(tx, bytes, replica_id).await?,
        only_here: count(tx, only_here, replica_id).await?,
        leases: count(tx, "SELECT COUNT(*) FROM leases WHERE replica_id = $1", replica_id).await?,
        decisions: count(tx, decisions, replica_id).await?,
    })
}

async fn count(tx: &mut Connection, sql: &'static str, replica_id: &str) -> Result<u64, IndexError> {
    Ok(from_sql(sqlx::query_scalar(sql).bind(replica_id).fetch_one(tx).await?))
}
