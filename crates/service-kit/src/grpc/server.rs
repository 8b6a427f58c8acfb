//! The server side: authentication, a span per call, health, reflection, limits, an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body::Frame;
use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::check_exposure;
use super::connection::accept;
use super::credentials::{self, Token};
use crate::Kit;
use crate::readiness::Readiness;
use crate::telemetry::propagation;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 512;

/// Calls that one connection may have under way.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// Octets of all headers of one call.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// A peer that is gone is noticed after both together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing at all comes in for so long is closed: one that never began to speak
/// HTTP/2 gets no pings. Longer than both of the above.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// A stream that has nothing to say for so long after the soft stop is one that watches, and is ended.
const QUIET_AFTER_STOP: Duration = Duration::from_millis(500);

/// Serves `routes`, with health and reflection beside them, as a critical task until the soft stop. Calls
/// under way are finished then; streams that watch are ended with `UNAVAILABLE`, so that their clients go
/// elsewhere. gRPC health says `SERVING` when the process is ready. Messages are limited to 4 MiB (tonic's
/// default) unless a service raises that.
///
/// # Errors
/// The address needs a token or TLS and has neither; the token or certificate files can't be used.
pub fn serve(listener: TcpListener, routes: Routes, kit: &Kit) -> anyhow::Result<SocketAddr> {
    let address = listener.local_addr()?;
    check_exposure(address, "grpc", &kit.grpc)?;
    let soft = kit.tasks.soft();
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(rookery_proto::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut server = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(tls) = &kit.grpc.tls {
        crate::process::install_crypto_provider();
        server = server.tls_config(credentials::server_tls(tls)?)?;
    }
    let guard = GuardLayer { token: credentials::token(&kit.grpc)?.map(Arc::new), soft: soft.clone() };
    let serving = server
        .layer(guard)
        .add_routes(routes.add_service(health).add_service(reflection))
        .serve_with_incoming_shutdown(
            accept(listener, CONNECTIONS_MAX, SILENCE_MAX),
            soft.clone().cancelled_owned(),
        );
    kit.tasks.spawn_critical("grpc health", follow_readiness(reporter, kit.readiness.clone(), soft));
    kit.tasks.spawn_critical("grpc server", async move { Ok(serving.await?) });
    Ok(address)
}

/// gRPC health says what readiness says.
async fn follow_readiness(
    reporter: HealthReporter,
    readiness: Readiness,
    soft: CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = readiness.changes();
    loop {
        let ready = changes.borrow_and_update().values().all(Option::is_none) && !soft.is_cancelled();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::select! {
            outcome = changes.changed() => outcome?,
            () = soft.cancelled() => {
                reporter.set_service_status("", ServingStatus::NotServing).await;
                return Ok(());
            }
        }
    }
}

/// Wraps all services of a server in [`Guard`].
#[derive(Debug, Clone)]
struct GuardLayer {
    token: Option<Arc<Token>>,
    soft: CancellationToken,
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, token: self.token.clone(), soft: self.soft.clone() }
    }
}

/// Lets a call in only with the token, gives it a span, and ends its stream after the soft stop.
#[derive(Debug, Clone)]
struct Guard<S> {
    inner: S,
    token: Option<Arc<Token>>,
    soft: CancellationToken,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            let shown = request.headers_mut().remove(AUTHORIZATION);
            if !shown.is_some_and(|shown| token.matches(&shown)) {
                let refusal = Status::unauthenticated("expected the token of grpc.token_file").into_http();
                return Box::pin(std::future::ready(Ok(refusal)));
            }
        }
        let span = tracing::info_span!(
            "grpc",
            otel.name = request.uri().path().trim_start_matches('/'),
            otel.kind = "server",
            rpc.system = "grpc",
        );
        propagation::adopt(&span, request.headers());
        let soft = self.soft.clone();
        let answering = span.in_scope(|| self.inner.call(request));
        let guarded = async move {
            let response = answering.await?;
            Ok(response.map(|body| Body::new(UntilStop::new(body, soft))))
        };
        Box::pin(guarded.instrument(span))
    }
}

/// An answer that ends soon after the soft stop if it has nothing more to say.
struct UntilStop {
    inner: Body,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    quiet: Option<Pin<Box<Sleep>>>,
}

impl UntilStop {
    fn new(inner: Body, soft: CancellationToken) -> Self {
        Self { inner, stopped: Box::pin(soft.cancelled_owned()), quiet: None }
    }
}

impl http_body::Body for UntilStop {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.inner).poll_frame(context) {
            self.quiet = None;
            return ready;
        }
        if self.quiet.is_none() {
            if self.stopped.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.quiet = Some(Box::pin(sleep(QUIET_AFTER_STOP)));
        }
        match self.quiet.as_mut().map(|quiet| quiet.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                let mut trailers = http::HeaderMap::new();
                let status = Status::unavailable("the server is stopping");
                drop(status.add_header(&mut trailers));
                self.inner = Body::empty();
                self.quiet = None;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
