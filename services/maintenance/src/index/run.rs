//! Runs: what was done by schedule or by command, and when.

use cache_policy::UnixMs;

use super::{Index, IndexError, counter};

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// The scheduled one: publish, then evict.
    Nightly,
    /// An eviction, alone or as a part of the nightly one.
    Evict,
}

impl RunKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Evict => "evict",
        }
    }
}

impl Index {
    /// Notes that a run has begun; answers its number.
    pub(crate) async fn begin_run(&self, kind: RunKind, now: UnixMs) -> Result<i64, IndexError> {
        let mut tx = self.write().await?;
        let id = counter::add(&mut tx, counter::RUN, 1).await?;
        let sql = "INSERT INTO runs (id, kind, started_ms) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(id).bind(kind.as_str()).bind(now.get()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Notes how a run ended.
    pub(crate) async fn finish_run(
        &self,
        id: i64,
        succeeded: bool,
        report: &str,
        now: UnixMs,
    ) -> Result<(), IndexError> {
        let outcome = if succeeded { "done" } else { "failed" };
        let sql = "UPDATE runs SET finished_ms = $2, outcome = $3, report = $4 WHERE id = $1";
        let query = sqlx::query(sql).bind(id).bind(now.get()).bind(outcome).bind(report);
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// When a run of this kind last began; before the first one, when the index was made.
    pub(crate) async fn last_begun(&self, kind: RunKind) -> Result<UnixMs, IndexError> {
        let mut tx = self.read().await?;
        let sql = "SELECT MAX(started_ms) FROM runs WHERE kind = $1";
        let started: Option<i64> = sqlx::query_scalar(sql).bind(kind.as_str()).fetch_one(&mut *tx).await?;
        match started {
            Some(started) => Ok(UnixMs::new(started)),
            None => Ok(UnixMs::new(counter::get(&mut tx, counter::CREATED_MS).await?)),
        }
    }

    /// When a run of this kind last ended well, 0 for never.
    pub(crate) async fn last_done_ms(&self, kind: RunKind) -> Result<i64, IndexError> {
        let sql = "SELECT COALESCE(MAX(finished_ms), 0) FROM runs WHERE kind = $1 AND outcome = 'done'";
        Ok(sqlx::query_scalar(sql).bind(kind.as_str()).fetch_one(&self.reader).await?)
    }

    /// Forgets what only history needs: closed decisions, counted reports, runs and fetches from before
    /// `until`, and blobs that no replica has.
    pub(crate) async fn prune(&self, until: UnixMs) -> Result<(), IndexError> {
        let mut tx = self.write().await?;
        for sql in [
            "DELETE FROM decisions WHERE outcome IS NOT NULL AND closed_ms < $1",
            "DELETE FROM reports WHERE received_ms < $1",
            "DELETE FROM runs WHERE finished_ms > 0 AND finished_ms < $1",
            "DELETE FROM fetches WHERE at_ms < $1",
            "DELETE FROM accesses WHERE last_ms < $1",
            "DELETE FROM blobs WHERE last_access_ms < $1
               AND blake2b NOT IN (SELECT h.blake2b FROM holders h)",
        ] {
            sqlx::query(sql).bind(until.get()).execute(&mut *tx).await?;
        }
        let orphans = "DELETE FROM objects WHERE blake2b NOT IN (SELECT b.blake2b FROM blobs b)";
        sqlx::query(orphans).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
