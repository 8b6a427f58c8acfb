//! What a shared cache keeps of what passes through, and when it answers with that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cache_policy::UnixMs;
use cache_policy::reuse::{
    Framing, NotStored, Reuse, StoredResponse, Validation, decide_reuse, decide_storage, decide_update,
    may_answer_stale,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version};
use proptest::prelude::*;

/// Thu, 01 Jan 2026 00:00:00 GMT
const THEN_MS: i64 = 1_767_225_600_000;
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

fn at(seconds: i64) -> UnixMs {
    UnixMs::new(THEN_MS + seconds * 1000)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn uri() -> Uri {
    "http://binhost.example/packages/Packages".parse().unwrap()
}

fn store_as(
    asked: &[(&str, &str)],
    status: u16,
    response: &[(&str, &str)],
    framing: Framing,
) -> Result<StoredResponse, NotStored> {
    let (asked, response) = (headers(asked), headers(response));
    let mut sent = HeaderMap::new();
    sent.extend(asked.get("accept").map(|value| (http::header::ACCEPT, value.clone())));
    let status = StatusCode::from_u16(status).unwrap();
    decide_storage(&uri(), &asked, &sent, status, &response, response.clone(), framing, at(0))
}

fn stored(response: &[(&str, &str)]) -> StoredResponse {
    store_as(&[], 200, response, Framing::Length(5)).unwrap()
}

fn reuse(stored: &StoredResponse, asked: &[(&str, &str)], seconds: i64) -> Reuse {
    let asked = headers(asked);
    decide_reuse(stored, &asked, &asked, at(seconds))
}

fn is_fresh(stored: &StoredResponse, asked: &[(&str, &str)], seconds: i64) -> bool {
    matches!(reuse(stored, asked, seconds), Reuse::Fresh { .. })
}

/// The request, the status, the response, its end, and why it is not kept.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a [(&'a str, &'a str)], Framing, NotStored);

#[test]
fn what_must_not_be_kept_is_not() {
    const TAG: (&str, &str) = ("etag", "\"a\"");
    let fresh = ("cache-control", "max-age=60");
    let whole = Framing::Length(5);
    let cases: &[Case<'_>] = &[
        (&[("authorization", "Basic eA==")], 200, &[TAG, fresh], whole, NotStored::Authorization),
        (&[("cache-control", "No-Store")], 200, &[TAG, fresh], whole, NotStored::NoStore),
        (&[("range", "bytes=0-")], 200, &[TAG, fresh], whole, NotStored::Conditional),
        (&[("if-none-match", "\"b\"")], 200, &[TAG, fresh], whole, NotStored::Conditional),
        (&[], 200, &[TAG, ("cache-control", "NO-STORE, max-age=9")], whole, NotStored::NoStore),
        (&[], 200, &[TAG, ("cache-control", "Private")], whole, NotStored::Private),
        (&[], 200, &[TAG, ("cache-control", "private=\"x, y\"")], whole, NotStored::Private),
        (&[], 200, &[TAG, fresh, ("set-cookie", "a=b")], whole, NotStored::SetCookie),
        (&[], 206, &[TAG, fresh], whole, NotStored::Partial),
        (&[], 200, &[TAG, fresh, ("content-range", "bytes 0-4/9")], whole, NotStored::Partial),
        (&[], 404, &[fresh], whole, NotStored::Status),
        (&[], 301, &[fresh], whole, NotStored::Status),
        (&[], 500, &[TAG, fresh], whole, NotStored::Status),
        (&[], 200, &[TAG, fresh, ("vary", "accept, *")], whole, NotStored::VaryAll),
        (&[], 200, &[TAG, fresh], Framing::UntilClose, NotStored::UnknownEnd),
        (&[], 200, &[], whole, NotStored::NoValidator),
        (&[], 200, &[("cache-control", "max-age=0")], whole, NotStored::NoValidator),
    ];
    for (asked, status, response, framing, reason) in cases {
        let decided = store_as(asked, *status, response, *framing);
        assert_eq!(decided.unwrap_err(), *reason, "{asked:?} {status} {response:?}");
    }
    for response in [&[TAG][..], &[fresh], &[("last-modified", DATE)], &[TAG, ("cache-control", "no-cache")]]
    {
        assert!(store_as(&[], 200, response, Framing::Marked).is_ok(), "{response:?}");
    }
}

#[test]
fn the_end_of_a_body_is_known_by_length_last_chunk_or_stream() {
    for (version, pairs, framing) in [
        (Version::HTTP_11, &[("content-length", "5")][..], Framing::Length(5)),
        (Version::HTTP_11, &[("transfer-encoding", "gzip, Chunked")], Framing::Marked),
        (Version::HTTP_2, &[], Framing::Marked),
        (Version::HTTP_11, &[], Framing::UntilClose),
        (Version::HTTP_10, &[("content-length", "x")], Framing::UntilClose),
    ] {
        assert_eq!(Framing::of(version, &headers(pairs)), framing, "{version:?} {pairs:?}");
    }
}

#[test]
fn a_response_is_fresh_for_as_long_as_it_says_and_no_longer() {
    for (pairs, seconds) in [
        (&[("cache-control", "max-age=60")][..], 60),
        (&[("cache-control", "Max-Age=\"60\"")], 60),
        (&[("cache-control", "max-age=10, s-maxage=60")], 60),
        (&[("cache-control", "max-age=60"), ("age", "20")], 40),
        (&[("cache-control", "max-age=60"), ("date", "Wed, 31 Dec 2025 23:59:30 GMT")], 30),
        (&[("date", DATE), ("expires", "Thu, 01 Jan 2026 00:01:00 GMT")], 60),
        (&[("etag", "\"a\""), ("cache-control", "no-cache, max-age=60")], 0),
        (&[("etag", "\"a\""), ("expires", "0")], 0),
        // Old is not the same as unchanging.
        (&[("last-modified", "Mon, 01 Jan 2001 00:00:00 GMT")], 0),
        (&[("etag", "\"a\""), ("age", "99999999999999999999")], 0),
        (&[("etag", "\"a\""), ("cache-control", "max-age=60"), ("age", "18446744073709551615")], 0),
    ] {
        let stored = stored(pairs);
        if seconds > 0 {
            assert!(is_fresh(&stored, &[], seconds - 1), "{pairs:?}");
        }
        assert!(!is_fresh(&stored, &[], seconds), "{pairs:?}");
    }
    let unbounded = stored(&[("cache-control", "max-age=99999999999999999999")]);
    assert!(is_fresh(&unbounded, &[], 1_000_000_000));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_fresh_for_ever() {
    let stored = stored(&[("cache-control", "max-age=60")]);
    assert!(is_fresh(&stored, &[], -30));
    assert!(!is_fresh(&stored, &[], -86_400));
}

#[test]
fn the_client_may_want_less_than_fresh_or_accept_more() {
    let stored = stored(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    let because = |asked: &[(&str, &str)], seconds| match reuse(&stored, asked, seconds) {
        Reuse::Validate { because, conditions } => {
            assert_eq!(conditions.get("if-none-match").unwrap(), "\"a\"");
            Some(because)
        }
        Reuse::Fresh { .. } | Reuse::OtherVariant => None,
    };
    assert_eq!(because(&[], 10), None);
    assert_eq!(because(&[("cache-control", "No-Cache")], 10), Some(Validation::Asked));
    assert_eq!(because(&[("pragma", "no-cache")], 10), Some(Validation::Asked));
    assert_eq!(because(&[("cache-control", "max-age=5")], 10), Some(Validation::Asked));
    assert_eq!(because(&[], 70), Some(Validation::Stale));
    assert_eq!(because(&[("cache-control", "max-stale=60")], 70), None);
}

#[test]
fn what_vary_names_selects() {
    let pairs = [("cache-control", "max-age=60"), ("vary", "Accept, User-Agent")];
    let stored = store_as(&[("accept", "text/a")], 200, &pairs, Framing::Length(1)).unwrap();
    assert_eq!(stored.selecting().len(), 1, "only what went upstream selects");
    assert!(is_fresh(&stored, &[("accept", "text/a")], 1));
    assert_eq!(reuse(&stored, &[("accept", "text/b")], 1), Reuse::OtherVariant);
    assert_eq!(reuse(&stored, &[], 1), Reuse::OtherVariant);
}

#[test]
fn a_304_freshens_what_it_is_about_and_nothing_else() {
    let old = stored(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-type", "text/x"),
        ("age", "9"),
    ]);
    let answer = headers(&[("etag", "\"a\""), ("cache-control", "max-age=10"), ("content-type", "text/y")]);
    let new = decide_update(&old, &answer, &answer, at(100)).unwrap();
    assert_eq!(new.headers().get("content-type").unwrap(), "text/x", "the body is the old one");
    assert!(new.headers().get("age").is_none());
    assert!(is_fresh(&new, &[], 109) && !is_fresh(&new, &[], 110));
    let other = headers(&[("etag", "\"b\"")]);
    assert_eq!(decide_update(&old, &other, &other, at(100)), None);
    let private = headers(&[("etag", "\"a\""), ("cache-control", "private")]);
    assert_eq!(decide_update(&old, &private, &private, at(100)), None);
}

#[test]
fn stale_is_better_than_an_error_unless_somebody_forbids_it() {
    let error = Some(StatusCode::BAD_GATEWAY);
    let may = |pairs: &[(&str, &str)], asked: &[(&str, &str)], status, seconds| {
        may_answer_stale(&stored(pairs), &headers(asked), status, 100, at(seconds))
    };
    let (tag, age) = (("etag", "\"a\""), ("cache-control", "max-age=60"));
    assert!(may(&[tag, age], &[], error, 160) && may(&[tag, age], &[], None, 160));
    assert!(!may(&[tag, age], &[], error, 161), "the default is over");
    assert!(may(&[tag], &[], error, 100) && !may(&[tag], &[], error, 101));
    for status in [200, 404, 410, 403, 501] {
        assert!(!may(&[tag, age], &[], Some(StatusCode::from_u16(status).unwrap()), 70), "{status}");
    }
    let own = ("cache-control", "max-age=60, stale-if-error=5");
    assert!(may(&[tag, own], &[], error, 65) && !may(&[tag, own], &[], error, 66));
    assert!(may(&[tag, age], &[("cache-control", "stale-if-error=500")], error, 500));
    for directive in ["must-revalidate", "Proxy-Revalidate", "no-cache", "s-maxage=60"] {
        let value = format!("max-age=60, {directive}");
        assert!(!may(&[tag, ("cache-control", &value)], &[], error, 70), "{directive}");
    }
    assert!(!may(&[tag, age], &[("cache-control", "no-cache")], error, 70));
    assert!(!may(&[tag, age], &[("cache-control", "max-age=0")], error, 70));
}

#[test]
fn a_head_that_is_cut_anywhere_is_no_head() {
    let stored = store_as(
        &[("accept", "a: b")],
        200,
        &[("etag", "\"a\""), ("vary", "accept"), ("x-empty", ""), ("cache-control", "max-age=1")],
        Framing::Marked,
    );
    let stored = stored.unwrap();
    let octets = stored.encode().unwrap();
    assert_eq!(StoredResponse::decode(&octets).unwrap(), stored);
    for end in 0..octets.len() {
        assert!(StoredResponse::decode(&octets[..end]).is_err(), "cut at {end}");
    }
}

/// Names that matter here, and values made of what matters in them.
fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let names = [
        "cache-control",
        "pragma",
        "expires",
        "date",
        "age",
        "etag",
        "last-modified",
        "vary",
        "set-cookie",
        "content-length",
        "content-range",
        "warning",
        "connection",
        "authorization",
        "x-other",
    ];
    let word = prop::sample::select(vec![
        "no-store",
        "private",
        "max-age",
        "s-maxage",
        "no-cache",
        "public",
        "stale-if-error",
        "must-revalidate",
        "=",
        "=\"",
        "\"",
        ",",
        " ",
        "0",
        "60",
        "18446744073709551615",
        "99999999999999999999",
        "*",
        "accept",
        DATE,
        "Sat, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0000 00:00:00 GMT",
        "W/\"a\"",
        "1",
        "\u{e9}",
        "-",
    ]);
    let value = prop::collection::vec(word, 0..6).prop_map(|words| words.concat());
    (prop::sample::select(names.to_vec()), value)
        .prop_map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec(header(), 0..6).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}

proptest! {
    /// Whatever a peer sends: no panic, nothing that must not be kept is, what is kept survives a restart, and
    /// time passes in one direction only.
    #[test]
    fn no_headers_break_the_rules(
        asked in header_map(), response in header_map(), again in header_map(),
        status in prop::sample::select(vec![200_u16, 204, 206, 301, 304, 404, 500]),
        seconds in -100_000_i64..100_000_000_000,
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let framing = Framing::of(Version::HTTP_11, &response);
        let decided = decide_storage(
            &uri(), &asked, &asked, status, &response, response.clone(), framing, at(0),
        );
        let Ok(stored) = decided else { return Ok(()) };
        prop_assert_eq!(status, StatusCode::OK);
        prop_assert!(!asked.contains_key("authorization"));
        prop_assert!(!response.contains_key("set-cookie"));
        let said = response.get_all("cache-control").iter().any(|value| {
            let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            value.to_str().is_ok()
                && text.split(',').any(|part| matches!(part.split('=').next().unwrap_or("").trim(), "no-store" | "private"))
        });
        prop_assert!(!said);
        if let Some(octets) = stored.encode() {
            prop_assert_eq!(StoredResponse::decode(&octets), Ok(stored.clone()));
        }
        let now = at(seconds);
        let first = decide_reuse(&stored, &again, &again, now);
        let later = decide_reuse(&stored, &HeaderMap::new(), &again, at(seconds.saturating_add(10)));
        if seconds >= 0 && matches!(decide_reuse(&stored, &HeaderMap::new(), &again, now), Reuse::Validate { .. }) {
            let is_fresh_again = matches!(later, Reuse::Fresh { .. });
            prop_assert!(!is_fresh_again, "it became fresh by waiting");
        }
        drop(first);
        let _ = may_answer_stale(&stored, &again, Some(StatusCode::BAD_GATEWAY), 10, now);
        drop(decide_update(&stored, &again, &again, now));
    }
}
