//! What is remembered of the clock, so that one which jumped while nobody looked is known.

use cache_policy::UnixMs;
use cache_policy::jump::Remembered;

use super::{Index, IndexError, counter};

impl Index {
    /// What was last written down; of an index that is new, or from a release that wrote nothing down, the latest time
    /// that is in it.
    pub(crate) async fn remembered_clock(&self) -> Result<Remembered, IndexError> {
        let mut tx = self.read().await?;
        let believed_ms = counter::get(&mut tx, counter::CLOCK_BELIEVED_MS).await?;
        if believed_ms != 0 {
            let doubted_ms = counter::get(&mut tx, counter::CLOCK_DOUBTED_MS).await?;
            let doubted_ms = u64::try_from(doubted_ms).unwrap_or(0);
            return Ok(Remembered { believed: UnixMs::new(believed_ms), doubted_ms });
        }
        let sql = "SELECT MAX(at) FROM (SELECT MAX(started_ms) AS at FROM runs
                     UNION ALL SELECT MAX(last_seen_ms) FROM replicas
                     UNION ALL SELECT value FROM counters WHERE name = $1)";
        let latest: Option<i64> =
            sqlx::query_scalar(sql).bind(counter::CREATED_MS).fetch_one(&mut *tx).await?;
        Ok(Remembered { believed: UnixMs::new(latest.unwrap_or(0)), doubted_ms: 0 })
    }

    /// Writes it down.
    pub(crate) async fn remember_clock(&self, remembered: Remembered) -> Result<(), IndexError> {
        let mut tx = self.write().await?;
        let doubted_ms = i64::try_from(remembered.doubted_ms).unwrap_or(i64::MAX);
        counter::set(&mut tx, counter::CLOCK_BELIEVED_MS, remembered.believed.get()).await?;
        counter::set(&mut tx, counter::CLOCK_DOUBTED_MS, doubted_ms).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Replica, RunKind};
    use super::*;

    const START: UnixMs = UnixMs::new(1_700_000_000_000);

    #[tokio::test]
    async fn an_index_that_remembers_nothing_gives_the_latest_time_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.db");
        let index = Index::open(&path, START).await.unwrap();
        let remembered = async |index: &Index| index.remembered_clock().await.unwrap();
        let of = |believed| Remembered { believed, doubted_ms: 0 };
        assert_eq!(remembered(&index).await, of(START));
        let replica = Replica {
            id: "r1".to_owned(),
            advertise: String::new(),
            capacity_bytes: 0,
            version: String::new(),
        };
        index.register(&replica, START.after_ms(5)).await.unwrap();
        assert_eq!(remembered(&index).await, of(START.after_ms(5)));
        index.begin_run(RunKind::Evict, START.after_ms(7)).await.unwrap();
        assert_eq!(remembered(&index).await, of(START.after_ms(7)));
        // Earlier or later, it is what was written down.
        for believed in [START.before_ms(9), START.after_ms(9)] {
            let written = Remembered { believed, doubted_ms: 3 };
            index.remember_clock(written).await.unwrap();
            assert_eq!(remembered(&index).await, written);
        }
        index.close().await;
        drop(index);
        let again = Index::open(&path, START.after_ms(1_000_000)).await.unwrap();
        assert_eq!(remembered(&again).await, Remembered { believed: START.after_ms(9), doubted_ms: 3 });
    }
}
