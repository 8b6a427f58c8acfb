//! What was wrong with a source, and what the client is told when all of them failed.

use std::fmt;

use http::StatusCode;

/// Why one source did not give the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceFault {
    /// 404 or 410.
    Missing(u16),
    /// Any other status than the ones that we can use.
    Status(u16),
    /// No connection, or it broke, or what came was no HTTP.
    Broken(String),
    /// Nothing came in time.
    TimedOut(&'static str),
    /// Its address is not one that we connect to.
    Refused(String),
    /// Too many redirects, or one that leads nowhere.
    BadRedirect(String),
    /// A 206 that starts elsewhere, or is of a file of another length.
    WrongRange,
    /// It announced another length than the catalogue's.
    WrongLength(u64),
    /// The body ended cleanly before the file did.
    Short,
    /// All came, but with another digest.
    WrongDigest(&'static str),
}

impl SourceFault {
    /// For logs and metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Status(_) => "status",
            Self::Broken(_) => "broken",
            Self::TimedOut(_) => "timed_out",
            Self::Refused(_) => "refused",
            Self::BadRedirect(_) => "bad_redirect",
            Self::WrongRange => "wrong_range",
            Self::WrongLength(_) => "wrong_length",
            Self::Short => "short",
            Self::WrongDigest(_) => "wrong_digest",
        }
    }

    /// True if asking the same host for something else now is likely to fail too.
    pub(crate) fn is_of_the_host(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Refused(_) | Self::Broken(_))
    }
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(status) | Self::Status(status) => write!(f, "answered {status}"),
            Self::TimedOut(what) => write!(f, "{what} timed out"),
            Self::Broken(reason) | Self::Refused(reason) | Self::BadRedirect(reason) => f.write_str(reason),
            Self::WrongRange => f.write_str("sent another range than the one asked for"),
            Self::WrongLength(length) => write!(f, "announced {length} bytes"),
            Self::Short => f.write_str("ended before the file did"),
            Self::WrongDigest(algorithm) => write!(f, "sent a file whose {algorithm} differs"),
        }
    }
}

/// What a client is told: 404 only if every source said so, or there is none; 504 if the only other
/// faults were timeouts; else 502.
pub(crate) fn status_of(faults: &[SourceFault]) -> StatusCode {
    let mut status = StatusCode::NOT_FOUND;
    for fault in faults {
        match fault {
            SourceFault::Missing(_) => {}
            SourceFault::TimedOut(_) => {
                if status == StatusCode::NOT_FOUND {
                    status = StatusCode::GATEWAY_TIMEOUT;
                }
            }
            SourceFault::Status(_)
            | SourceFault::Broken(_)
            | SourceFault::Refused(_)
            | SourceFault::BadRedirect(_)
            | SourceFault::WrongRange
            | SourceFault::WrongLength(_)
            | SourceFault::Short
            | SourceFault::WrongDigest(_) => status = StatusCode::BAD_GATEWAY,
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_is_only_what_every_source_said() {
        let (missing, slow, bad) =
            (SourceFault::Missing(404), SourceFault::TimedOut("connecting"), SourceFault::Status(500));
        for (faults, status) in [
            (vec![], 404),
            (vec![missing.clone(), SourceFault::Missing(410)], 404),
            (vec![missing.clone(), slow.clone()], 504),
            (vec![slow.clone(), missing.clone()], 504),
            (vec![missing, bad.clone()], 502),
            (vec![bad.clone(), slow.clone()], 502),
            (vec![slow, bad], 502),
        ] {
            assert_eq!(status_of(&faults).as_u16(), status, "{faults:?}");
        }
    }
}
