//! CONNECT: octets through, unseen, for clients that have no other way to some hosts.
//!
//! Off unless `proxy.tunnels.allow` lists hosts and ports: what goes through here can be neither verified nor
//! kept. The address is checked as an upstream's is, and the connection is made to the address that was checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::info;

use super::clients::{Clients, Place};
use super::engine::{Taken, Takeover};
use super::reply::{self, Reply};
use super::request::ClientRequest;
use crate::app::App;
use crate::fetch::fault::SourceFault;

/// Octets of one read.
const BUFFER_OCTETS: usize = 16 << 10;

/// The tunnels under way.
#[derive(Debug)]
pub(crate) struct Tunnels {
    room: Arc<Semaphore>,
    clients: Clients,
}

impl Tunnels {
    pub(crate) fn new(most: u32) -> Self {
        Self { room: Arc::new(Semaphore::new(most as usize)), clients: Clients::default() }
    }
}

/// Answers a CONNECT request.
pub(super) async fn answer(app: &Arc<App>, request: &ClientRequest) -> Reply {
    let refuse = |status, why: &str| reply::closing(reply::text(status, why));
    let rules = &app.config.tunnels.allow;
    if rules.is_empty() {
        let why = "CONNECT is off: this cache can't see into https. Point GENTOO_MIRRORS at it; it fetches \
                   https sources itself (see /client/make.conf)";
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let place = request.uri.authority().map(|authority| (authority.host(), authority.port_u16()));
    let Some((host, Some(port))) = place.filter(|(host, _)| !host.contains('@')) else {
        return refuse(StatusCode::BAD_REQUEST, "CONNECT wants HOST:PORT");
    };
    if !rules.iter().any(|rule| rule.permits(host, port)) {
        return refuse(StatusCode::FORBIDDEN, "proxy.tunnels.allow does not list this host and port");
    }
    if request.is_loop(app) {
        return refuse(StatusCode::LOOP_DETECTED, "this request has been through here already");
    }
    let most = app.config.limits.connections_per_client as usize;
    let (Ok(permit), Some(client)) =
        (Arc::clone(&app.tunnels.room).try_acquire_owned(), app.tunnels.clients.enter(request.client, most))
    else {
        return reply::closing(reply::unavailable("too many tunnels"));
    };
    let Some(takeover) = request.take_over() else {
        return refuse(StatusCode::BAD_REQUEST, "this connection can't become a tunnel");
    };
    match app.upstreams.connect(host, port).await {
        Ok(server) => {
            let tunnel =
                Tunnel { app: Arc::clone(app), to: format!("{host}:{port}"), server, _client: client };
            drop(app.tasks.spawn("tunnel", async move {
                tunnel.run(takeover).await;
                drop(permit);
            }));
            let mut reply = Reply::new(super::body::empty());
            *reply.status_mut() = StatusCode::OK;
            reply
        }
        Err(SourceFault::Refused(why)) => refuse(StatusCode::FORBIDDEN, &why),
        Err(fault) => {
            let status = crate::fetch::fault::status_of(std::slice::from_ref(&fault));
            refuse(status, &fault.to_string())
        }
    }
}

struct Tunnel {
    app: Arc<App>,
    to: String,
    server: TcpStream,
    _client: Place,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Both sides had said all.
    Closed,
    /// One of them broke it.
    Broken,
    /// Nothing went through for too long.
    Idle,
    /// The replica stops.
    Stopping,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
        }
    }
}

impl Tunnel {
    async fn run(mut self, takeover: Takeover) {
        let Some(Taken { transport, early }) = takeover.taken().await else { return };
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let (mut from_client, mut to_client) = tokio::io::split(transport);
        let (mut from_server, mut to_server) = self.server.split();
        let copying = async {
            // What a client sends before it has the answer is for the other side, too.
            to_server.write_all(&early).await?;
            up.fetch_add(early.len() as u64, Ordering::Relaxed);
            tokio::try_join!(
                copy(&mut from_client, &mut to_server, &up),
                copy(&mut from_server, &mut to_client, &down),
            )
        };
        let soft = self.app.tasks.soft();
        let ended = tokio::select! {
            copied = copying => if copied.is_ok() { Ended::Closed } else { Ended::Broken },
            () = idle(self.app.config.tunnels.idle.0, &up, &down) => Ended::Idle,
            () = soft.cancelled() => Ended::Stopping,
        };
        let (up, down) = (up.into_inner(), down.into_inner());
        info!(to = self.to, bytes_up = up, bytes_down = down, reason = ended.as_str(), "a tunnel ended");
    }
}

/// One direction, to its end; the other side learns of that.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    octets: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_OCTETS];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        octets.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Ends when nothing went either way for `limit`, or up to twice that.
async fn idle(limit: Duration, up: &AtomicU64, down: &AtomicU64) {
    let sum = || up.load(Ordering::Relaxed).wrapping_add(down.load(Ordering::Relaxed));
    let mut before = sum();
    loop {
        tokio::time::sleep(limit).await;
        let now = sum();
        if now == before {
            return;
        }
        before = now;
    }
}
