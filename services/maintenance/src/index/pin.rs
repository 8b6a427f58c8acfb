//! Names that the operator wants kept.

use cache_policy::UnixMs;

use super::connection::Connection;
use super::{Index, IndexError, from_sql};

/// One pinned name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) pinned_ms: i64,
    /// Copies that the farm has of what the name leads to.
    pub(crate) blobs: u64,
}

/// What a new pin met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) blobs: u64,
    pub(crate) in_catalogue: bool,
}

impl Index {
    /// Pins the name; evictions that are on their way are called back. A name that nobody knows is
    /// pinned all the same: it may come tomorrow.
    pub(crate) async fn pin(&self, name: &str, note: &str, now: UnixMs) -> Result<Pinned, IndexError> {
        let mut tx = self.write().await?;
        let sql = "INSERT INTO pins (name, note, pinned_ms) VALUES ($1, $2, $3)
                   ON CONFLICT (name) DO UPDATE SET note = excluded.note";
        sqlx::query(sql).bind(name).bind(note).bind(now.get()).execute(&mut *tx).await?;
        let sql = "UPDATE decisions SET outcome = 'withdrawn', closed_ms = $2, detail = 'pinned'
                   WHERE outcome IS NULL AND action = 'evict'
                     AND blake2b IN (SELECT n.blake2b FROM names n WHERE n.name = $1)";
        sqlx::query(sql).bind(name).bind(now.get()).execute(&mut *tx).await?;
        let blobs = copies(&mut tx, name).await?;
        let sql = "SELECT COUNT(*) FROM modules m JOIN distfiles d ON d.module = m.name
                   WHERE d.name = $1 AND d.removed = 0";
        let in_catalogue: i64 = sqlx::query_scalar(sql).bind(name).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(Pinned { blobs, in_catalogue: in_catalogue > 0 })
    }

    /// Answers whether the name was pinned.
    pub(crate) async fn unpin(&self, name: &str) -> Result<bool, IndexError> {
        let query = sqlx::query("DELETE FROM pins WHERE name = $1").bind(name);
        Ok(query.execute(&self.writer).await?.rows_affected() > 0)
    }

    /// Every pin, by name.
    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, IndexError> {
        let mut tx = self.read().await?;
        let sql = "SELECT name, note, pinned_ms FROM pins ORDER BY name";
        let rows: Vec<(String, String, i64)> = sqlx::query_as(sql).fetch_all(&mut *tx).await?;
        let mut pins = Vec::with_capacity(rows.len());
        for (name, note, pinned_ms) in rows {
            let blobs = copies(&mut tx, &name).await?;
            pins.push(Pin { name, note, pinned_ms, blobs });
        }
        Ok(pins)
    }
}

async fn copies(conn: &mut Connection, name: &str) -> Result<u64, IndexError> {
    let sql = "SELECT COUNT(*) FROM names n
               JOIN holders h ON h.replica_id = n.replica_id AND h.blake2b = n.blake2b
               WHERE n.name = $1 AND h.quarantined = 0";
    Ok(from_sql(sqlx::query_scalar(sql).bind(name).fetch_one(conn).await?))
}
