//! Blobs that are to be read again.

use std::collections::BTreeMap;

use cache_policy::UnixMs;
use cache_policy::scrub::{Copy, plan_scrub};

use super::connection::Connection;
use super::decision::{self, NewDecision, VERIFY, blob_key};
use super::{Index, IndexError, from_sql};

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scrub {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// Empty if nothing was decided.
    pub(crate) decision_ids: Vec<String>,
}

type Row = (String, Vec<u8>, i64, i64);

impl Index {
    /// Tonight's share, so that every copy is read within `nights`; decides it unless `dry_run`. `next_run` is when
    /// it is asked next, if that is known.
    pub(crate) async fn scrub(
        &self,
        now: UnixMs,
        next_run: Option<UnixMs>,
        nights: u32,
        dry_run: bool,
    ) -> Result<Scrub, IndexError> {
        let next_run_ms = next_run.map_or(0, |next| next.since_ms(now));
        let mut tx = self.write().await?;
        let mut tonight = Vec::new();
        for (replica_id, copies) in copies(&mut tx, None).await? {
            let share = plan_scrub(&copies, now, next_run_ms, nights);
            tonight.extend(share.into_iter().map(|copy| (replica_id.clone(), copy)));
        }
        let reason = format!("scrub: every blob is read within {nights} nights");
        let scrub = decide(&mut tx, &tonight, &reason, now, dry_run).await?;
        tx.commit().await?;
        Ok(scrub)
    }

    /// All copies of `names`, of everything if there are none; decides it unless `dry_run`. A name that
    /// the farm doesn't have is the error.
    pub(crate) async fn verify(
        &self,
        names: &[String],
        now: UnixMs,
        dry_run: bool,
    ) -> Result<Result<Scrub, String>, IndexError> {
        let mut tx = self.write().await?;
        let mut wanted = Vec::new();
        if names.is_empty() {
            for (replica_id, copies) in copies(&mut tx, None).await? {
                wanted.extend(copies.into_iter().map(|copy| (replica_id.clone(), copy)));
            }
        }
        for name in names {
            let found = copies(&mut tx, Some(name)).await?;
            if found.is_empty() {
                return Ok(Err(name.clone()));
            }
            for (replica_id, copies) in found {
                wanted.extend(copies.into_iter().map(|copy| (replica_id.clone(), copy)));
            }
        }
        wanted.sort();
        wanted.dedup();
        let scrub = decide(&mut tx, &wanted, "verify: asked for by the operator", now, dry_run).await?;
        tx.commit().await?;
        Ok(Ok(scrub))
    }
}

/// Every sound copy, or those of one name, by replica.
async fn copies(
    conn: &mut Connection,
    name: Option<&String>,
) -> Result<BTreeMap<String, Vec<Copy>>, IndexError> {
    let columns = "h.replica_id, h.blake2b, b.size_bytes,
                   CASE WHEN h.verified_ms > h.added_ms THEN h.verified_ms ELSE h.added_ms END";
    let all = format!(
        "SELECT {columns} FROM holders h JOIN blobs b ON b.blake2b = h.blake2b WHERE h.quarantined = 0"
    );
    let named = format!(
        "SELECT {columns} FROM names n
         JOIN holders h ON h.replica_id = n.replica_id AND h.blake2b = n.blake2b
         JOIN blobs b ON b.blake2b = h.blake2b WHERE h.quarantined = 0 AND n.name = $1"
    );
    let rows: Vec<Row> = match name {
        None => sqlx::query_as(sqlx::AssertSqlSafe(all)).fetch_all(conn).await?,
        Some(name) => sqlx::query_as(sqlx::AssertSqlSafe(named)).bind(name).fetch_all(conn).await?,
    };
    let mut copies: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
    for (replica_id, blob, size, verified) in rows {
        let copy =
            Copy { verified: UnixMs::new(verified), blob: blob_key(&blob)?, size_bytes: from_sql(size) };
        copies.entry(replica_id).or_default().push(copy);
    }
    Ok(copies)
}

async fn decide(
    tx: &mut Connection,
    wanted: &[(String, Copy)],
    reason: &str,
    now: UnixMs,
    dry_run: bool,
) -> Result<Scrub, IndexError> {
    let mut scrub = Scrub {
        blobs: wanted.len() as u64,
        bytes: wanted.iter().fold(0, |sum, (_, copy)| sum.saturating_add(copy.size_bytes)),
        decision_ids: Vec::new(),
    };
    if !dry_run {
        let decisions: Vec<_> = wanted
            .iter()
            .map(|(replica_id, copy)| NewDecision {
                replica_id,
                action: VERIFY,
                blob: Some(copy.blob),
                name: "",
                class: "",
                reason,
                unless_accessed_after_ms: 0,
                dry_run: false,
            })
            .collect();
        scrub.decision_ids = decision::decide(tx, &decisions, now).await?;
    }
    Ok(scrub)
}
