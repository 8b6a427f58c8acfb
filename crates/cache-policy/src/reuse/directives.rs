//! `Cache-Control` (RFC 9111, section 5.2), and headers in the form in which the arithmetic reads them rightly.

use std::time::SystemTime;

use http::header::{AGE, CACHE_CONTROL, DATE, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::storage::system_time;
use crate::UnixMs;

/// RFC 9111, section 1.2.2: what does not fit counts as this.
const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// Whether `Cache-Control` has `directive`, with or without an argument.
pub(super) fn has(headers: &HeaderMap, directive: &str) -> bool {
    argument(headers, directive).is_some()
}

/// The seconds that `directive` gives: 0 without an argument, or with one that is no number.
pub(super) fn seconds(headers: &HeaderMap, directive: &str) -> Option<u64> {
    argument(headers, directive).map(|text| {
        let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        if is_number { text.parse().unwrap_or(DELTA_SECONDS_MAX).min(DELTA_SECONDS_MAX) } else { 0 }
    })
}

fn argument(headers: &HeaderMap, directive: &str) -> Option<String> {
    let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|part| {
        let (name, argument) = part.split_once('=').unwrap_or((part, ""));
        let is_it = name.trim().eq_ignore_ascii_case(directive);
        is_it.then(|| argument.trim().trim_matches('"').to_owned())
    })
}

/// A request's or a response's headers for the arithmetic: directives in lower case, as it compares them;
/// numbers that it can add; an age that is not less than what the date says (section 4.2.3).
pub(super) fn normal(headers: &HeaderMap, received: Option<UnixMs>) -> HeaderMap {
    let mut normal = HeaderMap::new();
    for (name, value) in headers {
        let value = if *name == CACHE_CONTROL || *name == PRAGMA { lower(value) } else { value.clone() };
        normal.append(name.clone(), value);
    }
    clamp_delta_seconds(&mut normal);
    if let Some(received) = received {
        let told = headers.get(AGE).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let told = told.unwrap_or(0).min(DELTA_SECONDS_MAX);
        let apparent = headers.get(DATE).and_then(date).and_then(|date| {
            let age = system_time(received).duration_since(date).ok()?;
            Some(age.as_secs().min(DELTA_SECONDS_MAX))
        });
        normal.insert(AGE, HeaderValue::from(told.max(apparent.unwrap_or(0))));
    }
    normal
}

fn lower(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase()).unwrap_or_else(|_| value.clone())
}

/// Numbers of more digits than any lifetime has become the largest one.
fn clamp_delta_seconds(headers: &mut HeaderMap) {
    let Some(values) = combined(headers, &CACHE_CONTROL) else { return };
    let clamped: Vec<String> = values.split(',').map(clamp_one).collect();
    match HeaderValue::try_from(clamped.join(",")) {
        Ok(value) => headers.insert(CACHE_CONTROL, value),
        // What can't be read is not kept.
        Err(_) => headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store")),
    };
}

fn clamp_one(part: &str) -> String {
    let Some((name, argument)) = part.split_once('=') else { return part.to_owned() };
    let digits = argument.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    if !is_number {
        return part.to_owned();
    }
    let seconds = digits.parse().unwrap_or(DELTA_SECONDS_MAX).min(DELTA_SECONDS_MAX);
    format!("{name}={seconds}")
}

fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// An HTTP date of the form that is sent today; older forms count as none.
fn date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?;
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(system_time(UnixMs::new(time.as_millisecond())))
}
