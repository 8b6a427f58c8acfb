//! When two URLs are the same source.
//!
//! The comparison is lenient where servers are (`http` and `https`, `%2B` and `+`), because whatever
//! such a URL gives is verified against the distfile's digests before it is published.

use percent_encoding::percent_decode_str;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

/// Longer ones are nobody's source.
const URL_OCTETS_MAX: usize = 8192;

/// A URL in the form in which sources are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceKey(Vec<u8>);

impl SourceKey {
    /// `None` if it is no absolute URL with a host, or too long.
    pub(super) fn parse(url: &str) -> Option<Self> {
        if url.len() > URL_OCTETS_MAX {
            return None;
        }
        let url = Url::parse(url).ok()?;
        let scheme = match url.scheme() {
            "https" => "http",
            other => other,
        };
        let mut key = Vec::with_capacity(url.as_str().len());
        key.extend_from_slice(scheme.as_bytes());
        key.extend_from_slice(b"://");
        key.extend_from_slice(url.username().as_bytes());
        key.push(b'@');
        key.extend_from_slice(url.host_str()?.as_bytes());
        if let Some(port) = url.port() {
            key.extend_from_slice(format!(":{port}").as_bytes());
        }
        key.extend(percent_decode_str(url.path()));
        if let Some(query) = url.query() {
            key.push(b'?');
            key.extend_from_slice(query.as_bytes());
        }
        Some(Self(key))
    }

    /// What the index holds instead of the URL. A collision costs one comparison.
    pub(super) fn hash(&self) -> i64 {
        i64::from_ne_bytes(xxh3_64(&self.0).to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::SourceKey;

    fn same(a: &str, b: &str) -> bool {
        let (a, b) = (SourceKey::parse(a).unwrap(), SourceKey::parse(b).unwrap());
        assert_eq!(a == b, a.hash() == b.hash());
        a == b
    }

    #[test]
    fn what_one_server_would_answer_alike_is_one_source() {
        assert!(same("https://Example.org/a%2Bb.tgz", "http://example.org:80/a+b.tgz#top"));
        assert!(same("http://example.org/~u/x", "http://example.org/%7Eu/x"));
    }

    #[test]
    fn anything_else_is_another_source() {
        for other in [
            "http://example.org:8080/a",
            "http://example.net/a",
            "http://example.org/b",
            "http://example.org/a?x",
            "http://user@example.org/a",
            "ftp://example.org/a",
            "http://example.org/A",
        ] {
            assert!(!same("http://example.org/a", other), "{other}");
        }
    }

    #[test]
    fn what_is_no_absolute_url_is_no_source() {
        let long = format!("http://example.org/{}", "x".repeat(9000));
        for url in ["", "/a", "foo.tgz", "mailto:a@b", "http://", long.as_str()] {
            assert_eq!(SourceKey::parse(url), None, "{url:.40}");
        }
    }
}
