//! The client side: a channel that adds the token, the trace context and a deadline to each call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoRequest, Status, TimeoutExpired};
use tower::Service;
use tracing::Instrument as _;

use super::credentials::{self, Token};
use super::{GrpcConfig, deadline};
use crate::config::ConfigError;
use crate::telemetry::propagation;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that is gone is noticed after both together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stream without a deadline may take to *begin*.
const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// What a client is made of: `TreeClient::new(grpc::connect(…)?)`. Cheap to clone; clones share one
/// connection.
#[derive(Clone)]
pub struct ClientChannel {
    channel: Channel,
    token: Option<Token>,
    deadline: Duration,
}

/// Marks a request whose answer may take as long as it likes.
#[derive(Debug, Clone, Copy)]
struct NoDeadline;

/// Frees a call from the channel's deadline: for streams that watch. Such a stream must still begin within
/// a minute, and ends when the connection is found dead.
pub fn without_deadline<T>(request: impl IntoRequest<T>) -> tonic::Request<T> {
    let mut request = request.into_request();
    request.extensions_mut().insert(NoDeadline);
    request
}

/// A client channel to `endpoint` (`http://host:port`) that connects when first used and reconnects by
/// itself. Each call gets `deadline`, from the first octet sent to the last one received, unless it sets
/// its own (`Request::set_timeout`) or is a stream that watches ([`without_deadline`]).
///
/// # Errors
/// The endpoint is no URL, or the token or certificate files can't be read.
pub fn connect(config: &GrpcConfig, endpoint: &str, deadline: Duration) -> anyhow::Result<ClientChannel> {
    let mut url = url::Url::parse(endpoint).map_err(|error| wrong_endpoint(endpoint, &error.to_string()))?;
    if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
        return Err(wrong_endpoint(endpoint, "neither http nor https").into());
    }
    if config.tls.is_some() && url.scheme() == "http" {
        // The default port of http is no gRPC port, so that nothing is lost with it.
        let _same_host = url.set_scheme("https");
    }
    let mut builder = Endpoint::from_shared(url.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    match &config.tls {
        Some(tls) => {
            crate::process::install_crypto_provider();
            builder = builder.tls_config(credentials::client_tls(tls)?)?;
        }
        None if url.scheme() == "https" => {
            return Err(wrong_endpoint(endpoint, "https needs grpc.tls").into());
        }
        None => {}
    }
    Ok(ClientChannel { channel: builder.connect_lazy(), token: credentials::token(config)?, deadline })
}

fn wrong_endpoint(endpoint: &str, reason: &str) -> ConfigError {
    ConfigError::Other(format!(
        r#"expected a gRPC endpoint such as "http://127.0.0.1:7070", found "{endpoint}": {reason}"#
    ))
}

impl fmt::Debug for ClientChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientChannel").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// How long this call may take: `None` is as long as it likes.
fn timeout_of<B>(request: &Request<B>, default: Duration) -> Option<Duration> {
    let own = deadline::read(request.headers());
    if own.is_some() {
        return own;
    }
    request.extensions().get::<NoDeadline>().is_none().then_some(default)
}

impl Service<Request<tonic::body::Body>> for ClientChannel {
    type Response = Response<tonic::body::Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(context).map_err(|error| Status::from_error(error.into()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let span = tracing::info_span!(
            "grpc call",
            otel.name = request.uri().path().trim_start_matches('/'),
            otel.kind = "client",
            rpc.system = "grpc",
        );
        propagation::inject_span(&span, request.headers_mut());
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.header());
        }
        let timeout = timeout_of(&request, self.deadline);
        if let Some(timeout) = timeout {
            deadline::write(request.headers_mut(), timeout);
        }
        let begin_timeout = timeout.unwrap_or(OPEN_TIMEOUT);
        let begin_at = Instant::now() + begin_timeout;
        let call = span.in_scope(|| self.channel.call(request));
        let bounded = async move {
            let response = match timeout_at(begin_at, call).await {
                Ok(answered) => answered.map_err(|error| status(error, begin_timeout))?,
                Err(_) => return Err(deadline::exceeded(begin_timeout)),
            };
            Ok(match timeout {
                Some(timeout) => response
                    .map(|body| tonic::body::Body::new(deadline::Bounded::new(body, timeout, begin_at))),
                None => response,
            })
        };
        Box::pin(bounded.instrument(span))
    }
}

/// The transport keeps the same time by the header that we wrote, but calls it "cancelled".
fn status(error: tonic::transport::Error, timeout: Duration) -> Status {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(inner) = cause {
        if inner.is::<TimeoutExpired>() {
            return deadline::exceeded(timeout);
        }
        cause = inner.source();
    }
    Status::from_error(error.into())
}
