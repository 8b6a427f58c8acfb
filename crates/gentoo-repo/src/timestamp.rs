//! The times that a tree carries: `metadata/timestamp.chk`, `timestamp.x`, `timestamp.commit` and the TIMESTAMP
//! line of a `MetaManifest`. All are seconds since the Unix epoch in UTC; no clock is read here.

use crate::error::{Error, excerpt};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_A_DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z: the last second that all these forms can write.
const UNIX_SECONDS_MAX: i64 = 253_402_300_799;
/// No timestamp file has anything to say beyond this.
const FILE_OCTETS_MAX: usize = 1024;

const CHK_EXAMPLE: &str = "Fri, 21 Aug 2026 17:31:03 +0000";
const MANIFEST_EXAMPLE: &str = "2026-08-21T17:31:03Z";
const X_EXAMPLE: &str = "1787333463 Fri 21 Aug 2026 05:31:03 PM UTC";
const COMMIT_EXAMPLE: &str = "<commit> 1787333463 2026-08-21T17:31:03+00:00";

/// Reads `metadata/timestamp.chk`, which Portage writes and compares as `%a, %d %b %Y %H:%M:%S +0000`.
///
/// White space around it is ignored. As in Portage, the weekday must be one but is not held against the date.
///
/// # Errors
/// [`Error::Timestamp`] if it has another form or is no date from 1970 to 9999.
pub fn parse_chk(octets: &[u8]) -> Result<i64, Error> {
    small_text(octets).and_then(chk_seconds).ok_or_else(|| refused(CHK_EXAMPLE, octets))
}

/// Writes the line of `metadata/timestamp.chk`, without a line end.
///
/// Times outside of 1970 to 9999 become the nearest that can be written.
#[must_use]
pub fn format_chk(unix_seconds: i64) -> String {
    let civil = Civil::from_unix(unix_seconds);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} +0000",
        WEEKDAYS[civil.weekday],
        civil.day,
        MONTHS[civil.month - 1],
        civil.year,
        civil.second_of_day / 3600,
        civil.second_of_day / 60 % 60,
        civil.second_of_day % 60,
    )
}

/// Reads the time of a Manifest's TIMESTAMP line: `%Y-%m-%dT%H:%M:%SZ` (GLEP 74).
///
/// # Errors
/// [`Error::Timestamp`] if it has another form or is no date from 1970 to 9999.
pub fn parse_manifest(text: &str) -> Result<i64, Error> {
    iso_seconds(text).ok_or_else(|| refused(MANIFEST_EXAMPLE, text.as_bytes()))
}

/// Writes the time of a Manifest's TIMESTAMP line.
///
/// Times outside of 1970 to 9999 become the nearest that can be written.
#[must_use]
pub fn format_manifest(unix_seconds: i64) -> String {
    let civil = Civil::from_unix(unix_seconds);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        civil.year,
        civil.month,
        civil.day,
        civil.second_of_day / 3600,
        civil.second_of_day / 60 % 60,
        civil.second_of_day % 60,
    )
}

/// Reads `metadata/timestamp.x`: the seconds, then a text for people that is not looked at.
///
/// # Errors
/// [`Error::Timestamp`] if it does not begin with a number.
pub fn parse_x(octets: &[u8]) -> Result<i64, Error> {
    small_text(octets)
        .and_then(|text| text.split_ascii_whitespace().next())
        .and_then(unix_seconds)
        .ok_or_else(|| refused(X_EXAMPLE, octets))
}

/// Reads `metadata/timestamp.commit`: the commit that the tree was made from, and its time.
///
/// # Errors
/// [`Error::Timestamp`] if it is not a commit of hexadecimal digits followed by a number.
pub fn parse_commit(octets: &[u8]) -> Result<(String, i64), Error> {
    let parse = |text: &str| {
        let mut words = text.split_ascii_whitespace();
        let commit = words.next().filter(|commit| commit.bytes().all(|octet| octet.is_ascii_hexdigit()))?;
        Some((commit.to_owned(), unix_seconds(words.next()?)?))
    };
    small_text(octets).and_then(parse).ok_or_else(|| refused(COMMIT_EXAMPLE, octets))
}

fn refused(expected: &'static str, octets: &[u8]) -> Error {
    Error::Timestamp { expected, found: excerpt(octets.trim_ascii()) }
}

fn small_text(octets: &[u8]) -> Option<&str> {
    (octets.len() <= FILE_OCTETS_MAX).then(|| std::str::from_utf8(octets).ok()).flatten().map(str::trim)
}

fn unix_seconds(digits: &str) -> Option<i64> {
    let digits = digits.bytes().all(|octet| octet.is_ascii_digit()).then_some(digits)?;
    digits.parse().ok().filter(|seconds| *seconds <= UNIX_SECONDS_MAX)
}

fn chk_seconds(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace();
    let weekday = words.next()?.strip_suffix(',')?;
    WEEKDAYS.contains(&weekday).then_some(())?;
    let day = number(words.next()?, 1..=2)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let year = number(words.next()?, 4..=4)?;
    let clock = clock_seconds(words.next()?)?;
    (words.next()? == "+0000" && words.next().is_none()).then_some(())?;
    Some(days_since_epoch(year, month, day)? * SECONDS_A_DAY + clock)
}

fn iso_seconds(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4..=4)?;
    let month = usize::try_from(number(parts.next()?, 2..=2)?).ok()?;
    let day = number(parts.next()?, 2..=2)?;
    parts.next().is_none().then_some(())?;
    Some(days_since_epoch(year, month, day)? * SECONDS_A_DAY + clock_seconds(clock)?)
}

/// `HH:MM:SS` as seconds of the day; a leap second counts as the second before it.
fn clock_seconds(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hour, minute, second) =
        (number(parts.next()?, 2..=2)?, number(parts.next()?, 2..=2)?, number(parts.next()?, 2..=2)?);
    (hour < 24 && minute < 60 && second <= 60 && parts.next().is_none())
        .then(|| hour * 3600 + minute * 60 + second.min(59))
}

fn number(digits: &str, count: std::ops::RangeInclusive<usize>) -> Option<i64> {
    (count.contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: usize) -> i64 {
    match month {
        2 => 28 + is_leap(year) as i64,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before 1 January of `year`, counted from 1970; `year` is 1970 or later.
const fn days_before_year(year: i64) -> i64 {
    let past = year - 1;
    (year - 1970) * 365 + (past / 4 - past / 100 + past / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

/// `None` unless it is a date from 1970 to 9999; `month` counts from 1.
fn days_since_epoch(year: i64, month: usize, day: i64) -> Option<i64> {
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| {
        let months: i64 = (1..month).map(|earlier| days_in_month(year, earlier)).sum();
        days_before_year(year) + months + day - 1
    })
}

/// A second of 1970 to 9999 taken apart.
struct Civil {
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    /// From Monday, 0.
    weekday: usize,
    second_of_day: i64,
}

impl Civil {
    fn from_unix(unix_seconds: i64) -> Self {
        let seconds = unix_seconds.clamp(0, UNIX_SECONDS_MAX);
        let days = seconds / SECONDS_A_DAY;
        // Never too late, and at most one year too early.
        let mut year = 1970 + days / 366;
        while days_before_year(year + 1) <= days {
            year += 1;
        }
        let mut day = days - days_before_year(year);
        let mut month = 1;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        // 1 January 1970 was a Thursday.
        let weekday = usize::try_from((days + 3) % 7).unwrap_or_default();
        Self { year, month, day: day + 1, weekday, second_of_day: seconds % SECONDS_A_DAY }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        // date -u -d @SECONDS '+%a, %d %b %Y %T +0000'
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_787_333_463, "Fri, 21 Aug 2026 17:31:03 +0000"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000"),
            (UNIX_SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 +0000"),
        ] {
            assert_eq!(format_chk(seconds), text);
            assert_eq!(parse_chk(text.as_bytes()), Ok(seconds));
            assert_eq!(parse_chk(format!("{text}\n").as_bytes()), Ok(seconds));
        }
        assert_eq!(parse_manifest("2026-08-21T17:31:03Z"), Ok(1_787_333_463));
        assert_eq!(parse_x(b"1787333463 Fri 21 Aug 2026 05:31:03 PM UTC\n"), Ok(1_787_333_463));
        assert_eq!(
            parse_commit(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904 1787333463 2026-08-21T17:31:03+00:00\n"),
            Ok(("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned(), 1_787_333_463))
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Fri, 21 Aug 2026 17:31:03",
            "Fri, 21 Aug 2026 17:31:03 +0200",
            "Fri, 31 Jun 2026 17:31:03 +0000",
            "Fri, 21 Aug 1969 17:31:03 +0000",
            "Fri, 21 Aug 2026 24:00:00 +0000",
            "Fri, 21 Aug 2026 17:31:03 +0000 more",
            "Xyz, 21 Aug 2026 17:31:03 +0000",
            "Fri, +1 Aug 2026 17:31:03 +0000",
        ] {
            assert!(parse_chk(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse_chk(&[b' '; 2000]).is_err());
        assert!(parse_manifest("2026-08-21 17:31:03").is_err());
        assert!(parse_x(b"-5").is_err());
        assert!(parse_commit(b"xyz 5").is_err());
    }

    proptest! {
        #[test]
        fn every_second_comes_back(seconds in 0..=UNIX_SECONDS_MAX) {
            prop_assert_eq!(parse_chk(format_chk(seconds).as_bytes()), Ok(seconds));
            prop_assert_eq!(parse_manifest(&format_manifest(seconds)), Ok(seconds));
        }

        #[test]
        fn any_octets_are_a_time_or_an_error(octets: Vec<u8>) {
            drop((parse_chk(&octets), parse_x(&octets), parse_commit(&octets)));
            drop(parse_manifest(&String::from_utf8_lossy(&octets)));
        }
    }
}
