//! Conditional requests (RFC 9110, section 13), as far as a file that never changes needs them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    HeaderMap, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};

/// What identifies one version of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// With its quotes; always strong.
    pub etag: Option<String>,
    /// To the second.
    pub modified: Option<SystemTime>,
}

impl Validators {
    /// True if the client wants another version than this one or nothing: 412. If-Match decides alone where
    /// there is one, and a date that is none is ignored (RFC 9110, section 13.2.2).
    #[must_use]
    pub fn is_unwanted(&self, headers: &HeaderMap) -> bool {
        let mut listed = headers.get_all(IF_MATCH).iter().peekable();
        if listed.peek().is_some() {
            let wants = |value: &str| {
                value.trim() == "*" || value.split(',').any(|tag| Some(tag.trim()) == self.etag.as_deref())
            };
            return !listed.filter_map(|value| value.to_str().ok()).any(wants);
        }
        let until =
            headers.get(IF_UNMODIFIED_SINCE).and_then(|value| value.to_str().ok()).and_then(parse_date);
        match (until, self.modified) {
            (Some(until), Some(modified)) => seconds(modified) > seconds(until),
            _ => false,
        }
    }

    /// True if the client has this version already: 304.
    #[must_use]
    pub fn is_not_modified(&self, headers: &HeaderMap) -> bool {
        let mut listed = headers.get_all(IF_NONE_MATCH).iter().peekable();
        if listed.peek().is_some() {
            return listed.filter_map(|value| value.to_str().ok()).any(|value| self.is_listed(value));
        }
        let since = headers.get(IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok()).and_then(parse_date);
        match (since, self.modified) {
            (Some(since), Some(modified)) => seconds(modified) <= seconds(since),
            _ => false,
        }
    }

    fn is_listed(&self, value: &str) -> bool {
        value.trim() == "*"
            || value.split(',').any(|tag| {
                let tag = tag.trim();
                Some(tag.strip_prefix("W/").unwrap_or(tag)) == self.etag.as_deref()
            })
    }

    /// The `Range` header, unless `If-Range` names another version.
    #[must_use]
    pub fn range<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let mut ranges = headers.get_all(RANGE).iter();
        let range = ranges.next()?.to_str().ok()?;
        if ranges.next().is_some() {
            return None;
        }
        let Some(condition) = headers.get(IF_RANGE) else { return Some(range) };
        let condition = condition.to_str().ok()?.trim();
        let holds = if condition.starts_with('"') {
            Some(condition) == self.etag.as_deref()
        } else {
            parse_date(condition).is_some_and(|date| self.modified.map(seconds) == Some(seconds(date)))
        };
        holds.then_some(range)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads an HTTP date; the two obsolete forms of RFC 9110, section 5.6.7, too.
#[must_use]
pub fn parse_date(text: &str) -> Option<SystemTime> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let time = time.or_else(|| {
        let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
        let time = forms.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(time.as_second()).ok()?))
}

/// Writes an HTTP date.
#[must_use]
pub fn format_date(time: SystemTime) -> Option<String> {
    let timestamp = jiff::Timestamp::from_second(i64::try_from(seconds(time)).ok()?).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&timestamp).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn validators() -> Validators {
        Validators {
            etag: Some("\"abc\"".to_owned()),
            modified: Some(UNIX_EPOCH + Duration::from_secs(784_111_777)),
        }
    }

    #[test]
    fn dates_are_those_of_rfc_9110() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(format_date(UNIX_EPOCH + Duration::from_secs(784_111_777)).as_deref(), Some(date));
        for form in [date, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_date(form), validators().modified, "{form}");
        }
        for wrong in ["yesterday", "", "Sun, 06 Nov 1954 08:49:37 GMT", "Sun Nov 31 08:49:37 1994"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (pairs, expected) in [
            (&[("if-none-match", "\"abc\"")][..], true),
            (&[("if-none-match", "W/\"abc\"")], true),
            (&[("if-none-match", "\"x\", \"abc\"")], true),
            (&[("if-none-match", "*")], true),
            (&[("if-none-match", "\"x\"")], false),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], true),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            (&[("if-modified-since", "nonsense")], false),
            // If-None-Match decides alone.
            (&[("if-none-match", "\"x\""), ("if-modified-since", "Sun, 06 Nov 2094 08:49:37 GMT")], false),
            (&[], false),
        ] {
            assert_eq!(validators().is_not_modified(&headers(pairs)), expected, "{pairs:?}");
        }
        let nothing = Validators::default();
        assert!(
            !nothing.is_not_modified(&headers(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]))
        );
    }

    #[test]
    fn a_precondition_that_fails_is_told() {
        for (pairs, expected) in [
            (&[("if-match", "\"abc\"")][..], false),
            (&[("if-match", "\"x\", \"abc\"")], false),
            (&[("if-match", "*")], false),
            (&[("if-match", "\"x\"")], true),
            // A weak tag never matches strongly.
            (&[("if-match", "W/\"abc\"")], true),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], false),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], true),
            (&[("if-unmodified-since", "nonsense")], false),
            (&[("if-match", "\"abc\""), ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            (&[], false),
        ] {
            assert_eq!(validators().is_unwanted(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_no_range() {
        let range = ("range", "bytes=1-");
        for (condition, expected) in [
            (None, true),
            (Some("\"abc\""), true),
            (Some("W/\"abc\""), false),
            (Some("\"x\""), false),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), true),
            (Some("Sun, 06 Nov 1994 08:49:38 GMT"), false),
        ] {
            let mut pairs = vec![range];
            pairs.extend(condition.map(|condition| ("if-range", condition)));
            assert_eq!(validators().range(&headers(&pairs)).is_some(), expected, "{condition:?}");
        }
        assert_eq!(validators().range(&headers(&[range, range])), None);
    }
}
