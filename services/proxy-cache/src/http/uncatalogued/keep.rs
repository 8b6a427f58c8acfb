//! What is kept, with its heads read, and the exchanges under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use blake2::Digest as _;
use blob_store::{Response, ResponseKey, Responses};
use cache_policy::reuse::StoredResponse;
use http::{HeaderMap, Uri};

use super::shared::{Follower, Lead, Shared};

/// Exchanges that others can join; more are each client's own.
const EXCHANGES_MAX: usize = 4096;

/// A response that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) response: Response,
    pub(super) stored: StoredResponse,
}

/// What goes upstream as the same request.
pub(super) type ExchangeKey = ResponseKey;

/// The responses that no tree lists. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct KeptResponses {
    responses: Responses,
    exchanges: Arc<Mutex<HashMap<ExchangeKey, Arc<Shared>>>>,
}

/// A client's part in an exchange.
pub(super) enum Joined {
    /// It makes the request.
    Leads(Lead),
    /// Somebody else does.
    Follows(Follower),
    /// Too many are under way.
    Alone,
}

impl KeptResponses {
    pub(crate) fn new(responses: Responses) -> Self {
        Self { responses, exchanges: Arc::default() }
    }

    pub(super) fn responses(&self) -> Responses {
        self.responses.clone()
    }

    /// What is kept for a URI.
    pub(super) fn variants(&self, uri: &Uri) -> Vec<Kept> {
        let found = self.responses.variants(&digest(&[uri.to_string().as_bytes()]));
        let read = |response: Response| {
            let stored = StoredResponse::decode(&response.head).ok()?;
            // Another URI with the same digest is not to be expected; it would be somebody's doing.
            (stored.uri() == uri).then_some(Kept { response, stored })
        };
        found.into_iter().filter_map(read).collect()
    }

    /// Joins the exchange for this request, or leads it.
    pub(super) fn join(&self, uri: &Uri, sent: &HeaderMap) -> Joined {
        let key = key_of(uri, sent);
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = exchanges.get(&key) {
            return Joined::Follows(Follower::join(shared));
        }
        if exchanges.len() >= EXCHANGES_MAX {
            return Joined::Alone;
        }
        let shared = Arc::new(Shared::default());
        exchanges.insert(key, Arc::clone(&shared));
        Joined::Leads(Lead::new(self.clone(), key, shared))
    }

    /// Who comes now begins another exchange.
    pub(super) fn leave(&self, key: &ExchangeKey, shared: &Arc<Shared>) {
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if exchanges.get(key).is_some_and(|current| Arc::ptr_eq(current, shared)) {
            exchanges.remove(key);
        }
    }
}

/// Where a response is kept: by its URI and by those headers that selected it.
pub(super) fn key_of(uri: &Uri, selecting: &HeaderMap) -> ResponseKey {
    let mut lines: Vec<Vec<u8>> = selecting
        .iter()
        .map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes()].concat())
        .collect();
    lines.sort();
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    ResponseKey { uri: digest(&[uri.to_string().as_bytes()]), variant: digest(&lines) }
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake2::Blake2b512::new();
    for part in parts {
        hasher.update(part);
        hasher.update(b"\n");
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    first
}
