//! The most that each module's catalogue had lately, and what one is not believed for.

use cache_policy::UnixMs;
use cache_policy::eviction::catalogue::{Heights, Loss, Pace};

use super::connection::Connection;
use super::{IndexError, from_sql, to_sql};

/// The columns of `modules` that say what it is not believed for: before, lost, pace, since.
pub(super) type Doubt = (i64, i64, String, i64);

pub(super) fn loss((before, lost, pace, since): Doubt) -> Result<Option<Loss>, IndexError> {
    if before <= 0 {
        return Ok(None);
    }
    let pace = Pace::ALL.into_iter().find(|known| known.as_str() == pace);
    let pace = pace.ok_or(IndexError::Row("modules.suspect_pace"))?;
    Ok(Some(Loss { pace, since: UnixMs::new(since), before: from_sql(before), lost: from_sql(lost) }))
}

/// `None`: it is believed.
pub(super) fn doubt(loss: Option<Loss>) -> Doubt {
    loss.map_or((0, 0, Pace::AtOnce.as_str().to_owned(), 0), |loss| {
        (to_sql(loss.before), to_sql(loss.lost), loss.pace.as_str().to_owned(), loss.since.get())
    })
}

/// What the module is not believed for.
pub(super) async fn doubted(conn: &mut Connection, module: &str) -> Result<Option<Loss>, IndexError> {
    let sql = "SELECT suspect_before, suspect_lost, suspect_pace, suspect_since_ms
               FROM modules WHERE name = $1";
    loss(sqlx::query_as(sql).bind(module).fetch_one(conn).await?)
}

pub(super) async fn load(conn: &mut Connection, module: &str) -> Result<Heights, IndexError> {
    let sql = "SELECT day, distfiles FROM catalogue_heights WHERE module = $1";
    let rows: Vec<(i64, i64)> = sqlx::query_as(sql).bind(module).fetch_all(conn).await?;
    Ok(Heights::new(rows.into_iter().map(|(day, distfiles)| (day, from_sql(distfiles)))))
}

pub(super) async fn store(tx: &mut Connection, module: &str, heights: &Heights) -> Result<(), IndexError> {
    forget(tx, module).await?;
    for (day, distfiles) in heights.days() {
        let sql = "INSERT INTO catalogue_heights (module, day, distfiles) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(module).bind(day).bind(to_sql(distfiles)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The module is gone, or the operator believes what it has now.
pub(super) async fn forget(tx: &mut Connection, module: &str) -> Result<(), IndexError> {
    let sql = "DELETE FROM catalogue_heights WHERE module = $1";
    sqlx::query(sql).bind(module).execute(tx).await?;
    Ok(())
}
