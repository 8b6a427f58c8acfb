//! What no head of a request may say.
//!
//! No request here has a body. Whatever announces one, or could be read in two ways, is how a request is smuggled
//! past somebody (RFC 9112, section 11.2), and is refused.

use http::Version;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;

use crate::via::{TooManyHops, Via};

/// Why a request is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `Transfer-Encoding` or a `Content-Length` other than 0, or two of them.
    Body,
    /// HTTP/1.1 without `Host`.
    NoHost,
    /// More than one `Host`.
    ManyHosts,
    /// A `Host` that is no host with or without a port.
    BadHost,
    /// It expects something else than to be told to go on (RFC 9110, section 10.1.1).
    Expectation,
    /// More caches than can be meant.
    TooManyHops,
}

impl Refusal {
    /// For the client.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "a request here has no body",
            Self::NoHost => "no Host",
            Self::ManyHosts => "more than one Host",
            Self::BadHost => "what Host says is no host",
            Self::Expectation => "only 100-continue can be expected here",
            Self::TooManyHops => "this request has been through too many caches",
        }
    }
}

/// The caches that a request came through, if it may be answered.
///
/// # Errors
/// Why it may not.
pub fn check(version: Version, headers: &HeaderMap) -> Result<Via, Refusal> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Body);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if lengths.next().is_some_and(|length| length != "0") || lengths.next().is_some() {
        return Err(Refusal::Body);
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version >= Version::HTTP_11 => return Err(Refusal::NoHost),
        (Some(host), None) if !is_host(host) => return Err(Refusal::BadHost),
        (_, None) => {}
        (_, Some(_)) => return Err(Refusal::ManyHosts),
    }
    if version >= Version::HTTP_11 && !headers.get_all(EXPECT).iter().all(is_met) {
        return Err(Refusal::Expectation);
    }
    Via::of(headers).map_err(|TooManyHops| Refusal::TooManyHops)
}

/// Whether a list of expectations has nothing in it that is not met: a request without a body has nothing to go on with, so
/// that `100-continue` means nothing.
fn is_met(value: &HeaderValue) -> bool {
    let known = |listed: &str| listed.is_empty() || listed.eq_ignore_ascii_case("100-continue");
    value.to_str().is_ok_and(|value| value.split(',').all(|listed| known(listed.trim_matches([' ', '\t']))))
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2), or empty for a target that has none.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return value.is_empty() };
    let port = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn check_lines(version: Version, lines: &[(&str, &str)]) -> Result<Via, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        check(version, &headers)
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let host = ("host", "a");
        for (lines, refusal) in [
            (&[host][..], None),
            (&[host, ("content-length", "0")], None),
            (&[host, ("content-length", "1")], Some(Refusal::Body)),
            (&[host, ("content-length", "00")], Some(Refusal::Body)),
            (&[host, ("content-length", "0"), ("content-length", "0")], Some(Refusal::Body)),
            (&[host, ("content-length", "0, 0")], Some(Refusal::Body)),
            (&[host, ("transfer-encoding", "chunked")], Some(Refusal::Body)),
            (&[host, ("transfer-encoding", "identity")], Some(Refusal::Body)),
            (&[], Some(Refusal::NoHost)),
            (&[host, host], Some(Refusal::ManyHosts)),
            (&[("host", "a:")], None),
            (&[("host", "")], None),
            (&[("host", "a b")], Some(Refusal::BadHost)),
            (&[("host", "u@a")], Some(Refusal::BadHost)),
            (&[host, ("expect", "100-Continue")], None),
            (&[host, ("expect", "100-continue ,")], None),
            (&[host, ("expect", "")], None),
            (&[host, ("expect", "something")], Some(Refusal::Expectation)),
            (&[host, ("expect", "100-continue, a=b")], Some(Refusal::Expectation)),
            (&[host, ("expect", "100-continue"), ("expect", "x")], Some(Refusal::Expectation)),
            (&[host, ("expect", "100-continue;x")], Some(Refusal::Expectation)),
            (&[host, ("expect", "x"), ("content-length", "1")], Some(Refusal::Body)),
            (&[host, ("via", &"1.1 a, ".repeat(100))], Some(Refusal::TooManyHops)),
        ] {
            assert_eq!(check_lines(Version::HTTP_11, lines).err(), refusal, "{lines:?}");
        }
        assert_eq!(check_lines(Version::HTTP_10, &[]), Ok(Via::default()));
        // HTTP/1.0 has no expectations.
        assert_eq!(check_lines(Version::HTTP_10, &[("expect", "x")]), Ok(Via::default()));
    }
}
