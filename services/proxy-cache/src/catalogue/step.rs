//! One module's step to its next generation, in one transaction.

use std::collections::BTreeMap;

use gentoo_repo::Distfile;
use rookery_proto::v1::DistfileChanges;
use sqlx::{QueryBuilder, Sqlite, Transaction};
use tracing::{info, warn};

use super::row::{self, Columns};
use super::source_url::SourceKey;
use super::{Catalogue, CatalogueError};

/// Rows of one statement: 8 columns each, far below what sqlite lets bind.
const ROWS_PER_STATEMENT: usize = 256;
/// Octets of a module's name.
const MODULE_OCTETS_MAX: usize = 255;
/// Modules, and names in an order: maintenance takes no more of those that a replica has.
const MODULES_MAX: usize = 1000;
/// What one step may change: dozens of times what the largest tree has.
const CHANGES_MAX: usize = 5_000_000;
/// What is left out is told by name so often in one step.
const TOLD_MAX: usize = 10;
/// Modules that the order does not name are asked last.
pub(super) const RANK_LAST: i64 = 1_000_000;

/// An unfinished step. Dropping it leaves the catalogue as it was.
#[derive(Debug)]
pub struct Step {
    catalogue: Catalogue,
    transaction: Transaction<'static, Sqlite>,
    module: String,
    module_id: i64,
    generation: i64,
    next_distfile_id: i64,
    /// The module has no rows, so nothing needs to be deleted before it is inserted.
    is_blank: bool,
    /// The copy has this generation or a newer one: only a reset may change it.
    is_stale: bool,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    changes: usize,
    upserts: usize,
    removes: usize,
    unusable: usize,
}

impl Step {
    pub(super) async fn begin(
        catalogue: Catalogue,
        module: &str,
        generation: u64,
    ) -> Result<Self, CatalogueError> {
        let is_name = (1..=MODULE_OCTETS_MAX).contains(&module.len())
            && !module.contains(|c: char| c == '/' || c.is_control());
        if !is_name {
            let octets = module.len();
            return Err(CatalogueError::Protocol(format!("{octets} octets that are no module's name")));
        }
        let generation = i64::try_from(generation)
            .map_err(|_| CatalogueError::Protocol(format!("{module}: generation {generation}")))?;
        let mut transaction = catalogue.pools().writer.begin().await?;
        let others: i64 =
            sqlx::query_scalar("SELECT count(*) FROM module WHERE generation > 0 AND name <> ?1")
                .bind(module)
                .fetch_one(&mut *transaction)
                .await?;
        within("modules", usize::try_from(others).unwrap_or(usize::MAX).saturating_add(1), MODULES_MAX)?;
        sqlx::query("INSERT INTO module (name, generation, rank) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING")
            .bind(module)
            .bind(RANK_LAST)
            .execute(&mut *transaction)
            .await?;
        let (module_id, have): (i64, i64) =
            sqlx::query_as("SELECT id, generation FROM module WHERE name = ?1")
                .bind(module)
                .fetch_one(&mut *transaction)
                .await?;
        let next_distfile_id = sqlx::query_scalar("SELECT coalesce(max(id), 0) + 1 FROM distfile")
            .fetch_one(&mut *transaction)
            .await?;
        let is_blank: bool =
            sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM distfile WHERE module = ?1)")
                .bind(module_id)
                .fetch_one(&mut *transaction)
                .await?;
        Ok(Self {
            catalogue,
            transaction,
            module: module.to_owned(),
            module_id,
            generation,
            next_distfile_id,
            is_blank,
            is_stale: generation <= have,
            counts: Counts::default(),
        })
    }

    /// Whether a part belongs to this step.
    #[must_use]
    pub fn is_for(&self, module: &str, generation: u64) -> bool {
        self.module == module && i64::try_from(generation) == Ok(self.generation)
    }

    /// Applies one part. A name that is removed and upserted in one part is there afterwards.
    ///
    /// # Errors
    /// The local file can't be written; the step is lost.
    pub async fn apply(&mut self, changes: &DistfileChanges) -> Result<(), CatalogueError> {
        if changes.reset {
            self.reset().await?;
        }
        if self.is_stale {
            return Ok(());
        }
        self.counts.changes += changes.upserts.len() + changes.removes.len();
        within("changes in one step", self.counts.changes, CHANGES_MAX)?;
        let mut upserts = BTreeMap::new();
        for wire in &changes.upserts {
            match row::from_wire(wire) {
                Ok(distfile) => drop(upserts.insert(distfile.name.clone(), distfile)),
                Err(error) => {
                    self.counts.unusable += 1;
                    if self.counts.unusable <= TOLD_MAX {
                        warn!(module = self.module, %error, "left out of the catalogue");
                    }
                }
            }
        }
        if !self.is_blank {
            let replaced = changes.upserts.iter().map(|wire| wire.name.as_str());
            let names: Vec<&str> = changes.removes.iter().map(String::as_str).chain(replaced).collect();
            self.delete(&names).await?;
        }
        self.counts.upserts += upserts.len();
        self.counts.removes += changes.removes.len();
        self.insert(&upserts.into_values().collect::<Vec<_>>()).await
    }

    /// Makes everything that was applied visible, with the modules' order.
    ///
    /// # Errors
    /// The local file can't be written; the step is lost.
    pub async fn complete(mut self, module_order: &[String]) -> Result<(), CatalogueError> {
        if !self.is_stale {
            sqlx::query("UPDATE module SET generation = ?2 WHERE id = ?1")
                .bind(self.module_id)
                .bind(self.generation)
                .execute(&mut *self.transaction)
                .await?;
        }
        set_order(&mut self.transaction, module_order).await?;
        self.transaction.commit().await?;
        self.catalogue.shared.recent.forget();
        self.catalogue.count_modules().await?;
        info!(
            module = self.module,
            generation = self.generation,
            upserts = self.counts.upserts,
            removes = self.counts.removes,
            unusable = self.counts.unusable,
            stale = self.is_stale,
            "catalogue imported"
        );
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), CatalogueError> {
        sqlx::query("DELETE FROM distfile WHERE module = ?1")
            .bind(self.module_id)
            .execute(&mut *self.transaction)
            .await?;
        self.is_blank = true;
        self.is_stale = false;
        Ok(())
    }

    async fn delete(&mut self, names: &[&str]) -> Result<(), CatalogueError> {
        for names in names.chunks(ROWS_PER_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM distfile WHERE module = ");
            query.push_bind(self.module_id).push(" AND name IN (");
            let mut list = query.separated(", ");
            for name in names {
                list.push_bind(*name);
            }
            query.push(")").build().execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    async fn insert(&mut self, distfiles: &[Distfile]) -> Result<(), CatalogueError> {
        // Parts of one step may name the same distfile, so only the first one finds the module blank.
        self.is_blank &= distfiles.is_empty();
        for distfiles in distfiles.chunks(ROWS_PER_STATEMENT) {
            let first_id = self.next_distfile_id;
            let mut query = QueryBuilder::<Sqlite>::new(
                "INSERT INTO distfile (id, module, name, size_bytes, restriction, digests, sources, packages) ",
            );
            query.push_values((first_id..).zip(distfiles), |mut row, (id, distfile)| {
                let columns = Columns::encode(distfile);
                row.push_bind(id)
                    .push_bind(self.module_id)
                    .push_bind(distfile.name.as_str())
                    .push_bind(columns.size_bytes)
                    .push_bind(columns.restriction)
                    .push_bind(columns.digests)
                    .push_bind(columns.sources)
                    .push_bind(columns.packages);
            });
            query.build().execute(&mut *self.transaction).await?;
            let sources = (first_id..).zip(distfiles).flat_map(|(id, distfile)| {
                distfile.sources.iter().filter_map(move |url| Some((SourceKey::parse(url)?.hash(), id)))
            });
            self.insert_sources(&sources.collect::<Vec<_>>()).await?;
            self.next_distfile_id += i64::try_from(distfiles.len()).unwrap_or(i64::MAX);
        }
        Ok(())
    }

    async fn insert_sources(&mut self, sources: &[(i64, i64)]) -> Result<(), CatalogueError> {
        for sources in sources.chunks(4 * ROWS_PER_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new("INSERT OR IGNORE INTO source (url_hash, distfile) ");
            query.push_values(sources, |mut row, (url_hash, distfile)| {
                row.push_bind(*url_hash).push_bind(*distfile);
            });
            query.build().execute(&mut *self.transaction).await?;
        }
        Ok(())
    }
}

fn within(what: &str, found: usize, limit: usize) -> Result<(), CatalogueError> {
    if found <= limit {
        return Ok(());
    }
    Err(CatalogueError::Protocol(format!("at most {limit} {what} are expected, found {found}")))
}

/// The first module of `order` is asked first; the ones that it does not name are asked last. An empty
/// order says nothing.
pub(super) async fn set_order(
    transaction: &mut Transaction<'static, Sqlite>,
    order: &[String],
) -> Result<(), CatalogueError> {
    if order.is_empty() {
        return Ok(());
    }
    within("modules in an order", order.len(), MODULES_MAX)?;
    sqlx::query("UPDATE module SET rank = ?1").bind(RANK_LAST).execute(&mut **transaction).await?;
    for (rank, module) in (0_i64..).zip(order) {
        sqlx::query("UPDATE module SET rank = ?2 WHERE name = ?1")
            .bind(module)
            .bind(rank)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
