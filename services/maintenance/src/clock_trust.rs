//! Whether the clock is believed, and what follows: times that lie ahead are put back once it is, and nothing goes for its
//! age while it is not. `cache_policy::jump` decides; here are the readings, the log and what is written down.

use std::sync::{MutexGuard, PoisonError};

use cache_policy::UnixMs;
use cache_policy::ahead::Look;
use cache_policy::jump::{Doubt, Looked, Reading, Trust, Verdict, is_behind};
use rookery_proto::v1::{Brake, Problem};

use crate::core::Core;
use crate::index::IndexError;
use crate::text::{age, moment};

/// What brakes and problems of it are about.
const CLOCK: &str = "clock";

impl Core {
    /// Looks at the clock; times that lie ahead of it are put back once it is believed.
    pub(crate) async fn look_at_clock(&self) -> Result<(), IndexError> {
        let reading = self.reading();
        let looked = self.trust().look(reading);
        log(looked);
        if let Some(remembered) = looked.remember {
            self.index.remember_clock(remembered).await?;
        }
        match looked.look {
            Look::Begun | Look::SetBack | Look::Steady => Ok(()),
            Look::Proven => self.put_times_back(reading.now).await,
        }
    }

    /// Looks once more at the end, so that the next process begins from here.
    pub(crate) async fn look_at_clock_last(&self) -> Result<(), IndexError> {
        let looked = self.trust().look(self.reading());
        match looked.remember {
            Some(remembered) => self.index.remember_clock(remembered).await,
            None => Ok(()),
        }
    }

    /// Times that lie ahead are put back before something is made of them, if the clock is believed.
    pub(crate) async fn check_times(&self, reading: Reading) -> Result<(), IndexError> {
        let may_put_back = self.trust().may_put_back(reading);
        if may_put_back {
            self.put_times_back(reading.now).await?;
        }
        Ok(())
    }

    /// Why nothing may go for its age, if so.
    pub(crate) fn doubt_at(&self, reading: Reading) -> Option<Doubt> {
        match self.trust().judge(reading) {
            Verdict::Believed(_) => None,
            Verdict::Doubted(doubt) => Some(doubt),
        }
    }

    /// An operator says that the clock is right.
    pub(crate) async fn agree_to_clock(&self, reading: Reading) -> Result<(), IndexError> {
        let remembered = self.trust().agree(reading);
        tracing::warn!(now = moment(remembered.believed), "the clock is believed: an operator says so");
        self.index.remember_clock(remembered).await
    }

    /// What is known of the clock now.
    pub(crate) fn reading(&self) -> Reading {
        Reading { now: self.clock.now(), ran_ms: self.clock.ran_ms(), tree: self.trees.newest() }
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put_times_back(&self, now: UnixMs) -> Result<(), IndexError> {
        let put_back = self.index.put_times_back(now).await?;
        if !put_back.is_empty() {
            let times: u64 = put_back.values().sum();
            let tables: Vec<_> = put_back.iter().map(|(table, times)| format!("{table} {times}")).collect();
            let tables = tables.join(", ");
            tracing::warn!(
                times,
                tables,
                "times lay ahead, written by a clock that was: they are put back to now"
            );
        }
        Ok(())
    }
}

fn log(looked: Looked) {
    match looked.verdict {
        Verdict::Doubted(doubt) if looked.is_news => {
            tracing::error!("{}: nothing goes for its age; {}", what(doubt), what_to_do(doubt));
        }
        Verdict::Believed(belief) if looked.is_news => {
            tracing::warn!(why = belief.as_str(), "the clock is believed again");
        }
        Verdict::Doubted(_) | Verdict::Believed(_) => {}
    }
}

/// What somebody should know of it.
pub(crate) fn problem(reading: Reading, doubt: Option<Doubt>) -> Option<Problem> {
    let (code, what, what_to_do) = match (doubt, reading.tree) {
        (Some(doubt), _) => {
            ("clock_ahead", format!("{}; nothing goes for its age", what(doubt)), what_to_do(doubt))
        }
        (None, Some(made)) if is_behind(reading) => (
            "clock_behind",
            format!("the clock says {}, and the newest tree was made {}", moment(reading.now), moment(made)),
            "set the clock; if it is right, correct metadata/timestamp.chk of that tree".to_owned(),
        ),
        (None, _) => return None,
    };
    Some(Problem { code: code.to_owned(), subject: CLOCK.to_owned(), what, what_to_do })
}

/// What is wrong with it.
fn what(doubt: Doubt) -> String {
    let Doubt { expected, ahead_ms, .. } = doubt;
    let now = expected.after_ms(ahead_ms);
    format!(
        "the clock says {}, {} after {}, which is the last time that was believed",
        moment(now),
        age(ahead_ms),
        moment(expected)
    )
}

/// What to do about it, or wait for.
fn what_to_do(doubt: Doubt) -> String {
    format!(
        "if it is wrong, set it; if it is right (the host was off, or asleep), it is believed with the next new tree, or by \
         `rookery evict --yes-clock`, or by itself in {}",
        age(doubt.left_ms)
    )
}

/// The same as what an eviction asks.
pub(crate) fn brake(doubt: Doubt) -> Brake {
    Brake {
        kind: CLOCK.to_owned(),
        subject: CLOCK.to_owned(),
        text: format!("{}: everything would seem old", what(doubt)),
        ..Brake::default()
    }
}
