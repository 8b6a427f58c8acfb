//! `schedule.nightly`: `"03:30"`, a cron expression, or `"off"`.

use std::fmt;
use std::str::FromStr;

use cache_policy::UnixMs;
use croner::Cron;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::timestamp;
use crate::config::{ValueError, as_string};

/// When the nightly run is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Nightly {
    /// Only by command.
    Off,
    /// Every day at this time.
    At(Time),
    /// Whenever the cron expression says so.
    Cron(Box<Cron>),
}

impl Default for Nightly {
    fn default() -> Self {
        Self::At(Time::constant(3, 30, 0, 0))
    }
}

impl Nightly {
    /// The first time after `last`. In a night that skips the time of day it is as much later as the clock
    /// jumps.
    pub(super) fn next(&self, last: UnixMs, zone: &TimeZone) -> Option<Timestamp> {
        let last = timestamp(last)?;
        match self {
            Self::Off => None,
            Self::Cron(cron) => {
                let next = cron.find_next_occurrence(&last.to_zoned(zone.clone()), false);
                next.ok().map(|next| next.timestamp())
            }
            Self::At(time) => {
                let mut date = last.to_zoned(zone.clone()).date();
                loop {
                    let due = date.to_datetime(*time).to_zoned(zone.clone()).ok()?.timestamp();
                    if due > last {
                        return Some(due);
                    }
                    date = date.tomorrow().ok()?;
                }
            }
        }
    }
}

impl FromStr for Nightly {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if let Some(time) = time_of_day(text) {
            return Ok(Self::At(time));
        }
        if text.split_ascii_whitespace().count() > 1 || text.starts_with('@') {
            return cron(text);
        }
        Err(ValueError::new(
            "a time of day as \"HH:MM\", from 00:00 to 23:59, a cron expression as \"30 3 * * *\", or \"off\"",
        ))
    }
}

fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        plain.then(|| digits.parse::<i8>().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

const FIELDS: [&str; 5] = ["minute", "hour", "day of the month", "month", "day of the week"];

fn cron(text: &str) -> Result<Nightly, ValueError> {
    let fields = fields(text);
    if !text.starts_with('@') && fields.len() != FIELDS.len() {
        return Err(ValueError::new(format!(
            "a cron expression of five fields (minute, hour, day of the month, month, day of the week), found {}",
            fields.len()
        )));
    }
    let cron = Cron::from_str(text).map_err(|error| {
        // The parser names the mistake, not the place: each field alone tells which one it is.
        for (at, (position, field)) in fields.iter().enumerate() {
            let mut alone = ["*"; 5];
            if let Some(place) = alone.get_mut(at) {
                *place = field;
            }
            if let Err(error) = Cron::from_str(&alone.join(" ")) {
                return ValueError::new(format!(
                    "a cron expression; its {} \"{field}\" (character {position}) makes no sense: {error}",
                    FIELDS.get(at).unwrap_or(&"field")
                ));
            }
        }
        ValueError::new(format!("a cron expression: {error}"))
    })?;
    // Every field makes sense, and the day is in no month: only then there is no next time at all.
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    if cron.find_next_occurrence(&epoch, false).is_err()
        && let [_, _, (position, day), (_, month), _] = fields.as_slice()
    {
        return Err(ValueError::new(format!(
            "a cron expression that comes true some day; its day of the month \"{day}\" (character {position}) is \
             in no month \"{month}\""
        )));
    }
    Ok(Nightly::Cron(Box::new(cron)))
}

/// The fields with the positions of their first characters, counted from 1.
fn fields(text: &str) -> Vec<(usize, &str)> {
    let mut fields = Vec::new();
    let mut rest = text;
    let mut at = 0;
    while let Some(start) = rest.find(|letter: char| !letter.is_ascii_whitespace()) {
        let word = &rest[start..];
        let end = word.find(|letter: char| letter.is_ascii_whitespace()).unwrap_or(word.len());
        fields.push((at + start + 1, &word[..end]));
        at += start + end;
        rest = &word[end..];
    }
    fields
}

impl fmt::Display for Nightly {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("off"),
            Self::At(time) => write!(out, "{:02}:{:02}", time.hour(), time.minute()),
            Self::Cron(cron) => out.write_str(cron.as_str()),
        }
    }
}

as_string!(Nightly);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_cron_expressions_and_off() {
        assert_eq!("03:30".parse(), Ok(Nightly::default()));
        assert_eq!("off".parse(), Ok(Nightly::Off));
        assert_eq!("23:59".parse::<Nightly>().unwrap().to_string(), "23:59");
        let cron: Nightly = "15 2-4/2 * * MON".parse().unwrap();
        assert_eq!(cron.to_string().parse(), Ok(cron));
        for wrong in ["", "3", "24:00", "12:60", "+3:30", "03:30:00", "003:30", "noon", "03:-1"] {
            let error = wrong.parse::<Nightly>().unwrap_err().to_string();
            assert!(error.contains("HH:MM"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_position() {
        for (wrong, place) in [
            ("61 3 * * *", "minute \"61\" (character 1)"),
            ("30 25 * * *", "hour \"25\" (character 4)"),
            ("30  3 32 * *", "day of the month \"32\" (character 7)"),
            ("30 3 * 13 *", "month \"13\" (character 8)"),
            ("30 3 * * XYZ", "day of the week \"XYZ\" (character 10)"),
            ("30 3 30 2 *", "day of the month \"30\" (character 6) is in no month \"2\""),
            ("0 4 31 4,6,9,11 *", "day of the month \"31\" (character 5)"),
            ("30 3 * *", "five fields"),
            ("0 30 3 * * *", "found 6"),
            ("@sometimes", "cron expression"),
        ] {
            let error = wrong.parse::<Nightly>().unwrap_err().to_string();
            assert!(error.contains(place), "{wrong:?}: {error}");
        }
    }
}
