//! Who asked for what, and how its sources did.

use std::collections::BTreeMap;

use cache_policy::UnixMs;
use cache_policy::eviction::BlobKey;

use super::status::Totals;
use super::{Index, IndexError, SourceReport, counter, day, from_sql, source, to_sql};

/// One request of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessRecord {
    pub(crate) name: String,
    /// `None` when nothing was served.
    pub(crate) blob: Option<BlobKey>,
    pub(crate) client: String,
    pub(crate) at_ms: i64,
    pub(crate) bytes_served: u64,
    pub(crate) hit: bool,
}

#[derive(Default)]
struct Tally {
    requests: i64,
    hits: i64,
    bytes_served: u64,
    last_ms: i64,
}

impl Index {
    /// Counts a report once, however often it comes. Answers whether it was new.
    pub(crate) async fn count_accesses(
        &self,
        replica_id: &str,
        report_id: &str,
        accesses: &[AccessRecord],
        sources: &[SourceReport],
        now: UnixMs,
    ) -> Result<bool, IndexError> {
        let mut tx = self.write().await?;
        let sql = "INSERT INTO reports (replica_id, report_id, received_ms) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING";
        let seen = sqlx::query(sql).bind(replica_id).bind(report_id).bind(now.get());
        if seen.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let mut by_client: BTreeMap<(&str, &str), Tally> = BTreeMap::new();
        let mut by_blob: BTreeMap<BlobKey, i64> = BTreeMap::new();
        let mut total = Tally::default();
        for access in accesses {
            // A replica whose clock is ahead must not protect a blob for ever.
            let at_ms = access.at_ms.min(now.get());
            let tally = by_client.entry((&access.name, &access.client)).or_default();
            for tally in [tally, &mut total] {
                tally.requests += 1;
                tally.hits += i64::from(access.hit);
                tally.bytes_served = tally.bytes_served.saturating_add(access.bytes_served);
                tally.last_ms = tally.last_ms.max(at_ms);
            }
            if let Some(blob) = access.blob {
                let last = by_blob.entry(blob).or_default();
                *last = at_ms.max(*last);
            }
        }
        for ((name, client), tally) in by_client {
            let sql = "INSERT INTO accesses (name, client, requests, hits, bytes_served, last_ms)
                       VALUES ($1, $2, $3, $4, $5, $6)
                       ON CONFLICT (name, client) DO UPDATE SET
                         requests = accesses.requests + excluded.requests,
                         hits = accesses.hits + excluded.hits,
                         bytes_served = accesses.bytes_served + excluded.bytes_served,
                         last_ms = CASE WHEN accesses.last_ms < excluded.last_ms
                                        THEN excluded.last_ms ELSE accesses.last_ms END";
            let query = sqlx::query(sql).bind(name).bind(client).bind(tally.requests).bind(tally.hits);
            query.bind(to_sql(tally.bytes_served)).bind(tally.last_ms).execute(&mut *tx).await?;
        }
        for (blob, last_ms) in by_blob {
            let sql = "UPDATE blobs SET last_access_ms = $2 WHERE blake2b = $1 AND last_access_ms < $2";
            sqlx::query(sql).bind(blob.as_bytes().as_slice()).bind(last_ms).execute(&mut *tx).await?;
        }
        counter::add(&mut tx, counter::REQUESTS, total.requests).await?;
        counter::add(&mut tx, counter::HITS, total.hits).await?;
        counter::add(&mut tx, counter::BYTES_SERVED, to_sql(total.bytes_served)).await?;
        let today = Totals {
            requests: from_sql(total.requests),
            hits: from_sql(total.hits),
            bytes_served: total.bytes_served,
            bytes_fetched: 0,
        };
        day::add(&mut tx, now, today).await?;
        source::note(&mut tx, replica_id, sources, now).await?;
        let sql = "UPDATE replicas SET last_seen_ms = $2 WHERE replica_id = $1";
        sqlx::query(sql).bind(replica_id).bind(now.get()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}
