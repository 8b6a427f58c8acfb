//! What the policy is told of each blob on one replica.
//!
//! A plan looks at every blob that there is, and a row's way from SQLite to here costs more than finding it,
//! column by column. So what every blob has comes as one text for a 256th of them, and what few blobs have is read
//! apart.

use std::collections::{HashMap, HashSet};

use cache_policy::UnixMs;
use cache_policy::eviction::{BlobKey, Candidate, Limits, Standing, Usage};
use sqlx::AssertSqlSafe;

use super::connection::Connection;
use super::decision::{BUSY_REST_MS, blob_key};
use super::{IndexError, dialect, from_sql};

type Keys = HashSet<BlobKey>;

/// What is the same for every replica.
pub(super) struct FarmFacts {
    leased: Keys,
    pinned: Keys,
    unreferenced: HashMap<BlobKey, UnixMs>,
    fetch_restricted: Keys,
}

impl FarmFacts {
    pub(super) async fn load(conn: &mut Connection, now: UnixMs) -> Result<Self, IndexError> {
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
    async fn load(conn: &mut Connection, replica_id: &str, now: UnixMs) -> Result<Self, IndexError> {
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

/// The blobs whose digests begin with one octet, one a line: digest, numbers and packages. One text for all of them, because each value of each
/// row is copied between two threads: a plan over 200,000 blobs spends more on that than on finding them. `joined` gives
/// `packages` and may give a blob several lines.
fn lines(packages: &str, joined: &str) -> String {
    let digest = dialect::hex("h.blake2b");
    format!(
        "SELECT string_agg(line, '\n') FROM (
           SELECT {digest} || ' ' || h.size_bytes || ' ' || h.added_ms || ' ' || b.last_access_ms || ' ' || {packages}
             AS line
           FROM holders h JOIN blobs b ON b.blake2b = h.blake2b {joined}
           WHERE h.replica_id = $1 AND h.blake2b BETWEEN $2 AND $3 ORDER BY h.blake2b)"
    )
}

fn alone() -> String {
    lines("''", "")
}

/// A line for each distfile that a blob is; one without packages if it is none.
fn with_packages() -> String {
    let joined = "LEFT JOIN distfiles d ON d.blake2b = h.blake2b AND d.removed = 0 AND d.packages <> ''";
    lines("COALESCE(d.packages, '')", joined)
}

/// The [`lines`] of the digests that begin with `first`.
async fn part(conn: &mut Connection, sql: &str, replica_id: &str, first: u8) -> Result<String, IndexError> {
    // Longer than any digest.
    let mut last = vec![u8::MAX; 65];
    last[0] = first;
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(replica_id);
    let lines: Option<String> = query.bind(vec![first]).bind(last).fetch_one(conn).await?;
    Ok(lines.unwrap_or_default())
}

/// A line of [`lines`].
struct Held<'r> {
    blob: BlobKey,
    size_bytes: i64,
    added_ms: i64,
    last_access_ms: i64,
    packages: &'r str,
}

impl<'r> Held<'r> {
    fn of(text: &'r str) -> Option<Self> {
        let mut fields = text.splitn(5, ' ');
        let mut digest = [0; 64];
        hex::decode_to_slice(fields.next()?, &mut digest).ok()?;
        let mut number = || fields.next()?.parse().ok();
        let (size_bytes, added_ms, last_access_ms) = (number()?, number()?, number()?);
        let packages = fields.next()?;
        Some(Self { blob: BlobKey::new(digest), size_bytes, added_ms, last_access_ms, packages })
    }
}

/// Every blob of the replica.
pub(super) async fn candidates(
    conn: &mut Connection,
    replica_id: &str,
    farm: &FarmFacts,
    usage: Usage,
    limits: Limits,
    now: UnixMs,
) -> Result<Vec<Candidate>, IndexError> {
    let replica = ReplicaFacts::load(conn, replica_id, now).await?;
    // Who supersedes whom matters only where room is made.
    let is_pressed = usage.used_bytes > usage.share_bytes(limits.high_water_percent);
    let sql = if is_pressed { with_packages() } else { alone() };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut arrivals = Arrivals::default();
    let mut lines = part(conn, &sql, replica_id, 0).await?;
    for first in 1..=u8::MAX {
        // The next part is looked for while this one is read.
        let (next, noted) = futures_util::join!(part(conn, &sql, replica_id, first), async {
            note(&lines, &mut candidates, &mut arrivals, farm, &replica)
        });
        noted?;
        lines = next?;
    }
    note(&lines, &mut candidates, &mut arrivals, farm, &replica)?;
    arrivals.mark_superseded(&mut candidates);
    Ok(candidates)
}

/// Reads the lines of a part.
fn note(
    lines: &str,
    candidates: &mut Vec<Candidate>,
    arrivals: &mut Arrivals,
    farm: &FarmFacts,
    replica: &ReplicaFacts,
) -> Result<(), IndexError> {
    for line in lines.lines() {
        let held = Held::of(line).ok_or(IndexError::Row("holders"))?;
        if candidates.last().is_none_or(|last| last.blob != held.blob) {
            candidates.push(candidate(&held, farm, replica));
        }
        if !held.packages.is_empty() && !replica.quarantined.contains(&held.blob) {
            arrivals.note(candidates.len() - 1, held.packages, held.added_ms);
        }
    }
    Ok(())
}

fn candidate(held: &Held<'_>, farm: &FarmFacts, replica: &ReplicaFacts) -> Candidate {
    let (blob, added) = (held.blob, UnixMs::new(held.added_ms));
    let standing = if replica.quarantined.contains(&blob) {
        Standing::Quarantined { since: added }
    } else {
        let since = farm.unreferenced.get(&blob);
        since.map_or(Standing::Referenced, |since| Standing::Unreferenced { since: *since })
    };
    Candidate {
        blob,
        size_bytes: from_sql(held.size_bytes),
        standing,
        added,
        last_access: (held.last_access_ms > 0).then(|| UnixMs::new(held.last_access_ms)),
        leased: farm.leased.contains(&blob),
        being_read: replica.being_read.contains(&blob),
        pinned: farm.pinned.contains(&blob),
        refetchable: !farm.fetch_restricted.contains(&blob),
        decided: replica.decided.contains(&blob),
    }
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
