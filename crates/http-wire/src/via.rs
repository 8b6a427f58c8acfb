//! The caches that a request came through (RFC 9110, section 7.6.3).
//!
//! Whatever we ask because of a request says so, so that a ring of caches is found by whichever of them
//! is asked twice, however many there are.

use http::HeaderValue;
use http::header::{HeaderMap, VIA};

/// Caches in a row; no sane farm has more.
const HOPS_MAX: usize = 16;
/// Octets of all of them.
const OCTETS_MAX: usize = 2048;

/// The hops before us, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via(Vec<String>);

/// More hops than can be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyHops;

impl Via {
    /// What a request says.
    ///
    /// # Errors
    /// It says more than can be meant.
    pub fn of(headers: &HeaderMap) -> Result<Self, TooManyHops> {
        let mut hops = Vec::new();
        let mut octets = 0;
        for value in headers.get_all(VIA) {
            let text = value.to_str().map_err(|_| TooManyHops)?;
            octets += text.len();
            hops.extend(text.split(',').map(str::trim).filter(|hop| !hop.is_empty()).map(str::to_owned));
            if octets > OCTETS_MAX || hops.len() > HOPS_MAX {
                return Err(TooManyHops);
            }
        }
        Ok(Self(hops))
    }

    /// Whether no other cache is known to be before us.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them calls itself `pseudonym`.
    #[must_use]
    pub fn names(&self, pseudonym: &str) -> bool {
        self.0.iter().any(|hop| hop.split_whitespace().nth(1) == Some(pseudonym))
    }

    /// What our own request says: the hops before us, then us.
    #[must_use]
    pub fn with(&self, pseudonym: &str) -> Option<HeaderValue> {
        let own = format!("1.1 {pseudonym}");
        let hops: Vec<&str> = self.0.iter().map(String::as_str).chain([own.as_str()]).collect();
        HeaderValue::from_str(&hops.join(", ")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(values: &[&str]) -> Result<Via, TooManyHops> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(VIA, value.parse().unwrap());
        }
        Via::of(&headers)
    }

    #[test]
    fn hops_are_kept_in_order_over_several_fields() {
        let hops = via(&["1.0 fred, 1.1 rookery-a (a comment)", "1.1 rookery-b"]).unwrap();
        assert!(hops.names("rookery-a") && hops.names("rookery-b") && hops.names("fred"));
        assert!(!hops.names("rookery") && !hops.names("1.1") && !hops.names("rookery-c"));
        let own = hops.with("rookery-c").unwrap();
        assert_eq!(own, "1.0 fred, 1.1 rookery-a (a comment), 1.1 rookery-b, 1.1 rookery-c");
        assert!(via(&[]).unwrap().is_empty());
        assert_eq!(Via::default().with("rookery-c").unwrap(), "1.1 rookery-c");
    }

    #[test]
    fn hops_without_end_are_refused() {
        assert!(via(&["1.1 a, ".repeat(HOPS_MAX).as_str()]).is_ok());
        assert_eq!(via(&["1.1 a, ".repeat(HOPS_MAX + 1).as_str()]), Err(TooManyHops));
        assert_eq!(via(&["x".repeat(OCTETS_MAX + 1).as_str()]), Err(TooManyHops));
    }
}
