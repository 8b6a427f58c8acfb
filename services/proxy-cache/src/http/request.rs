//! A request, looked at before anything is done for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use http::header::{HeaderMap, RANGE};
use http::{Method, StatusCode, Uri, request};
use http_wire::head::{self, Refusal};
use http_wire::via::Via;

use super::engine::Takeover;
use super::reply::{self, Reply};
use crate::app::{App, HOP_HEADER};

/// What the rest of the service sees of a request.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The caches that it came through.
    pub(crate) via: Via,
    /// Who asks.
    pub(crate) client: IpAddr,
    /// At which of our addresses.
    pub(crate) local: SocketAddr,
    /// Whether it came through TLS.
    pub(crate) is_tls: bool,
    /// What makes the connection a tunnel.
    takeover: Mutex<Option<Takeover>>,
}

impl ClientRequest {
    /// Refuses what could be read in two ways, and what no request to us has: a body.
    pub(crate) fn check(
        head: request::Parts,
        takeover: Option<Takeover>,
        client: IpAddr,
        local: SocketAddr,
        is_tls: bool,
    ) -> Result<Self, Box<Reply>> {
        let (headers, takeover) = (head.headers, Mutex::new(takeover));
        let via = head::check(head.version, &headers).map_err(|refusal| {
            Box::new(match refusal {
                Refusal::TooManyHops => reply::text(StatusCode::LOOP_DETECTED, refusal.as_str()),
                Refusal::Expectation => reply::text(StatusCode::EXPECTATION_FAILED, refusal.as_str()),
                Refusal::Body | Refusal::NoHost | Refusal::ManyHosts | Refusal::BadHost => {
                    reply::bad_request(refusal.as_str())
                }
            })
        })?;
        Ok(Self { method: head.method, uri: head.uri, headers, via, client, local, is_tls, takeover })
    }

    /// The right to take the connection over once it was answered; only once.
    pub(crate) fn take_over(&self) -> Option<Takeover> {
        self.takeover.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether another replica asks.
    pub(crate) fn is_from_peer(&self) -> bool {
        self.headers.contains_key(HOP_HEADER)
    }

    /// Whether this very replica asks, sent here by an address that it took for another one's.
    pub(crate) fn is_from_ourselves(&self, app: &App) -> bool {
        self.headers.get(HOP_HEADER).is_some_and(|hop| hop == app.store.replica_id())
    }

    /// Whether it has been through here already.
    pub(crate) fn is_loop(&self, app: &App) -> bool {
        self.via.names(&app.pseudonym)
    }

    /// Whether it asks for something else than the whole file.
    pub(crate) fn has_range(&self) -> bool {
        self.headers.get(RANGE).is_some_and(|value| value != "bytes=0-")
    }
}
