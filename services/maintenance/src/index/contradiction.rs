//! Reports that contradict what is known of a blob's size.
//!
//! A blob's size is what the catalogue says; where it says nothing, what was told first. A replica that
//! tells another one has something else than it says, or lies: its copy counts for nothing, and it is
//! remembered by name until the replica's next inventory is right.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite};

use super::blob::BlobRecord;
use super::connection::Connection;
use super::{Index, IndexError, from_sql, to_sql};

/// Rows that one replica may fill: the operator looks at one, and the number is told.
const KEPT_MAX: i64 = 1000;

/// What one replica tells wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradictions {
    pub(crate) replica_id: String,
    /// At most [`KEPT_MAX`].
    pub(crate) blobs: u64,
    /// One of them: what it calls it, and both sizes.
    pub(crate) name: String,
    pub(crate) told_bytes: u64,
    pub(crate) known_bytes: u64,
}

/// A row that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contradiction<'a> {
    pub(super) row: &'a BlobRecord,
    pub(super) known_bytes: u64,
}

/// The sizes of blobs that are known: all that the catalogue says, else what was told first.
async fn known_sizes(
    tx: &mut Connection,
    rows: &[BlobRecord],
) -> Result<HashMap<Vec<u8>, Vec<u64>>, IndexError> {
    let mut sizes: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
    for start in [
        "SELECT blake2b, size_bytes FROM distfiles WHERE removed = 0 AND blake2b IN (",
        "SELECT blake2b, size_bytes FROM blobs WHERE blake2b IN (",
    ] {
        let mut sql = QueryBuilder::<Sqlite>::new(start);
        let mut values = sql.separated(", ");
        for row in rows {
            values.push_bind(row.blob.as_bytes().to_vec());
        }
        sql.push(")");
        let mut told: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
        for (blob, size_bytes) in sql.build_query_as::<(Vec<u8>, i64)>().fetch_all(&mut *tx).await? {
            told.entry(blob).or_default().push(from_sql(size_bytes));
        }
        for (blob, told) in told {
            sizes.entry(blob).or_insert(told);
        }
    }
    Ok(sizes)
}

/// Parts what can be believed from what contradicts. What lies in quarantine may have any size: that of
/// the blob which it was meant to be is put in its place.
pub(super) async fn part<'a>(
    tx: &mut Connection,
    rows: &'a [BlobRecord],
) -> Result<(Vec<Believed<'a>>, Vec<Contradiction<'a>>), IndexError> {
    let sizes = known_sizes(tx, rows).await?;
    let (mut believed, mut contradicting) = (Vec::new(), Vec::new());
    for row in rows {
        let known = sizes.get(row.blob.as_bytes().as_slice()).map_or(&[][..], Vec::as_slice);
        match known.first() {
            Some(size_bytes) if row.quarantined => {
                believed.push(Believed { row, blob_bytes: *size_bytes });
            }
            Some(known_bytes) if !known.contains(&row.size_bytes) => {
                contradicting.push(Contradiction { row, known_bytes: *known_bytes });
            }
            Some(_) | None => believed.push(Believed { row, blob_bytes: row.size_bytes }),
        }
    }
    Ok((believed, contradicting))
}

/// A row that is believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Believed<'a> {
    pub(super) row: &'a BlobRecord,
    /// The blob's size, whatever the copy's is.
    pub(super) blob_bytes: u64,
}

/// Remembers what contradicts; `inventory` 0: it was told apart from one.
pub(super) async fn remember(
    tx: &mut Connection,
    replica_id: &str,
    contradicting: &[Contradiction<'_>],
    inventory: i64,
) -> Result<(), IndexError> {
    for Contradiction { row, known_bytes } in contradicting {
        let sql = "INSERT INTO contradictions
                     (replica_id, blake2b, name, told_bytes, known_bytes, inventory)
                   SELECT $1, $2, $3, $4, $5, $6
                   WHERE (SELECT COUNT(*) FROM contradictions WHERE replica_id = $1) < $7
                   ON CONFLICT (replica_id, blake2b) DO UPDATE SET
                     name = excluded.name, told_bytes = excluded.told_bytes,
                     known_bytes = excluded.known_bytes, inventory = excluded.inventory";
        sqlx::query(sql)
            .bind(replica_id)
            .bind(row.blob.as_bytes().as_slice())
            .bind(row.names.first().map_or("", String::as_str))
            .bind(to_sql(row.size_bytes))
            .bind(to_sql(*known_bytes))
            .bind(inventory)
            .bind(KEPT_MAX)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// The replica's inventory with this number is whole: what it did not tell wrong again is past.
pub(super) async fn forget_before(
    tx: &mut Connection,
    replica_id: &str,
    inventory: i64,
) -> Result<(), IndexError> {
    let sql = "DELETE FROM contradictions WHERE replica_id = $1 AND inventory <> $2";
    sqlx::query(sql).bind(replica_id).bind(inventory).execute(tx).await?;
    Ok(())
}

/// A revision of the catalogue says of some blobs how large they are: that wins over what was told before, and
/// copies of another size count no more. Answers those blobs.
pub(super) async fn correct(
    tx: &mut Connection,
    module: &str,
    revision: i64,
) -> Result<Vec<Vec<u8>>, IndexError> {
    let sql = "SELECT d.blake2b, d.size_bytes FROM distfiles d JOIN blobs b ON b.blake2b = d.blake2b
               WHERE d.module = $1 AND d.revision = $2 AND d.removed = 0 AND b.size_bytes <> d.size_bytes
                 AND NOT EXISTS (SELECT 1 FROM distfiles o WHERE o.blake2b = b.blake2b AND o.removed = 0
                                   AND o.size_bytes = b.size_bytes)";
    let wrong: Vec<(Vec<u8>, i64)> =
        sqlx::query_as(sql).bind(module).bind(revision).fetch_all(&mut *tx).await?;
    for (blob, size_bytes) in &wrong {
        for sql in [
            "INSERT INTO contradictions (replica_id, blake2b, name, told_bytes, known_bytes, inventory)
             SELECT h.replica_id, h.blake2b,
               COALESCE((SELECT MIN(n.name) FROM names n
                         WHERE n.replica_id = h.replica_id AND n.blake2b = h.blake2b), ''),
               h.size_bytes, $2, h.inventory
             FROM holders h WHERE h.blake2b = $1 AND h.size_bytes <> $2 AND h.quarantined = 0
             ON CONFLICT (replica_id, blake2b) DO NOTHING",
            "DELETE FROM names WHERE blake2b = $1 AND replica_id IN
               (SELECT h.replica_id FROM holders h
                WHERE h.blake2b = $1 AND h.size_bytes <> $2 AND h.quarantined = 0)",
            "DELETE FROM holders WHERE blake2b = $1 AND size_bytes <> $2 AND quarantined = 0",
            "UPDATE blobs SET size_bytes = $2 WHERE blake2b = $1",
        ] {
            sqlx::query(sql).bind(blob).bind(size_bytes).execute(&mut *tx).await?;
        }
    }
    Ok(wrong.into_iter().map(|(blob, _)| blob).collect())
}

impl Index {
    /// What replicas tell wrong, by replica.
    pub(crate) async fn contradictions(&self) -> Result<Vec<Contradictions>, IndexError> {
        let sql = "SELECT c.replica_id, COUNT(*), f.name, f.told_bytes, f.known_bytes
                   FROM contradictions c JOIN contradictions f ON f.replica_id = c.replica_id
                   WHERE f.blake2b = (SELECT MIN(m.blake2b) FROM contradictions m
                                      WHERE m.replica_id = c.replica_id)
                   GROUP BY c.replica_id, f.name, f.told_bytes, f.known_bytes ORDER BY c.replica_id";
        let rows: Vec<(String, i64, String, i64, i64)> = sqlx::query_as(sql).fetch_all(&self.reader).await?;
        let row = |(replica_id, blobs, name, told, known)| Contradictions {
            replica_id,
            blobs: from_sql(blobs),
            name,
            told_bytes: from_sql(told),
            known_bytes: from_sql(known),
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Remembers that a replica told of a blob with another size than is known; the known one.
    pub(crate) async fn contradiction(
        &self,
        replica_id: &str,
        blob: &BlobRecord,
    ) -> Result<Option<u64>, IndexError> {
        let rows = std::slice::from_ref(blob);
        let (_, contradicting) = part(&mut *self.read().await?, rows).await?;
        if contradicting.is_empty() {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        remember(&mut tx, replica_id, &contradicting, 0).await?;
        tx.commit().await?;
        Ok(contradicting.first().map(|one| one.known_bytes))
    }
}
