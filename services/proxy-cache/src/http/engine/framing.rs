//! How the end of an answer is told (RFC 9112, section 6.3), and its head in octets.

use std::time::SystemTime;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version, request, response};
use http_wire::conditional::format_date;

use super::is_closing;
use crate::http::body::ResponseBody;

/// What an answer has to know of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: Method,
    version: Version,
    keeps_alive: bool,
}

impl Asked {
    pub(super) fn of(head: &request::Parts) -> Self {
        let says = |token| has_token(&head.headers, &CONNECTION, token);
        let keeps_alive = !says("close") && (head.version != Version::HTTP_10 || says("keep-alive"));
        Self { method: head.method.clone(), version: head.version, keeps_alive }
    }

    /// A request that could not be read.
    pub(super) const fn unknown() -> Self {
        Self { method: Method::GET, version: Version::HTTP_11, keeps_alive: false }
    }
}

/// Whether a list header has this token.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// How the client knows that it has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing follows the head, which may have the length that GET would get.
    NoBody(Option<u64>),
    /// So many octets.
    Length(u64),
    /// Chunk by chunk.
    Chunked,
    /// The connection ends.
    UntilClose,
}

impl Framing {
    pub(super) fn of(head: &response::Parts, body: &ResponseBody, asked: &Asked) -> Self {
        let is_tunnel = asked.method == Method::CONNECT && head.status.is_success();
        let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none || is_tunnel {
            return Self::NoBody(None);
        }
        let listed = || listed_length(&head.headers);
        if asked.method == Method::HEAD {
            return Self::NoBody(listed().or_else(|| body.len().filter(|octets| *octets > 0)));
        }
        match body.len().or_else(listed) {
            Some(octets) => Self::Length(octets),
            None if asked.version == Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }
}

/// What the headers say, if they say one thing.
fn listed_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next()?.to_str().ok()?.parse().ok()?;
    lengths.next().is_none().then_some(length)
}

/// Writes the head; says whether the connection ends with this answer.
pub(super) fn encode(
    out: &mut Vec<u8>,
    head: &response::Parts,
    framing: Framing,
    asked: &Asked,
    stops: bool,
) -> bool {
    let closes = stops || !asked.keeps_alive || framing == Framing::UntilClose || is_closing(&head.headers);
    let is_old = asked.version == Version::HTTP_10;
    let (version, status) = (if is_old { "HTTP/1.0" } else { "HTTP/1.1" }, head.status);
    let mut put = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let reason = status.canonical_reason().unwrap_or("Unknown");
    put(version, format!(" {} {reason}", status.as_u16()).as_bytes());
    for (name, value) in &head.headers {
        let is_ours = [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name);
        if !is_ours {
            put(name.as_str(), &[b": ", value.as_bytes()].concat());
        }
    }
    match framing {
        Framing::Length(octets) | Framing::NoBody(Some(octets)) => {
            put("content-length: ", octets.to_string().as_bytes());
        }
        Framing::Chunked => put("transfer-encoding: ", b"chunked"),
        Framing::NoBody(None) | Framing::UntilClose => {}
    }
    if !head.headers.contains_key(DATE)
        && let Some(date) = format_date(SystemTime::now())
    {
        put("date: ", date.as_bytes());
    }
    if closes {
        put("connection: ", b"close");
    } else if is_old {
        put("connection: ", b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
    closes
}

/// The line before a chunk.
pub(super) fn chunk_head(out: &mut Vec<u8>, octets: usize) {
    out.extend_from_slice(format!("{octets:x}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http::{Request, Response};

    use super::*;
    use crate::http::body;

    fn asked(method: &str, version: Version, connection: Option<&str>) -> Asked {
        let mut request = Request::builder().method(method).version(version).uri("/");
        if let Some(connection) = connection {
            request = request.header(CONNECTION, connection);
        }
        Asked::of(&request.body(()).unwrap().into_parts().0)
    }

    /// The head of an answer with this body and these headers, without its date, and whether it closes.
    fn head(status: u16, headers: &[(&str, &str)], body: ResponseBody, asked: &Asked) -> (String, bool) {
        let mut answer = Response::builder().status(status).header(DATE, "today");
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let (head, body) = answer.body(body).unwrap().into_parts();
        let mut out = Vec::new();
        let closes = encode(&mut out, &head, Framing::of(&head, &body, asked), asked, false);
        (String::from_utf8(out).unwrap().replace("date: today\r\n", ""), closes)
    }

    fn pieces() -> ResponseBody {
        body::stream(stream::iter([Ok(Bytes::from_static(b"abc"))]))
    }

    #[test]
    fn each_answer_tells_its_end_in_one_way() {
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        let get = |version| asked("GET", version, None);
        for (answer, expected) in [
            (
                head(200, &[], body::full("abc"), &get(new)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false),
            ),
            (
                head(200, &[], pieces(), &get(new)),
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9")], pieces(), &get(new)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false),
            ),
            // What the body has counts.
            (
                head(200, &[("content-length", "9")], body::full("abc"), &get(new)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9"), ("content-length", "8")], pieces(), &get(new)),
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ),
            (
                head(404, &[], body::empty(), &get(new)),
                ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
            ),
            (head(304, &[], body::empty(), &get(new)), ("HTTP/1.1 304 Not Modified\r\n\r\n", false)),
            (head(200, &[], body::empty(), &asked("CONNECT", new, None)), ("HTTP/1.1 200 OK\r\n\r\n", false)),
            (
                head(200, &[], body::full("abc"), &asked("HEAD", new, None)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9")], body::empty(), &asked("HEAD", new, None)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false),
            ),
            (
                head(400, &[("connection", "close")], body::empty(), &get(new)),
                ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], body::full("abc"), &asked("GET", new, Some("x, Close"))),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], body::full("abc"), &get(old)),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], body::full("abc"), &asked("GET", old, Some("Keep-Alive"))),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n", false),
            ),
            (
                head(200, &[], body::full("abc"), &asked("GET", old, Some("keep-alive, close"))),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            // Only the end of the connection can tell.
            (
                head(200, &[], pieces(), &asked("GET", old, Some("Keep-Alive"))),
                ("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", true),
            ),
        ] {
            assert_eq!((answer.0.as_str(), answer.1), expected);
        }
    }
}
