//! How the places did that distfiles were fetched from, added up until the next report.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rookery_proto::v1::SourceTally;

use super::wire;

/// Places in one report, and what an outage of maintenance may pile up.
const ORIGINS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct SourceLog {
    tallies: Mutex<HashMap<String, SourceTally>>,
}

impl SourceLog {
    /// A request to `origin` ended at `now_ms`, with a fault or well.
    pub(super) fn record(&self, origin: &str, fault: Option<&str>, now_ms: i64) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if !tallies.contains_key(origin) {
            if tallies.len() >= ORIGINS_MAX {
                return;
            }
            let new = SourceTally { origin: origin.to_owned(), ..SourceTally::default() };
            tallies.insert(origin.to_owned(), new);
        }
        let Some(tally) = tallies.get_mut(origin) else { return };
        tally.tries += 1;
        match fault {
            None => (tally.last_ok_ms, tally.failing_since_ms, tally.row) = (now_ms, 0, 0),
            Some(fault) => {
                if tally.row == 0 {
                    tally.failing_since_ms = now_ms;
                }
                tally.failures += 1;
                tally.row += 1;
                tally.last_failed_ms = now_ms;
                tally.fault = wire::text(fault);
            }
        }
    }

    /// What there is to report; the next report begins with nothing.
    pub(super) fn take(&self) -> Vec<SourceTally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.drain().map(|(_, tally)| tally).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_a_row_and_what_was_taken_is_not_told_again() {
        let log = SourceLog::default();
        for (fault, at) in
            [(Some("answered 500"), 1), (None, 2), (Some("answered 502"), 3), (Some("late"), 4)]
        {
            log.record("http://m.example", fault, at);
        }
        let told = SourceTally {
            origin: "http://m.example".to_owned(),
            tries: 4,
            failures: 3,
            last_ok_ms: 2,
            failing_since_ms: 3,
            row: 2,
            last_failed_ms: 4,
            fault: "late".to_owned(),
        };
        assert_eq!(log.take(), [told]);
        assert_eq!(log.take(), []);
        for number in 0..300 {
            log.record(&format!("http://m{number}.example"), None, 1);
        }
        assert_eq!(log.take().len(), ORIGINS_MAX);
    }
}
