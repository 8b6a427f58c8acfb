//! When a place that gives distfiles counts as failing, and when no longer.
//!
//! A dead mirror fails whatever it is asked for, so a long row of failures without one success says so. An
//! overloaded one fails some requests and serves others, so a large share of many says so, too. A single
//! failure, or a few within a minute, says nothing: mirrors restart. That a place lacks a file is an answer
//! and no failure.

use crate::UnixMs;

/// What the operator calls failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failing for so long without one success.
    pub failing_ms: u64,
    /// Failures that make a row.
    pub row_min: u64,
    /// Requests that a share is taken of.
    pub tries_min: u64,
    /// The share of failures from which on it fails too often.
    pub share_percent: u8,
    /// After so long without a failure nobody knows any more.
    pub forget_ms: u64,
}

impl Limits {
    /// What is not the operator's to say has the value that production uses.
    #[must_use]
    pub const fn failing_for_ms(failing_ms: u64) -> Self {
        Self { failing_ms, row_min: 3, tries_min: 20, share_percent: 50, forget_ms: 60 * 60 * 1000 }
    }
}

/// What is known of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// The first failure since the last success; `None` if the last request succeeded.
    pub failing_since: Option<UnixMs>,
    /// Failures since the last success.
    pub row: u64,
    /// The last failure.
    pub last_failed: UnixMs,
    /// Requests of the last hour.
    pub tries: u64,
    /// How many of them failed.
    pub failures: u64,
}

/// How a place does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing to tell.
    Sound,
    /// Nothing succeeded since.
    Dead {
        /// The first failure.
        since: UnixMs,
        /// Failures.
        row: u64,
    },
    /// Too many requests fail.
    Flaky {
        /// Requests of the last hour.
        tries: u64,
        /// How many of them failed.
        failures: u64,
    },
}

impl Health {
    /// The health's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Dead { .. } => "dead",
            Self::Flaky { .. } => "flaky",
        }
    }
}

/// How the place does at `now`.
#[must_use]
pub fn judge(record: &Record, now: UnixMs, limits: Limits) -> Health {
    if now.since_ms(record.last_failed) >= limits.forget_ms {
        return Health::Sound;
    }
    if let Some(since) = record.failing_since
        && record.row >= limits.row_min
        && record.last_failed.since_ms(since) >= limits.failing_ms
    {
        return Health::Dead { since, row: record.row };
    }
    let share = u128::from(record.failures) * 100;
    if record.tries >= limits.tries_min
        && share >= u128::from(limits.share_percent) * u128::from(record.tries)
    {
        return Health::Flaky { tries: record.tries, failures: record.failures };
    }
    Health::Sound
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: u64 = 60_000;
    const LIMITS: Limits = Limits::failing_for_ms(10 * MIN);
    const START: UnixMs = UnixMs::new(1_700_000_000_000);

    fn dead(minutes: u64, row: u64) -> Record {
        Record {
            failing_since: Some(START),
            row,
            last_failed: START.after_ms(minutes * MIN),
            tries: row,
            failures: row,
        }
    }

    #[test]
    fn a_row_of_failures_that_lasts_is_told_until_a_success_or_until_nobody_knows() {
        let now = |minutes| START.after_ms(minutes * MIN);
        assert_eq!(judge(&dead(9, 8), now(9), LIMITS), Health::Sound, "not for long enough");
        assert_eq!(judge(&dead(10, 2), now(10), LIMITS), Health::Sound, "two are no row");
        assert_eq!(judge(&dead(10, 3), now(10), LIMITS), Health::Dead { since: START, row: 3 });
        assert_eq!(judge(&dead(10, 3), now(69), LIMITS), Health::Dead { since: START, row: 3 });
        assert_eq!(judge(&dead(10, 3), now(70), LIMITS), Health::Sound, "an hour without a failure");
        let again = Record { failing_since: None, row: 0, ..dead(10, 3) };
        assert_eq!(judge(&again, now(11), LIMITS), Health::Sound, "a success");
    }

    #[test]
    fn a_share_of_many_is_told_although_some_succeed() {
        let of = |failures, tries| Record { tries, failures, last_failed: START, ..Record::default() };
        assert_eq!(judge(&of(10, 20), START, LIMITS), Health::Flaky { tries: 20, failures: 10 });
        assert_eq!(judge(&of(9, 20), START, LIMITS), Health::Sound);
        assert_eq!(judge(&of(19, 19), START, LIMITS), Health::Sound, "too few for a share");
    }

    proptest! {
        #[test]
        fn nothing_is_told_of_who_never_failed_and_more_failures_never_make_it_sound(
            since in 0..200 * MIN, row in 0..100_u64, last in 0..200 * MIN, tries in 0..100_u64,
            failures in 0..100_u64, now in 0..200 * MIN,
        ) {
            let failures = failures.min(tries);
            let record = Record {
                failing_since: (row > 0).then(|| START.after_ms(since.min(last))),
                row, last_failed: START.after_ms(last), tries, failures,
            };
            let now = START.after_ms(now.max(last));
            let worse = Record { failures: tries, row: row + 1, ..record };
            if judge(&record, now, LIMITS) != Health::Sound {
                prop_assert!(row > 0 || failures > 0);
                prop_assert_ne!(judge(&worse, now, LIMITS), Health::Sound);
            }
        }
    }
}
