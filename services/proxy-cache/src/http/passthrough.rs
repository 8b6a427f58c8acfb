//! What goes through without being kept.

use std::io;
use std::sync::Arc;

use futures_util::stream;
use http::header::{
    ACCEPT, ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, PRAGMA, RANGE, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, StatusCode};
use http_wire::via::Via;
use reqwest::Response;
use url::Url;

use super::body::{self, ResponseBody, Witness};
use super::cache_status::CacheStatus;
use super::checked;
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::window::VERIFIED_FIRST_BYTES_MAX;
use crate::app::App;
use crate::catalogue::KnownDistfile;
use crate::fetch::candidate::{Candidate, Kind};
use crate::fetch::fault::{SourceFault, status_of};
use crate::fetch::upstream::Trust;

/// Passed on to the upstream when one URL is relayed; everything else stays here.
const REQUEST_HEADERS: &[HeaderName] = &[
    ACCEPT,
    AUTHORIZATION,
    CACHE_CONTROL,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    PRAGMA,
    RANGE,
];
/// Passed on to the client. No hop-by-hop header, no cookie.
pub(super) const RESPONSE_HEADERS: &[HeaderName] = &[
    ACCEPT_RANGES,
    AGE,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    VARY,
    WWW_AUTHENTICATE,
];

pub(super) fn pick(from: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut picked = HeaderMap::new();
    for name in names {
        for value in from.get_all(name) {
            picked.append(name.clone(), value.clone());
        }
    }
    picked
}

/// A known distfile from the first candidate that has it. All of it, whatever range was asked for: a
/// part can't be verified.
pub(crate) async fn known(
    app: &Arc<App>,
    candidates: &[Candidate],
    known: &KnownDistfile,
    via: &Via,
    status: CacheStatus,
    make_witness: impl Fn(&Candidate) -> Box<dyn Witness>,
) -> Reply {
    let size_bytes = known.distfile.size_bytes;
    let mut faults = Vec::new();
    let mut missing_at = None;
    for candidate in candidates {
        if candidate.kind == Kind::FlatMirror && missing_at.as_ref() != Some(&candidate.origin()) {
            continue;
        }
        let answer = app.upstreams.get(&candidate.url, candidate.trust, 0, &HeaderMap::new(), via).await;
        let fault = match answer {
            Ok(response) if response.status() != StatusCode::OK => SourceFault::WrongRange,
            Ok(response) if is_of_size(&response, Some(size_bytes)) => {
                if size_bytes > VERIFIED_FIRST_BYTES_MAX {
                    let (app, name) = (Arc::clone(app), known.distfile.name.clone());
                    let record = move || app.refusals.record_unverified(&name);
                    if tokio::task::spawn_blocking(record).await.is_err() {
                        return reply::unavailable("the store failed");
                    }
                }
                let body = checked::body_of(app.upstreams.clone(), response, known, make_witness(candidate));
                let mut reply = Reply::new(body);
                let (name, value) = status.header();
                reply.headers_mut().insert(name, value);
                reply.headers_mut().insert(CONTENT_LENGTH, size_bytes.into());
                reply.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
                return reply;
            }
            Ok(_) => SourceFault::WrongLength(0),
            Err(fault) => fault,
        };
        if matches!(fault, SourceFault::Missing(_)) {
            missing_at = Some(candidate.origin());
        }
        faults.push(fault);
    }
    let why = faults.last().map_or_else(|| "no source is known".to_owned(), SourceFault::to_string);
    reply::text(status_of(&faults), &why)
}

/// The first candidate that has it.
pub(crate) async fn from_candidates(
    app: &Arc<App>,
    request: &ClientRequest,
    candidates: &[Candidate],
) -> Reply {
    let mut faults = Vec::new();
    let mut missing_at = None;
    for candidate in candidates {
        if candidate.kind == Kind::FlatMirror && missing_at.as_ref() != Some(&candidate.origin()) {
            continue;
        }
        let headers = pick(&request.headers, &[RANGE, IF_RANGE]);
        let method = request.method.clone();
        let answer =
            app.upstreams.follow(method, &candidate.url, candidate.trust, headers, &request.via).await;
        let fault = match answer {
            Ok(response) => return relay(app, request, response, CacheStatus::BYPASS),
            // The client's own mistake.
            Err(SourceFault::Status(416)) => {
                return reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "nothing of that range is there");
            }
            Err(fault) => fault,
        };
        if matches!(fault, SourceFault::Missing(_)) {
            missing_at = Some(candidate.origin());
        }
        faults.push(fault);
    }
    let why = faults.last().map_or_else(|| "no source is known".to_owned(), SourceFault::to_string);
    reply::text(status_of(&faults), &why)
}

fn is_of_size(response: &Response, size_bytes: Option<u64>) -> bool {
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<u64>().ok());
    match (size_bytes, length) {
        (Some(size), Some(length)) if response.status() == StatusCode::OK => size == length,
        _ => true,
    }
}

/// The forward role for what is no distfile: one request, its answer as it is.
pub(super) async fn forward(
    app: &Arc<App>,
    request: &ClientRequest,
    url: &Url,
    status: CacheStatus,
) -> Reply {
    let headers = pick(&request.headers, REQUEST_HEADERS);
    match app.upstreams.send(request.method.clone(), url, Trust::Checked, headers, &request.via).await {
        Ok(response) => relay(app, request, response, status),
        Err(fault) => failed(&fault),
    }
}

/// What a client is told when the one that was to be asked gave nothing.
pub(super) fn failed(fault: &SourceFault) -> Reply {
    if let SourceFault::Refused(why) = fault {
        return reply::text(StatusCode::FORBIDDEN, why);
    }
    reply::text(status_of(std::slice::from_ref(fault)), &fault.to_string())
}

/// An upstream's answer, as it comes.
pub(super) fn relay(
    app: &Arc<App>,
    request: &ClientRequest,
    response: Response,
    status: CacheStatus,
) -> Reply {
    let mut reply = Reply::new(body::empty());
    *reply.status_mut() = response.status();
    *reply.headers_mut() = pick(response.headers(), RESPONSE_HEADERS);
    let (name, value) = status.answered_with(response.status()).header();
    reply.headers_mut().insert(name, value);
    let has_body = request.method != Method::HEAD
        && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_body {
        *reply.body_mut() = body_of(app, response);
    }
    reply
}

/// An upstream's body. If it breaks, so does the connection to the client.
fn body_of(app: &Arc<App>, response: Response) -> ResponseBody {
    let upstreams = app.upstreams.clone();
    body::stream(stream::unfold(Some((upstreams, response)), |state| async move {
        let (upstreams, mut response) = state?;
        match upstreams.chunk(&mut response).await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some((upstreams, response)))),
            Ok(None) => None,
            Err(fault) => Some((Err(io::Error::other(fault.to_string())), None)),
        }
    }))
}
