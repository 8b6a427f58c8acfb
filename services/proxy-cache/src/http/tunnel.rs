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
use tokio::time::Instant;
use tracing::info;

use super::clients::{Clients, Place};
use super::engine::{Taken, Takeover};
use super::reply::{self, Reply};
use super::request::ClientRequest;
use crate::app::App;
use crate::fetch::fault::SourceFault;

/// Octets of one read.
const BUFFER_OCTETS: usize = 16 << 10;
/// A tunnel through which nothing goes for so long does not use the grace time of a stop; one that is used may use all
/// of it.
const STOPPING_IDLE: Duration = Duration::from_secs(5);

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
    if app.tasks.soft().is_cancelled() {
        return reply::closing(reply::unavailable("this replica stops"));
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
    /// It lasted for too long.
    Lifetime,
    /// The replica stops, and nothing goes through at the moment, or the grace time is over.
    Stopping,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Stopping => "stopping",
        }
    }
}

/// What goes through a tunnel. Told in the log at its end, by the hard stop, too.
struct Through {
    to: String,
    began: Instant,
    up: AtomicU64,
    down: AtomicU64,
    /// When something went last, in milliseconds from the begin.
    last_ms: AtomicU64,
    ended: Ended,
}

impl Through {
    fn new(to: String) -> Self {
        let (up, down, last_ms) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        Self { to, began: Instant::now(), up, down, last_ms, ended: Ended::Stopping }
    }

    fn went(&self, way: &AtomicU64, octets: usize) {
        way.fetch_add(octets as u64, Ordering::Relaxed);
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Ends when nothing went either way for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let idle = self.began.elapsed().saturating_sub(last);
            if idle >= limit {
                return;
            }
            tokio::time::sleep(limit.saturating_sub(idle)).await;
        }
    }
}

impl Drop for Through {
    fn drop(&mut self) {
        let (up, down) = (*self.up.get_mut(), *self.down.get_mut());
        info!(to = self.to, bytes_up = up, bytes_down = down, reason = self.ended.as_str(), "a tunnel ended");
    }
}

impl Tunnel {
    async fn run(mut self, takeover: Takeover) {
        let Some(Taken { transport, early }) = takeover.taken().await else { return };
        let mut through = Through::new(std::mem::take(&mut self.to));
        let (from_client, mut to_client) = tokio::io::split(transport);
        // What a client sends before it has the answer is for the other side, too.
        let mut from_client = early.as_ref().chain(from_client);
        let (mut from_server, mut to_server) = self.server.split();
        let copying = async {
            tokio::try_join!(
                copy(&mut from_client, &mut to_server, |octets| through.went(&through.up, octets)),
                copy(&mut from_server, &mut to_client, |octets| through.went(&through.down, octets)),
            )
        };
        let (config, soft) = (&self.app.config.tunnels, self.app.tasks.soft());
        let stopping = async {
            soft.cancelled().await;
            through.idle(STOPPING_IDLE).await;
        };
        let ended = tokio::select! {
            copied = copying => if copied.is_ok() { Ended::Closed } else { Ended::Broken },
            () = through.idle(config.idle.0) => Ended::Idle,
            () = tokio::time::sleep(config.lifetime.0), if !config.lifetime.0.is_zero() => Ended::Lifetime,
            () = stopping => Ended::Stopping,
        };
        through.ended = ended;
    }
}

/// One direction, to its end; the other side learns of that. What went is told as it goes: a reader may take minutes for
/// what fits into one buffer, and is not idle.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    went: impl Fn(usize),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_OCTETS];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let mut left = &buffer[..read];
        while !left.is_empty() {
            let written = to.write(left).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            went(written);
            left = &left[written..];
        }
        // TLS keeps what the socket had no room for until somebody asks.
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn octets_count_as_they_go_and_not_by_the_buffer() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let octets = [7; BUFFER_OCTETS];
        let went = Cell::new(0);
        let (mut from, count) = (octets.as_slice(), |octets| went.set(went.get() + octets));
        let mut copying = std::pin::pin!(copy(&mut from, &mut near, count));
        for round in 1..=10 {
            assert!(futures_util::poll!(copying.as_mut()).is_pending());
            assert_eq!(went.get(), 64 * round);
            far.read_exact(&mut [0; 64]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn idle_is_the_time_since_something_went() {
        let through = Through::new(String::new());
        let limit = Duration::from_millis(60);
        let used = async {
            for _ in 0..10 {
                tokio::time::sleep(limit / 4).await;
                through.went(&through.up, 1);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = used => {}
            () = through.idle(limit) => {}
        }
        let last = Duration::from_millis(through.last_ms.load(Ordering::Relaxed));
        assert!(through.began.elapsed() >= last + limit);
    }
}
