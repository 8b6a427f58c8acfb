//! When a night is due: a time of day or a cron expression, in a time zone, with jitter.
//!
//! Nothing here looks at a clock: `now` is given.

mod when;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cache_policy::UnixMs;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use service_kit::config::HumanDuration;

use crate::config::{ValueError, as_string};

pub use when::Nightly;

/// A clock that is set back by less than this costs a night at most.
const AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// What happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Publish, import, scrub, plan, evict, report.
    pub nightly: Nightly,
    /// Whose time it is.
    pub time_zone: Zone,
    /// Each run is later by a part of this: many farms that follow one mirror then don't all come at
    /// once.
    pub jitter: HumanDuration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            nightly: Nightly::default(),
            time_zone: Zone::default(),
            jitter: HumanDuration(Duration::ZERO),
        }
    }
}

impl Schedule {
    /// When the first run after `last` is due, `None` if never. `last` by more than a day in the future tells
    /// nothing, because the clock was wrong then: one is due now. `salt` is what the jitter is made from besides
    /// the time itself: the same for each look of one farm, another one for each farm.
    pub(crate) fn next_due(&self, last: UnixMs, now: UnixMs, salt: u64) -> Option<UnixMs> {
        let zone = self.time_zone.get();
        // To count from `now` instead would move the due time along with each look.
        if last > now.after_ms(AHEAD_MS_MAX) {
            return self.nightly.next(now, &zone).map(|_| now);
        }
        // A run that was late by its jitter is not the reason for another one in the same night: what
        // counts is when it was due, and that is never after it began.
        let due = self.nightly.next(last, &zone)?;
        let due = UnixMs::new(due.as_millisecond());
        Some(due.after_ms(self.jitter_ms(due, salt)))
    }

    fn jitter_ms(&self, due: UnixMs, salt: u64) -> u64 {
        let bound = u64::try_from(self.jitter.0.as_millis()).unwrap_or(u64::MAX);
        if bound == 0 {
            return 0;
        }
        // SplitMix64's finish: every bit of the input moves every bit of the output.
        let mut mixed = due.get().unsigned_abs() ^ salt.rotate_left(32);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A time zone by its IANA name; empty for the host's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

impl Zone {
    pub(crate) fn get(&self) -> TimeZone {
        if self.0.is_empty() {
            return TimeZone::system();
        }
        // Checked when it was read; a host whose zones are gone meanwhile keeps UTC.
        TimeZone::get(&self.0).unwrap_or(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || TimeZone::get(text).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new("a time zone as \"Europe/Berlin\", or \"\" for the host's own"))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

as_string!(Zone);

fn timestamp(at: UnixMs) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::new(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn schedule(nightly: &str, zone: &str) -> Schedule {
        Schedule {
            nightly: nightly.parse().unwrap(),
            time_zone: zone.parse().unwrap(),
            ..Schedule::default()
        }
    }

    fn due(nightly: &str, last: &str, zone: &str) -> UnixMs {
        schedule(nightly, zone).next_due(at(last), at("2030-01-01T00:00:00Z"), 0).unwrap()
    }

    #[test]
    fn due_at_the_time_of_day_in_the_zone() {
        assert_eq!(due("03:30", "2026-07-01T00:00:00Z", "UTC"), at("2026-07-01T03:30:00Z"));
        assert_eq!(due("03:30", "2026-07-01T03:30:00Z", "UTC"), at("2026-07-02T03:30:00Z"));
        assert_eq!(due("03:30", "2026-07-01T00:00:00Z", "Europe/Berlin"), at("2026-07-01T01:30:00Z"));
        assert_eq!(due("03:30", "2026-12-31T23:59:59Z", "UTC"), at("2027-01-01T03:30:00Z"));
    }

    #[test]
    fn due_as_the_cron_expression_says() {
        assert_eq!(due("30 3 * * *", "2026-07-01T00:00:00Z", "UTC"), at("2026-07-01T03:30:00Z"));
        assert_eq!(due("30 3 * * *", "2026-07-01T03:30:00Z", "UTC"), at("2026-07-02T03:30:00Z"));
        // 1 July 2026 is a Wednesday.
        assert_eq!(due("0 4 * * SUN", "2026-07-01T00:00:00Z", "Europe/Berlin"), at("2026-07-05T02:00:00Z"));
        assert_eq!(due("@monthly", "2026-07-02T00:00:00Z", "UTC"), at("2026-08-01T00:00:00Z"));
        assert_eq!(due("0 0 29 2 *", "2026-07-01T00:00:00Z", "UTC"), at("2028-02-29T00:00:00Z"));
    }

    #[test]
    fn slept_nights_are_due_once_and_a_wrong_clock_does_not_stop_it() {
        // Ten nights later the due time is still the first one missed: one run, which moves `last`.
        for nightly in ["03:30", "30 3 * * *"] {
            assert_eq!(due(nightly, "2026-07-01T12:00:00Z", "UTC"), at("2026-07-02T03:30:00Z"));
            let now = at("2026-07-01T12:00:00Z");
            let after = |last| schedule(nightly, "UTC").next_due(at(last), now, 0);
            assert_eq!(after("2099-01-01T00:00:00Z"), Some(now), "that clock was wrong");
            // A clock that was set back a little doesn't make a second run of the same night.
            assert_eq!(after("2026-07-01T13:00:00Z"), Some(at("2026-07-02T03:30:00Z")));
        }
        assert_eq!(
            schedule("off", "UTC").next_due(at("2099-01-01T00:00:00Z"), at("2026-07-01T12:00:00Z"), 0),
            None
        );
    }

    #[test]
    fn nights_when_the_clocks_change() {
        let due = |last| due("02:30", last, "Europe/Berlin");
        // 02:30 does not exist on 29 March 2026; it is 03:30 summer time then.
        assert_eq!(due("2026-03-28T12:00:00Z"), at("2026-03-29T01:30:00Z"));
        // It exists twice on 25 October 2026; the first one counts, and only that.
        assert_eq!(due("2026-10-24T12:00:00Z"), at("2026-10-25T00:30:00Z"));
        assert_eq!(due("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn cron_expressions_when_the_clocks_change() {
        let due = |last| due("30 2 * * *", last, "Europe/Berlin");
        // As soon as the clock has jumped in the night that lacks it, once in the night that has it twice.
        assert_eq!(due("2026-03-28T12:00:00Z"), at("2026-03-29T01:00:00Z"));
        assert_eq!(due("2026-03-29T01:00:00Z"), at("2026-03-30T00:30:00Z"));
        assert_eq!(due("2026-10-24T12:00:00Z"), at("2026-10-25T00:30:00Z"));
        assert_eq!(due("2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn jitter_is_the_same_at_each_look_and_another_one_for_each_farm_and_night() {
        let jittered =
            Schedule { jitter: HumanDuration(Duration::from_mins(20)), ..schedule("03:30", "UTC") };
        let due = |last, salt| jittered.next_due(at(last), at("2030-01-01T00:00:00Z"), salt).unwrap();
        let first = due("2026-07-01T00:00:00Z", 1);
        assert_eq!(first, due("2026-07-01T02:00:00Z", 1));
        let late = first.since_ms(at("2026-07-01T03:30:00Z"));
        assert!(late < 20 * 60 * 1000, "{late}");
        assert_ne!(first, due("2026-07-01T00:00:00Z", 2));
        let next = due("2026-07-01T12:00:00Z", 1);
        assert_ne!(next.since_ms(first), 24 * 60 * 60 * 1000);
    }

    #[test]
    fn zones_are_known_by_name() {
        assert!("Europe/Berlin".parse::<Zone>().is_ok() && "".parse::<Zone>().is_ok());
        let error = "Europe/Atlantis".parse::<Zone>().unwrap_err().to_string();
        assert!(error.contains("Europe/Berlin"), "{error}");
    }
}
