//! What the policy is told of each blob on one replica.
//!
//! A plan looks at every blob that there is, and a row's way from SQLite to here costs more than finding it,
//! column by column. So there is one pass over what every blob has, and what few blobs have is read apart.

use std::collections::{HashMap, HashSet};

use cache_policy::UnixMs;
use cache_policy::eviction::{BlobKey, Candidate, Limits, Standing, Usage};
use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::decision::{BUSY_REST_MS, blob_key};
use super::{IndexError, from_sql};

type Keys = HashSet<BlobKey>;

/// What is the same for every replica.
pub(super) struct FarmFacts {
    leased: Keys,
    pinned: Keys,
    unreferenced: HashMap<BlobKey, UnixMs>,
    fetch_restricted: Keys,
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
        let pinned: Vec<Vec<u8>> = sqlx::query_scalar(pinned).fetch_all(&mut *conn).await?;
        let sql = "SELECT blake2b, unreferenced_since_ms, fetch_restricted FROM blobs
                   WHERE unreferenced_since_ms IS NOT NULL OR fetch_restricted = 1";
        let rows: Vec<(Vec<u8>, Option<i64>, i64)> = sqlx::query_as(sql).fetch_all(conn).await?;
        let (mut unreferenced, mut fetch_restricted) = (HashMap::new(), Keys::new());
        for (blob, since, restricted) in rows {
            let blob = blob_key(&blob)?;
            if let Some(since) = since {
                unreferenced.insert(blob, UnixMs::new(since));
            }
            if restricted == 1 {
                fetch_restricted.insert(blob);
            }
        }
        Ok(Self { leased: keys(&leased)?, pinned: keys(&pinned)?, unreferenced, fetch_restricted })
    }
}

/// What is the replica's own, of the few blobs that it is true of.
struct ReplicaFacts {
    being_read: Keys,
    decided: Keys,
    quarantined: Keys,
}

impl ReplicaFacts {
    async fn load(conn: &mut SqliteConnection, replica_id: &str, now: UnixMs) -> Result<Self, IndexError> {
        let sql = "SELECT blake2b FROM decisions WHERE replica_id = $1 AND action = 'evict'
                     AND (outcome = 'busy' AND closed_ms > $2)";
        let query = sqlx::query_scalar(sql).bind(replica_id).bind(now.before_ms(BUSY_REST_MS).get());
        let being_read = keys(&query.fetch_all(&mut *conn).await?)?;
        let sql =
            "SELECT blake2b FROM decisions WHERE replica_id = $1 AND action = 'evict' AND outcome IS NULL";
        let decided = keys(&sqlx::query_scalar(sql).bind(replica_id).fetch_all(&mut *conn).await?)?;
        let sql = "SELECT blake2b FROM holders WHERE replica_id = $1 AND quarantined = 1";
        let quarantined = keys(&sqlx::query_scalar(sql).bind(replica_id).fetch_all(conn).await?)?;
        Ok(Self { being_read, decided, quarantined })
    }
}

fn keys(blobs: &[Vec<u8>]) -> Result<Keys, IndexError> {
    blobs.iter().map(|blob| blob_key(blob)).collect()
}

const ALONE: &str = "SELECT h.blake2b, h.size_bytes, h.added_ms, b.last_access_ms
                     FROM holders h JOIN blobs b ON b.blake2b = h.blake2b
                     WHERE h.replica_id = $1 ORDER BY h.blake2b";

/// A row for each distfile that a blob is; one without packages if it is none.
const WITH_PACKAGES: &str = "SELECT h.blake2b, h.size_bytes, h.added_ms, b.last_access_ms, d.packages
                             FROM holders h JOIN blobs b ON b.blake2b = h.blake2b
                               LEFT JOIN distfiles d
                                 ON d.blake2b = h.blake2b AND d.removed = 0 AND d.packages <> ''
                             WHERE h.replica_id = $1 ORDER BY h.blake2b";

/// Every blob of the replica.
pub(super) async fn candidates(
    conn: &mut SqliteConnection,
    replica_id: &str,
    farm: &FarmFacts,
    usage: Usage,
    limits: Limits,
    now: UnixMs,
) -> Result<Vec<Candidate>, IndexError> {
    let replica = ReplicaFacts::load(conn, replica_id, now).await?;
    // Who supersedes whom matters only where room is made.
    let is_pressed = usage.used_bytes > usage.share_bytes(limits.high_water_percent);
    let sql = if is_pressed { WITH_PACKAGES } else { ALONE };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut arrivals = Arrivals::default();
    let mut rows = sqlx::query(sql).bind(replica_id).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let blob = blob_key(row.try_get(0)?)?;
        if candidates.last().is_none_or(|last| last.blob != blob) {
            candidates.push(candidate(&row, blob, farm, &replica)?);
        }
        let quarantined = replica.quarantined.contains(&blob);
        if is_pressed
            && !quarantined
            && let Some(packages) = row.try_get(4)?
        {
            arrivals.note(candidates.len() - 1, packages, row.try_get(2)?);
        }
    }
    arrivals.mark_superseded(&mut candidates);
    Ok(candidates)
}

fn candidate(
    row: &SqliteRow,
    blob: BlobKey,
    farm: &FarmFacts,
    replica: &ReplicaFacts,
) -> Result<Candidate, IndexError> {
    let added = UnixMs::new(row.try_get(2)?);
    let last_access: i64 = row.try_get(3)?;
    let standing = if replica.quarantined.contains(&blob) {
        Standing::Quarantined { since: added }
    } else {
        let since = farm.unreferenced.get(&blob);
        since.map_or(Standing::Referenced, |since| Standing::Unreferenced { since: *since })
    };
    Ok(Candidate {
        blob,
        size_bytes: from_sql(row.try_get(1)?),
        standing,
        added,
        last_access: (last_access > 0).then(|| UnixMs::new(last_access)),
        leased: farm.leased.contains(&blob),
        being_read: replica.being_read.contains(&blob),
        pinned: farm.pinned.contains(&blob),
        refetchable: !farm.fetch_restricted.contains(&blob),
        decided: replica.decided.contains(&blob),
    })
}

/// When the files of each set of packages came.
#[derive(Default)]
struct Arrivals {
    sets: HashMap<String, usize>,
    /// By set.
    newest: Vec<i64>,
    /// Which candidate is of which set, in the candidates' order.
    members: Vec<(usize, usize)>,
}

impl Arrivals {
    fn note(&mut self, candidate: usize, packages: &str, added_ms: i64) {
        let set = if let Some(set) = self.sets.get(packages) {
            *set
        } else {
            self.sets.insert(packages.to_owned(), self.newest.len());
            self.newest.push(added_ms);
            self.newest.len() - 1
        };
        if let Some(newest) = self.newest.get_mut(set) {
            *newest = added_ms.max(*newest);
        }
        self.members.push((candidate, set));
    }

    /// A blob that several modules' packages refer to is superseded when it is for all of them.
    fn mark_superseded(&self, candidates: &mut [Candidate]) {
        for sets in self.members.chunk_by(|one, next| one.0 == next.0) {
            let came = sets.iter().filter_map(|(_, set)| self.newest.get(*set)).min();
            let candidate = sets.first().and_then(|(place, _)| candidates.get_mut(*place));
            if let (Some(came), Some(candidate)) = (came, candidate)
                && *came > candidate.added.get()
                && candidate.standing == Standing::Referenced
            {
                candidate.standing = Standing::Superseded { since: UnixMs::new(*came) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
