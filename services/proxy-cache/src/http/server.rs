//! The listening side: connections, their limits, and who may ask.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, debug, info_span, warn};

use super::proxy_protocol::{self, Connected};
use super::reply::{self, Reply};
use super::request::ClientRequest;
use super::router;
use crate::app::App;

/// Connections served at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Octets of a request's head.
const HEAD_OCTETS_MAX: usize = 16 << 10;
/// Pause after the kernel could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the soft stop; connections then finish what they are sending.
pub(crate) async fn run(app: Arc<App>, listener: TcpListener) -> anyhow::Result<()> {
    let soft = app.tasks.soft();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepting = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = soft.run_until_cancelled(accepting).await else { return Ok(()) };
        match accepted {
            Ok((socket, peer)) => {
                let app_of_task = Arc::clone(&app);
                let connection = async move {
                    connection(app_of_task, socket, peer).await;
                    drop(permit);
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

async fn connection(app: Arc<App>, socket: TcpStream, peer: SocketAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let trusted = &app.config.proxy_protocol_from;
    let Connected { socket, peer, local } =
        match proxy_protocol::read(socket, peer, trusted, app.config.timeouts.client_head.0).await {
            Ok(connected) => connected,
            Err(refusal) => return warn!(%peer, "a connection is refused: {refusal}"),
        };
    let soft = app.tasks.soft();
    let client_head = app.config.timeouts.client_head.0;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(serve(&app, request, peer, local).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(client_head)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_OCTETS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = soft.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(%error, %peer, "a connection broke");
    }
}

async fn serve(
    app: &Arc<App>,
    request: http::Request<Incoming>,
    peer: SocketAddr,
    local: SocketAddr,
) -> Reply {
    let client = peer.ip().to_canonical();
    let (head, _body) = request.into_parts();
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
    let answer = async {
        if !is_allowed && !is_probe {
            let why = "this network may not ask here (proxy.allow_clients)";
            return reply::closing(reply::text(http::StatusCode::FORBIDDEN, why));
        }
        match ClientRequest::check(head, client, local) {
            Ok(request) => router::answer(app, &request).await,
            Err(refusal) => *refusal,
        }
    };
    let reply = answer.instrument(span.clone()).await;
    span.record("status", reply.status().as_u16());
    reply
}
