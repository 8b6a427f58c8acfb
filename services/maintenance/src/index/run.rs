//! Runs: what was done by schedule or by command, and when.

use cache_policy::UnixMs;

use super::{Index, IndexError, counter};

/// What a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// The scheduled one, with all its steps.
    Nightly,
    /// Some steps of it, by command.
    Command,
    /// An eviction, alone or as a part of the nightly one.
    Evict,
}

impl RunKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::Command => "command",
            Self::Evict => "evict",
        }
    }
}

/// How a run, or a step of one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    /// As it should.
    Done,
    /// Something went wrong; the report says what.
    Failed,
    /// A brake asks the operator.
    Stopped,
    /// There was nothing to do.
    Skipped,
}

impl RunOutcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
        }
    }
}

/// The process, or the index, failed before the run ended.
pub(crate) const INTERRUPTED: &str = "interrupted";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HISTORY_KEPT_MS: u64 = 400 * DAY_MS;
/// A report is known so that it counts once although its answer was lost and it is repeated, which takes minutes.
/// A replica may send thousands a day.
const REPORTS_KEPT_MS: u64 = 30 * DAY_MS;
/// Names and boxes of which it is known who asked for what: a box that makes names up must not fill the disk.
const ACCESSES_KEPT_MAX: i64 = 1_000_000;

/// One run with its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunRow {
    pub(crate) started_ms: i64,
    /// 0 while it is under way.
    pub(crate) finished_ms: i64,
    pub(crate) outcome: String,
    pub(crate) steps: Vec<StepRow>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepRow {
    pub(crate) name: String,
    pub(crate) outcome: String,
    pub(crate) report: String,
}

impl Index {
    /// No run can be under way now. Answers how many were cut off.
    pub(crate) async fn close_interrupted(&self, now: UnixMs) -> Result<u64, IndexError> {
        let sql = "UPDATE runs SET finished_ms = $1, outcome = $2, report = 'it was cut off'
                   WHERE finished_ms = 0";
        let query = sqlx::query(sql).bind(now.get().max(1)).bind(INTERRUPTED);
        Ok(query.execute(&self.writer).await?.rows_affected())
    }

    /// Notes how a step of a run ended.
    pub(crate) async fn finish_step(
        &self,
        run: i64,
        position: i64,
        step: &StepRow,
    ) -> Result<(), IndexError> {
        let sql = "INSERT INTO run_steps (run, position, name, outcome, report) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (run, position) DO UPDATE SET
                     outcome = excluded.outcome, report = excluded.report";
        let query = sqlx::query(sql).bind(run).bind(position).bind(&step.name);
        query.bind(&step.outcome).bind(&step.report).execute(&self.writer).await?;
        Ok(())
    }

    /// The last run of this kind.
    pub(crate) async fn last_run(&self, kind: RunKind) -> Result<Option<RunRow>, IndexError> {
        let mut tx = self.read().await?;
        let sql = "SELECT id, started_ms, finished_ms, outcome FROM runs WHERE kind = $1
                   ORDER BY id DESC LIMIT 1";
        let row: Option<(i64, i64, i64, String)> =
            sqlx::query_as(sql).bind(kind.as_str()).fetch_optional(&mut *tx).await?;
        let Some((id, started_ms, finished_ms, outcome)) = row else { return Ok(None) };
        let sql = "SELECT name, outcome, report FROM run_steps WHERE run = $1 ORDER BY position";
        let steps: Vec<(String, String, String)> = sqlx::query_as(sql).bind(id).fetch_all(&mut *tx).await?;
        let step = |(name, outcome, report)| StepRow { name, outcome, report };
        Ok(Some(RunRow { started_ms, finished_ms, outcome, steps: steps.into_iter().map(step).collect() }))
    }

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
        outcome: RunOutcome,
        report: &str,
        now: UnixMs,
    ) -> Result<(), IndexError> {
        let sql = "UPDATE runs SET finished_ms = $2, outcome = $3, report = $4 WHERE id = $1";
        let query = sqlx::query(sql).bind(id).bind(now.get()).bind(outcome.as_str()).bind(report);
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// When a run of this kind last began; before the first one, when the index was made.
    pub(crate) async fn last_begun(&self, kind: RunKind) -> Result<UnixMs, IndexError> {
        let mut tx = self.read().await?;
        // The last one, not the latest time: the clock may have been wrong once.
        let sql = "SELECT started_ms FROM runs WHERE kind = $1 ORDER BY id DESC LIMIT 1";
        let query = sqlx::query_scalar(sql).bind(kind.as_str());
        let started: Option<i64> = query.fetch_optional(&mut *tx).await?;
        match started {
            Some(started) => Ok(UnixMs::new(started)),
            None => Ok(UnixMs::new(counter::get(&mut tx, counter::CREATED_MS).await?)),
        }
    }

    /// The steps that were done well after the last nightly run began, by command.
    pub(crate) async fn done_since_night(&self) -> Result<Vec<String>, IndexError> {
        let sql = "SELECT s.name FROM run_steps s JOIN runs r ON r.id = s.run
                   WHERE r.kind = 'command' AND s.outcome = 'done'
                     AND r.id > (SELECT MAX(n.id) FROM runs n WHERE n.kind = 'nightly')
                   UNION
                   SELECT 'evict' FROM runs r WHERE r.kind = 'evict' AND r.outcome = 'done'
                     AND r.id > (SELECT MAX(n.id) FROM runs n WHERE n.kind = 'nightly')";
        Ok(sqlx::query_scalar(sql).fetch_all(&self.reader).await?)
    }

    /// Something that differs from one farm to the next, and stays.
    pub(crate) async fn salt(&self) -> Result<u64, IndexError> {
        let mut tx = self.read().await?;
        Ok(counter::get(&mut tx, counter::CREATED_MS).await?.unsigned_abs())
    }

    /// When a run of this kind last ended well, 0 for never.
    pub(crate) async fn last_done_ms(&self, kind: RunKind) -> Result<i64, IndexError> {
        let sql = "SELECT COALESCE(MAX(finished_ms), 0) FROM runs WHERE kind = $1 AND outcome = 'done'";
        Ok(sqlx::query_scalar(sql).bind(kind.as_str()).fetch_one(&self.reader).await?)
    }

    /// Forgets what only history needs: closed decisions, counted reports, runs, fetches and accesses of long
    /// ago, and blobs that no replica has.
    pub(crate) async fn prune(&self, now: UnixMs) -> Result<(), IndexError> {
        self.prune_beyond(ACCESSES_KEPT_MAX, now).await
    }

    async fn prune_beyond(&self, accesses_max: i64, now: UnixMs) -> Result<(), IndexError> {
        let until = now.before_ms(HISTORY_KEPT_MS);
        let mut tx = self.write().await?;
        let sql = "DELETE FROM reports WHERE received_ms < $1";
        sqlx::query(sql).bind(now.before_ms(REPORTS_KEPT_MS).get()).execute(&mut *tx).await?;
        let sql = "DELETE FROM accesses WHERE last_ms <
                     (SELECT a.last_ms FROM accesses a ORDER BY a.last_ms DESC LIMIT 1 OFFSET $1)";
        sqlx::query(sql).bind(accesses_max - 1).execute(&mut *tx).await?;
        for sql in [
            "DELETE FROM decisions WHERE outcome IS NOT NULL AND closed_ms < $1",
            "DELETE FROM run_steps WHERE run IN
               (SELECT r.id FROM runs r WHERE r.finished_ms > 0 AND r.finished_ms < $1)",
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

#[cfg(test)]
mod tests {
    use super::super::AccessRecord;
    use super::*;

    const START: UnixMs = UnixMs::new(1_700_000_000_000);

    async fn report(index: &Index, id: &str, names: std::ops::Range<i64>) -> bool {
        let access = |number: i64| AccessRecord {
            name: format!("name-{number}"),
            blob: None,
            client: "box".to_owned(),
            at_ms: number,
            bytes_served: 0,
            hit: false,
        };
        let accesses: Vec<_> = names.map(access).collect();
        index.count_accesses("r1", id, &accesses, &[], START).await.unwrap()
    }

    async fn known(index: &Index) -> Vec<String> {
        let sql = "SELECT name FROM accesses ORDER BY last_ms";
        sqlx::query_scalar(sql).fetch_all(&index.reader).await.unwrap()
    }

    #[tokio::test]
    async fn a_report_is_known_for_as_long_as_it_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.db"), START).await.unwrap();
        let run = index.begin_run(RunKind::Nightly, START).await.unwrap();
        index.finish_run(run, RunOutcome::Done, "", START).await.unwrap();
        assert!(report(&index, "a", 0..0).await);
        index.prune(START.after_ms(REPORTS_KEPT_MS)).await.unwrap();
        assert!(!report(&index, "a", 0..0).await, "it counts once");
        index.prune(START.after_ms(REPORTS_KEPT_MS + 1)).await.unwrap();
        assert!(report(&index, "a", 0..0).await);
        assert!(index.last_run(RunKind::Nightly).await.unwrap().is_some(), "what is history stays longer");
        index.prune(START.after_ms(HISTORY_KEPT_MS + 1)).await.unwrap();
        assert_eq!(index.last_run(RunKind::Nightly).await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_a_flood_of_names_the_last_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.db"), START).await.unwrap();
        let now = UnixMs::new(100);
        report(&index, "a", 1..4).await;
        index.prune_beyond(3, now).await.unwrap();
        assert_eq!(known(&index).await.len(), 3, "as many as may be");
        report(&index, "b", 4..9).await;
        index.prune_beyond(3, now).await.unwrap();
        assert_eq!(known(&index).await, ["name-6", "name-7", "name-8"]);
    }
}
