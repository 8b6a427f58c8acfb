//! Streams of requests, most of them legal, some with something in them that is not.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

const METHODS: &[&str] = &["GET", "HEAD", "CONNECT", "POST", "get", "M-X!"];
const TARGETS: &[&str] = &[
    "/",
    "/distfiles/ab/a-1.tar.xz",
    "/a%2Fb?x=%zz",
    "*",
    "http://h/a",
    "http://h:80/",
    "h:443",
    "/a#b",
    "//a",
    "a",
    "/{}|^\"<>`\\",
];
const VERSIONS: &[&str] =
    &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/1.10", "http/1.1"];
const FIELDS: &[&str] = &[
    "Host: b",
    "Host:a:80",
    "Host: a b",
    "X-Long:  \t some, value\t ",
    "X-Empty:",
    "x!#$%&'*+.^_`|~: 1",
    "Connection: close",
    "Connection: keep-alive, x",
    "Content-Length: 0",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 0, 0",
    "Content-Length: +0",
    "Content-Length: 00",
    "Content-Length: 99999999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding : chunked",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Range: bytes=0-1,5-",
    " folded: x",
    "\tfolded",
    "no colon",
    ": no name",
    "X y: z",
];
const ENDS: &[&[u8]] = &[b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n "];
const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"hello",
    b"0;x=\"\r\n\"\r\n\r\n",
    b"0\r\nX: trailer\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n",
];

fn one<'a, T: ?Sized>(random: &mut StdRng, of: &[&'a T]) -> &'a T {
    of.choose(random).unwrap()
}

fn end(random: &mut StdRng, out: &mut Vec<u8>) {
    let end = if random.random_ratio(1, 60) { one(random, ENDS) } else { b"\r\n" };
    out.extend_from_slice(end);
}

fn request(random: &mut StdRng, out: &mut Vec<u8>) {
    if random.random_ratio(1, 20) {
        out.extend_from_slice(b"\r\n");
    }
    let is_plain = random.random_ratio(2, 3);
    let (method, target, version) = if is_plain {
        ("GET", TARGETS[1], "HTTP/1.1")
    } else {
        (one(random, METHODS), one(random, TARGETS), one(random, VERSIONS))
    };
    let space = if random.random_ratio(1, 100) { one(random, &["  ", "\t", "\x0b", ""]) } else { " " };
    out.extend_from_slice(format!("{method}{space}{target} {version}").as_bytes());
    end(random, out);
    if !random.random_ratio(1, 20) {
        out.extend_from_slice(b"Host: a");
        end(random, out);
    }
    for _ in 0..random.random_range(0..4) {
        if random.random_ratio(1, 2) {
            let octets = (0..random.random_range(0..12)).map(|_| random.random_range(b' '..=b'~'));
            let value: Vec<u8> = octets.collect();
            out.extend_from_slice(b"X-Some: ");
            out.extend_from_slice(&value);
        } else {
            out.extend_from_slice(one(random, FIELDS).as_bytes());
        }
        end(random, out);
    }
    end(random, out);
    if random.random_ratio(1, 20) {
        out.extend_from_slice(one(random, BODIES));
    }
}

pub(crate) fn make(random: &mut StdRng) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.random_range(1..5) {
        request(random, &mut stream);
    }
    if random.random_ratio(1, 6) {
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..stream.len());
            match random.random_range(0..3) {
                0 => stream[at] = random.random(),
                1 => stream.insert(at, *b"\0\r\n \t:;,#\x0b\x7f\xe9".choose(random).unwrap()),
                _ => drop(stream.remove(at)),
            }
        }
    }
    stream
}
