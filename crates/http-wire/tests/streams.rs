//! Streams of requests whose reading is known because the test made them, cut wherever they can be cut.
//!
//! A head is made of parts that RFC 9112 allows, or has exactly one thing that it forbids. What is read must be what was
//! meant, in the same words however the octets come, and nothing behind the first fault may be read at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use bytes::BytesMut;
use http::{HeaderMap, Version};
use http_wire::head::{self, Refusal};
use http_wire::received::{Awaited, HeadFault, Limits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const LIMITS: Limits = Limits { headers_max: 12, octets_max: 2000 };

/// A field's name and value.
type Field = (String, Vec<u8>);

/// A head as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meant {
    method: String,
    target: String,
    is_old: bool,
    fields: Vec<Field>,
}

/// Reads until there is nothing more, or a fault. Each piece comes when the one before was looked at.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Meant>, Option<HeadFault>) {
    let (mut received, mut awaited, mut heads) = (BytesMut::new(), Awaited::default(), Vec::new());
    for piece in pieces {
        received.extend_from_slice(piece);
        loop {
            let head = match awaited.look(&mut received, LIMITS) {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(fault) => return (heads, Some(fault)),
            };
            awaited = Awaited::default();
            heads.push(Meant {
                method: head.method.to_string(),
                target: head.uri.to_string(),
                is_old: head.version == Version::HTTP_10,
                fields: by_name(&head.headers),
            });
        }
    }
    (heads, None)
}

/// Those of one name in the order in which they came.
fn by_name(headers: &HeaderMap) -> Vec<Field> {
    let fields = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    sorted(fields.collect())
}

fn sorted(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// A field: its name, the white space before its value, its value, the white space behind.
fn field() -> impl Strategy<Value = (String, String, Vec<u8>, String)> {
    let octet = prop_oneof![8 => 0x21..=0x7e_u8, 2 => select(b" \t:,\"".as_slice()), 1 => 0x80..=0xff_u8];
    let value = vec(octet, 0..20).prop_map(|value| value.trim_ascii().to_vec());
    ("[Xx]-[!#$%&'*+.^_`|~0-9A-Za-z-]{0,8}", "[ \t]{0,3}", value, "[ \t]{0,3}")
}

/// A request's head, with the empty lines that may come before it: its octets, and what they mean.
fn request() -> impl Strategy<Value = (Vec<u8>, Meant)> {
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("CONNECT"), Just("OPTIONS"), Just("m-x!~")];
    let path = "/[-._~!$&'()*+,;=:@/a-zA-Z0-9%]{0,30}(\\?[-=&/?a-z0-9]{0,8})?";
    let url = "http://[a-z]{1,5}(:[1-9]{1,4})?/[a-z/]{0,9}";
    let target = prop_oneof![4 => path, 1 => url, 1 => Just("*".to_owned())];
    let fields = vec(field(), 0..=LIMITS.headers_max);
    let parts = (0..=8_usize, method, target, any::<bool>(), fields);
    parts.prop_map(|(empty_lines, method, target, is_old, fields)| {
        let minor = u8::from(!is_old);
        let mut octets = "\r\n".repeat(empty_lines).into_bytes();
        octets.extend_from_slice(format!("{method} {target} HTTP/1.{minor}\r\n").as_bytes());
        for (name, before, value, behind) in &fields {
            octets.extend_from_slice(format!("{name}:{before}").as_bytes());
            octets.extend_from_slice(value);
            octets.extend_from_slice(format!("{behind}\r\n").as_bytes());
        }
        octets.extend_from_slice(b"\r\n");
        let fields = fields.into_iter().map(|(name, _, value, _)| (name.to_ascii_lowercase(), value));
        let meant = Meant { method: method.to_owned(), target, is_old, fields: sorted(fields.collect()) };
        (octets, meant)
    })
}

/// What no head may have, one thing each: in its lines, its request line, its fields.
const FAULTS: &[&[u8]] = &[
    b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\nX",
    b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\tfolded: yes\r\n\r\n",
    b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G\xc3\xa9T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\r\nHost: a\r\n\r\n",
    b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / http/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\x08b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\x7fb\r\n\r\n",
    b"GET / HTTP/1.1\r\nH\xc3\xb6st: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n(x): a\r\n\r\n",
];

/// Behind a fault: nobody may ever read it.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

proptest! {
    #[test]
    fn what_was_meant_is_read_at_every_cut(
        requests in vec(request(), 1..4),
        sizes in vec(1..40_usize, 1..20),
    ) {
        let octets: Vec<u8> = requests.iter().flat_map(|(octets, _)| octets).copied().collect();
        let expected: (Vec<Meant>, _) = (requests.into_iter().map(|(_, meant)| meant).collect(), None);
        prop_assert_eq!(&read([octets.as_slice()]), &expected, "in one piece");
        prop_assert_eq!(&read(octets.chunks(1)), &expected, "octet by octet");
        for cut in 1..octets.len() {
            let (front, back) = octets.split_at(cut);
            prop_assert_eq!(&read([front, back]), &expected, "cut at {}", cut);
        }
        let mut rest = octets.as_slice();
        let pieces = sizes.iter().cycle().map_while(|size| {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(&read(pieces), &expected, "in pieces of {:?}", sizes);
    }

    #[test]
    fn nothing_behind_a_fault_is_read(
        requests in vec(request(), 0..3),
        fault in select(FAULTS),
        step in 1..60_usize,
    ) {
        let good: Vec<u8> = requests.iter().flat_map(|(octets, _)| octets).copied().collect();
        let octets = [&good, fault, SMUGGLED].concat();
        let expected: Vec<Meant> = requests.into_iter().map(|(_, meant)| meant).collect();
        for pieces in [octets.len(), 1, step] {
            let (heads, told) = read(octets.chunks(pieces));
            prop_assert_eq!(&heads, &expected);
            prop_assert!(told.is_some(), "{} by {}", fault.escape_ascii(), pieces);
        }
    }

    #[test]
    fn any_octets_are_read_alike_at_every_cut(
        octets in vec(prop_oneof![
            3 => select(b"\r\n \t:/#".as_slice()),
            2 => select(b"GETHTP1.0".as_slice()),
            1 => any::<u8>(),
        ], 0..60),
        (mut whole, _) in request(),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(whole.len());
        whole.splice(at..at, octets);
        // An end that leaves no head open.
        whole.extend_from_slice(b"\r\n\r\n\r\n");
        let (heads, fault) = read([whole.as_slice()]);
        let mut cuts: Vec<Vec<&[u8]>> = (1..whole.len())
            .map(|cut| whole.split_at(cut))
            .map(|(front, back)| vec![front, back])
            .collect();
        cuts.push(whole.chunks(1).collect());
        for pieces in cuts {
            let (others, other_fault) = read(pieces.iter().copied());
            prop_assert_eq!(&others, &heads);
            prop_assert_eq!(other_fault.is_some(), fault.is_some(), "{:?}, {:?}", other_fault, fault);
        }
    }

    #[test]
    fn what_announces_a_body_or_hosts_wrongly_is_refused(
        lengths in vec(
            select(["0", "00", "+0", "-1", "1", "0, 0", "0x0", "", "18446744073709551616"].as_slice()),
            0..3,
        ),
        encodings in vec(select(["chunked", "identity", "xchunked", "", "gzip, chunked"].as_slice()), 0..2),
        hosts in vec(
            select(["a", "a:80", "[::1]:80", "", "a b", "a,b", "u@a", "a/b", "a:b", "a:1:2", "::1", "a:99999"].as_slice()),
            0..3,
        ),
        is_old in any::<bool>(),
    ) {
        let mut text = format!("GET / HTTP/1.{}\r\n", u8::from(!is_old));
        for (name, values) in [("Content-Length", &lengths), ("transfer-Encoding", &encodings), ("HOST", &hosts)] {
            for value in values {
                write!(text, "{name}: {value}\r\n").unwrap();
            }
        }
        text.push_str("\r\n");
        let mut received = BytesMut::from(text.as_str());
        let head = Awaited::default().look(&mut received, LIMITS).unwrap().unwrap();
        let has_length = lengths.len() > 1 || lengths.first().is_some_and(|length| *length != "0");
        let expected = match hosts.as_slice() {
            _ if has_length || !encodings.is_empty() => Err(Refusal::Body),
            [] if !is_old => Err(Refusal::NoHost),
            [] | ["a" | "a:80" | "[::1]:80" | "" | "a,b"] => Ok(()),
            [_] => Err(Refusal::BadHost),
            _ => Err(Refusal::ManyHosts),
        };
        prop_assert_eq!(head::check(head.version, &head.headers).map(|_| ()), expected, "{}", text);
    }
}
