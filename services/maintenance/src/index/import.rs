//! A generation's distfiles on their way into the catalogue.
//!
//! They are staged first, one small transaction for each message, and become the catalogue in one
//! transaction at the end. So a slow or stalled sync-server never keeps the index from granting leases, and
//! whoever reads sees the old generation or the new one.

use cache_policy::UnixMs;
use cache_policy::eviction::brake::BrakeLimits;
use cache_policy::eviction::catalogue::{Belief, CatalogueChange, Loss, judge_catalogue};
use prost::Message as _;
use rookery_proto::v1::{Distfile, Generation};
use sqlx::{QueryBuilder, Sqlite};

use super::connection::Connection;
use super::eviction::Suspect;
use super::{
    Index, IndexError, ROWS_PER_INSERT, contradiction, counter, from_sql, height, references, to_sql,
};

/// From how many generations back a replica gets differences instead of everything.
const GENERATIONS_KEPT: i64 = 32;

/// Blobs that an import looks at in its own transaction; if it touches more, all are looked at afterwards.
const TOUCHED_MAX: usize = 10_000;

/// What is asked of sync-server to get to a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The catalogue is there already.
    Done,
    /// Changes since this generation; 0: everything.
    Since(u64),
}

/// What an import changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportSummary {
    pub(crate) changed: u64,
    pub(crate) removed: u64,
    pub(crate) distfiles: u64,
    /// sync-server counts from the beginning again: its state was lost.
    pub(crate) new_series: bool,
    /// So much is gone at once that nothing is evicted for it before the operator agrees.
    pub(crate) suspect: Option<Suspect>,
}

struct Held {
    generation: i64,
    published_ms: i64,
    series_floor: i64,
    distfiles: i64,
    /// What it is not believed for.
    doubted: Option<Loss>,
}

impl Held {
    /// Numbers only grow in one life of sync-server's state. A lower one, or the same one published at
    /// another time, is another life's.
    fn is_other_series(&self, generation: &Generation) -> bool {
        let number = to_sql(generation.number);
        number < self.generation
            || (number == self.generation && generation.published_ms != self.published_ms)
    }
}

impl Index {
    /// Begins an import: forgets what an unfinished one staged, and says what to ask for.
    pub(crate) async fn begin_import(&self, generation: &Generation) -> Result<Step, IndexError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM staged_distfiles").execute(&mut *tx).await?;
        let held = held(&mut tx, &generation.module).await?;
        tx.commit().await?;
        Ok(if held.generation == 0 || held.is_other_series(generation) {
            Step::Since(0)
        } else if held.generation == to_sql(generation.number) {
            Step::Done
        } else {
            Step::Since(from_sql(held.generation))
        })
    }

    /// Adds a batch to what is staged. A later mention of a name replaces an earlier one.
    pub(crate) async fn stage(&self, upserts: &[Distfile], removes: &[String]) -> Result<(), IndexError> {
        let mut tx = self.write().await?;
        for rows in upserts.chunks(ROWS_PER_INSERT) {
            let mut sql = staged_insert();
            sql.push_values(rows, |mut values, distfile| {
                let blake2b = distfile.digests.iter().find(|digest| digest.algorithm == "BLAKE2B");
                values.push_bind(distfile.name.clone()).push_bind(to_sql(distfile.size_bytes));
                values.push_bind(blake2b.map(|digest| digest.value.clone()));
                values.push_bind(distfile.restriction).push_bind(0);
                values.push_bind(distfile.encode_to_vec()).push_bind(distfile.packages.join(" "));
            });
            finish_staged_insert(sql, &mut tx).await?;
        }
        for names in removes.chunks(ROWS_PER_INSERT) {
            let mut sql = staged_insert();
            sql.push_values(names, |mut values, name| {
                values.push_bind(name.clone()).push_bind(0).push_bind(None::<Vec<u8>>);
                values.push_bind(0).push_bind(1).push_bind(Vec::<u8>::new()).push_bind("");
            });
            finish_staged_insert(sql, &mut tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Makes what is staged the module's catalogue. With `everything`, names that were not staged are
    /// gone; otherwise only those staged as removed.
    pub(crate) async fn finish_import(
        &self,
        generation: &Generation,
        everything: bool,
        brakes: BrakeLimits,
        now: UnixMs,
    ) -> Result<ImportSummary, IndexError> {
        let module = &generation.module;
        let mut tx = self.write().await?;
        let held = held(&mut tx, module).await?;
        let new_series = held.generation != 0 && held.is_other_series(generation);
        let revision = counter::add(&mut tx, counter::REVISION, 1).await?;
        let mut touched = if everything { Vec::new() } else { meant_before(&mut tx, module).await? };
        let changed = merge_upserts(&mut tx, module, revision).await?;
        let removed = merge_removes(&mut tx, module, revision, everything).await?;
        touched.extend(contradiction::correct(&mut tx, module, revision).await?);
        let series_floor = if new_series {
            // Until the new numbers have passed the old ones, nobody's word for a number counts.
            sqlx::query("DELETE FROM generations WHERE module = $1").bind(module).execute(&mut *tx).await?;
            held.generation.max(held.series_floor - 1) + 1
        } else {
            held.series_floor
        };
        let count = "SELECT COUNT(*) FROM distfiles WHERE module = $1 AND removed = 0";
        let distfiles: i64 = sqlx::query_scalar(count).bind(module).fetch_one(&mut *tx).await?;
        let change = CatalogueChange {
            before: from_sql(held.distfiles),
            removed,
            after: from_sql(distfiles),
            doubted: held.doubted,
        };
        let doubted = judge(&mut tx, module, &change, brakes, now).await?;
        let (suspect_before, suspect_lost, suspect_pace, suspect_since) = height::doubt(doubted);
        let sql = "UPDATE modules SET generation = $2, published_ms = $3, revision = $4, distfiles = $5,
                     imported_ms = $6, series_floor = $7, suspect_before = $8, suspect_lost = $9,
                     suspect_pace = $10, suspect_since_ms = $11
                   WHERE name = $1";
        sqlx::query(sql)
            .bind(module)
            .bind(to_sql(generation.number))
            .bind(generation.published_ms)
            .bind(revision)
            .bind(distfiles)
            .bind(now.get())
            .bind(series_floor)
            .bind(suspect_before)
            .bind(suspect_lost)
            .bind(suspect_pace)
            .bind(suspect_since)
            .execute(&mut *tx)
            .await?;
        remember_generation(&mut tx, module, to_sql(generation.number), revision, now).await?;
        sqlx::query("DELETE FROM staged_distfiles").execute(&mut *tx).await?;
        // A catalogue that is believed again gives reasons to blobs that it did not touch.
        let touches_all = everything || (held.doubted.is_some() && doubted.is_none());
        if !touches_all {
            touched.extend(meant_now(&mut tx, module, revision).await?);
        }
        let is_large = touches_all || touched.len() > TOUCHED_MAX;
        if !is_large {
            references::refresh(&mut tx, &touched, now).await?;
            references::withdraw(&mut tx, now).await?;
        }
        tx.commit().await?;
        if is_large {
            self.refresh_references(now).await?;
        }
        let suspect = doubted.map(|loss| Suspect::new(module.clone(), false, loss, brakes));
        Ok(ImportSummary { changed, removed, distfiles: from_sql(distfiles), new_series, suspect })
    }
}

/// What the module is not believed for from now on; notes what it had until now.
async fn judge(
    tx: &mut Connection,
    module: &str,
    change: &CatalogueChange,
    brakes: BrakeLimits,
    now: UnixMs,
) -> Result<Option<Loss>, IndexError> {
    let heights = height::load(tx, module).await?.after(change.before, brakes, now);
    height::store(tx, module, &heights).await?;
    Ok(match judge_catalogue(change, &heights, brakes, now) {
        Belief::Believed => None,
        Belief::Doubted(loss, _) => Some(loss),
    })
}

async fn held(tx: &mut Connection, module: &str) -> Result<Held, IndexError> {
    let sql = "SELECT generation, published_ms, series_floor, distfiles FROM modules WHERE name = $1";
    let row: Option<(i64, i64, i64, i64)> = sqlx::query_as(sql).bind(module).fetch_optional(&mut *tx).await?;
    if let Some((generation, published_ms, series_floor, distfiles)) = row {
        let doubted = height::doubted(tx, module).await?;
        // One that was gone is back before the next listing.
        let sql = "UPDATE modules SET position = (SELECT MAX(m.position) + 1 FROM modules m)
                   WHERE name = $1 AND position < 0";
        sqlx::query(sql).bind(module).execute(tx).await?;
        return Ok(Held { generation, published_ms, series_floor, distfiles, doubted });
    }
    // Published after the last listing: last in order until the next one.
    let sql = "INSERT INTO modules (name, position) SELECT $1, COALESCE(MAX(position), -1) + 1 FROM modules";
    sqlx::query(sql).bind(module).execute(tx).await?;
    Ok(Held { generation: 0, published_ms: 0, series_floor: 0, distfiles: 0, doubted: None })
}

fn staged_insert() -> QueryBuilder<Sqlite> {
    QueryBuilder::new(
        "INSERT INTO staged_distfiles (name, size_bytes, blake2b, restriction, removed, record, packages) ",
    )
}

async fn finish_staged_insert(mut sql: QueryBuilder<Sqlite>, tx: &mut Connection) -> Result<(), IndexError> {
    sql.push(
        " ON CONFLICT (name) DO UPDATE SET size_bytes = excluded.size_bytes, blake2b = excluded.blake2b,
            restriction = excluded.restriction, removed = excluded.removed, record = excluded.record,
            packages = excluded.packages",
    );
    sql.build().execute(tx).await?;
    Ok(())
}

/// The blobs that the module's distfiles of the staged names mean until now.
async fn meant_before(tx: &mut Connection, module: &str) -> Result<Vec<Vec<u8>>, IndexError> {
    // CROSS: begun from the few that are staged, and not from all that the module has.
    let sql = "SELECT d.blake2b FROM staged_distfiles s CROSS JOIN distfiles d
               WHERE d.module = $1 AND d.name = s.name AND d.blake2b IS NOT NULL";
    Ok(sqlx::query_scalar(sql).bind(module).fetch_all(tx).await?)
}

/// The blobs that the distfiles of a revision mean or, where they are removed, meant; by name, too, for
/// those without a digest that we know.
async fn meant_now(tx: &mut Connection, module: &str, revision: i64) -> Result<Vec<Vec<u8>>, IndexError> {
    let sql = "SELECT d.blake2b FROM distfiles d
               WHERE d.module = $1 AND d.revision = $2 AND d.blake2b IS NOT NULL
               UNION
               SELECT n.blake2b FROM distfiles d JOIN names n ON n.name = d.name
               WHERE d.module = $1 AND d.revision = $2";
    Ok(sqlx::query_scalar(sql).bind(module).bind(revision).fetch_all(tx).await?)
}

/// Only rows that really differ get the new revision: after a full import that changed little, replicas
/// still get a small difference.
async fn merge_upserts(tx: &mut Connection, module: &str, revision: i64) -> Result<u64, IndexError> {
    let sql = "INSERT INTO distfiles
                 (module, name, size_bytes, blake2b, restriction, removed, revision, record, packages)
               SELECT $1, s.name, s.size_bytes, s.blake2b, s.restriction, 0, $2, s.record, s.packages
               FROM staged_distfiles s
               WHERE s.removed = 0 AND NOT EXISTS (
                 SELECT 1 FROM distfiles d WHERE d.module = $1 AND d.name = s.name
                   AND d.removed = 0 AND d.record = s.record)
               ORDER BY s.name
               ON CONFLICT (module, name) DO UPDATE SET
                 size_bytes = excluded.size_bytes, blake2b = excluded.blake2b,
                 restriction = excluded.restriction, removed = 0, revision = excluded.revision,
                 record = excluded.record, packages = excluded.packages";
    let done = sqlx::query(sql).bind(module).bind(revision).execute(tx).await?;
    Ok(done.rows_affected())
}

async fn merge_removes(
    tx: &mut Connection,
    module: &str,
    revision: i64,
    everything: bool,
) -> Result<u64, IndexError> {
    let sql = if everything {
        "UPDATE distfiles SET removed = 1, revision = $2 WHERE module = $1 AND removed = 0
           AND name NOT IN (SELECT s.name FROM staged_distfiles s WHERE s.removed = 0)"
    } else {
        "UPDATE distfiles SET removed = 1, revision = $2 WHERE module = $1 AND removed = 0
           AND name IN (SELECT s.name FROM staged_distfiles s WHERE s.removed = 1)"
    };
    let done = sqlx::query(sql).bind(module).bind(revision).execute(tx).await?;
    Ok(done.rows_affected())
}

/// Keeps the last generations as places that differences start from, and the removed rows that the
/// oldest of them needs.
async fn remember_generation(
    tx: &mut Connection,
    module: &str,
    generation: i64,
    revision: i64,
    now: UnixMs,
) -> Result<(), IndexError> {
    let sql = "INSERT INTO generations (module, generation, revision, imported_ms) VALUES ($1, $2, $3, $4)
               ON CONFLICT (module, generation) DO UPDATE SET
                 revision = excluded.revision, imported_ms = excluded.imported_ms";
    let query = sqlx::query(sql).bind(module).bind(generation).bind(revision).bind(now.get());
    query.execute(&mut *tx).await?;
    let oldest = "SELECT revision FROM generations WHERE module = $1
                  ORDER BY revision DESC LIMIT 1 OFFSET $2";
    let query = sqlx::query_scalar(oldest).bind(module).bind(GENERATIONS_KEPT - 1);
    let oldest: Option<i64> = query.fetch_optional(&mut *tx).await?;
    if let Some(oldest) = oldest {
        for sql in [
            "DELETE FROM generations WHERE module = $1 AND revision < $2",
            "DELETE FROM distfiles WHERE module = $1 AND removed = 1 AND revision <= $2",
        ] {
            sqlx::query(sql).bind(module).bind(oldest).execute(&mut *tx).await?;
        }
    }
    Ok(())
}
