//! A kept response's head as octets, so that it outlives the process.
//!
//! Lines, each ended by LF: `rookery-response 1`, `uri URI`, `status CODE`, `received MS`, any number of
//! `selecting NAME: VALUE` and `header NAME: VALUE`, `end`. A header's value has no line ends of its own.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use super::storage::StoredResponse;
use crate::UnixMs;

/// Octets of one head; more is not kept.
pub const HEAD_OCTETS_MAX: usize = 32 << 10;
const MAGIC: &[u8] = b"rookery-response 1";

/// These octets are no head, or not a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError;

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no whole head of a response")
    }
}

impl std::error::Error for DecodeError {}

impl StoredResponse {
    /// `None` if it is longer than [`HEAD_OCTETS_MAX`].
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut octets = MAGIC.to_vec();
        let facts = [
            ("uri", self.uri.to_string()),
            ("status", self.status.as_u16().to_string()),
            ("received", self.received.get().to_string()),
        ];
        for (key, value) in facts {
            octets.extend_from_slice(format!("\n{key} {value}").as_bytes());
        }
        for (key, headers) in [("selecting", &self.selecting), ("header", &self.headers)] {
            for (name, value) in headers {
                octets.extend_from_slice(format!("\n{key} {name}: ").as_bytes());
                octets.extend_from_slice(value.as_bytes());
            }
        }
        octets.extend_from_slice(b"\nend\n");
        (octets.len() <= HEAD_OCTETS_MAX).then_some(octets)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// It is anything else, or not all of it.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let octets = octets.strip_suffix(b"\nend\n").ok_or(DecodeError)?;
        if octets.len() > HEAD_OCTETS_MAX {
            return Err(DecodeError);
        }
        let mut lines = octets.split(|&octet| octet == b'\n');
        if lines.next() != Some(MAGIC) {
            return Err(DecodeError);
        }
        let uri: Uri = fact(lines.next(), "uri")?;
        let status: StatusCode = fact(lines.next(), "status")?;
        let received = UnixMs::new(fact(lines.next(), "received")?);
        let (mut selecting, mut headers) = (HeaderMap::new(), HeaderMap::new());
        for line in lines {
            let (key, rest) = split(line, b" ")?;
            let (name, value) = split(rest, b": ")?;
            let name = HeaderName::from_bytes(name).map_err(|_| DecodeError)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| DecodeError)?;
            let into = match key {
                b"selecting" => &mut selecting,
                b"header" => &mut headers,
                _ => return Err(DecodeError),
            };
            into.try_append(name, value).map_err(|_| DecodeError)?;
        }
        Ok(Self { uri, selecting, status, headers, received })
    }
}

fn split<'a>(line: &'a [u8], at: &[u8]) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let position = line.windows(at.len()).position(|window| window == at).ok_or(DecodeError)?;
    Ok((&line[..position], &line[position + at.len()..]))
}

fn fact<T: std::str::FromStr>(line: Option<&[u8]>, key: &str) -> Result<T, DecodeError> {
    let line = std::str::from_utf8(line.ok_or(DecodeError)?).map_err(|_| DecodeError)?;
    let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' ')).ok_or(DecodeError)?;
    value.parse().map_err(|_| DecodeError)
}
