//! Everything that a replica has, replaced at once.

use cache_policy::UnixMs;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::blob::BlobRecord;
use super::{Index, IndexError, ROWS_PER_INSERT, counter, eviction, replica, to_sql};

const INVENTORY: &str = "inventory";

/// One complete inventory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    pub(crate) replica_id: String,
    pub(crate) blobs: Vec<BlobRecord>,
    pub(crate) used_bytes: u64,
    pub(crate) capacity_bytes: u64,
    /// When its first part came in: what was committed after that is not in it, and stays.
    pub(crate) begun: UnixMs,
}

impl Index {
    /// Replaces what was known of the replica's blobs. `now` bounds what it says of the past.
    pub(crate) async fn replace_inventory(
        &self,
        inventory: &Inventory,
        now: UnixMs,
    ) -> Result<(), IndexError> {
        let replica_id = &inventory.replica_id;
        let mut tx = self.write().await?;
        let number = counter::add(&mut tx, INVENTORY, 1).await?;
        let stale = "DELETE FROM names WHERE replica_id = $1 AND NOT EXISTS (
                       SELECT 1 FROM holders h WHERE h.replica_id = names.replica_id
                         AND h.blake2b = names.blake2b AND h.added_ms > $2)";
        sqlx::query(stale).bind(replica_id).bind(inventory.begun.get()).execute(&mut *tx).await?;
        for rows in inventory.blobs.chunks(ROWS_PER_INSERT) {
            insert_blobs(&mut tx, rows, now).await?;
            insert_holders(&mut tx, replica_id, rows, number, inventory.begun).await?;
            insert_names(&mut tx, replica_id, rows).await?;
        }
        let gone = "DELETE FROM holders WHERE replica_id = $1 AND inventory <> $2 AND added_ms <= $3";
        let query = sqlx::query(gone).bind(replica_id).bind(number);
        query.bind(inventory.begun.get()).execute(&mut *tx).await?;
        replica::set_usage(&mut tx, replica_id, inventory.used_bytes, inventory.capacity_bytes, now).await?;
        let sql = "UPDATE replicas SET inventory_ms = $2 WHERE replica_id = $1";
        sqlx::query(sql).bind(replica_id).bind(now.get()).execute(&mut *tx).await?;
        eviction::refresh_references(&mut tx, now).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn insert_blobs(tx: &mut SqliteConnection, rows: &[BlobRecord], now: UnixMs) -> Result<(), IndexError> {
    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO blobs (blake2b, size_bytes, last_access_ms) ");
    sql.push_values(rows, |mut values, row| {
        values.push_bind(row.blob.as_bytes().to_vec());
        values.push_bind(to_sql(row.size_bytes)).push_bind(row.last_access_ms.min(now.get()));
    });
    sql.push(
        " ON CONFLICT (blake2b) DO UPDATE SET size_bytes = excluded.size_bytes,
            last_access_ms = CASE WHEN blobs.last_access_ms < excluded.last_access_ms
                                  THEN excluded.last_access_ms ELSE blobs.last_access_ms END",
    );
    sql.build().execute(tx).await?;
    Ok(())
}

async fn insert_holders(
    tx: &mut SqliteConnection,
    replica_id: &str,
    rows: &[BlobRecord],
    number: i64,
    begun: UnixMs,
) -> Result<(), IndexError> {
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO holders (replica_id, blake2b, added_ms, inventory, quarantined) ",
    );
    sql.push_values(rows, |mut values, row| {
        values.push_bind(replica_id.to_owned()).push_bind(row.blob.as_bytes().to_vec());
        values.push_bind(begun.get()).push_bind(number).push_bind(i64::from(row.quarantined));
    });
    sql.push(
        " ON CONFLICT (replica_id, blake2b) DO UPDATE SET
            inventory = excluded.inventory, quarantined = excluded.quarantined,
            added_ms = CASE WHEN holders.quarantined = excluded.quarantined
                            THEN holders.added_ms ELSE excluded.added_ms END",
    );
    sql.build().execute(tx).await?;
    Ok(())
}

async fn insert_names(
    tx: &mut SqliteConnection,
    replica_id: &str,
    rows: &[BlobRecord],
) -> Result<(), IndexError> {
    let names: Vec<_> = rows.iter().flat_map(|row| row.names.iter().map(|name| (row.blob, name))).collect();
    for part in names.chunks(ROWS_PER_INSERT) {
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO names (replica_id, blake2b, name) ");
        sql.push_values(part, |mut values, (blob, name)| {
            values.push_bind(replica_id.to_owned()).push_bind(blob.as_bytes().to_vec());
            values.push_bind((*name).clone());
        });
        sql.push(" ON CONFLICT DO NOTHING");
        sql.build().execute(&mut *tx).await?;
    }
    Ok(())
}
