//! Requests, and what RFC 9110 and 9112 say the answers are.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

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
}

/// What a request must get.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) statuses: &'static [u16],
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
#[derive(Clone)]
pub(super) enum Body {
    None,
    /// As long as the head says, in whatever words.
    Words,
    Part(Arc<Vec<u8>>, Range<usize>),
    /// `multipart/byteranges`
    Parts(Arc<Vec<u8>>, Vec<Range<usize>>),
}

/// One request.
pub(super) struct Asked {
    pub(super) octets: Vec<u8>,
    pub(super) expected: Expected,
}

const REFUSED: &[(&str, &[u16])] = &[
    ("GET {} HTTP/1.1\nHost: a\r\n\r\n", &[400]),
    ("GET {} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd", &[400]),
    (
        "GET {} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "GET {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: trailer\r\n\r\n",
        &[400],
    ),
    ("GET {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", &[400]),
    ("GET {} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
    ("GET {} HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", &[400]),
    ("GET {} HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
    ("GET {} HTTP/1.1\r\nHost: a\0\r\n\r\n", &[400]),
    ("GET {} HTTP/1.1\r\n\r\n", &[400]),
    ("GET {}#x HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET {} HTTP/3.0\r\nHost: a\r\n\r\n", &[505]),
    ("POST {} HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
    ("POST {} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", &[400]),
];

impl World {
    pub(super) fn new(address: SocketAddr, files: &[File]) -> Self {
        let known = |file: &File| {
            let odd = file.name.bytes().fold(String::new(), |odd, octet| odd + &format!("%{octet:02x}"));
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
            }
        };
        Self { address, files: files.iter().map(known).collect() }
    }

    pub(super) fn ask(&self, random: &mut StdRng) -> Asked {
        let file = self.files.choose(random).unwrap();
        let path = file.paths.choose(random).unwrap();
        if random.random_ratio(1, 25) {
            let (refused, statuses) = REFUSED.choose(random).unwrap();
            let octets = refused.replace("{}", path).into_bytes();
            let expected = Expected {
                statuses,
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
            let expected =
                Expected { statuses: &[404], is_refused: false, is_old, length: None, body, closes };
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

impl Known {
    /// Adds conditions and ranges; what comes of them.
    fn ask(&self, random: &mut StdRng, is_head: bool, fields: &mut String) -> Expected {
        let size = self.bytes.len();
        let answer = |statuses, length: Option<usize>, body| Expected {
            statuses,
            is_refused: false,
            is_old: false,
            length: length.map(|length| length as u64),
            body: if is_head { Body::None } else { body },
            closes: false,
        };
        match random.random_range(0..10) {
            0 => {
                write!(fields, "If-None-Match: \"x\", W/{}\r\n", self.etag).unwrap();
                return Expected { body: Body::None, ..answer(&[304], None, Body::None) };
            }
            1 => {
                fields.push_str("If-Match: \"x\"\r\n");
                return answer(&[412], None, Body::Words);
            }
            2 => fields
                .push_str("If-None-Match: \"x\"\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n"),
            3 => write!(fields, "If-Match: {}\r\n", self.etag).unwrap(),
            _ => {}
        }
        let whole = || answer(&[200], Some(size), Body::Part(Arc::clone(&self.bytes), 0..size));
        // Ranges are GET's alone.
        let ranged = |statuses, range: Range<usize>| {
            if is_head {
                whole()
            } else {
                answer(statuses, Some(range.len()), Body::Part(Arc::clone(&self.bytes), range))
            }
        };
        let (one, other) = (random.random_range(0..size), random.random_range(0..size));
        let (first, last) = (one.min(other), one.max(other));
        match random.random_range(0..12) {
            0 | 1 => {
                write!(fields, "Range: bytes={first}-{last}\r\n").unwrap();
                ranged(&[206], first..last + 1)
            }
            2 => {
                write!(fields, "Range: bytes={first}-\r\nIf-Range: {}\r\n", self.etag).unwrap();
                ranged(&[206], first..size)
            }
            3 => {
                write!(fields, "Range: bytes={first}-{last}\r\nIf-Range: \"x\"\r\n").unwrap();
                whole()
            }
            4 => {
                write!(fields, "Range: bytes=-{}\r\n", last + 1).unwrap();
                ranged(&[206], size - (last + 1)..size)
            }
            5 => {
                write!(fields, "Range: bytes={size}-\r\n").unwrap();
                if is_head { whole() } else { answer(&[416], Some(0), Body::None) }
            }
            6 if size > 1000 && !is_head => {
                let (middle, back) = (size / 3, size / 2);
                write!(fields, "Range: bytes=0-9,{middle}-{},{back}-\r\n", middle + 99).unwrap();
                let parts = vec![0..10, middle..middle + 100, back..size];
                answer(&[206], None, Body::Parts(Arc::clone(&self.bytes), parts))
            }
            7 => {
                fields.push_str(
                    ["Range: bytes=9-2\r\n", "Range: lines=1-\r\n", "Range: bytes=x\r\n"]
                        .choose(random)
                        .unwrap(),
                );
                whole()
            }
            _ => whole(),
        }
    }
}
