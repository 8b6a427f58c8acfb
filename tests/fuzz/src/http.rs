//! What origins send to the cache, and what the cache wrote down of that.

use cache_policy::UnixMs;
use cache_policy::reuse::{
    Framing, StoredResponse, decide_reuse, decide_storage, decide_update, may_answer_stale,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};

/// A point in time that every input shares.
const NOW: UnixMs = UnixMs::new(1_767_225_600_000);
/// More lines than any head that the cache reads has.
const HEADERS_MAX: usize = 256;

/// Lines `NAME: VALUE`; others are left out, as hyper would have refused them.
fn headers(octets: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in octets.split(|&octet| octet == b'\n').take(HEADERS_MAX) {
        let Some(at) = line.iter().position(|&octet| octet == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Three blocks of header lines, each ended by an empty one: a request's, a response's, and those of what comes
/// later. Nothing that must not be kept is, and what is kept survives being written.
pub(crate) fn response(octets: &[u8]) {
    let mut blocks = octets.splitn(3, |&octet| octet == 0);
    let mut next = || headers(blocks.next().unwrap_or_default());
    let (asked, answer, later) = (next(), next(), next());
    let uri = Uri::from_static("http://origin.example/Packages");
    let framing = Framing::of(Version::HTTP_11, &answer);
    let kept = answer.clone();
    let decided = decide_storage(&uri, &asked, &asked, StatusCode::OK, &answer, kept, framing, NOW);
    let Ok(stored) = decided else { return };
    assert!(!asked.contains_key("authorization") && !answer.contains_key("set-cookie"));
    assert!(framing != Framing::UntilClose, "nobody knows whether it is whole");
    if let Some(written) = stored.encode() {
        assert_eq!(StoredResponse::decode(&written), Ok(stored.clone()));
    }
    for ms in [0, 1000, 100_000_000_000] {
        let now = NOW.after_ms(ms);
        drop(decide_reuse(&stored, &later, &asked, now));
        let _may = may_answer_stale(&stored, &later, Some(StatusCode::BAD_GATEWAY), 10, now);
        if let Some(updated) = decide_update(&stored, &later, &later, now) {
            assert_eq!(updated.uri(), stored.uri());
        }
    }
}

/// The head of a kept response, as a restart finds it.
pub(crate) fn stored_head(octets: &[u8]) {
    let Ok(stored) = StoredResponse::decode(octets) else { return };
    if let Some(written) = stored.encode() {
        assert_eq!(StoredResponse::decode(&written), Ok(stored.clone()));
    }
    drop(decide_reuse(&stored, &HeaderMap::new(), &HeaderMap::new(), NOW));
}
