//! What clients send to the cache: paths, ranges, heads.

use std::path::{Component, Path};

use bytes::BytesMut;
use gentoo_repo::layout::hash_directory;
use http::{HeaderMap, request};
use http_wire::conditional::{Validators, format_date, parse_date};
use http_wire::head::{self, Refusal};
use http_wire::multipart::{Multipart, Segment, format_content_range};
use http_wire::range::{self, RANGES_MAX, Wanted};
use http_wire::received::{Awaited, Limits};
use http_wire::target::{Form, RequestTarget, distfile_in_url, parse_path};
use http_wire::via::Via;

/// Every octet of a part of a path in its encoded form.
fn encoded(part: &str) -> String {
    part.bytes().fold(String::new(), |text, octet| text + &format!("%{octet:02x}"))
}

/// One element of a path that stays where it is put.
fn assert_harmless(part: &str) {
    let elements: Vec<_> = Path::new(part).components().collect();
    assert!(matches!(elements.as_slice(), [Component::Normal(name)] if *name == part), "{part:?}");
    assert!(!part.contains(|letter: char| letter.is_ascii_control()), "{part:?}");
}

/// Whatever a path says, what it comes to is below where it belongs, and is what comes of it when each octet is
/// encoded: it was decoded once.
pub(crate) fn target(octets: &[u8]) {
    let Ok(path) = std::str::from_utf8(octets) else { return };
    let prefixes = ["binpkgs".to_owned(), "a/b".to_owned()];
    let target = parse_path(path, &prefixes);
    let again = match &target {
        RequestTarget::Distfile { name, module, form } => {
            assert_harmless(name.as_str());
            let name = encoded(name.as_str());
            match (module, form) {
                (Some(module), _) => {
                    assert_harmless(module);
                    format!("/m/{}/distfiles/00/{name}", encoded(module))
                }
                // A file called layout.conf has this path only.
                (None, Form::Distfiles) => format!("/distfiles/00/{name}"),
                (None, Form::Bare) => format!("/{name}"),
            }
        }
        RequestTarget::Alias { prefix, segments } => {
            assert!(prefixes.contains(prefix) && !segments.is_empty());
            for segment in segments {
                assert_harmless(segment);
            }
            let segments: Vec<String> = segments.iter().map(|segment| encoded(segment)).collect();
            format!("/{prefix}/{}", segments.join("/"))
        }
        RequestTarget::LayoutConf
        | RequestTarget::Client(_)
        | RequestTarget::Health
        | RequestTarget::Ready
        | RequestTarget::Front
        | RequestTarget::Unknown => return in_url(path),
    };
    // Encoded, it may be longer than anything that is looked at.
    if again.len() <= 4096 {
        assert_eq!(parse_path(&again, &prefixes), target, "{again}");
    }
    in_url(path);
}

fn in_url(path: &str) {
    if let Some(name) = distfile_in_url(path) {
        assert_harmless(name.as_str());
        let again = format!("/x/distfiles/{}/{}", hash_directory(&name), encoded(name.as_str()));
        assert_eq!(distfile_in_url(&again), Some(name));
    }
}

/// A value and a size, in two lines. Parts lie within the file and are not more than it; an answer with several has
/// the length that it says, and each head says which part follows.
pub(crate) fn range(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let (value, size) = text.split_once('\n').unwrap_or((text, "1000"));
    let size = size.trim().parse().unwrap_or(u64::MAX);
    let parts = match range::parse(Some(value), size) {
        Wanted::Whole | Wanted::Unsatisfiable => Vec::new(),
        Wanted::Part(part) => vec![part],
        Wanted::Parts(parts) => {
            assert!((2..=RANGES_MAX).contains(&parts.len()));
            let sum: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
            assert!(sum <= u128::from(size));
            parts
        }
    };
    for part in &parts {
        assert!(part.start < part.end && part.end <= size);
        let written = format_content_range(part, size);
        assert_eq!(range::parse_content_range(&written), Some((part.clone(), Some(size))));
    }
    if let [part] = parts.as_slice() {
        let again = format!("bytes={}-{}", part.start, part.end - 1);
        assert_eq!(range::parse(Some(&again), size), Wanted::Part(part.clone()));
    }
    if parts.len() > 1 {
        assert_layout(&parts, size);
    }
    if let Some((part, total)) = range::parse_content_range(value) {
        assert!(part.start < part.end && total.is_none_or(|total| part.end <= total));
    }
}

fn assert_layout(parts: &[std::ops::Range<u64>], size: u64) {
    let answer = Multipart::new(parts, size, Some("a/b"), "B0UNDARY");
    let (length, mut sum) = (u128::from(answer.length()), 0);
    let (mut said, mut sent) = (Vec::new(), Vec::new());
    for segment in answer.into_segments() {
        match segment {
            Segment::Text(text) => {
                sum += text.len() as u128;
                let heads = text.lines().filter_map(|line| line.strip_prefix("Content-Range: "));
                said.extend(heads.filter_map(range::parse_content_range).map(|(part, _)| part));
            }
            Segment::Bytes(part) => {
                sum += u128::from(part.end - part.start);
                sent.push(part);
            }
        }
    }
    assert_eq!((said.as_slice(), sent.as_slice()), (parts, parts));
    assert_eq!(length, sum.min(u128::from(u64::MAX)));
}

/// The octets of a connection. However they are cut, the same heads come of them; a head that is then accepted can be
/// read in one way only, and says of itself that it came through here when it goes on.
pub(crate) fn head(octets: &[u8]) {
    let heads = heard(octets, usize::MAX);
    let cut = heard(octets, 1 + octets.len() / 3);
    assert_eq!(heads.len(), cut.len());
    for (once, pieces) in heads.iter().zip(&cut) {
        assert_eq!((&once.method, &once.uri, &once.headers), (&pieces.method, &pieces.uri, &pieces.headers));
        accepted(once);
    }
}

fn heard(octets: &[u8], step: usize) -> Vec<request::Parts> {
    const LIMITS: Limits = Limits { headers_max: 64, octets_max: 16 << 10 };
    let (mut received, mut awaited, mut heads) = (BytesMut::new(), Awaited::default(), Vec::new());
    for piece in octets.chunks(step.clamp(1, usize::MAX)) {
        received.extend_from_slice(piece);
        loop {
            match awaited.look(&mut received, LIMITS) {
                Ok(Some(head)) => heads.push(head),
                Ok(None) => break,
                Err(_) => return heads,
            }
            awaited = Awaited::default();
        }
    }
    heads
}

fn accepted(head: &request::Parts) {
    let (version, headers) = (head.version, &head.headers);
    assert!(headers.len() <= 64);
    let via = match head::check(version, headers) {
        Ok(via) => via,
        Err(
            Refusal::Body
            | Refusal::NoHost
            | Refusal::ManyHosts
            | Refusal::BadHost
            | Refusal::Expectation
            | Refusal::TooManyHops,
        ) => return,
    };
    assert!(!headers.contains_key("transfer-encoding"));
    assert!(headers.get_all("content-length").iter().all(|length| length == "0"));
    assert!(headers.get_all("host").iter().count() <= 1);
    goes_on(&via);
    conditions(headers);
}

fn goes_on(via: &Via) {
    let sent = via.with("rookery-0123").expect("what came as a header can go on as one");
    let mut headers = HeaderMap::new();
    headers.append("via", sent);
    if let Ok(next) = Via::of(&headers) {
        assert!(next.names("rookery-0123") && !next.is_empty());
    }
}

/// A date that is understood is written as one that means the same.
fn conditions(headers: &HeaderMap) {
    let modified =
        headers.get("if-modified-since").and_then(|value| value.to_str().ok()).and_then(parse_date);
    if let Some(date) = modified
        && let Some(written) = format_date(date)
    {
        assert_eq!(parse_date(&written), Some(date), "{written}");
    }
    let validators = Validators { etag: Some("\"a\"".to_owned()), modified };
    let _is_unwanted = validators.is_unwanted(headers);
    if !headers.contains_key("if-none-match") {
        assert_eq!(validators.is_not_modified(headers), modified.is_some());
    }
    if let Some(range) = validators.range(headers) {
        assert_eq!(headers.get_all("range").iter().count(), 1);
        let _wanted = range::parse(Some(range), 1000);
    }
}
