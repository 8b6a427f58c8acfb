//! What is kept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, EXPIRES, LAST_MODIFIED, RANGE, SET_COOKIE,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, Version};
use http_cache_semantics::{AfterResponse, CacheOptions, CachePolicy};

use super::directives::{has, normal};
use crate::UnixMs;

/// Request headers that may select a response.
const SELECTING_HEADERS_MAX: usize = 16;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many octets were announced.
    Length(u64),
    /// The protocol marks the end: the last chunk, or the end of an HTTP/2 stream.
    Marked,
    /// The connection ends, which a broken one does too.
    UntilClose,
}

impl Framing {
    /// Of a response that has a body.
    #[must_use]
    pub fn of(version: Version, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let is_chunked = headers
            .get_all(TRANSFER_ENCODING)
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim().to_ascii_lowercase().ends_with("chunked"));
        match length {
            _ if is_chunked => Self::Marked,
            Some(length) => Self::Length(length),
            None if version >= Version::HTTP_2 => Self::Marked,
            None => Self::UntilClose,
        }
    }
}

/// Why a response is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// It is not the answer to a plain GET.
    Method,
    /// The request is somebody's own: it has `Authorization`.
    Authorization,
    /// The request asked for a part, or had conditions of its own.
    Conditional,
    /// Either side said `no-store`.
    NoStore,
    /// It is for one user.
    Private,
    /// It gives somebody a cookie.
    SetCookie,
    /// Only 200 is kept.
    Status,
    /// It is a part.
    Partial,
    /// It varies by more than a request can say.
    VaryAll,
    /// It could neither be fresh nor be validated.
    NoValidator,
    /// Where it ends is not known, so whether it is whole is not either.
    UnknownEnd,
    /// It is longer than what is kept of one.
    TooLarge,
}

impl NotStored {
    /// For logs, and `detail` of `Cache-Status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Authorization => "authorization",
            Self::Conditional => "conditional",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::VaryAll => "vary-all",
            Self::NoValidator => "no-validator",
            Self::UnknownEnd => "unknown-end",
            Self::TooLarge => "too-large",
        }
    }
}

/// A response that is kept, but for its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    pub(super) uri: Uri,
    /// Those headers of the request that selected it.
    pub(super) selecting: HeaderMap,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) received: UnixMs,
}

impl StoredResponse {
    /// What it is the answer to.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Its headers as upstream sent them, those that are kept.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers of the request that selected it among others of the same URI.
    #[must_use]
    pub fn selecting(&self) -> &HeaderMap {
        &self.selecting
    }

    /// How old it is (RFC 9111, section 4.2.3).
    #[must_use]
    pub fn age_seconds(&self, now: UnixMs) -> u64 {
        self.policy().age(system_time(now)).as_secs()
    }

    /// Whether it is an answer without asking upstream, as far as it goes by itself.
    #[must_use]
    pub fn is_fresh(&self, now: UnixMs) -> bool {
        !self.policy().is_stale(system_time(now))
    }

    pub(super) fn policy(&self) -> CachePolicy {
        let response = with_headers(Response::new(()), &normal(&self.headers, Some(self.received)));
        let (mut parts, ()) = response.into_parts();
        parts.status = self.status;
        let request = request(&self.uri, &self.selecting);
        CachePolicy::new_options(&request, &parts, system_time(self.received), options())
    }
}

fn options() -> CacheOptions {
    CacheOptions { shared: true, cache_heuristic: 0.0, ..CacheOptions::default() }
}

/// `now` for the arithmetic.
pub(super) fn system_time(at: UnixMs) -> SystemTime {
    let ms = u64::try_from(at.get()).unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn request(uri: &Uri, headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    *request.method_mut() = Method::GET;
    *request.headers_mut() = normal(headers, None);
    request
}

fn with_headers<T>(mut response: Response<T>, headers: &HeaderMap) -> Response<T> {
    *response.headers_mut() = headers.clone();
    response
}

/// Whether the answer to a GET of `uri` is kept. `asked` are the headers that the client sent, `sent` those
/// that went upstream; `kept` are the response's headers that are passed on.
///
/// # Errors
/// Why it is not.
#[allow(clippy::too_many_arguments, reason = "each is a fact of the exchange, and there is no second use")]
pub fn decide_storage(
    uri: &Uri,
    asked: &HeaderMap,
    sent: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    kept: HeaderMap,
    framing: Framing,
    received: UnixMs,
) -> Result<StoredResponse, NotStored> {
    refuse_request(asked)?;
    if headers.contains_key(CONTENT_RANGE) || status == StatusCode::PARTIAL_CONTENT {
        return Err(NotStored::Partial);
    }
    if status != StatusCode::OK {
        return Err(NotStored::Status);
    }
    for (directive, reason) in [("no-store", NotStored::NoStore), ("private", NotStored::Private)] {
        if has(headers, directive) {
            return Err(reason);
        }
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    if framing == Framing::UntilClose {
        return Err(NotStored::UnknownEnd);
    }
    let selecting = selecting(headers, sent)?;
    let stored = StoredResponse { uri: uri.clone(), selecting, status, headers: kept, received };
    let policy = stored.policy();
    if !policy.is_storable() {
        return Err(NotStored::NoStore);
    }
    let can_be_validated = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    if policy.is_stale(system_time(received)) && !can_be_validated {
        return Err(NotStored::NoValidator);
    }
    Ok(stored)
}

/// What is refused before anything is asked of upstream.
pub(super) fn refuse_request(asked: &HeaderMap) -> Result<(), NotStored> {
    if asked.contains_key(AUTHORIZATION) {
        return Err(NotStored::Authorization);
    }
    if has(asked, "no-store") {
        return Err(NotStored::NoStore);
    }
    let own_conditions = asked.contains_key(RANGE) || asked.keys().any(is_condition);
    if own_conditions { Err(NotStored::Conditional) } else { Ok(()) }
}

pub(super) fn is_condition(name: &HeaderName) -> bool {
    name.as_str().starts_with("if-")
}

/// Those headers of the request that `Vary` names.
fn selecting(headers: &HeaderMap, sent: &HeaderMap) -> Result<HeaderMap, NotStored> {
    let mut selecting = HeaderMap::new();
    let mut names = 0;
    for value in headers.get_all(VARY) {
        let names_of_value = value.to_str().map_err(|_| NotStored::VaryAll)?;
        for name in names_of_value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            names += 1;
            let name = name.parse::<HeaderName>().map_err(|_| NotStored::VaryAll)?;
            if name == "*" || names > SELECTING_HEADERS_MAX {
                return Err(NotStored::VaryAll);
            }
            if !selecting.contains_key(&name) {
                for value in sent.get_all(&name) {
                    selecting.append(name.clone(), value.clone());
                }
            }
        }
    }
    Ok(selecting)
}

/// What a 304 makes of a response that was to be validated; `None` if it is about another one. `kept` are the
/// 304's headers that are passed on.
#[must_use]
pub fn decide_update(
    stored: &StoredResponse,
    headers: &HeaderMap,
    kept: &HeaderMap,
    received: UnixMs,
) -> Option<StoredResponse> {
    if has(headers, "no-store") || has(headers, "private") || headers.contains_key(SET_COOKIE) {
        return None;
    }
    let response = with_headers(Response::new(()), &normal(headers, Some(received)));
    let (mut parts, ()) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    let request = request(&stored.uri, &stored.selecting);
    match stored.policy().after_response(&request, &parts, system_time(received)) {
        AfterResponse::Modified(..) => None,
        AfterResponse::NotModified(..) => {
            let mut updated = stored.clone();
            updated.received = received;
            // The age of what was stored is over.
            updated.headers.remove(http::header::AGE);
            for name in kept.keys().filter(|&name| !is_of_the_body(name)) {
                updated.headers.remove(name);
                for value in kept.get_all(name) {
                    updated.headers.append(name.clone(), value.clone());
                }
            }
            if headers.get(EXPIRES).is_none() && has(headers, "max-age") {
                updated.headers.remove(EXPIRES);
            }
            Some(updated)
        }
    }
}

/// Headers that a 304 must not change: the body is the old one. Nor what selects it.
fn is_of_the_body(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "transfer-encoding"
            | "vary"
    )
}
