//! Everything that a replica has, taken over.
//!
//! It takes many short transactions, so that no lease and no report waits for 200,000 blobs. What is there
//! is written first, what is not there goes last. Broken off in between, the index knows too much and never
//! too little, as it did before the report came, and the replica repeats it.

use std::collections::{HashMap, HashSet};

use cache_policy::UnixMs;
use cache_policy::ahead::Stored;
use sqlx::{QueryBuilder, Sqlite};

use super::blob::BlobRecord;
use super::connection::Connection;
use super::contradiction::{self, Believed};
use super::{Index, IndexError, ROWS_PER_INSERT, counter, references, replica, to_sql};

const INVENTORY: &str = "inventory";

/// One complete inventory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    pub(crate) replica_id: String,
    pub(crate) blobs: Vec<BlobRecord>,
    pub(crate) capacity_bytes: u64,
    /// When its first part came in: what was committed after that is not in it, and stays.
    pub(crate) begun: UnixMs,
}

impl Index {
    /// Replaces what was known of the replica's blobs. `now` bounds what it says of the past. Answers how many of
    /// them contradict what is known, and were not taken over.
    pub(crate) async fn replace_inventory(
        &self,
        inventory: &Inventory,
        now: UnixMs,
    ) -> Result<u64, IndexError> {
        // Two of one replica at once would each take away what only the other one names.
        let _alone = self.inventories.lock().await;
        let number = self.begin_inventory(inventory, now).await?;
        let mut refused = 0;
        for rows in inventory.blobs.chunks(ROWS_PER_INSERT) {
            let mut tx = self.write().await?;
            let (rows, contradicting) = contradiction::part(&mut tx, rows).await?;
            contradiction::remember(&mut tx, &inventory.replica_id, &contradicting, number).await?;
            refused += contradicting.len() as u64;
            if !rows.is_empty() {
                insert_blobs(&mut tx, &rows, now).await?;
                insert_holders(&mut tx, &inventory.replica_id, &rows, number, inventory.begun).await?;
                replace_names(&mut tx, inventory, &rows).await?;
                let keys: Vec<_> = rows.iter().map(|one| one.row.blob.as_bytes().to_vec()).collect();
                references::refresh(&mut tx, &keys, now).await?;
            }
            tx.commit().await?;
        }
        while self.forget_some(inventory, number).await? {}
        let mut tx = self.write().await?;
        // A name can be a reference, too.
        references::withdraw(&mut tx, now).await?;
        contradiction::forget_before(&mut tx, &inventory.replica_id, number).await?;
        tx.commit().await?;
        Ok(refused)
    }

    async fn begin_inventory(&self, inventory: &Inventory, now: UnixMs) -> Result<i64, IndexError> {
        let mut tx = self.write().await?;
        let number = counter::add(&mut tx, INVENTORY, 1).await?;
        replica::set_capacity(&mut tx, &inventory.replica_id, inventory.capacity_bytes, now).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Forgets some of what the replica has no more, with its names; false if nothing was left of that.
    async fn forget_some(&self, inventory: &Inventory, number: i64) -> Result<bool, IndexError> {
        let mut tx = self.write().await?;
        let sql = "SELECT blake2b FROM holders WHERE replica_id = $1 AND inventory <> $2 AND added_ms <= $3
                   LIMIT $4";
        let query = sqlx::query_scalar(sql).bind(&inventory.replica_id).bind(number);
        let query = query.bind(inventory.begun.get()).bind(to_sql(ROWS_PER_INSERT as u64));
        let gone: Vec<Vec<u8>> = query.fetch_all(&mut *tx).await?;
        if gone.is_empty() {
            return Ok(false);
        }
        for start in ["DELETE FROM names WHERE replica_id = ", "DELETE FROM holders WHERE replica_id = "] {
            let mut sql = QueryBuilder::<Sqlite>::new(start);
            sql.push_bind(inventory.replica_id.clone()).push(" AND ");
            among(&mut sql, gone.iter().cloned());
            sql.build().execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

fn among(sql: &mut QueryBuilder<Sqlite>, blobs: impl Iterator<Item = Vec<u8>>) {
    sql.push("blake2b IN (");
    let mut values = sql.separated(", ");
    for blob in blobs {
        values.push_bind(blob);
    }
    sql.push(")");
}

/// What is known of a blob's size stays.
async fn insert_blobs(tx: &mut Connection, rows: &[Believed<'_>], now: UnixMs) -> Result<(), IndexError> {
    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO blobs (blake2b, size_bytes, last_access_ms) ");
    sql.push_values(rows, |mut values, Believed { row, blob_bytes }| {
        values.push_bind(row.blob.as_bytes().to_vec());
        values.push_bind(to_sql(*blob_bytes)).push_bind(told_access(row.last_access_ms, now));
    });
    sql.push(
        " ON CONFLICT (blake2b) DO UPDATE SET last_access_ms = excluded.last_access_ms
          WHERE blobs.last_access_ms < excluded.last_access_ms",
    );
    sql.build().execute(tx).await?;
    Ok(())
}

/// A time that is ahead was written by a clock that was, nobody knows when. Taken for now, it would be a new access with
/// each inventory that repeats it.
fn told_access(at_ms: i64, now: UnixMs) -> i64 {
    match Stored::judge(UnixMs::new(at_ms), now) {
        Stored::Past => at_ms.min(now.get()),
        Stored::Ahead => 0,
    }
}

/// A copy that came after the inventory was begun stays as it was committed; the grace of one that is found
/// damaged begins now.
async fn insert_holders(
    tx: &mut Connection,
    replica_id: &str,
    rows: &[Believed<'_>],
    number: i64,
    begun: UnixMs,
) -> Result<(), IndexError> {
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO holders (replica_id, blake2b, size_bytes, added_ms, inventory, quarantined) ",
    );
    sql.push_values(rows, |mut values, Believed { row, .. }| {
        values.push_bind(replica_id.to_owned()).push_bind(row.blob.as_bytes().to_vec());
        values.push_bind(to_sql(row.size_bytes));
        values.push_bind(begun.get()).push_bind(number).push_bind(i64::from(row.quarantined));
    });
    sql.push(
        " ON CONFLICT (replica_id, blake2b) DO UPDATE SET
            inventory = excluded.inventory, size_bytes = excluded.size_bytes,
            quarantined = CASE WHEN holders.added_ms > excluded.added_ms
                               THEN holders.quarantined ELSE excluded.quarantined END,
            added_ms = CASE WHEN holders.added_ms > excluded.added_ms
                              OR holders.quarantined = excluded.quarantined
                            THEN holders.added_ms ELSE excluded.added_ms END",
    );
    sql.build().execute(tx).await?;
    Ok(())
}

/// Only what differs is written: most inventories tell nothing new.
async fn replace_names(
    tx: &mut Connection,
    inventory: &Inventory,
    rows: &[Believed<'_>],
) -> Result<(), IndexError> {
    let keys = || rows.iter().map(|one| one.row.blob.as_bytes().to_vec());
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT n.blake2b, n.name, h.added_ms FROM names n ");
    sql.push("JOIN holders h ON h.replica_id = n.replica_id AND h.blake2b = n.blake2b WHERE n.replica_id = ");
    sql.push_bind(inventory.replica_id.clone()).push(" AND n.");
    among(&mut sql, keys());
    let known: Vec<(Vec<u8>, String, i64)> = sql.build_query_as().fetch_all(&mut *tx).await?;
    let told: HashMap<&[u8], HashSet<&str>> = rows
        .iter()
        .map(|Believed { row, .. }| {
            (row.blob.as_bytes().as_slice(), row.names.iter().map(String::as_str).collect())
        })
        .collect();
    let mut old: HashSet<(&[u8], &str)> = HashSet::new();
    for (blob, name, added_ms) in &known {
        let stays = *added_ms > inventory.begun.get()
            || told.get(blob.as_slice()).is_some_and(|names| names.contains(name.as_str()));
        if stays {
            old.insert((blob, name));
            continue;
        }
        let sql = "DELETE FROM names WHERE replica_id = $1 AND blake2b = $2 AND name = $3";
        sqlx::query(sql).bind(&inventory.replica_id).bind(blob).bind(name).execute(&mut *tx).await?;
    }
    let all =
        rows.iter().flat_map(|Believed { row, .. }| row.names.iter().map(|name| (row.blob, name.as_str())));
    let new: Vec<_> = all.filter(|(blob, name)| !old.contains(&(blob.as_bytes().as_slice(), name))).collect();
    for part in new.chunks(ROWS_PER_INSERT) {
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO names (replica_id, blake2b, name) ");
        sql.push_values(part, |mut values, (blob, name)| {
            values.push_bind(inventory.replica_id.clone()).push_bind(blob.as_bytes().to_vec());
            values.push_bind((*name).to_owned());
        });
        sql.push(" ON CONFLICT DO NOTHING");
        sql.build().execute(&mut *tx).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
