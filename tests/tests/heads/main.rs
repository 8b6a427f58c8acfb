//! The same octets before our reader of requests and before h11, which shares no code with it: where both read a request
//! they read the same one, and each difference in what is read at all has a reason here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; the table is for people"
)]

mod streams;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use bytes::BytesMut;
use http::Version;
use http_wire::head;
use http_wire::received::{Awaited, Limits};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rookery_tests::program;
use serde::Deserialize;

const LIMITS: Limits = Limits { headers_max: 64, octets_max: 64 << 10 };
const STREAMS: usize = 20_000;

/// Method, target, version, fields.
type Read = (String, String, String, Vec<(String, String)>);

/// What one reader makes of a stream.
#[derive(Debug, Clone, Deserialize)]
struct Reading {
    requests: Vec<Read>,
    end: String,
    why: String,
}

fn ours(stream: &[u8]) -> (Reading, Vec<u8>) {
    let (mut received, mut requests) = (BytesMut::from(stream), Vec::new());
    loop {
        let before = received.to_vec();
        let ended = |end: &str, why: String| Reading { requests: Vec::new(), end: end.to_owned(), why };
        let reading = match Awaited::default().look(&mut received, LIMITS) {
            Ok(None) => ended("more", String::new()),
            Err(fault) => ended("refused", fault.to_string()),
            Ok(Some(head)) => match head::check(head.version, &head.headers) {
                Err(head::Refusal::Body) => ended("body", String::new()),
                Err(refusal) => ended("refused", refusal.as_str().to_owned()),
                Ok(_) => {
                    let version = if head.version == Version::HTTP_10 { "1.0" } else { "1.1" };
                    let latin_1 = |value: &[u8]| value.iter().map(|&octet| char::from(octet)).collect();
                    let fields = head.headers.iter();
                    let fields =
                        fields.map(|(name, value)| (name.as_str().to_owned(), latin_1(value.as_bytes())));
                    let target = latin_1(head.uri.to_string().as_bytes());
                    requests.push((head.method.to_string(), target, version.to_owned(), fields.collect()));
                    continue;
                }
            },
        };
        return (Reading { requests, ..reading }, before);
    }
}

fn h11s(streams: &[Vec<u8>]) -> Vec<Reading> {
    let wheels = std::env::var_os("ROOKERY_TEST_WHEELS")
        .expect("ROOKERY_TEST_WHEELS is not set: `cargo xtask test` downloads h11 and sets it");
    let wheel = std::fs::read_dir(wheels).unwrap().map(|entry| entry.unwrap().path());
    let wheel =
        wheel.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("h11-"));
    let mut python = program::stock("python3");
    python.arg("-c").arg(include_str!("h11_reads.py")).env("PYTHONPATH", wheel.expect("the wheel of h11"));
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let lines: String = streams.iter().map(|stream| hex::encode(stream) + "\n").collect();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sorted(read: &Read) -> Read {
    let mut sorted = read.clone();
    // An empty path is `/` (RFC 9110, 4.2.3).
    if let Some((scheme, rest)) = read.1.split_once("://")
        && let at = rest.find(['/', '?']).unwrap_or(rest.len())
        && !rest[at..].starts_with('/')
    {
        sorted.1 = format!("{scheme}://{}/{}", &rest[..at], &rest[at..]);
    }
    // A later minor version is read as the latest known one (RFC 9110, 2.5).
    if read.2.starts_with("1.") && read.2 != "1.0" {
        "1.1".clone_into(&mut sorted.2);
    }
    // Those of one name stay in their order.
    sorted.3.sort_by(|one, other| one.0.cmp(&other.0));
    sorted
}

fn has(rest: &[u8], octets: &[u8]) -> bool {
    rest.windows(octets.len()).any(|window| window == octets)
}

/// Whether the first head of `rest` has octets that no field may have.
fn is_control_in_head(rest: &[u8]) -> bool {
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(rest.len());
    rest[..end].iter().any(|octet| octet.is_ascii_control() && !b"\r\n\t".contains(octet))
}

/// Why we refuse, or wait for more of, what h11 reads.
fn why_stricter(why: &str, rest: &[u8], theirs: &Read) -> Option<&'static str> {
    let is_target = why == "the request's target is no URI";
    match why {
        "a line ends with a lone line feed" => Some("a lone LF ends no line"),
        _ if is_target && theirs.1.contains('#') => Some("a target has no fragment (RFC 9112, 3.2)"),
        _ if is_target => Some("h11 takes any visible octets for a target"),
        "only 100-continue can be expected here" => Some("nothing else is expected (RFC 9110, 10.1.1)"),
        "what Host says is no host" => Some("Host is checked (RFC 9112, 3.2)"),
        _ if is_control_in_head(rest) => Some("no control octets in a value (RFC 9110, 5.5)"),
        _ if !matches!(theirs.2.as_str(), "1.0" | "1.1") => Some("a version that is not ours"),
        _ if has(rest, b"\r\n ") || has(rest, b"\r\n\t") => Some("no folded line (RFC 9112, 5.2)"),
        _ => None,
    }
}

/// Why we read what h11 refuses.
fn why_laxer(why: &str, rest: &[u8], ours: &Read) -> Option<&'static str> {
    match why {
        "no request line received" if rest.starts_with(b"\r\n") => {
            Some("empty lines before a request are overlooked (RFC 9112, 2.2)")
        }
        _ if ours.1.bytes().any(|octet| octet >= 0x80) => Some("octets above 127 in a target, as nginx does"),
        _ => None,
    }
}

/// The reason for a difference; `Ok(None)` if there is none.
fn compare(
    stream: &[u8],
    ours: &Reading,
    rest: &[u8],
    theirs: &Reading,
) -> Result<Option<&'static str>, String> {
    for (one, other) in ours.requests.iter().zip(&theirs.requests) {
        if sorted(one) != sorted(other) {
            return Err("both read a request, and not the same".to_owned());
        }
    }
    let read = ours.requests.len();
    let reason = if let Some(more) = theirs.requests.get(read) {
        if ours.end == "body" {
            Some("only Content-Length: 0, once, is no body")
        } else {
            why_stricter(&ours.why, rest, more)
        }
    } else if let Some(more) = ours.requests.get(theirs.requests.len()) {
        why_laxer(&theirs.why, &rest_behind(stream, theirs.requests.len()), more)
    } else {
        return Ok(match (ours.end.as_str(), theirs.end.as_str()) {
            ("more", "refused") => Some("what is not whole is judged when it is"),
            ("refused" | "body", "more") => Some("what is wrong already is told at once"),
            _ => None,
        });
    };
    reason.map(Some).ok_or_else(|| "one reads a request that the other doesn't".to_owned())
}

/// What is left after so many requests.
fn rest_behind(stream: &[u8], requests: usize) -> Vec<u8> {
    let mut received = BytesMut::from(stream);
    for _ in 0..requests {
        drop(Awaited::default().look(&mut received, LIMITS));
    }
    received.to_vec()
}

#[test]
fn what_h11_reads_we_read_alike() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("ROOKERY_SEED").unwrap_or_else(|| rand::rng().random());
    let count = number("ROOKERY_SOAK_HEADS").map_or(STREAMS, |count| usize::try_from(count).unwrap());
    println!("{count} streams, ROOKERY_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let streams: Vec<Vec<u8>> = (0..count).map(|_| streams::make(&mut random)).collect();
    let theirs = h11s(&streams);
    assert_eq!(theirs.len(), streams.len());
    let (mut reasons, mut unexplained, mut both) = (BTreeMap::<_, usize>::new(), Vec::new(), 0);
    for (stream, theirs) in streams.iter().zip(&theirs) {
        let (ours, rest) = ours(stream);
        both += ours.requests.len().min(theirs.requests.len());
        match compare(stream, &ours, &rest, theirs) {
            Ok(None) => {}
            Ok(Some(reason)) => *reasons.entry(reason).or_default() += 1,
            Err(what) => {
                unexplained.push(format!("{what}: {}\n  {ours:?}\n  {theirs:?}", stream.escape_ascii()));
            }
        }
    }
    println!("{both} requests were read by both, each time the same");
    for (reason, count) in &reasons {
        println!("{count:7} streams: {reason}");
    }
    assert!(both > count / 4, "the streams are too wild to tell anything");
    assert!(unexplained.is_empty(), "{} unexplained:\n{}", unexplained.len(), unexplained.join("\n"));
}
