//! How the cache came by an answer, in the words of RFC 9211.

use http::{HeaderName, HeaderValue, StatusCode};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// The cache was not to be used.
    Bypass,
    /// Nothing usable was there.
    Miss,
    /// Nothing was there for the URI.
    UriMiss,
    /// What was there is for other requests of the URI.
    VaryMiss,
    /// What was there had to be validated because the client wanted that.
    Request,
    /// What was there was not fresh.
    Stale,
}

impl Forwarded {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// What `Cache-Status` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStatus {
    /// `None`: it was there.
    pub(crate) forwarded: Option<Forwarded>,
    /// What whoever was asked answered.
    pub(crate) fwd_status: Option<u16>,
    /// For how many seconds it stays fresh.
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) is_stored: bool,
    /// Another request had gone on before this one came.
    pub(crate) is_collapsed: bool,
    pub(crate) detail: Option<&'static str>,
}

impl CacheStatus {
    /// It was there.
    pub(crate) const HIT: Self = Self {
        forwarded: None,
        fwd_status: None,
        ttl_seconds: None,
        is_stored: false,
        is_collapsed: false,
        detail: None,
    };
    /// This request made us fetch it.
    pub(crate) const STORED: Self = Self { forwarded: Some(Forwarded::Miss), is_stored: true, ..Self::HIT };
    /// Another request had.
    pub(crate) const COLLAPSED: Self = Self { is_collapsed: true, ..Self::STORED };
    /// It goes through without being kept.
    pub(crate) const BYPASS: Self = Self { forwarded: Some(Forwarded::Bypass), ..Self::HIT };
    /// The same, because the replica that fetches it for the farm is too slow for the client.
    pub(crate) const BYPASS_HELD: Self = Self { detail: Some("held-by-another-replica"), ..Self::BYPASS };

    /// A request that went on for this reason.
    pub(crate) const fn forwarded(why: Forwarded) -> Self {
        Self { forwarded: Some(why), ..Self::HIT }
    }

    /// And what the answer to it was.
    pub(crate) const fn answered(self, status: Option<u16>) -> Self {
        Self { fwd_status: status, ..self }
    }

    /// The same as [`Self::answered`].
    pub(crate) fn answered_with(self, status: StatusCode) -> Self {
        self.answered(Some(status.as_u16()))
    }

    pub(crate) const fn because(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    pub(crate) fn header(self) -> (HeaderName, HeaderValue) {
        if self == Self::HIT {
            // Most answers are.
            return (CACHE_STATUS, HeaderValue::from_static("rookery; hit"));
        }
        let mut parts = vec!["rookery".to_owned()];
        parts.push(self.forwarded.map_or_else(|| "hit".to_owned(), |why| format!("fwd={}", why.as_str())));
        let fwd_status = self.fwd_status.filter(|_| self.forwarded.is_some());
        parts.extend(fwd_status.map(|status| format!("fwd-status={status}")));
        parts.extend(self.ttl_seconds.map(|seconds| format!("ttl={seconds}")));
        parts.extend(self.is_stored.then(|| "stored".to_owned()));
        parts.extend(self.is_collapsed.then(|| "collapsed".to_owned()));
        parts.extend(self.detail.map(|detail| format!("detail={detail}")));
        let value = HeaderValue::try_from(parts.join("; "));
        (CACHE_STATUS, value.unwrap_or(HeaderValue::from_static("rookery")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_words() {
        let stale = CacheStatus::forwarded(Forwarded::Stale).answered_with(StatusCode::NOT_MODIFIED);
        for (status, text) in [
            (CacheStatus::HIT, "rookery; hit"),
            (CacheStatus { ttl_seconds: Some(7), ..CacheStatus::HIT }, "rookery; hit; ttl=7"),
            (CacheStatus::STORED, "rookery; fwd=miss; stored"),
            (CacheStatus::STORED.answered(Some(206)), "rookery; fwd=miss; fwd-status=206; stored"),
            (CacheStatus::COLLAPSED, "rookery; fwd=miss; stored; collapsed"),
            (CacheStatus::BYPASS_HELD, "rookery; fwd=bypass; detail=held-by-another-replica"),
            (stale, "rookery; fwd=stale; fwd-status=304"),
            (CacheStatus::HIT.answered(Some(200)), "rookery; hit"),
        ] {
            let (name, value) = status.header();
            assert_eq!((name.as_str(), value.to_str().unwrap()), ("cache-status", text));
        }
    }
}
