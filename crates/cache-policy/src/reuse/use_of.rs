//! When a kept response is an answer.

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use http_cache_semantics::BeforeRequest;

use super::directives::{has, seconds};
use super::storage::{StoredResponse, is_condition, request, system_time};
use crate::UnixMs;

/// A clock that was set back makes everything look as if it came in the future. So much of it may be a
/// difference between two readings.
const FUTURE_MS_MAX: u64 = 60_000;

/// Why upstream is asked although a response is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Validation {
    /// It is not fresh any more, or never was.
    Stale,
    /// The client does not want it without that.
    Asked,
}

/// What becomes of a request for which a response is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reuse {
    /// It is the answer.
    Fresh {
        /// For `Age`.
        age_seconds: u64,
        /// For how long it still is.
        left_seconds: u64,
    },
    /// It may be the answer once upstream has said so.
    Validate {
        /// Why.
        because: Validation,
        /// The conditions for upstream.
        conditions: HeaderMap,
    },
    /// It is the answer to a request that differs where `Vary` says that it matters.
    OtherVariant,
}

/// Whether `stored` answers a GET or HEAD of the same URI. `asked` are the headers that the client sent,
/// `sent` those that go upstream.
#[must_use]
pub fn decide_reuse(stored: &StoredResponse, asked: &HeaderMap, sent: &HeaderMap, now: UnixMs) -> Reuse {
    let mut presented: HeaderMap = HeaderMap::new();
    for (name, value) in sent.iter().filter(|(name, _)| !is_condition(name)) {
        presented.append(name.clone(), value.clone());
    }
    for directive in [http::header::CACHE_CONTROL, http::header::PRAGMA] {
        presented.remove(&directive);
        for value in asked.get_all(&directive) {
            presented.append(directive.clone(), value.clone());
        }
    }
    let policy = stored.policy();
    let at = system_time(now);
    match policy.before_request(&request(&stored.uri, &presented), at) {
        BeforeRequest::Fresh(_) if !is_in_the_future(stored, now) => Reuse::Fresh {
            age_seconds: policy.age(at).as_secs(),
            left_seconds: policy.time_to_live(at).as_secs(),
        },
        BeforeRequest::Stale { matches: false, .. } => Reuse::OtherVariant,
        BeforeRequest::Fresh(_) | BeforeRequest::Stale { .. } => {
            let is_stale = policy.is_stale(at) || is_in_the_future(stored, now);
            let because = if is_stale { Validation::Stale } else { Validation::Asked };
            Reuse::Validate { because, conditions: conditions(stored) }
        }
    }
}

fn is_in_the_future(stored: &StoredResponse, now: UnixMs) -> bool {
    stored.received.since_ms(now) > FUTURE_MS_MAX
}

/// What asks upstream whether it is still the same.
fn conditions(stored: &StoredResponse) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    let pairs = [(http::header::ETAG, IF_NONE_MATCH), (http::header::LAST_MODIFIED, IF_MODIFIED_SINCE)];
    for (validator, condition) in pairs {
        if let Some(value) = stored.headers.get(validator) {
            conditions.insert(condition, value.clone());
        }
    }
    conditions
}

/// Whether `stored` is a better answer than none: upstream gave `status`, or nothing at all. What the
/// response says decides (RFC 5861), then what the client says, else `by_default_seconds`.
#[must_use]
pub fn may_answer_stale(
    stored: &StoredResponse,
    asked: &HeaderMap,
    status: Option<StatusCode>,
    by_default_seconds: u64,
    now: UnixMs,
) -> bool {
    let is_failure = status.is_none_or(|status| matches!(status.as_u16(), 500 | 502 | 503 | 504));
    let forbidden = ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"];
    if !is_failure || forbidden.iter().any(|directive| has(&stored.headers, directive)) {
        return false;
    }
    // The client wants to know from upstream.
    if has(asked, "no-cache") || seconds(asked, "max-age") == Some(0) {
        return false;
    }
    let told = seconds(&stored.headers, "stale-if-error").or_else(|| seconds(asked, "stale-if-error"));
    let permitted_seconds = told.unwrap_or(by_default_seconds);
    let policy = stored.policy();
    let at = system_time(now);
    // Age and lifetime are both counted from when upstream made it.
    let left = policy.time_to_live(at).as_secs();
    let lifetime_seconds = policy.time_to_live(system_time(stored.received)).as_secs();
    let resident_seconds = now.since_ms(stored.received) / 1000;
    left > 0 || resident_seconds.saturating_sub(lifetime_seconds) <= permitted_seconds
}
