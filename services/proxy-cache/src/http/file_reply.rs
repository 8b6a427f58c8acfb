//! Responses that are files: validators, ranges, the headers around a body.

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED,
};
use http::{Method, Response, StatusCode};
use http_wire::conditional::{Validators, format_date};
use http_wire::multipart::{Multipart, format_content_range};
use http_wire::range::{self, Wanted};

use super::body::{self, ResponseBody};
use super::cache_status::CacheStatus;
use super::reply::Reply;
use super::selection::Selection;

/// Never with a Content-Encoding: what is compressed is the file itself.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A file about to be sent.
#[derive(Debug, Clone)]
pub(crate) struct FileHead {
    pub(crate) size_bytes: u64,
    pub(crate) validators: Validators,
    pub(crate) status: CacheStatus,
    /// Of the whole file.
    pub(crate) content_type: Option<HeaderValue>,
}

/// What goes out.
struct Chosen {
    status: StatusCode,
    selection: Selection,
    length: u64,
    content_range: Option<String>,
    content_type: Option<HeaderValue>,
}

impl FileHead {
    /// Of octets of which nothing more is known.
    pub(crate) fn new(size_bytes: u64, validators: Validators, status: CacheStatus) -> Self {
        Self { size_bytes, validators, status, content_type: Some(OCTETS) }
    }

    /// The whole response to one request; `make_body` is only asked if bytes are to be sent.
    pub(crate) fn reply(
        &self,
        method: &Method,
        headers: &HeaderMap,
        make_body: impl FnOnce(Selection) -> ResponseBody,
    ) -> Reply {
        if self.validators.is_unwanted(headers) {
            return self.bare(StatusCode::PRECONDITION_FAILED);
        }
        if self.validators.is_not_modified(headers) {
            return self.bare(StatusCode::NOT_MODIFIED);
        }
        // RFC 9110, 14.2: ranges are defined for GET only.
        let range = if method == Method::GET { self.validators.range(headers) } else { None };
        let chosen = self.choose(range::parse(range, self.size_bytes));
        let mut reply = self.bare(chosen.status);
        if method != Method::HEAD && chosen.length > 0 {
            *reply.body_mut() = make_body(chosen.selection);
        }
        let headers = reply.headers_mut();
        headers.insert(CONTENT_LENGTH, chosen.length.into());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let content_range = chosen.content_range.and_then(|value| HeaderValue::try_from(value).ok());
        for (name, value) in [(CONTENT_RANGE, content_range), (CONTENT_TYPE, chosen.content_type)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        reply
    }

    fn choose(&self, wanted: Wanted) -> Chosen {
        let size = self.size_bytes;
        let content_type = self.content_type.clone();
        let one = |status, part: std::ops::Range<u64>, content_range| {
            let length = part.end - part.start;
            Chosen { status, selection: Selection::part(part), length, content_range, content_type }
        };
        match wanted {
            Wanted::Whole => one(StatusCode::OK, 0..size, None),
            Wanted::Part(part) => {
                let content_range = format_content_range(&part, size);
                one(StatusCode::PARTIAL_CONTENT, part, Some(content_range))
            }
            Wanted::Unsatisfiable => {
                one(StatusCode::RANGE_NOT_SATISFIABLE, 0..0, Some(format!("bytes */{size}")))
            }
            Wanted::Parts(parts) => {
                let of_file = self.content_type.as_ref().and_then(|value| value.to_str().ok());
                let boundary = format!("{:032x}", rand::random::<u128>());
                let multipart = Multipart::new(&parts, size, of_file, &boundary);
                Chosen {
                    status: StatusCode::PARTIAL_CONTENT,
                    length: multipart.length(),
                    content_range: None,
                    content_type: HeaderValue::try_from(multipart.content_type()).ok(),
                    selection: Selection::parts(multipart.into_segments()),
                }
            }
        }
    }

    /// Without a body and what describes one.
    fn bare(&self, status: StatusCode) -> Reply {
        let mut reply = Response::new(body::empty());
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        headers.reserve(8);
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
        if self.status == CacheStatus::HIT
            && let Some(modified) = self.validators.modified
        {
            headers.insert(AGE, modified.elapsed().unwrap_or_default().as_secs().into());
        }
        let (name, value) = self.status.header();
        headers.insert(name, value);
        reply
    }
}
