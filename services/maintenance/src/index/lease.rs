//! Leases: `cache_policy::lease` decides, this file loads and stores in one transaction.

use cache_policy::UnixMs;
use cache_policy::lease::{Acquired, Fence, FenceCounter, Grant, Lease, LeaseSlot, Phase, Stale, Terms};

use super::connection::Connection;
use super::{Index, IndexError, counter, from_sql, to_sql};

/// What is to be fetched: identity is (name, digest).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) algorithm: String,
    pub(crate) digest: Vec<u8>,
    pub(crate) size_bytes: u64,
}

/// The answer to a replica that wants to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acquisition {
    Granted { lease_id: String, fence: Fence, expires_in_ms: u64, grant: Grant },
    Held { replica_id: String, advertise: String, bytes_so_far: u64, retry_in_ms: u64 },
    Present { advertise: Vec<String> },
}

pub(super) type Row = (String, i64, String, String, i64, i64, i64);

impl Index {
    /// May `replica_id` fetch `object`? `reachable` says which other replicas could be asked instead.
    pub(crate) async fn acquire(
        &self,
        object: &Object,
        replica_id: &str,
        now: UnixMs,
        terms: Terms,
        reachable: impl Fn(&str) -> bool,
    ) -> Result<Acquisition, IndexError> {
        let mut tx = self.write().await?;
        let mut slot = slot_of(&mut tx, object).await?;
        let own = slot.current(now).is_some_and(|lease| lease.holder == replica_id);
        if !own {
            let holders = holders_of(&mut tx, object, replica_id).await?;
            let peers: Vec<_> =
                holders.into_iter().filter(|(id, _)| reachable(id)).map(|(_, advertise)| advertise).collect();
            if !peers.is_empty() {
                return Ok(Acquisition::Present { advertise: peers });
            }
        }
        let last = counter::get(&mut tx, counter::FENCE).await?;
        let mut fences = FenceCounter::new(from_sql(last));
        let answer = match slot.acquire(&replica_id.to_owned(), now, terms, &mut fences) {
            Acquired::Granted { fence, expires_in_ms, grant } => {
                Acquisition::Granted { lease_id: lease_id(fence), fence, expires_in_ms, grant }
            }
            Acquired::Held { holder, bytes_so_far, retry_in_ms } => {
                let sql = "SELECT advertise FROM replicas WHERE replica_id = $1";
                let advertise: Option<String> =
                    sqlx::query_scalar(sql).bind(&holder).fetch_optional(&mut *tx).await?;
                let advertise = advertise.unwrap_or_default();
                Acquisition::Held { replica_id: holder, advertise, bytes_so_far, retry_in_ms }
            }
        };
        counter::raise(&mut tx, counter::FENCE, to_sql(fences.last())).await?;
        store(&mut tx, object, &slot).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Keeps a lease alive. Answers the time that is left.
    pub(crate) async fn renew(
        &self,
        replica_id: &str,
        lease_id: &str,
        fence: Fence,
        bytes_so_far: u64,
        now: UnixMs,
        terms: Terms,
    ) -> Result<Result<u64, Stale>, IndexError> {
        let mut tx = self.write().await?;
        let Some((object, mut slot)) = by_id(&mut tx, replica_id, lease_id).await? else {
            return Ok(Err(Stale));
        };
        let answer = slot.renew(fence, bytes_so_far, now, terms);
        store(&mut tx, &object, &slot).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Gives a lease back without a blob. Answers whether it was still the replica's.
    pub(crate) async fn release(
        &self,
        replica_id: &str,
        lease_id: &str,
        fence: Fence,
    ) -> Result<bool, IndexError> {
        let mut tx = self.write().await?;
        let Some((object, mut slot)) = by_id(&mut tx, replica_id, lease_id).await? else {
            return Ok(false);
        };
        let was_held = slot.release(fence);
        store(&mut tx, &object, &slot).await?;
        tx.commit().await?;
        Ok(was_held)
    }

    /// Ends leases whose holders are gone, and forgets those that ended more than `keep_ms` ago.
    pub(crate) async fn sweep_leases(
        &self,
        now: UnixMs,
        terms: Terms,
        keep_ms: u64,
    ) -> Result<(), IndexError> {
        let mut tx = self.write().await?;
        let held = "SELECT lease_id, replica_id FROM leases WHERE phase = 'held'";
        let rows: Vec<(String, String)> = sqlx::query_as(held).fetch_all(&mut *tx).await?;
        for (lease_id, replica_id) in rows {
            if let Some((object, mut slot)) = by_id(&mut tx, &replica_id, &lease_id).await?
                && slot.expire(now, terms)
            {
                tracing::info!(name = object.name, replica_id, "lease abandoned: its holder is gone");
                store(&mut tx, &object, &slot).await?;
            }
        }
        let sql = "DELETE FROM leases WHERE phase <> 'held' AND expires_ms < $1";
        sqlx::query(sql).bind(now.before_ms(keep_ms).get()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Ends the lease with a blob. Answers whether its fence was the newest.
pub(super) async fn commit(
    tx: &mut Connection,
    replica_id: &str,
    lease_id: &str,
    fence: Fence,
) -> Result<bool, IndexError> {
    let Some((object, mut slot)) = by_id(tx, replica_id, lease_id).await? else { return Ok(false) };
    let current = slot.commit(fence);
    store(tx, &object, &slot).await?;
    Ok(current)
}

/// The fence is in the id, so an id is never given out twice.
fn lease_id(fence: Fence) -> String {
    format!("lease-{}", fence.get())
}

async fn slot_of(tx: &mut Connection, object: &Object) -> Result<LeaseSlot<String>, IndexError> {
    let sql = "SELECT lease_id, fence, replica_id, phase, bytes_so_far, granted_ms, expires_ms FROM leases
               WHERE name = $1 AND algorithm = $2 AND digest = $3";
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(&object.name)
        .bind(&object.algorithm)
        .bind(&object.digest)
        .fetch_optional(tx)
        .await?;
    row.map_or_else(|| Ok(LeaseSlot::default()), |row| Ok(LeaseSlot::with_last(lease(row)?)))
}

async fn by_id(
    tx: &mut Connection,
    replica_id: &str,
    lease_id: &str,
) -> Result<Option<(Object, LeaseSlot<String>)>, IndexError> {
    let sql = "SELECT name, algorithm, digest, size_bytes FROM leases
               WHERE lease_id = $1 AND replica_id = $2";
    let row: Option<(String, String, Vec<u8>, i64)> =
        sqlx::query_as(sql).bind(lease_id).bind(replica_id).fetch_optional(&mut *tx).await?;
    let Some((name, algorithm, digest, size)) = row else { return Ok(None) };
    let object = Object { name, algorithm, digest, size_bytes: from_sql(size) };
    let slot = slot_of(tx, &object).await?;
    Ok(Some((object, slot)))
}

fn lease(row: Row) -> Result<Lease<String>, IndexError> {
    let (_, fence, holder, phase, bytes, granted, expires) = row;
    Ok(Lease {
        holder,
        fence: Fence::new(from_sql(fence)),
        phase: Phase::from_name(&phase).ok_or(IndexError::Row("leases.phase"))?,
        bytes_so_far: from_sql(bytes),
        granted: UnixMs::new(granted),
        expires: UnixMs::new(expires),
    })
}

async fn store(tx: &mut Connection, object: &Object, slot: &LeaseSlot<String>) -> Result<(), IndexError> {
    let Some(lease) = slot.last() else { return Ok(()) };
    let sql = "INSERT INTO leases (name, algorithm, digest, size_bytes, lease_id, fence, replica_id, phase,
                                   bytes_so_far, granted_ms, expires_ms)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
               ON CONFLICT (name, algorithm, digest) DO UPDATE SET
                 size_bytes = excluded.size_bytes, lease_id = excluded.lease_id, fence = excluded.fence,
                 replica_id = excluded.replica_id, phase = excluded.phase,
                 bytes_so_far = excluded.bytes_so_far, granted_ms = excluded.granted_ms,
                 expires_ms = excluded.expires_ms";
    sqlx::query(sql)
        .bind(&object.name)
        .bind(&object.algorithm)
        .bind(&object.digest)
        .bind(to_sql(object.size_bytes))
        .bind(lease_id(lease.fence))
        .bind(to_sql(lease.fence.get()))
        .bind(&lease.holder)
        .bind(lease.phase.as_str())
        .bind(to_sql(lease.bytes_so_far))
        .bind(lease.granted.get())
        .bind(lease.expires.get())
        .execute(tx)
        .await?;
    Ok(())
}

/// Other replicas that have the object and say where they are reached, as (id, address).
async fn holders_of(
    tx: &mut Connection,
    object: &Object,
    asker: &str,
) -> Result<Vec<(String, String)>, IndexError> {
    let blake2b = if object.algorithm == "BLAKE2B" {
        Some(object.digest.clone())
    } else {
        let sql = "SELECT blake2b FROM objects WHERE name = $1 AND algorithm = $2 AND digest = $3";
        let query = sqlx::query_scalar(sql).bind(&object.name).bind(&object.algorithm);
        query.bind(&object.digest).fetch_optional(&mut *tx).await?
    };
    let Some(blake2b) = blake2b else { return Ok(Vec::new()) };
    let sql = "SELECT h.replica_id, r.advertise FROM holders h JOIN replicas r ON r.replica_id = h.replica_id
               WHERE h.blake2b = $1 AND h.replica_id <> $2 AND r.advertise <> '' AND h.quarantined = 0
               ORDER BY h.added_ms LIMIT 16";
    Ok(sqlx::query_as(sql).bind(blake2b).bind(asker).fetch_all(tx).await?)
}
