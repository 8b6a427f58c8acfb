//! The forward role for what no tree lists: kept and answered with by the rules of RFC 9111.
//!
//! What may be kept and when it is an answer is decided by `cache_policy::reuse`, where it lies by
//! `blob_store::Responses`; here are the requests between the two. One request goes upstream for all who ask for
//! the same at the same time. Nothing that is kept here was verified, and nothing of it gets a distfile's name.

mod exchange;
mod keep;
mod shared;
mod tee;

use std::sync::Arc;

use cache_policy::UnixMs;
use cache_policy::reuse::{self, Reuse, StoredResponse, Validation};
use http::header::{ACCEPT, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_wire::conditional::{self, Validators};
use url::Url;

use super::body::{self, ResponseBody};
use super::cache_status::{CacheStatus, Forwarded};
use super::file_reply::FileHead;
use super::passthrough;
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::selection::Selection;
use crate::app::{App, now_ms};
use crate::looks::Doubt;
use exchange::Exchange;
use keep::Kept;
pub(crate) use keep::KeptResponses;

/// How often a client whose exchange ended without a word gets into the next one.
const ROUNDS_MAX: usize = 4;

/// Answers a request for `url`, from what is kept or from upstream.
pub(super) async fn answer(app: &Arc<App>, request: &ClientRequest, url: &Url) -> Reply {
    let forward = |status| passthrough::forward(app, request, url, status);
    let uri =
        (url.as_str().parse::<Uri>().ok()).filter(|_| url.username().is_empty() && url.password().is_none());
    let (Some(kept), Some(uri)) = (&app.responses, uri) else {
        return forward(CacheStatus::BYPASS).await;
    };
    if request.headers.contains_key(AUTHORIZATION) || has_directive(&request.headers, "no-store") {
        return forward(CacheStatus::forwarded(Forwarded::Bypass)).await;
    }
    for _ in 0..ROUNDS_MAX {
        let sent = passthrough::pick(&request.headers, &[ACCEPT]);
        let (found, why) = match look_up(kept, &uri, request, &sent) {
            Found::Fresh(kept_response, status, age_seconds) => {
                if let Some(reply) = serve(app, request, &kept_response, status, age_seconds).await {
                    return reply;
                }
                continue;
            }
            Found::Stale(kept_response, conditions, why) => (Some((kept_response, conditions)), why),
            Found::Nothing(why) => (None, why),
        };
        if has_directive(&request.headers, "only-if-cached") {
            return reply::text(
                StatusCode::GATEWAY_TIMEOUT,
                "nothing fresh is here, and nobody may be asked",
            );
        }
        // A part, or an answer to a question of the client's own, is nothing to keep.
        let is_plain = request.method == Method::GET && (found.is_some() || !is_particular(&request.headers));
        if !is_plain {
            return forward(CacheStatus::forwarded(why)).await;
        }
        let exchange = Exchange { app, request, url, uri: &uri, sent, why };
        if let Some(reply) = exchange.run(kept, found).await {
            return reply;
        }
    }
    forward(CacheStatus::forwarded(Forwarded::UriMiss)).await
}

/// What is kept for a request.
enum Found {
    Fresh(Kept, CacheStatus, u64),
    Stale(Kept, HeaderMap, Forwarded),
    Nothing(Forwarded),
}

fn look_up(kept: &KeptResponses, uri: &Uri, request: &ClientRequest, sent: &HeaderMap) -> Found {
    let now = UnixMs::new(now_ms());
    let mut why = Forwarded::UriMiss;
    for candidate in kept.variants(uri) {
        match reuse::decide_reuse(&candidate.stored, &request.headers, sent, now) {
            Reuse::OtherVariant => why = Forwarded::VaryMiss,
            Reuse::Fresh { age_seconds, left_seconds } => {
                let status = CacheStatus { ttl_seconds: Some(left_seconds), ..CacheStatus::HIT };
                return Found::Fresh(candidate, status, age_seconds);
            }
            Reuse::Validate { because, conditions } => {
                let why = match because {
                    Validation::Stale => Forwarded::Stale,
                    Validation::Asked => Forwarded::Request,
                };
                return Found::Stale(candidate, conditions, why);
            }
        }
    }
    Found::Nothing(why)
}

fn has_directive(headers: &HeaderMap, directive: &str) -> bool {
    let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(directive))
}

/// Whether it asks for a part, or only under a condition.
fn is_particular(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name == http::header::RANGE || name.as_str().starts_with("if-"))
}

/// An answer with what is kept; `None` if it went meanwhile.
async fn serve(
    app: &Arc<App>,
    request: &ClientRequest,
    kept: &Kept,
    status: CacheStatus,
    age_seconds: u64,
) -> Option<Reply> {
    let responses = app.responses.as_ref()?.responses();
    let (of_task, response) = (responses.clone(), kept.response.clone());
    let opened = tokio::task::spawn_blocking(move || of_task.body(&response)).await;
    let file = match opened {
        Ok(Ok(file)) => Arc::new(file?),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a response that is kept can't be read");
            return None;
        }
        Err(_) => return None,
    };
    let length_bytes = kept.response.length_bytes;
    let make_body = |selection| {
        let doubt = Doubt::of_response(app, responses, kept.response.clone());
        body::kept(file, selection, doubt)
    };
    Some(reply_of(request, &kept.stored, length_bytes, status, age_seconds, make_body))
}

/// An answer whose headers are those of `stored`, with the client's own range and conditions applied.
fn reply_of(
    request: &ClientRequest,
    stored: &StoredResponse,
    length_bytes: u64,
    status: CacheStatus,
    age_seconds: u64,
    make_body: impl FnOnce(Selection) -> ResponseBody,
) -> Reply {
    let text = |name| stored.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let validators = Validators {
        // Only a strong one says that the octets are the same.
        etag: text(http::header::ETAG).filter(|tag| tag.starts_with('"')).map(str::to_owned),
        modified: text(http::header::LAST_MODIFIED).and_then(conditional::parse_date),
    };
    let content_type = stored.headers().get(CONTENT_TYPE).cloned();
    let head = FileHead { size_bytes: length_bytes, validators, status, content_type };
    let mut reply = head.reply(&request.method, &request.headers, make_body);
    if reply.status() == StatusCode::PRECONDITION_FAILED
        || reply.status() == StatusCode::RANGE_NOT_SATISFIABLE
    {
        return reply;
    }
    let headers = reply.headers_mut();
    let is_of_this_answer = |name: &http::HeaderName| {
        matches!(name.as_str(), "content-length" | "content-range" | "content-type" | "accept-ranges" | "age")
    };
    for name in stored.headers().keys().filter(|name| !is_of_this_answer(name)) {
        headers.remove(name);
        for value in stored.headers().get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(AGE, age_seconds.into());
    reply
}

#[cfg(test)]
mod tests;
