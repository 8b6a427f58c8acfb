//! How the end of an answer is told (RFC 9112, section 6.3), and its head in octets.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version, request, response};

use crate::conditional::format_date;

/// What an answer has to know of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    version: Version,
    keeps_alive: bool,
}

impl Asked {
    /// What matters of a request that was read.
    #[must_use]
    pub fn of(head: &request::Parts) -> Self {
        let says = |token| has_token(&head.headers, &CONNECTION, token);
        let keeps_alive = !says("close") && (head.version != Version::HTTP_10 || says("keep-alive"));
        Self { method: head.method.clone(), version: head.version, keeps_alive }
    }

    /// A request that could not be read.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { method: Method::GET, version: Version::HTTP_11, keeps_alive: false }
    }
}

/// Whether headers say that the connection ends.
#[must_use]
pub fn is_closing(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "close")
}

/// Whether a list header has this token.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// How the client knows that it has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
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
    /// How the end of an answer is told whose body has so many octets, if that is known.
    #[must_use]
    pub fn of(head: &response::Parts, body_octets: Option<u64>, asked: &Asked) -> Self {
        let is_tunnel = asked.method == Method::CONNECT && head.status.is_success();
        let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none || is_tunnel {
            return Self::NoBody(None);
        }
        let listed = || listed_length(&head.headers);
        if asked.method == Method::HEAD {
            return Self::NoBody(listed().or_else(|| body_octets.filter(|octets| *octets > 0)));
        }
        match body_octets.or_else(listed) {
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

/// The date of answers, written once a second.
#[derive(Debug, Default)]
pub struct DateText {
    second: u64,
    text: String,
}

impl DateText {
    fn at(&mut self, now: SystemTime) -> &str {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.second != second || self.text.is_empty() {
            (self.second, self.text) = (second, format_date(now).unwrap_or_default());
        }
        &self.text
    }
}

/// When an answer is sent.
#[derive(Debug)]
pub struct Sent<'a> {
    /// Now.
    pub now: SystemTime,
    /// What was written for the answer before.
    pub date: &'a mut DateText,
    /// The connection ends with it in any case.
    pub stops: bool,
}

/// Writes the head; says whether the connection ends with this answer.
pub fn encode(
    out: &mut Vec<u8>,
    head: &response::Parts,
    framing: Framing,
    asked: &Asked,
    sent: Sent<'_>,
) -> bool {
    let Sent { now, date, stops } = sent;
    let closes = stops || !asked.keeps_alive || framing == Framing::UntilClose || is_closing(&head.headers);
    let is_old = asked.version == Version::HTTP_10;
    let version = if is_old { "HTTP/1.0 " } else { "HTTP/1.1 " };
    let reason = head.status.canonical_reason().unwrap_or("Unknown");
    put(out, &[version, head.status.as_str(), " ", reason].map(str::as_bytes));
    for (name, value) in &head.headers {
        let is_ours = [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name);
        if !is_ours {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
        }
    }
    match framing {
        Framing::Length(octets) | Framing::NoBody(Some(octets)) => {
            // Writing to a vector can't fail.
            write!(out, "content-length: {octets}\r\n").unwrap_or_default();
        }
        Framing::Chunked => put(out, &[b"transfer-encoding: chunked"]),
        Framing::NoBody(None) | Framing::UntilClose => {}
    }
    if !head.headers.contains_key(DATE) {
        let date = date.at(now);
        if !date.is_empty() {
            put(out, &[b"date: ", date.as_bytes()]);
        }
    }
    if closes {
        put(out, &[b"connection: close"]);
    } else if is_old {
        put(out, &[b"connection: keep-alive"]);
    }
    out.extend_from_slice(b"\r\n");
    closes
}

fn put(out: &mut Vec<u8>, line: &[&[u8]]) {
    for part in line.iter().chain(&[&b"\r\n"[..]]) {
        out.extend_from_slice(part);
    }
}

/// The line before a chunk.
pub fn chunk_head(out: &mut Vec<u8>, octets: usize) {
    // Writing to a vector can't fail.
    write!(out, "{octets:x}\r\n").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use std::time::Duration;

    use super::*;

    fn asked(method: &str, version: Version, connection: Option<&str>) -> Asked {
        let mut request = Request::builder().method(method).version(version).uri("/");
        if let Some(connection) = connection {
            request = request.header(CONNECTION, connection);
        }
        Asked::of(&request.body(()).unwrap().into_parts().0)
    }

    /// The head of an answer with so many octets and these headers, without its date, and whether it closes.
    fn head(status: u16, headers: &[(&str, &str)], body: Option<u64>, asked: &Asked) -> (String, bool) {
        let mut answer = Response::builder().status(status).header(DATE, "today");
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let (head, ()) = answer.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let sent = Sent { now: UNIX_EPOCH, date: &mut DateText::default(), stops: false };
        let closes = encode(&mut out, &head, Framing::of(&head, body, asked), asked, sent);
        (String::from_utf8(out).unwrap().replace("date: today\r\n", ""), closes)
    }

    #[test]
    fn the_date_is_that_of_the_moment() {
        let (head, ()) = Response::new(()).into_parts();
        let asked = asked("GET", Version::HTTP_11, None);
        let mut date = DateText::default();
        for (second, text) in [(0, "00:00:00"), (1, "00:00:01"), (1, "00:00:01"), (0, "00:00:00")] {
            let mut out = Vec::new();
            let now = UNIX_EPOCH + Duration::from_millis(second * 1000 + 999);
            encode(&mut out, &head, Framing::Length(0), &asked, Sent { now, date: &mut date, stops: true });
            let expected = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: Thu, 01 Jan 1970 {text} GMT\r\nconnection: close\r\n\r\n"
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn each_answer_tells_its_end_in_one_way() {
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        let get = |version| asked("GET", version, None);
        for (answer, expected) in [
            (head(200, &[], Some(3), &get(new)), ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false)),
            (
                head(200, &[], None, &get(new)),
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9")], None, &get(new)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false),
            ),
            // What the body has counts.
            (
                head(200, &[("content-length", "9")], Some(3), &get(new)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9"), ("content-length", "8")], None, &get(new)),
                ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
            ),
            (
                head(404, &[], Some(0), &get(new)),
                ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
            ),
            (head(304, &[], Some(0), &get(new)), ("HTTP/1.1 304 Not Modified\r\n\r\n", false)),
            (head(200, &[], Some(0), &asked("CONNECT", new, None)), ("HTTP/1.1 200 OK\r\n\r\n", false)),
            (
                head(200, &[], Some(3), &asked("HEAD", new, None)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false),
            ),
            (
                head(200, &[("content-length", "9")], Some(0), &asked("HEAD", new, None)),
                ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false),
            ),
            (
                head(400, &[("connection", "close")], Some(0), &get(new)),
                ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], Some(3), &asked("GET", new, Some("x, Close"))),
                ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], Some(3), &get(old)),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            (
                head(200, &[], Some(3), &asked("GET", old, Some("Keep-Alive"))),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n", false),
            ),
            (
                head(200, &[], Some(3), &asked("GET", old, Some("keep-alive, close"))),
                ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n", true),
            ),
            // Only the end of the connection can tell.
            (
                head(200, &[], None, &asked("GET", old, Some("Keep-Alive"))),
                ("HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", true),
            ),
        ] {
            assert_eq!((answer.0.as_str(), answer.1), expected);
        }
    }
}
