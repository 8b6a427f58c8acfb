//! The catalogue: which modules there are, and what changed since.

use cache_policy::UnixMs;
use cache_policy::eviction::brake::{BrakeLimits, vanished_excess};
use cache_policy::eviction::catalogue::{Loss, Pace};
use prost::Message as _;
use rookery_proto::v1::Distfile;

use super::connection::Connection;
use super::{Index, IndexError, from_sql, height, to_sql};

/// What the catalogue holds of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleState {
    pub(crate) name: String,
    /// What it was imported from; 0 before the first import.
    pub(crate) generation: u64,
    pub(crate) revision: i64,
    pub(crate) distfiles: u64,
    pub(crate) series_floor: u64,
}

/// One row of a difference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) revision: i64,
    /// `None`: the module no longer refers to it.
    pub(crate) distfile: Option<Distfile>,
    /// What the row takes in a message, about.
    pub(crate) encoded_bytes: usize,
}

impl Index {
    /// The modules, in the order in which they are asked for a name.
    pub(crate) async fn modules(&self) -> Result<Vec<ModuleState>, IndexError> {
        let mut tx = self.read().await?;
        modules(&mut tx).await
    }

    /// Takes over sync-server's list of modules. A module that is no longer in it is forgotten with all
    /// its distfiles; if those are more than `brakes` let go of, nothing is evicted for it before the operator
    /// agrees. Answers whether anything changed.
    pub(crate) async fn set_modules(
        &self,
        names: &[String],
        brakes: BrakeLimits,
        now: UnixMs,
    ) -> Result<bool, IndexError> {
        let mut tx = self.write().await?;
        let known = modules(&mut tx).await?;
        if known.iter().map(|module| &module.name).eq(names) {
            return Ok(false);
        }
        for module in known.iter().filter(|module| !names.contains(&module.name)) {
            tracing::warn!(
                module = module.name,
                "sync-server no longer has this module: its catalogue is dropped"
            );
            drop_module(&mut tx, module, brakes, now).await?;
        }
        for (position, name) in (0_i64..).zip(names) {
            let sql = "INSERT INTO modules (name, position) VALUES ($1, $2)
                       ON CONFLICT (name) DO UPDATE SET position = excluded.position";
            sqlx::query(sql).bind(name).bind(position).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The revision that a replica has that says it holds `generation`; `None` if that can't be known any
    /// more, so that it needs everything.
    pub(crate) async fn revision_of(
        &self,
        module: &ModuleState,
        generation: u64,
    ) -> Result<Option<i64>, IndexError> {
        if generation < module.series_floor {
            return Ok(None);
        }
        let sql = "SELECT revision FROM generations WHERE module = $1 AND generation = $2";
        let query = sqlx::query_scalar(sql).bind(&module.name).bind(to_sql(generation));
        Ok(query.fetch_optional(&self.reader).await?)
    }

    /// Whether the removed rows that a difference from `revision` needs are still there.
    pub(crate) async fn can_start_from(&self, module: &str, revision: i64) -> Result<bool, IndexError> {
        let sql = "SELECT COUNT(*) FROM generations WHERE module = $1 AND revision <= $2";
        let count: i64 = sqlx::query_scalar(sql).bind(module).bind(revision).fetch_one(&self.reader).await?;
        Ok(count > 0)
    }

    /// The next changes after (revision, name), up to and including `until`, in that order.
    pub(crate) async fn changes(
        &self,
        module: &str,
        after: (i64, &str),
        until: i64,
        limit: u32,
    ) -> Result<Vec<Change>, IndexError> {
        let sql = "SELECT name, revision, removed, record FROM distfiles
                   WHERE module = $1 AND (revision, name) > ($2, $3) AND revision <= $4
                   ORDER BY revision, name LIMIT $5";
        let rows: Vec<(String, i64, i64, Vec<u8>)> = sqlx::query_as(sql)
            .bind(module)
            .bind(after.0)
            .bind(after.1)
            .bind(until)
            .bind(i64::from(limit))
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(change).collect()
    }
}

fn change((name, revision, removed, record): (String, i64, i64, Vec<u8>)) -> Result<Change, IndexError> {
    let encoded_bytes = if removed == 0 { record.len() } else { name.len() } + 8;
    let distfile = if removed == 0 {
        let record = Distfile::decode(record.as_slice());
        Some(record.map_err(|_| IndexError::Row("distfiles.record"))?)
    } else {
        None
    };
    Ok(Change { name, revision, distfile, encoded_bytes })
}

async fn drop_module(
    tx: &mut Connection,
    module: &ModuleState,
    brakes: BrakeLimits,
    now: UnixMs,
) -> Result<(), IndexError> {
    let name = &module.name;
    let sql = "SELECT MAX(suspect_before, distfiles) FROM modules WHERE name = $1";
    let before: i64 = sqlx::query_scalar(sql).bind(name).fetch_one(&mut *tx).await?;
    let heights = height::load(tx, name).await?.after(from_sql(before), brakes, now);
    let before = heights.highest().map_or(0, |highest| highest.before).max(from_sql(before));
    for sql in ["DELETE FROM distfiles WHERE module = $1", "DELETE FROM generations WHERE module = $1"] {
        sqlx::query(sql).bind(name).execute(&mut *tx).await?;
    }
    if vanished_excess(before, brakes).is_none() {
        height::forget(tx, name).await?;
        sqlx::query("DELETE FROM modules WHERE name = $1").bind(name).execute(tx).await?;
        return Ok(());
    }
    let gone = Loss { pace: Pace::AtOnce, since: now, before, lost: before };
    let (before, lost, pace, since) = height::doubt(Some(gone));
    // A place before the first: it is no module any more, and its loss is remembered.
    let sql = "UPDATE modules SET position = -1, generation = 0, distfiles = 0, suspect_before = $2,
                 suspect_lost = $3, suspect_pace = $4, suspect_since_ms = $5 WHERE name = $1";
    let query = sqlx::query(sql).bind(name).bind(before).bind(lost).bind(pace).bind(since);
    query.execute(tx).await?;
    Ok(())
}

pub(super) async fn modules(conn: &mut Connection) -> Result<Vec<ModuleState>, IndexError> {
    let sql = "SELECT name, generation, revision, distfiles, series_floor FROM modules
               WHERE position >= 0 ORDER BY position, name";
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(sql).fetch_all(conn).await?;
    let state = |(name, generation, revision, distfiles, floor)| ModuleState {
        name,
        generation: from_sql(generation),
        revision,
        distfiles: from_sql(distfiles),
        series_floor: from_sql(floor),
    };
    Ok(rows.into_iter().map(state).collect())
}
