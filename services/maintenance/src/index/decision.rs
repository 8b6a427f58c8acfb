//! Decisions: stored, delivered until acknowledged, closed with an outcome.

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{Index, IndexError, ROWS_PER_INSERT, blob, counter, from_sql, to_sql};

/// The one action that is decided today.
pub(super) const EVICT: &str = "evict";

/// A decision that its replica has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingDecision {
    pub(crate) sequence: i64,
    pub(crate) id: String,
    pub(crate) blob: BlobKey,
    pub(crate) reason: String,
    pub(crate) unless_accessed_after_ms: i64,
}

/// How a decision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Carried out.
    Done,
    /// In use; may be decided again.
    Busy,
    /// It was not there.
    Gone,
    /// It was read and found wrong, and has no name any more.
    Damaged,
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Damaged => "damaged",
        }
    }
}

/// What an acknowledgement met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// It closed the decision.
    Closed,
    /// The decision was closed before.
    Again,
    /// No such decision: an index that is gone made it.
    Unknown,
    /// The decision is another replica's.
    NotYours,
}

/// One blob that a replica is told to evict.
pub(super) struct NewEviction<'a> {
    pub(super) replica_id: &'a str,
    pub(super) blob: BlobKey,
    pub(super) reason: &'a str,
    pub(super) unless_accessed_after_ms: i64,
}

/// Stores the decisions, but not those that are still pending from before.
pub(super) async fn decide(
    tx: &mut SqliteConnection,
    evictions: &[NewEviction<'_>],
    now: UnixMs,
) -> Result<(), IndexError> {
    let count = to_sql(evictions.len() as u64);
    let mut sequence = counter::add(tx, counter::DECISION, count).await? - count;
    for rows in evictions.chunks(ROWS_PER_INSERT) {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "INSERT INTO decisions
               (sequence, id, replica_id, action, blake2b, reason, unless_accessed_after_ms, created_ms) ",
        );
        sql.push_values(rows, |mut values, row| {
            sequence += 1;
            values.push_bind(sequence).push_bind(format!("decision-{sequence}"));
            values.push_bind(row.replica_id.to_owned()).push_bind(EVICT);
            values.push_bind(row.blob.as_bytes().to_vec()).push_bind(row.reason.to_owned());
            values.push_bind(row.unless_accessed_after_ms).push_bind(now.get());
        });
        sql.push(" ON CONFLICT DO NOTHING");
        sql.build().execute(&mut *tx).await?;
    }
    Ok(())
}

impl Index {
    /// What the replica has not acknowledged, from `after` on, oldest first.
    pub(crate) async fn pending_decisions(
        &self,
        replica_id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<PendingDecision>, IndexError> {
        let sql = "SELECT sequence, id, blake2b, reason, unless_accessed_after_ms FROM decisions
                   WHERE replica_id = $1 AND outcome IS NULL AND sequence > $2
                   ORDER BY sequence LIMIT $3";
        let rows: Vec<(i64, String, Vec<u8>, String, i64)> = sqlx::query_as(sql)
            .bind(replica_id)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter()
            .map(|(sequence, id, blob, reason, unless_accessed_after_ms)| {
                let blob = blob_key(&blob)?;
                Ok(PendingDecision { sequence, id, blob, reason, unless_accessed_after_ms })
            })
            .collect()
    }

    /// How many decisions wait for an acknowledgement.
    pub(crate) async fn count_pending_decisions(&self) -> Result<u64, IndexError> {
        let sql = "SELECT COUNT(*) FROM decisions WHERE outcome IS NULL";
        Ok(from_sql(sqlx::query_scalar(sql).fetch_one(&self.reader).await?))
    }

    /// Closes a decision with what became of it. Only the first acknowledgement counts.
    pub(crate) async fn acknowledge(
        &self,
        replica_id: &str,
        id: &str,
        outcome: Outcome,
        detail: &str,
        now: UnixMs,
    ) -> Result<Acknowledged, IndexError> {
        let mut tx = self.write().await?;
        let sql = "SELECT replica_id, action, blake2b, created_ms, outcome FROM decisions WHERE id = $1";
        let row: Option<(String, String, Vec<u8>, i64, Option<String>)> =
            sqlx::query_as(sql).bind(id).fetch_optional(&mut *tx).await?;
        let Some((owner, action, blob, created_ms, closed)) = row else { return Ok(Acknowledged::Unknown) };
        if owner != replica_id {
            return Ok(Acknowledged::NotYours);
        }
        // A withdrawn decision may have been carried out before it was withdrawn.
        if closed.as_deref().is_some_and(|closed| closed != WITHDRAWN) {
            return Ok(Acknowledged::Again);
        }
        let sql = "UPDATE decisions SET outcome = $2, detail = $3, closed_ms = $4 WHERE id = $1";
        let query = sqlx::query(sql).bind(id).bind(outcome.as_str()).bind(detail);
        query.bind(now.get()).execute(&mut *tx).await?;
        let not_here = match outcome {
            Outcome::Done => action == EVICT,
            Outcome::Gone | Outcome::Damaged => true,
            Outcome::Busy => false,
        };
        if not_here {
            blob::drop_holder(&mut tx, replica_id, &blob, UnixMs::new(created_ms)).await?;
        }
        tx.commit().await?;
        Ok(Acknowledged::Closed)
    }
}

const WITHDRAWN: &str = "withdrawn";

/// Closes pending evictions of blobs that a module refers to again.
pub(super) async fn withdraw_referenced(tx: &mut SqliteConnection, now: UnixMs) -> Result<u64, IndexError> {
    let sql = "UPDATE decisions SET outcome = $1, closed_ms = $2, detail = 'referenced again'
               WHERE outcome IS NULL AND action = $3
                 AND blake2b IN (SELECT r.blake2b FROM blob_references r)";
    let done = sqlx::query(sql).bind(WITHDRAWN).bind(now.get()).bind(EVICT).execute(tx).await?;
    Ok(done.rows_affected())
}

pub(super) fn blob_key(octets: &[u8]) -> Result<BlobKey, IndexError> {
    octets.try_into().map(BlobKey::new).map_err(|_| IndexError::Row("a blob's name"))
}
