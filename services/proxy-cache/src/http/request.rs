//! A request, looked at before anything is done for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, RANGE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version, request};
use hyper::upgrade::OnUpgrade;

use super::reply::{self, Reply};
use crate::app::{App, HOP_HEADER};
use crate::via::Via;

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
    /// What makes the connection a tunnel.
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl ClientRequest {
    /// Refuses what could be read in two ways, and what no request to us has: a body.
    pub(crate) fn check(head: request::Parts, client: IpAddr, local: SocketAddr) -> Result<Self, Box<Reply>> {
        let (headers, mut extensions) = (head.headers, head.extensions);
        let upgrade = Mutex::new(extensions.remove::<OnUpgrade>());
        let refuse = |line: &str| Err(Box::new(reply::bad_request(line)));
        if headers.contains_key(TRANSFER_ENCODING) {
            return refuse("a request here has no body");
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        if lengths.next().is_some_and(|length| length != "0") || lengths.next().is_some() {
            return refuse("a request here has no body");
        }
        match headers.get_all(HOST).iter().count() {
            0 if head.version >= Version::HTTP_11 => return refuse("no Host"),
            0 | 1 => {}
            _ => return refuse("more than one Host"),
        }
        let Ok(via) = Via::of(&headers) else {
            let why = "this request has been through too many caches";
            return Err(Box::new(reply::text(StatusCode::LOOP_DETECTED, why)));
        };
        Ok(Self { method: head.method, uri: head.uri, headers, via, client, local, upgrade })
    }

    /// The right to take the connection over once it was answered; only once.
    pub(crate) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()
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
