//! The listening side: connections, their limits, and who may ask.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request;
use http_wire::received;
use service_kit::keepalive;
use service_kit::proxy_protocol::{self, Connected, Socket};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, debug, info_span, warn};

use super::clients::Clients;
use super::engine::{self, Ended, Limits, Takeover, Transport};
use super::pace::{PaceMin, Paced};
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::router;
use crate::app::App;
use crate::tls::Tls;

/// What the kernel takes beyond what the client's window has room for. Without it, megabytes wait there,
/// and a client that takes some of them seems to stand still for minutes.
const UNSENT_OCTETS_MAX: u32 = 256 << 10;
/// How long a client that has too many connections is given to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
const FAREWELLS_MAX: usize = 8;
/// How many are told at once that they are too many. Each one takes room meanwhile that others want.
const REFUSALS_MAX: usize = 64;
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\n\r\n\
    this address has too many connections here\r\n";
/// Pause after the kernel could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all ports share: how many connections there are, and whose.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    room: Arc<Semaphore>,
    clients: Clients,
    /// How many hands are shaken at once only to say no.
    farewells: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Entrance {
    pub(crate) fn new(connections_max: u32) -> Self {
        let some = |most| Arc::new(Semaphore::new(most));
        Self {
            room: some(connections_max as usize),
            clients: Clients::default(),
            farewells: some(FAREWELLS_MAX),
            refusals: some(REFUSALS_MAX),
        }
    }
}

/// Accepts until the soft stop; connections then finish what they are sending.
pub(crate) async fn run(
    app: Arc<App>,
    listener: TcpListener,
    entrance: Entrance,
    tls: Option<Tls>,
) -> anyhow::Result<()> {
    let soft = app.tasks.soft();
    loop {
        let accepting = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&entrance.room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = soft.run_until_cancelled(accepting).await else { return Ok(()) };
        match accepted {
            Ok((socket, peer)) => {
                let (app_of_task, entrance, tls) = (Arc::clone(&app), entrance.clone(), tls.clone());
                let connection = async move {
                    connection(Arc::clone(&app_of_task), socket, peer, &entrance, tls).await;
                    drop(permit);
                    if entrance.clients.is_none() {
                        // What somebody removed by hand takes room as long as it is open.
                        app_of_task.store.close_kept();
                    }
                };
                drop(app.tasks.spawn("http_connection", connection));
            }
            Err(error) => {
                // Out of descriptors, or the client was gone already.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Says why, and goes when the client has heard it. Who wants TLS hears it while few others do: shaking hands is what
/// costs most, and is not to be had without end by those who are refused.
async fn refuse(socket: Socket, peer: SocketAddr, entrance: &Entrance, tls: Option<Tls>) {
    let telling = async {
        let Some(tls) = tls else { return tell(socket).await };
        match entrance.farewells.try_acquire() {
            Ok(_farewell) => tell(tls.acceptor().accept(socket).await?).await,
            Err(_) => Ok(()),
        }
    };
    if !matches!(tokio::time::timeout(REFUSAL_TIMEOUT, telling).await, Ok(Ok(()))) {
        debug!(%peer, "it did not listen");
    }
}

async fn tell<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) -> io::Result<()> {
    socket.write_all(TOO_MANY).await?;
    socket.shutdown().await?;
    // Closed with something unread, it would be reset, and the answer lost.
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn connection(
    app: Arc<App>,
    socket: TcpStream,
    peer: SocketAddr,
    entrance: &Entrance,
    tls: Option<Tls>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_OCTETS_MAX) {
        debug!(%error, "TCP_NOTSENT_LOWAT");
    }
    // Who waits for a slow upstream is sent nothing for a long time.
    if let Err(error) = keepalive::keep_alive(&socket) {
        debug!(%error, "SO_KEEPALIVE");
    }
    let trusted = &app.config.proxy_protocol_from;
    let Connected { socket, peer, local } =
        match proxy_protocol::read(socket, peer, trusted, app.config.timeouts.client_head.0).await {
            Ok(connected) => connected,
            Err(refusal) => return warn!(%peer, "a connection is refused: {refusal}"),
        };
    let most = app.config.limits.connections_per_client as usize;
    let Some(_place) = entrance.clients.enter(peer.ip().to_canonical(), most) else {
        warn!(client = %peer.ip(), "refused: it has proxy.limits.connections_per_client already");
        let Ok(_refusal) = entrance.refusals.try_acquire() else { return };
        return refuse(socket, peer, entrance, tls).await;
    };
    let soft = app.tasks.soft();
    let (limits, timeouts) = (app.config.limits, app.config.timeouts);
    let is_tls = tls.is_some();
    let transport: Box<dyn Transport> = match tls {
        None => Box::new(socket),
        Some(tls) => {
            let shaking = tokio::time::timeout(timeouts.client_head.0, tls.acceptor().accept(socket));
            match soft.run_until_cancelled(shaking).await {
                Some(Ok(Ok(socket))) => Box::new(socket),
                Some(Ok(Err(error))) => return debug!(%error, %peer, "no TLS connection came about"),
                Some(Err(_)) => return debug!(%peer, "a client took too long to shake hands"),
                None => return,
            }
        }
    };
    let pace = PaceMin::new(limits.client_rate.0, timeouts.client_stall.0);
    let limits = Limits {
        head: received::Limits {
            headers_max: limits.request_headers as usize,
            octets_max: usize::try_from(limits.request_head.0).unwrap_or(usize::MAX),
        },
        head_timeout: timeouts.client_head.0,
    };
    let answer = |head, takeover| {
        let app = Arc::clone(&app);
        async move { serve(&app, head, takeover, peer, local, is_tls).await }
    };
    match engine::serve(Paced::new(transport, pace), limits, &soft, answer).await {
        Ended::Broken(error) => debug!(%error, %peer, "a connection broke"),
        Ended::Refused(fault) => debug!(%fault, %peer, "what came is no request"),
        Ended::Closed | Ended::Idle | Ended::Stopping | Ended::TakenOver => {}
    }
}

async fn serve(
    app: &Arc<App>,
    head: request::Parts,
    takeover: Option<Takeover>,
    peer: SocketAddr,
    local: SocketAddr,
    is_tls: bool,
) -> Reply {
    let client = peer.ip().to_canonical();
    let span = info_span!(
        "http_request",
        otel.kind = "server",
        method = %head.method,
        path = head.uri.path(),
        client = %client,
        status = tracing::field::Empty,
    );
    service_kit::telemetry::propagation::adopt(&span, &head.headers);
    let is_allowed = app.config.allow_clients.contains(client);
    let is_probe = head.uri.authority().is_none() && matches!(head.uri.path(), "/healthz" | "/readyz");
    let answer = std::pin::pin!(async {
        if !is_allowed && !is_probe {
            let why = "this network may not ask here (proxy.allow_clients)";
            return reply::closing(reply::text(http::StatusCode::FORBIDDEN, why));
        }
        match ClientRequest::check(head, takeover, client, local, is_tls) {
            Ok(request) => router::answer(app, &request).await,
            Err(refusal) => *refusal,
        }
    });
    let reply = answer.instrument(span.clone()).await;
    span.record("status", reply.status().as_u16());
    reply
}
