//! What was asked and what was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Who asked.
    pub peer: SocketAddr,
    /// `GET` or `HEAD`, or whatever it said.
    pub method: String,
    /// The path, percent-decoded, without the query.
    pub path: String,
    /// The request target as it was sent.
    pub target: String,
    /// The distfile that is served at that path.
    pub distfile: Option<String>,
    /// Where a `Range: bytes=N-…` request starts.
    pub range_start: Option<u64>,
    /// Every header, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status that was answered; 0 while there is none.
    pub status: u16,
    /// Octets of the body that were written to the socket.
    pub bytes_sent: u64,
    /// The response is complete: all that was promised was written.
    pub complete: bool,
}

impl Exchange {
    /// The first header called `name` (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How much was asked for and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests of any method and any outcome.
    pub requests: u64,
    /// Octets of bodies written to sockets.
    pub bytes: u64,
}

pub(super) fn counts<K: Ord>(
    exchanges: &[Exchange],
    key: impl Fn(&Exchange) -> Option<K>,
) -> BTreeMap<K, Count> {
    let mut counts: BTreeMap<K, Count> = BTreeMap::new();
    for exchange in exchanges {
        if let Some(key) = key(exchange) {
            let count = counts.entry(key).or_default();
            count.requests += 1;
            count.bytes += exchange.bytes_sent;
        }
    }
    counts
}
