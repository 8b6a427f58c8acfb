//! Blobs, who holds them, and under which names.

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;
use cache_policy::lease::Fence;

use super::connection::Connection;
use super::lease::Object;
use super::status::Totals;
use super::{Index, IndexError, counter, day, lease, to_sql};

/// One blob on one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobRecord {
    pub(crate) blob: BlobKey,
    pub(crate) size_bytes: u64,
    pub(crate) names: Vec<String>,
    /// 0 for never.
    pub(crate) last_access_ms: i64,
    /// Its contents are wrong: it is set aside and never served.
    pub(crate) quarantined: bool,
}

/// A verified blob that a replica put in place.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) replica_id: String,
    /// Empty when it was fetched without one.
    pub(crate) lease_id: String,
    pub(crate) fence: Fence,
    pub(crate) object: Object,
    pub(crate) blob: BlobRecord,
    pub(crate) source: String,
    pub(crate) upstream_bytes: u64,
}

impl Index {
    /// One more copy. Answers whether the lease's fence was the newest one.
    pub(crate) async fn commit_fetch(&self, committed: &Committed, now: UnixMs) -> Result<bool, IndexError> {
        let Committed { replica_id, lease_id, object, blob, .. } = committed;
        let mut tx = self.write().await?;
        let sql = "INSERT INTO fetches
                     (replica_id, lease_id, name, blake2b, source, upstream_bytes, at_ms)
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let fetch = sqlx::query(sql)
            .bind(replica_id)
            .bind(lease_id)
            .bind(&object.name)
            .bind(blob.blob.as_bytes().as_slice())
            .bind(&committed.source)
            .bind(to_sql(committed.upstream_bytes))
            .bind(now.get())
            .execute(&mut *tx)
            .await?;
        if fetch.rows_affected() > 0 {
            counter::add(&mut tx, counter::BYTES_FETCHED, to_sql(committed.upstream_bytes)).await?;
            let today = Totals { bytes_fetched: committed.upstream_bytes, ..Totals::default() };
            day::add(&mut tx, now, today).await?;
        }
        let sql = "INSERT INTO objects (name, algorithm, digest, blake2b) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (name, algorithm, digest) DO UPDATE SET blake2b = excluded.blake2b";
        let learnt = sqlx::query(sql).bind(&object.name).bind(&object.algorithm).bind(&object.digest);
        learnt.bind(blob.blob.as_bytes().as_slice()).execute(&mut *tx).await?;
        hold(&mut tx, replica_id, blob, now).await?;
        let current = if lease_id.is_empty() {
            false
        } else {
            lease::commit(&mut tx, replica_id, lease_id, committed.fence).await?
        };
        tx.commit().await?;
        Ok(current)
    }
}

async fn hold(
    tx: &mut Connection,
    replica_id: &str,
    blob: &BlobRecord,
    now: UnixMs,
) -> Result<(), IndexError> {
    let key = blob.blob.as_bytes().as_slice();
    let sql = "INSERT INTO blobs (blake2b, size_bytes, last_access_ms) VALUES ($1, $2, $3)
               ON CONFLICT (blake2b) DO UPDATE SET last_access_ms = excluded.last_access_ms
                 WHERE blobs.last_access_ms < excluded.last_access_ms";
    let seen = sqlx::query(sql).bind(key).bind(to_sql(blob.size_bytes));
    seen.bind(blob.last_access_ms.min(now.get())).execute(&mut *tx).await?;
    // The time is renewed, so that an older decision's late acknowledgement doesn't undo this copy.
    let sql = "INSERT INTO holders (replica_id, blake2b, size_bytes, added_ms, inventory)
               VALUES ($1, $2, $3, $4, 0)
               ON CONFLICT (replica_id, blake2b) DO UPDATE SET
                 size_bytes = excluded.size_bytes, added_ms = excluded.added_ms, quarantined = 0";
    let holds = sqlx::query(sql).bind(replica_id).bind(key).bind(to_sql(blob.size_bytes));
    holds.bind(now.get()).execute(&mut *tx).await?;
    for name in &blob.names {
        let sql = "INSERT INTO names (replica_id, blake2b, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(replica_id).bind(key).bind(name).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The replica no longer has the blob, unless it got it again after `since`.
pub(super) async fn drop_holder(
    tx: &mut Connection,
    replica_id: &str,
    blake2b: &[u8],
    since: UnixMs,
) -> Result<(), IndexError> {
    let sql = "DELETE FROM holders WHERE replica_id = $1 AND blake2b = $2 AND added_ms <= $3";
    let query = sqlx::query(sql).bind(replica_id).bind(blake2b).bind(since.get());
    if query.execute(&mut *tx).await?.rows_affected() > 0 {
        let sql = "DELETE FROM names WHERE replica_id = $1 AND blake2b = $2";
        sqlx::query(sql).bind(replica_id).bind(blake2b).execute(&mut *tx).await?;
    }
    Ok(())
}
