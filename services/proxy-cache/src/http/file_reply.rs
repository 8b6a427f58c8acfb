//! Responses that are files: validators, ranges, the headers around a body.

use std::ops::Range;

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED,
};
use http::{Method, Response, StatusCode};
use http_wire::conditional::{Validators, format_date};
use http_wire::range::{self, Wanted};

use super::body::{self, ResponseBody};
use super::cache_status::CacheStatus;
use super::reply::Reply;

/// A file about to be sent.
#[derive(Debug, Clone)]
pub(crate) struct FileHead {
    pub(crate) size_bytes: u64,
    pub(crate) validators: Validators,
    pub(crate) status: CacheStatus,
}

impl FileHead {
    /// The whole response to one request; `make_body` is only asked if bytes are to be sent.
    pub(crate) fn reply(
        &self,
        method: &Method,
        headers: &HeaderMap,
        make_body: impl FnOnce(Range<u64>) -> ResponseBody,
    ) -> Reply {
        if self.validators.is_unwanted(headers) {
            return self.with_headers(StatusCode::PRECONDITION_FAILED, None, body::empty());
        }
        if self.validators.is_not_modified(headers) {
            return self.with_headers(StatusCode::NOT_MODIFIED, None, body::empty());
        }
        // RFC 9110, 14.2: ranges are defined for GET only.
        let range = if method == Method::GET { self.validators.range(headers) } else { None };
        let (status, part) = match range::parse(range, self.size_bytes) {
            Wanted::Whole | Wanted::Parts(_) => (StatusCode::OK, 0..self.size_bytes),
            Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            Wanted::Unsatisfiable => {
                return self.with_headers(StatusCode::RANGE_NOT_SATISFIABLE, Some(0..0), body::empty());
            }
        };
        let body =
            if method == Method::HEAD || part.is_empty() { body::empty() } else { make_body(part.clone()) };
        self.with_headers(status, Some(part), body)
    }

    fn with_headers(&self, status: StatusCode, part: Option<Range<u64>>, body: ResponseBody) -> Reply {
        let mut reply = Response::new(body);
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        if let Some(etag) = &self.validators.etag {
            put(ETAG, etag.clone());
        }
        if let Some(date) = self.validators.modified.and_then(format_date) {
            put(LAST_MODIFIED, date);
        }
        if let Some(part) = part {
            put(CONTENT_LENGTH, (part.end - part.start).to_string());
            if status == StatusCode::PARTIAL_CONTENT {
                put(CONTENT_RANGE, format!("bytes {}-{}/{}", part.start, part.end - 1, self.size_bytes));
            } else if status == StatusCode::RANGE_NOT_SATISFIABLE {
                put(CONTENT_RANGE, format!("bytes */{}", self.size_bytes));
            }
            put(ACCEPT_RANGES, "bytes".to_owned());
            // Never a Content-Encoding: what is compressed is the file itself.
            put(CONTENT_TYPE, "application/octet-stream".to_owned());
        }
        if self.status == CacheStatus::HIT
            && let Some(modified) = self.validators.modified
        {
            put(AGE, modified.elapsed().unwrap_or_default().as_secs().to_string());
        }
        let (name, value) = self.status.header();
        headers.insert(name, value);
        reply
    }
}
