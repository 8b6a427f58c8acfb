//! From when on each blob has been unreferenced, and whether it may be fetched again.
//!
//! Whoever changes the catalogue or the set of blobs notes it for the blobs that it touched, in the same
//! transaction, so that a grace begins exactly then. Whoever can't say which those are looks at all of them
//! afterwards, in transactions so short that no lease waits for them; and so does every eviction before it
//! plans, so that nothing rests on a look that was broken off.

use cache_policy::UnixMs;
use sqlx::{QueryBuilder, Sqlite};

use super::connection::Connection;
use super::decision::withdraw_referenced;
use super::eviction::gap;
use super::{Index, IndexError, ROWS_PER_INSERT};

/// Blobs that one transaction looks at.
const BLOBS_PER_LOOK: i64 = 2000;

/// Which blobs are looked at.
#[derive(Debug, Clone, Copy)]
enum Among<'a> {
    These(&'a [Vec<u8>]),
    /// After the first key, up to and including the second.
    Between(&'a [u8], &'a [u8]),
    All,
}

/// `blobs` were touched: by a change of the catalogue, or because they are new.
pub(super) async fn refresh(tx: &mut Connection, blobs: &[Vec<u8>], now: UnixMs) -> Result<(), IndexError> {
    if gap(tx).await?.is_some() {
        return Ok(());
    }
    for these in blobs.chunks(ROWS_PER_INSERT) {
        note(tx, Among::These(these), now).await?;
    }
    Ok(())
}

/// The same for all of them in the caller's own transaction, which nobody else may have to wait for.
pub(super) async fn refresh_all_in(tx: &mut Connection, now: UnixMs) -> Result<(), IndexError> {
    if gap(tx).await?.is_none() {
        note(tx, Among::All, now).await?;
    }
    Ok(())
}

impl Index {
    /// Looks at every blob.
    pub(crate) async fn refresh_references(&self, now: UnixMs) -> Result<(), IndexError> {
        let mut from = Vec::new();
        loop {
            let mut tx = self.write().await?;
            // Before the whole catalogue is there, everything would seem unreferenced.
            if gap(&mut tx).await?.is_some() {
                return Ok(());
            }
            let sql = "SELECT MAX(k.blake2b) FROM (SELECT blake2b FROM blobs WHERE blake2b > $1
                         ORDER BY blake2b LIMIT $2) k";
            let query = sqlx::query_scalar(sql).bind(&from).bind(BLOBS_PER_LOOK);
            let to: Option<Vec<u8>> = query.fetch_one(&mut *tx).await?;
            let Some(to) = to else {
                withdraw(&mut tx, now).await?;
                tx.commit().await?;
                return Ok(());
            };
            note(&mut tx, Among::Between(&from, &to), now).await?;
            tx.commit().await?;
            from = to;
        }
    }
}

/// Calls back evictions of what is referenced again.
pub(super) async fn withdraw(tx: &mut Connection, now: UnixMs) -> Result<(), IndexError> {
    let withdrawn = withdraw_referenced(tx, now).await?;
    if withdrawn > 0 {
        tracing::info!(decisions = withdrawn, "evictions withdrawn: their blobs are referenced again");
    }
    Ok(())
}

async fn note(tx: &mut Connection, among: Among<'_>, now: UnixMs) -> Result<(), IndexError> {
    let mut sql = QueryBuilder::<Sqlite>::new(
        "UPDATE blobs SET unreferenced_since_ms = NULL WHERE unreferenced_since_ms IS NOT NULL
           AND EXISTS (SELECT 1 FROM blob_references r WHERE r.blake2b = blobs.blake2b)",
    );
    limit(&mut sql, among);
    sql.build().execute(&mut *tx).await?;
    let doubts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM modules WHERE suspect_before > 0")
        .fetch_one(&mut *tx)
        .await?;
    // While a catalogue is not believed, what it lacks is no reason: nobody's grace begins.
    if doubts == 0 {
        let mut sql = QueryBuilder::<Sqlite>::new("UPDATE blobs SET unreferenced_since_ms = ");
        sql.push_bind(now.get()).push(
            " WHERE unreferenced_since_ms IS NULL
               AND NOT EXISTS (SELECT 1 FROM blob_references r WHERE r.blake2b = blobs.blake2b)",
        );
        limit(&mut sql, among);
        sql.build().execute(&mut *tx).await?;
    }
    // One reference that allows fetching is enough. What nobody refers to stays as it was last known. The
    // number is written out, so that the index on it is used.
    for start in [
        "UPDATE blobs SET fetch_restricted = 0 WHERE fetch_restricted = 1
           AND EXISTS (SELECT 1 FROM blob_references r
                       WHERE r.blake2b = blobs.blake2b AND r.restriction <> 3)",
        "UPDATE blobs SET fetch_restricted = 1 WHERE fetch_restricted = 0
           AND EXISTS (SELECT 1 FROM blob_references r
                       WHERE r.blake2b = blobs.blake2b AND r.restriction = 3)
           AND NOT EXISTS (SELECT 1 FROM blob_references r
                           WHERE r.blake2b = blobs.blake2b AND r.restriction <> 3)",
    ] {
        let mut sql = QueryBuilder::<Sqlite>::new(start);
        limit(&mut sql, among);
        sql.build().execute(&mut *tx).await?;
    }
    Ok(())
}

fn limit(sql: &mut QueryBuilder<Sqlite>, among: Among<'_>) {
    match among {
        Among::These(blobs) => {
            sql.push(" AND blake2b IN (");
            let mut values = sql.separated(", ");
            for blob in blobs {
                values.push_bind(blob.clone());
            }
            sql.push(")");
        }
        Among::Between(from, to) => {
            sql.push(" AND blake2b > ").push_bind(from.to_vec());
            sql.push(" AND blake2b <= ").push_bind(to.to_vec());
        }
        Among::All => {}
    }
}
