//! Which problems were told to whom.

use rookery_proto::v1::Problem;
use sqlx::{QueryBuilder, Sqlite};

use super::{Index, IndexError, ROWS_PER_INSERT};

impl Index {
    /// What the listener was told of and not yet told to be over.
    pub(crate) async fn told(&self, listener: &str) -> Result<Vec<Problem>, IndexError> {
        let sql = "SELECT code, subject, what, what_to_do FROM told WHERE listener = $1";
        let query = sqlx::query_as(sql).bind(listener);
        let rows: Vec<(String, String, String, String)> = query.fetch_all(&self.reader).await?;
        let problem = |(code, subject, what, what_to_do)| Problem { subject, what, what_to_do, code };
        Ok(rows.into_iter().map(problem).collect())
    }

    /// Replaces that.
    pub(crate) async fn note_told(&self, listener: &str, problems: &[&Problem]) -> Result<(), IndexError> {
        let mut tx = self.write().await?;
        let sql = "DELETE FROM told WHERE listener = $1";
        sqlx::query(sql).bind(listener).execute(&mut *tx).await?;
        for rows in problems.chunks(ROWS_PER_INSERT) {
            let mut sql =
                QueryBuilder::<Sqlite>::new("INSERT INTO told (listener, code, subject, what, what_to_do) ");
            sql.push_values(rows, |mut values, problem| {
                values.push_bind(listener.to_owned()).push_bind(problem.code.clone());
                values.push_bind(problem.subject.clone()).push_bind(problem.what.clone());
                values.push_bind(problem.what_to_do.clone());
            });
            sql.build().execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Forgets what anybody but these listeners was told: they are not configured any more.
    pub(crate) async fn forget_told_except(&self, listeners: &[&str]) -> Result<(), IndexError> {
        let mut sql = QueryBuilder::<Sqlite>::new("DELETE FROM told WHERE listener NOT IN ('' ");
        for listener in listeners {
            sql.push(", ").push_bind((*listener).to_owned());
        }
        sql.push(")").build().execute(&self.writer).await?;
        Ok(())
    }
}
