//! Requests, and what RFC 9110 and 9112 say the answers are.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::replica::File;

/// What can be asked for.
pub(super) struct World {
    pub(super) address: SocketAddr,
    files: Vec<Known>,
}

#[derive(Clone)]
struct Known {
    paths: Vec<String>,
    bytes: Arc<Vec<u8>>,
    etag: String,
    modified: jiff::Timestamp,
}

/// What identifies the file that an answer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) etag: String,
    /// As `Last-Modified` says it.
    pub(super) modified: String,
    /// Whether the answer has to tell (RFC 9110, sections 8.8 and 15.4.5), or only to be right if it does.
    pub(super) is_told: bool,
}

/// What a request must get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) status: u16,
    /// `None`: the answer is about no file, and must not seem to be.
    pub(super) selected: Option<Selected>,
    /// The whole value of `Content-Range`; `None`: there must be none.
    pub(super) content_range: Option<String>,
    /// Whether the request is one that no server should answer.
    pub(super) is_refused: bool,
    pub(super) is_old: bool,
    /// What the head says of the length; `None`: whatever it is.
    pub(super) length: Option<u64>,
    pub(super) body: Body,
    /// Whether this is the last answer.
    pub(super) closes: bool,
}

/// What follows the head.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// As long as the head says, in whatever words.
    Words,
    Part(Arc<Vec<u8>>, Range<usize>),
    /// `multipart/byteranges`
    Parts(Arc<Vec<u8>>, Vec<Range<usize>>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Words => f.write_str("Words"),
            Self::Part(_, part) => f.debug_tuple("Part").field(part).finish(),
            Self::Parts(_, parts) => f.debug_tuple("Parts").field(parts).finish(),
        }
    }
}

/// One request.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) octets: Vec<u8>,
    pub(super) expected: Expected,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.octets.escape_ascii(), self.expected)
    }
}

const REFUSED: &[(&str, u16)] = &[
    ("GET {} HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("GET {} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("GET {} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (
        "GET {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: trailer\r\n\r\n",
        400,
    ),
    ("GET {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 400),
    ("GET {} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET {} HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400),
    ("GET {} HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("GET {} HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
    ("GET {} HTTP/1.1\r\n\r\n", 400),
    ("GET {}#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET {} HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ("POST {} HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("POST {} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 400),
];

impl World {
    /// What is stored in the first slot of `cache_dir`.
    pub(super) fn new(address: SocketAddr, cache_dir: &Path, files: &[File]) -> Self {
        let known = |file: &File| {
            let odd = file.name.bytes().fold(String::new(), |odd, octet| odd + &format!("%{octet:02x}"));
            let stored = cache_dir.join("r0").join(&file.mirror_path()[1..]);
            let modified = std::fs::metadata(stored).unwrap().modified().unwrap();
            let seconds = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
            Known {
                paths: vec![
                    file.mirror_path(),
                    format!("/distfiles/{}", file.name),
                    format!("/{}", file.name),
                    format!("/distfiles/{odd}"),
                    format!("http://{address}/distfiles/{}", file.name),
                ],
                bytes: Arc::new(file.bytes()),
                etag: format!("\"{}\"", hex::encode(file.contents.digests().blake2b)),
                modified: jiff::Timestamp::from_second(seconds.try_into().unwrap()).unwrap(),
            }
        };
        Self { address, files: files.iter().map(known).collect() }
    }

    pub(super) fn ask(&self, random: &mut StdRng) -> Asked {
        let file = self.files.choose(random).unwrap();
        let path = file.paths.choose(random).unwrap();
        if random.random_ratio(1, 25) {
            let (refused, status) = REFUSED.choose(random).unwrap();
            let octets = refused.replace("{}", path).into_bytes();
            let expected = Expected {
                status: *status,
                selected: None,
                content_range: None,
                is_refused: true,
                is_old: false,
                length: None,
                body: Body::Words,
                closes: true,
            };
            return Asked { octets, expected };
        }
        let (is_old, is_head) = (random.random_ratio(1, 8), random.random_ratio(1, 4));
        let (mut fields, closes) = connection(random, is_old);
        if random.random_ratio(1, 8) {
            fields.push_str("Expect: 100-continue\r\n");
        }
        if random.random_ratio(1, 8) {
            fields.push_str("content-LENGTH:\t0 \r\nX-Odd:\r\n");
        }
        let (path, mut expected) = if random.random_ratio(1, 12) {
            let body = if is_head { Body::None } else { Body::Words };
            let expected = Expected {
                status: 404,
                selected: None,
                content_range: None,
                is_refused: false,
                is_old,
                length: None,
                body,
                closes,
            };
            (
                *["/nobody-knows-1.tar", "/distfiles/%2e%2e/x", "/a%0d%0aSet-Cookie:x", "*"]
                    .choose(random)
                    .unwrap(),
                expected,
            )
        } else {
            (path.as_str(), file.ask(random, is_head, &mut fields))
        };
        expected.is_old = is_old;
        expected.closes = closes;
        let method = if is_head { "HEAD" } else { "GET" };
        let empty = if random.random_ratio(1, 10) { "\r\n" } else { "" };
        let octets = format!("{empty}{method} {path} HTTP/1.{}\r\n{fields}\r\n", u8::from(!is_old));
        Asked { octets: octets.into_bytes(), expected }
    }
}

/// What is said of the connection, and whether that ends it.
fn connection(random: &mut StdRng, is_old: bool) -> (String, bool) {
    let host = if is_old { "" } else { "hOST: a:80\r\n" };
    let (says, closes) = match random.random_range(0..12) {
        0 => ("Connection: close\r\n", true),
        1 => ("Connection: x, CLOSE ,keep-alive\r\n", true),
        2 => ("Connection: keep-alive\r\nConnection: x\r\n", false),
        _ if is_old => ("Connection: Keep-Alive\r\n", false),
        _ => ("", false),
    };
    (format!("{host}{says}"), closes)
}

/// As RFC 9110, section 5.6.7, wants it.
fn date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The two obsolete forms, which have to be read too.
const OLD_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

impl Known {
    fn answer(&self, status: u16, length: Option<usize>, body: Body) -> Expected {
        Expected {
            status,
            selected: Some(Selected {
                etag: self.etag.clone(),
                modified: date(self.modified),
                is_told: matches!(status, 200 | 206 | 304),
            }),
            content_range: None,
            is_refused: false,
            is_old: false,
            length: length.map(|length| length as u64),
            body,
            closes: false,
        }
    }

    /// Adds conditions and ranges; what comes of them.
    fn ask(&self, random: &mut StdRng, is_head: bool, fields: &mut String) -> Expected {
        let mut expected = match self.condition(random, fields) {
            Some(304) => self.answer(304, None, Body::None),
            Some(status) => self.answer(status, None, Body::Words),
            // Ranges are GET's alone, and looked at last.
            None if is_head => {
                self.range(random, fields);
                self.whole()
            }
            None => self.range(random, fields),
        };
        if is_head {
            expected.body = Body::None;
        }
        expected
    }

    /// Adds conditions; the status if one of them decides.
    fn condition(&self, random: &mut StdRng, fields: &mut String) -> Option<u16> {
        let (etag, modified) = (&self.etag, date(self.modified));
        let before = date(self.modified - jiff::SignedDuration::from_secs(1));
        let old = self.modified.strftime(OLD_DATES.choose(random).unwrap());
        let (says, decides) = match random.random_range(0..18) {
            0 => (format!("If-None-Match: \"x\", W/{etag}\r\n"), Some(304)),
            1 => ("If-Match: \"x\"\r\n".to_owned(), Some(412)),
            2 => (
                "If-None-Match: \"x\"\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n".to_owned(),
                None,
            ),
            3 => (format!("If-Match: {etag}\r\n"), None),
            4 => (format!("If-Modified-Since: {modified}\r\n"), Some(304)),
            5 => (format!("If-Modified-Since: {old}\r\n"), Some(304)),
            6 => (format!("If-Modified-Since: {before}\r\n"), None),
            7 => (format!("If-Unmodified-Since: {before}\r\n"), Some(412)),
            8 => (format!("If-Unmodified-Since: {modified}\r\n"), None),
            9 => (format!("If-Match: {etag}\r\nIf-Unmodified-Since: {before}\r\n"), None),
            _ => (String::new(), None),
        };
        fields.push_str(&says);
        decides
    }

    fn whole(&self) -> Expected {
        let size = self.bytes.len();
        self.answer(200, Some(size), Body::Part(Arc::clone(&self.bytes), 0..size))
    }

    fn part(&self, range: Range<usize>) -> Expected {
        let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, self.bytes.len());
        let body = Body::Part(Arc::clone(&self.bytes), range.clone());
        Expected { content_range: Some(content_range), ..self.answer(206, Some(range.len()), body) }
    }

    /// Adds ranges; what they get of a GET.
    fn range(&self, random: &mut StdRng, fields: &mut String) -> Expected {
        let size = self.bytes.len();
        let (one, other) = (random.random_range(0..size), random.random_range(0..size));
        let (first, last) = (one.min(other), one.max(other));
        let (says, expected) = match random.random_range(0..13) {
            0 | 1 => (format!("bytes={first}-{last}"), self.part(first..last + 1)),
            2 => (format!("bytes={first}-\r\nIf-Range: {}", self.etag), self.part(first..size)),
            3 => (format!("bytes={first}-{last}\r\nIf-Range: \"x\""), self.whole()),
            // Never strong.
            4 => (format!("bytes={first}-\r\nIf-Range: W/{}", self.etag), self.whole()),
            5 => (format!("bytes=-{}", last + 1), self.part(size - (last + 1)..size)),
            6 => (format!("bytes={first}-{}", u64::MAX), self.part(first..size)),
            7 => {
                let content_range = Some(format!("bytes */{size}"));
                let expected = Expected { content_range, ..self.answer(416, Some(0), Body::None) };
                (format!("bytes={size}-"), expected)
            }
            8 if size > 1000 => {
                let (middle, back) = (size / 3, size / 2);
                let parts = vec![0..10, middle..middle + 100, back..size];
                let body = Body::Parts(Arc::clone(&self.bytes), parts);
                (format!("bytes=0-9,{middle}-{},{back}-", middle + 99), self.answer(206, None, body))
            }
            9 => ((*["bytes=9-2", "lines=1-", "bytes=x"].choose(random).unwrap()).to_owned(), self.whole()),
            _ => return self.whole(),
        };
        write!(fields, "Range: {says}\r\n").unwrap();
        expected
    }
}
