//! gRPC as every service speaks it: authenticated, traced, with a deadline on every call.
//!
//! Servers: [`bind`], then [`serve`]. Clients: [`connect`], and [`without_deadline`] for streams that watch.

mod client;
mod connection;
mod credentials;
mod deadline;
mod health;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use client::{ClientChannel, connect, without_deadline};
pub use health::ask as ask_health;
pub use server::serve;

use crate::config::{ConfigError, none_if_empty};

/// The `[grpc]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// A file that holds one token, sent and demanded as `authorization: Bearer …`. Others must not be able
    /// to read it.
    #[serde(deserialize_with = "none_if_empty")]
    pub token_file: Option<PathBuf>,
    /// Mutual TLS. If it is given, every gRPC connection of this process uses it, whatever an endpoint's
    /// scheme says.
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

/// Listens for gRPC on `address`, which the configuration gives as `key` (`maintenance.listen`).
///
/// # Errors
/// [`check_exposure`]'s, or a [`crate::listen::BindError`].
pub async fn bind(address: SocketAddr, key: &str, config: &GrpcConfig) -> anyhow::Result<TcpListener> {
    check_exposure(address, key, config)?;
    Ok(crate::listen::bind(address, key).await?)
}

/// Are the token and the certificates there and usable? What `check-config` asks; [`serve`] and [`connect`]
/// ask for themselves.
///
/// # Errors
/// The key, and what was expected of its file.
pub fn check_credentials(config: &GrpcConfig) -> Result<(), ConfigError> {
    credentials::token(config)?;
    if let Some(tls) = &config.tls {
        credentials::client_tls(tls)?;
    }
    Ok(())
}

/// An address that other hosts can reach needs a token or mutual TLS.
///
/// # Errors
/// It has neither.
pub fn check_exposure(address: SocketAddr, key: &str, config: &GrpcConfig) -> Result<(), ConfigError> {
    if address.ip().to_canonical().is_loopback() || config.token_file.is_some() || config.tls.is_some() {
        return Ok(());
    }
    Err(ConfigError::wrong(
        key,
        format!(
            "{address} can be reached from other hosts: expected grpc.token_file or grpc.tls to be set, or a \
             loopback address, found neither"
        ),
    ))
}
