//! Responses that are not files.

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::{self, ResponseBody};

/// A response of any kind.
pub(crate) type Reply = Response<ResponseBody>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A line for people. Nobody on the way keeps it.
pub(crate) fn text(status: StatusCode, line: &str) -> Reply {
    let mut reply = Response::new(body::full(format!("{line}\n")));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, TEXT);
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}

/// 404.
pub(crate) fn not_found(line: &str) -> Reply {
    text(StatusCode::NOT_FOUND, line)
}

/// 503: it may work in a while.
pub(crate) fn unavailable(line: &str) -> Reply {
    let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, line);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    reply
}

/// 405.
pub(crate) fn method_not_allowed() -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    closing(reply)
}

/// A request that can be read in two ways, or has what no request to us needs.
pub(crate) fn bad_request(line: &str) -> Reply {
    closing(text(StatusCode::BAD_REQUEST, line))
}

/// The same, and the connection ends with it.
pub(crate) fn closing(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}
