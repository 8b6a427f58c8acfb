//! What the eviction plan is made from, and the decisions it becomes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cache_policy::UnixMs;
use cache_policy::eviction::{BlobKey, Candidate, Limits, Plan, Reason, Reference, Usage, plan_eviction};
use service_kit::config::HumanDuration;
use sqlx::SqliteConnection;

use super::decision::{NewEviction, blob_key, decide, withdraw_referenced};
use super::{Index, IndexError, catalogue, from_sql, replica};

/// Why nothing can be evicted at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CatalogueGap {
    /// sync-server was never reached: everything would seem unreferenced.
    NoModules,
    /// These modules' catalogues were not imported yet: what they refer to would seem unreferenced.
    NotImported(Vec<String>),
}

/// One blob to evict, with what people want to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) replica_id: String,
    pub(crate) blob: BlobKey,
    pub(crate) names: Vec<String>,
    pub(crate) size_bytes: u64,
    /// In a person's words.
    pub(crate) reason: String,
}

/// The plan for one replica.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaPlan {
    pub(crate) evictions: Vec<Planned>,
    pub(crate) blobs_kept: u64,
    pub(crate) bytes_kept: u64,
}

type Row = (Vec<u8>, i64, i64, Option<i64>, i64, i64);

impl Index {
    /// What would be evicted now, replica by replica.
    pub(crate) async fn plan(
        &self,
        limits: Limits,
        now: UnixMs,
    ) -> Result<Result<Vec<ReplicaPlan>, CatalogueGap>, IndexError> {
        let mut tx = self.read().await?;
        if let Some(gap) = gap(&mut tx).await? {
            return Ok(Err(gap));
        }
        Ok(Ok(plan_all(&mut tx, limits, now).await?))
    }

    /// Makes the plan into decisions, in the transaction that it was made in.
    pub(crate) async fn plan_and_decide(
        &self,
        limits: Limits,
        now: UnixMs,
    ) -> Result<Result<Vec<ReplicaPlan>, CatalogueGap>, IndexError> {
        let mut tx = self.write().await?;
        if let Some(gap) = gap(&mut tx).await? {
            return Ok(Err(gap));
        }
        refresh_references(&mut tx, now).await?;
        let plans = plan_all(&mut tx, limits, now).await?;
        let evictions = plans.iter().flat_map(|plan| &plan.evictions).map(|planned| NewEviction {
            replica_id: &planned.replica_id,
            blob: planned.blob,
            reason: &planned.reason,
            // The plan rests on nobody having asked for the blob within the grace. Accesses are reported
            // late, so the replica, which knows its own, is asked to hold it to that.
            unless_accessed_after_ms: now.before_ms(limits.unreferenced_grace_ms).get(),
        });
        decide(&mut tx, &evictions.collect::<Vec<_>>(), now).await?;
        tx.commit().await?;
        Ok(Ok(plans))
    }

    /// Why nothing can be evicted, if so.
    pub(crate) async fn catalogue_gap(&self) -> Result<Option<CatalogueGap>, IndexError> {
        let mut tx = self.read().await?;
        gap(&mut tx).await
    }
}

async fn gap(conn: &mut SqliteConnection) -> Result<Option<CatalogueGap>, IndexError> {
    let modules = catalogue::modules(conn).await?;
    if modules.is_empty() {
        return Ok(Some(CatalogueGap::NoModules));
    }
    let missing: Vec<_> =
        modules.into_iter().filter(|module| module.generation == 0).map(|module| module.name).collect();
    Ok((!missing.is_empty()).then_some(CatalogueGap::NotImported(missing)))
}

/// Notes from when on each blob has been unreferenced. Part of every transaction that changes the catalogue
/// or the set of blobs, so that a grace begins exactly then.
pub(super) async fn refresh_references(tx: &mut SqliteConnection, now: UnixMs) -> Result<(), IndexError> {
    // Before the whole catalogue is there, everything would seem unreferenced.
    if gap(tx).await?.is_some() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE blobs SET unreferenced_since_ms = NULL WHERE unreferenced_since_ms IS NOT NULL
           AND blake2b IN (SELECT r.blake2b FROM blob_references r)",
    )
    .execute(&mut *tx)
    .await?;
    let sql = "UPDATE blobs SET unreferenced_since_ms = $1 WHERE unreferenced_since_ms IS NULL
                 AND blake2b NOT IN (SELECT r.blake2b FROM blob_references r)";
    sqlx::query(sql).bind(now.get()).execute(&mut *tx).await?;
    // One reference that allows fetching is enough. What nobody refers to stays as it was last known.
    for sql in [
        "UPDATE blobs SET fetch_restricted = 0 WHERE fetch_restricted = 1
           AND blake2b IN (SELECT r.blake2b FROM blob_references r WHERE r.restriction <> $1)",
        "UPDATE blobs SET fetch_restricted = 1 WHERE fetch_restricted = 0
           AND blake2b IN (SELECT r.blake2b FROM blob_references r WHERE r.restriction = $1)
           AND blake2b NOT IN (SELECT r.blake2b FROM blob_references r WHERE r.restriction <> $1)",
    ] {
        sqlx::query(sql).bind(FETCH_RESTRICTED).execute(&mut *tx).await?;
    }
    let withdrawn = withdraw_referenced(tx, now).await?;
    if withdrawn > 0 {
        tracing::info!(decisions = withdrawn, "evictions withdrawn: their blobs are referenced again");
    }
    Ok(())
}

const FETCH_RESTRICTED: i32 = rookery_proto::v1::Restriction::Fetch as i32;

async fn plan_all(
    conn: &mut SqliteConnection,
    limits: Limits,
    now: UnixMs,
) -> Result<Vec<ReplicaPlan>, IndexError> {
    let sql = "SELECT replica_id FROM replicas ORDER BY replica_id";
    let replicas: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *conn).await?;
    let leased = leased(conn, now).await?;
    let mut plans = Vec::with_capacity(replicas.len());
    for replica_id in replicas {
        let candidates = candidates(conn, &replica_id, &leased, now).await?;
        let (used_bytes, capacity_bytes) = replica::usage(conn, &replica_id).await?;
        let plan = plan_eviction(Usage { used_bytes, capacity_bytes }, &candidates, now, limits);
        plans.push(describe(conn, &replica_id, &plan, limits).await?);
    }
    Ok(plans)
}

/// Blobs that a lease's object is or may be: by digest, or by name where the digest is of another kind.
async fn leased(conn: &mut SqliteConnection, now: UnixMs) -> Result<HashSet<Vec<u8>>, IndexError> {
    let sql = "SELECT l.digest FROM leases l
               WHERE l.phase = 'held' AND l.expires_ms > $1 AND l.algorithm = 'BLAKE2B'
               UNION
               SELECT n.blake2b FROM leases l JOIN names n ON n.name = l.name
               WHERE l.phase = 'held' AND l.expires_ms > $1";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(now.get()).fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

async fn candidates(
    conn: &mut SqliteConnection,
    replica_id: &str,
    leased: &HashSet<Vec<u8>>,
    now: UnixMs,
) -> Result<Vec<Candidate>, IndexError> {
    let sql = "SELECT b.blake2b, b.size_bytes, b.last_access_ms, b.unreferenced_since_ms, b.fetch_restricted,
                 CASE WHEN b.blake2b IN (SELECT r.blake2b FROM blob_references r) THEN 1 ELSE 0 END
               FROM holders h JOIN blobs b ON b.blake2b = h.blake2b
               WHERE h.replica_id = $1 ORDER BY b.blake2b";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(replica_id).fetch_all(conn).await?;
    rows.into_iter()
        .map(|(blob, size, last_access, since, fetch_restricted, referenced)| {
            let reference = if referenced == 1 {
                Reference::Referenced
            } else {
                Reference::Unreferenced { since: since.map_or(now, UnixMs::new) }
            };
            Ok(Candidate {
                blob: blob_key(&blob)?,
                size_bytes: from_sql(size),
                reference,
                last_access: (last_access > 0).then(|| UnixMs::new(last_access)),
                leased: leased.contains(&blob),
                pinned: false,
                refetchable: fetch_restricted == 0,
            })
        })
        .collect()
}

async fn describe(
    conn: &mut SqliteConnection,
    replica_id: &str,
    plan: &Plan,
    limits: Limits,
) -> Result<ReplicaPlan, IndexError> {
    let mut names = if plan.evict.is_empty() { HashMap::new() } else { names(conn, replica_id).await? };
    let evictions = plan.evict.iter().map(|eviction| Planned {
        replica_id: replica_id.to_owned(),
        blob: eviction.blob,
        names: names.remove(eviction.blob.as_bytes().as_slice()).unwrap_or_default(),
        size_bytes: eviction.size_bytes,
        reason: reason_text(eviction.reason, limits),
    });
    Ok(ReplicaPlan {
        evictions: evictions.collect(),
        blobs_kept: plan.kept.len() as u64,
        bytes_kept: plan.kept.iter().fold(0, |sum, kept| sum.saturating_add(kept.size_bytes)),
    })
}

async fn names(
    conn: &mut SqliteConnection,
    replica_id: &str,
) -> Result<HashMap<Vec<u8>, Vec<String>>, IndexError> {
    let sql = "SELECT blake2b, name FROM names WHERE replica_id = $1 ORDER BY name";
    let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(sql).bind(replica_id).fetch_all(conn).await?;
    let mut names: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    for (blob, name) in rows {
        names.entry(blob).or_default().push(name);
    }
    Ok(names)
}

fn reason_text(reason: Reason, limits: Limits) -> String {
    let Reason::Unreferenced { since } = reason;
    let since = jiff::Timestamp::from_millisecond(since.get())
        .map_or_else(|_| "long ago".to_owned(), |time| format!("{time:.0}"));
    let grace = HumanDuration(Duration::from_millis(limits.unreferenced_grace_ms));
    format!("{}: no module has referred to it since {since} (grace {grace})", reason.as_str())
}
