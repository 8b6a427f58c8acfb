//! What the policy is told of each blob on one replica.

use std::collections::{HashMap, HashSet};

use cache_policy::UnixMs;
use cache_policy::eviction::{Candidate, Limits, Standing, Usage};
use sqlx::SqliteConnection;

use super::decision::{BUSY_REST_MS, blob_key};
use super::{IndexError, from_sql};

type Row = (Vec<u8>, i64, i64, Option<i64>, i64, i64, i64);
type Keys = HashSet<Vec<u8>>;

/// What is the same for every replica.
pub(super) struct FarmFacts {
    leased: Keys,
    pinned: Keys,
}

impl FarmFacts {
    pub(super) async fn load(conn: &mut SqliteConnection, now: UnixMs) -> Result<Self, IndexError> {
        // By digest, or by name where the digest is of another kind.
        let leased = "SELECT l.digest FROM leases l
                      WHERE l.phase = 'held' AND l.expires_ms > $1 AND l.algorithm = 'BLAKE2B'
                      UNION
                      SELECT n.blake2b FROM leases l JOIN names n ON n.name = l.name
                      WHERE l.phase = 'held' AND l.expires_ms > $1";
        let leased: Vec<Vec<u8>> = sqlx::query_scalar(leased).bind(now.get()).fetch_all(&mut *conn).await?;
        let pinned = "SELECT DISTINCT n.blake2b FROM pins p JOIN names n ON n.name = p.name";
        let pinned: Vec<Vec<u8>> = sqlx::query_scalar(pinned).fetch_all(conn).await?;
        Ok(Self { leased: leased.into_iter().collect(), pinned: pinned.into_iter().collect() })
    }
}

/// Every blob of the replica.
pub(super) async fn candidates(
    conn: &mut SqliteConnection,
    replica_id: &str,
    farm: &FarmFacts,
    usage: Usage,
    limits: Limits,
    now: UnixMs,
) -> Result<Vec<Candidate>, IndexError> {
    let sql = "SELECT blake2b FROM decisions WHERE replica_id = $1 AND action = 'evict'
                 AND (outcome = 'busy' AND closed_ms > $2)";
    let query = sqlx::query_scalar(sql).bind(replica_id).bind(now.before_ms(BUSY_REST_MS).get());
    let being_read: Keys = query.fetch_all(&mut *conn).await?.into_iter().collect();
    let sql = "SELECT blake2b FROM decisions WHERE replica_id = $1 AND action = 'evict' AND outcome IS NULL";
    let decided: Keys =
        sqlx::query_scalar(sql).bind(replica_id).fetch_all(&mut *conn).await?.into_iter().collect();
    // Who supersedes whom matters only where room is made.
    let superseded = if usage.used_bytes > usage.share_bytes(limits.high_water_percent) {
        superseded(conn, replica_id).await?
    } else {
        HashMap::new()
    };
    let sql = "SELECT b.blake2b, b.size_bytes, b.last_access_ms, b.unreferenced_since_ms, b.fetch_restricted,
                 h.added_ms, h.quarantined
               FROM holders h JOIN blobs b ON b.blake2b = h.blake2b
               WHERE h.replica_id = $1 ORDER BY h.blake2b";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(replica_id).fetch_all(conn).await?;
    rows.into_iter()
        .map(|(blob, size, last_access, since, fetch_restricted, added, quarantined)| {
            let added = UnixMs::new(added);
            let standing = match (quarantined, since, superseded.get(&blob)) {
                (1, ..) => Standing::Quarantined { since: added },
                (_, Some(since), _) => Standing::Unreferenced { since: UnixMs::new(since) },
                (_, None, Some(since)) => Standing::Superseded { since: *since },
                (_, None, None) => Standing::Referenced,
            };
            Ok(Candidate {
                blob: blob_key(&blob)?,
                size_bytes: from_sql(size),
                standing,
                added,
                last_access: (last_access > 0).then(|| UnixMs::new(last_access)),
                leased: farm.leased.contains(&blob),
                being_read: being_read.contains(&blob),
                pinned: farm.pinned.contains(&blob),
                refetchable: fetch_restricted == 0,
                decided: decided.contains(&blob),
            })
        })
        .collect()
}

/// The blobs for which a file of the same packages came later, and when the last such came.
async fn superseded(
    conn: &mut SqliteConnection,
    replica_id: &str,
) -> Result<HashMap<Vec<u8>, UnixMs>, IndexError> {
    let sql = "SELECT h.blake2b, d.packages, h.added_ms FROM holders h
               JOIN distfiles d ON d.blake2b = h.blake2b
               WHERE h.replica_id = $1 AND h.quarantined = 0 AND d.removed = 0 AND d.packages <> ''";
    let rows: Vec<(Vec<u8>, String, i64)> = sqlx::query_as(sql).bind(replica_id).fetch_all(conn).await?;
    let mut newest: HashMap<&str, i64> = HashMap::new();
    for (_, packages, added) in &rows {
        let came = newest.entry(packages).or_insert(*added);
        *came = (*came).max(*added);
    }
    // A blob that several modules' packages refer to is superseded when it is for all of them.
    let mut superseded: HashMap<Vec<u8>, i64> = HashMap::new();
    for (blob, packages, _) in &rows {
        let came = newest.get(packages.as_str()).copied().unwrap_or(0);
        superseded.entry(blob.clone()).and_modify(|least| *least = (*least).min(came)).or_insert(came);
    }
    let later = rows.iter().filter_map(|(blob, _, added)| {
        superseded.get(blob).filter(|came| *came > added).map(|came| (blob.clone(), UnixMs::new(*came)))
    });
    Ok(later.collect())
}
