//! Decisions: stored, delivered until acknowledged, closed with an outcome.

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;
use prost::Message as _;
use rookery_proto::v1::ImportCounts;
use sqlx::{QueryBuilder, Sqlite};

use super::connection::Connection;
use super::{Index, IndexError, ROWS_PER_INSERT, blob, counter, from_sql, to_sql};

pub(super) const EVICT: &str = "evict";
pub(super) const VERIFY: &str = "verify";
pub(super) const FETCH: &str = "fetch";
pub(super) const IMPORT: &str = "import";

/// The class of evictions from quarantine, in the policy's words.
const QUARANTINED: &str = "quarantined";

/// A replica that has just answered that a blob is in use is not asked again for so long.
pub(super) const BUSY_REST_MS: u64 = 10 * 60 * 1000;

/// What a replica is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    Evict { blob: BlobKey, unless_accessed_after_ms: i64, quarantined: bool },
    Verify { blob: BlobKey },
    Fetch { name: String },
    Import { dry_run: bool },
}

/// A decision that its replica has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingDecision {
    pub(crate) sequence: i64,
    pub(crate) id: String,
    pub(crate) reason: String,
    pub(crate) order: Order,
}

/// A decision with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecisionRow {
    pub(crate) id: String,
    pub(crate) replica_id: String,
    pub(crate) action: String,
    pub(crate) blake2b: Vec<u8>,
    pub(crate) name: String,
    pub(crate) reason: String,
    pub(crate) created_ms: i64,
    /// `None` while it is pending.
    pub(crate) outcome: Option<String>,
    pub(crate) detail: String,
    pub(crate) closed_ms: i64,
    pub(crate) imported: Option<ImportCounts>,
}

/// What a replica says of a decision.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledgement<'a> {
    pub(crate) replica_id: &'a str,
    pub(crate) id: &'a str,
    pub(crate) outcome: Outcome,
    pub(crate) detail: &'a str,
    pub(crate) imported: Option<ImportCounts>,
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
    Closed {
        /// A copy is lost that can be had again, and that is decided.
        fetches_again: bool,
    },
    /// The decision was closed before.
    Again,
    /// No such decision: an index that is gone made it.
    Unknown,
    /// The decision is another replica's.
    NotYours,
}

/// One thing that a replica is told to do.
pub(super) struct NewDecision<'a> {
    pub(super) replica_id: &'a str,
    pub(super) action: &'static str,
    pub(super) blob: Option<BlobKey>,
    pub(super) name: &'a str,
    /// Of evictions: why, in the policy's words.
    pub(super) class: &'a str,
    pub(super) reason: &'a str,
    pub(super) unless_accessed_after_ms: i64,
    pub(super) dry_run: bool,
}

/// Stores the decisions, but not those that are still pending from before. Answers the ids of those that
/// were stored. Replicas remember what they answered by the id alone, so it has the index's identity: one that was made
/// anew may count from the same number again.
pub(super) async fn decide(
    tx: &mut Connection,
    decisions: &[NewDecision<'_>],
    now: UnixMs,
) -> Result<Vec<String>, IndexError> {
    let count = to_sql(decisions.len() as u64);
    let identity = counter::identity(tx).await?;
    let mut sequence = counter::add(tx, counter::DECISION, count).await? - count;
    let mut ids = Vec::with_capacity(decisions.len());
    for rows in decisions.chunks(ROWS_PER_INSERT) {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "INSERT INTO decisions (sequence, id, replica_id, action, blake2b, name, class, dry_run, reason,
               unless_accessed_after_ms, created_ms) ",
        );
        sql.push_values(rows, |mut values, row| {
            sequence += 1;
            values.push_bind(sequence).push_bind(format!("decision-{identity:016x}-{sequence}"));
            values.push_bind(row.replica_id.to_owned()).push_bind(row.action);
            values.push_bind(row.blob.map_or_else(Vec::new, |blob| blob.as_bytes().to_vec()));
            values.push_bind(row.name.to_owned()).push_bind(row.class.to_owned());
            values.push_bind(i64::from(row.dry_run));
            values.push_bind(row.reason.to_owned()).push_bind(row.unless_accessed_after_ms);
            values.push_bind(now.get());
        });
        sql.push(" ON CONFLICT DO NOTHING RETURNING id");
        ids.extend(sql.build_query_scalar::<String>().fetch_all(&mut *tx).await?);
    }
    Ok(ids)
}

impl Index {
    /// What the replica has not acknowledged, oldest first, but what makes room before what only reads.
    pub(crate) async fn pending_decisions(
        &self,
        replica_id: &str,
        limit: u32,
    ) -> Result<Vec<PendingDecision>, IndexError> {
        let sql =
            "SELECT sequence, id, action, blake2b, name, class, dry_run, reason, unless_accessed_after_ms
                   FROM decisions WHERE replica_id = $1 AND outcome IS NULL
                   ORDER BY CASE WHEN action = 'verify' THEN 1 ELSE 0 END, sequence LIMIT $2";
        let rows: Vec<PendingSql> =
            sqlx::query_as(sql).bind(replica_id).bind(i64::from(limit)).fetch_all(&self.reader).await?;
        rows.into_iter()
            .map(|(sequence, id, action, blob, name, class, dry_run, reason, unless_accessed_after_ms)| {
                let order = match action.as_str() {
                    EVICT => Order::Evict {
                        blob: blob_key(&blob)?,
                        unless_accessed_after_ms,
                        quarantined: class == QUARANTINED,
                    },
                    VERIFY => Order::Verify { blob: blob_key(&blob)? },
                    FETCH => Order::Fetch { name },
                    IMPORT => Order::Import { dry_run: dry_run == 1 },
                    _ => return Err(IndexError::Row("decisions.action")),
                };
                Ok(PendingDecision { sequence, id, reason, order })
            })
            .collect()
    }

    /// Tells each replica to adopt what lies in its import directories. Answers the decisions' ids.
    pub(crate) async fn decide_imports(
        &self,
        replicas: &[String],
        reason: &str,
        now: UnixMs,
    ) -> Result<Vec<String>, IndexError> {
        let mut tx = self.write().await?;
        let new = |replica_id| NewDecision {
            replica_id,
            action: IMPORT,
            blob: None,
            name: "",
            class: "",
            reason,
            unless_accessed_after_ms: 0,
            dry_run: false,
        };
        let decisions: Vec<_> = replicas.iter().map(|id| new(id.as_str())).collect();
        decide(&mut tx, &decisions, now).await?;
        let mut ids = Vec::with_capacity(replicas.len());
        for replica_id in replicas {
            // The one that was pending already is as good.
            let sql = "SELECT id FROM decisions WHERE replica_id = $1 AND action = $2 AND dry_run = 0
                         AND outcome IS NULL ORDER BY sequence LIMIT 1";
            let query = sqlx::query_scalar(sql).bind(replica_id).bind(IMPORT);
            ids.extend(query.fetch_optional(&mut *tx).await?);
        }
        tx.commit().await?;
        Ok(ids)
    }

    /// Calls back a decision that nobody waits for any more.
    pub(crate) async fn withdraw(&self, id: &str, detail: &str, now: UnixMs) -> Result<(), IndexError> {
        let sql = "UPDATE decisions SET outcome = $2, closed_ms = $3, detail = $4
                   WHERE id = $1 AND outcome IS NULL";
        let query = sqlx::query(sql).bind(id).bind(WITHDRAWN).bind(now.get()).bind(detail);
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// The decisions with these ids, or the newest ones.
    pub(crate) async fn decisions(&self, ids: &[String], limit: u32) -> Result<Vec<DecisionRow>, IndexError> {
        const COLUMNS: &str =
            "SELECT id, replica_id, action, blake2b, name, reason, created_ms, outcome, detail,
                                 closed_ms, imported FROM decisions ";
        let mut rows: Vec<DecisionSql> = Vec::new();
        if ids.is_empty() {
            let mut sql = QueryBuilder::<Sqlite>::new(COLUMNS);
            sql.push("ORDER BY sequence DESC LIMIT ").push_bind(i64::from(limit));
            rows = sql.build_query_as().fetch_all(&self.reader).await?;
        }
        for part in ids.chunks(ROWS_PER_INSERT) {
            let mut sql = QueryBuilder::<Sqlite>::new(COLUMNS);
            sql.push("WHERE id IN (");
            let mut values = sql.separated(", ");
            for id in part {
                values.push_bind(id.clone());
            }
            sql.push(") ORDER BY sequence");
            rows.extend(sql.build_query_as::<DecisionSql>().fetch_all(&self.reader).await?);
        }
        rows.into_iter().map(decision_row).collect()
    }

    /// How many evictions wait, by replica.
    pub(crate) async fn pending_evictions(&self) -> Result<Vec<(String, u64)>, IndexError> {
        let sql = "SELECT replica_id, COUNT(*) FROM decisions WHERE outcome IS NULL AND action = $1
                   GROUP BY replica_id ORDER BY replica_id";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).bind(EVICT).fetch_all(&self.reader).await?;
        Ok(rows.into_iter().map(|(replica_id, count)| (replica_id, from_sql(count))).collect())
    }

    /// How many of `ids` are neither acknowledged nor withdrawn.
    pub(crate) async fn count_open(&self, ids: &[String]) -> Result<u64, IndexError> {
        let mut open = 0;
        for part in ids.chunks(ROWS_PER_INSERT) {
            let mut sql = QueryBuilder::<Sqlite>::new(
                "SELECT COUNT(*) FROM decisions WHERE outcome IS NULL AND id IN (",
            );
            let mut values = sql.separated(", ");
            for id in part {
                values.push_bind(id.clone());
            }
            sql.push(")");
            open += sql.build_query_scalar::<i64>().fetch_one(&self.reader).await?;
        }
        Ok(from_sql(open))
    }

    /// How many decisions wait for an acknowledgement.
    pub(crate) async fn count_pending_decisions(&self) -> Result<u64, IndexError> {
        let sql = "SELECT COUNT(*) FROM decisions WHERE outcome IS NULL";
        Ok(from_sql(sqlx::query_scalar(sql).fetch_one(&self.reader).await?))
    }

    /// Closes a decision with what became of it. Only the first acknowledgement counts.
    pub(crate) async fn acknowledge(
        &self,
        acknowledgement: &Acknowledgement<'_>,
        now: UnixMs,
    ) -> Result<Acknowledged, IndexError> {
        let Acknowledgement { replica_id, id, outcome, detail, imported } = acknowledgement;
        let mut tx = self.write().await?;
        let sql = "SELECT replica_id, action, blake2b, created_ms, outcome FROM decisions WHERE id = $1";
        let row: Option<OwnedSql> = sqlx::query_as(sql).bind(id).fetch_optional(&mut *tx).await?;
        let Some((owner, action, blob, created_ms, closed)) = row else { return Ok(Acknowledged::Unknown) };
        if owner != *replica_id {
            return Ok(Acknowledged::NotYours);
        }
        // A withdrawn decision may have been carried out before it was withdrawn.
        if closed.as_deref().is_some_and(|closed| closed != WITHDRAWN) {
            return Ok(Acknowledged::Again);
        }
        let sql =
            "UPDATE decisions SET outcome = $2, detail = $3, closed_ms = $4, imported = $5 WHERE id = $1";
        let query = sqlx::query(sql).bind(id).bind(outcome.as_str()).bind(detail).bind(now.get());
        query.bind(imported.as_ref().map(ImportCounts::encode_to_vec)).execute(&mut *tx).await?;
        let mut fetches_again = false;
        if action == VERIFY && *outcome == Outcome::Done {
            let sql = "UPDATE holders SET verified_ms = $3 WHERE replica_id = $1 AND blake2b = $2";
            sqlx::query(sql).bind(replica_id).bind(&blob).bind(now.get()).execute(&mut *tx).await?;
        }
        if *outcome == Outcome::Damaged {
            fetches_again = fetch_again(&mut tx, replica_id, &blob, now).await?;
        }
        let not_here = match outcome {
            Outcome::Done => action == EVICT,
            Outcome::Gone | Outcome::Damaged => action == EVICT || action == VERIFY,
            Outcome::Busy => false,
        };
        if not_here {
            blob::drop_holder(&mut tx, replica_id, &blob, UnixMs::new(created_ms)).await?;
        }
        tx.commit().await?;
        Ok(Acknowledged::Closed { fetches_again })
    }
}

/// A damaged copy of what the tree refers to is fetched again, if it may be.
async fn fetch_again(
    tx: &mut Connection,
    replica_id: &str,
    blob: &[u8],
    now: UnixMs,
) -> Result<bool, IndexError> {
    let sql = "SELECT MIN(n.name) FROM names n JOIN blobs b ON b.blake2b = n.blake2b
               WHERE n.replica_id = $1 AND n.blake2b = $2 AND b.fetch_restricted = 0
                 AND b.blake2b IN (SELECT r.blake2b FROM blob_references r WHERE r.blake2b = $2)";
    let name: Option<String> =
        sqlx::query_scalar(sql).bind(replica_id).bind(blob).fetch_one(&mut *tx).await?;
    let Some(name) = name else { return Ok(false) };
    let again = NewDecision {
        replica_id,
        action: FETCH,
        blob: None,
        name: &name,
        class: "",
        reason: "damaged: the copy that was here is in quarantine",
        unless_accessed_after_ms: 0,
        dry_run: false,
    };
    decide(tx, &[again], now).await?;
    Ok(true)
}

type PendingSql = (i64, String, String, Vec<u8>, String, String, i64, String, i64);
type OwnedSql = (String, String, Vec<u8>, i64, Option<String>);
type DecisionSql =
    (String, String, String, Vec<u8>, String, String, i64, Option<String>, String, i64, Option<Vec<u8>>);

fn decision_row(row: DecisionSql) -> Result<DecisionRow, IndexError> {
    let (id, replica_id, action, blake2b, name, reason, created_ms, outcome, detail, closed_ms, imported) =
        row;
    let imported = imported
        .map(|counts| ImportCounts::decode(counts.as_slice()))
        .transpose()
        .map_err(|_| IndexError::Row("decisions.imported"))?;
    Ok(DecisionRow {
        id,
        replica_id,
        action,
        blake2b,
        name,
        reason,
        created_ms,
        outcome,
        detail,
        closed_ms,
        imported,
    })
}

pub(super) const WITHDRAWN: &str = "withdrawn";

/// Closes pending evictions of blobs that a module refers to again.
pub(super) async fn withdraw_referenced(tx: &mut Connection, now: UnixMs) -> Result<u64, IndexError> {
    let sql = "UPDATE decisions SET outcome = $1, closed_ms = $2, detail = 'referenced again'
               WHERE outcome IS NULL AND action = $3
                 AND EXISTS (SELECT 1 FROM blob_references r WHERE r.blake2b = decisions.blake2b)
                 AND class = 'unreferenced'";
    let done = sqlx::query(sql).bind(WITHDRAWN).bind(now.get()).bind(EVICT).execute(tx).await?;
    Ok(done.rows_affected())
}

pub(super) fn blob_key(octets: &[u8]) -> Result<BlobKey, IndexError> {
    octets.try_into().map(BlobKey::new).map_err(|_| IndexError::Row("a blob's name"))
}
