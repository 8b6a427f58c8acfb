//! The three services in one process, on one [`Kit`].

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;
use service_kit::Kit;
use service_kit::config::{ConfigError, Settings};
use service_kit::grpc::{GrpcConfig, check_exposure};
use service_kit::listen::reachable;
use service_kit::process::ProcessConfig;
use service_kit::telemetry::TelemetryConfig;

/// Every section of the one file that configures the process, defaults filled in.
#[derive(Debug, Clone, Serialize)]
pub struct Sections {
    /// `[sync]`
    pub sync: sync_server::Config,
    /// `[proxy]`
    pub proxy: proxy_cache::Config,
    /// `[maintenance]`
    pub maintenance: maintenance::Config,
    /// `[grpc]`
    pub grpc: GrpcConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[process]`
    pub process: ProcessConfig,
}

impl Sections {
    /// Reads and checks all of them.
    ///
    /// # Errors
    /// An unknown key or a bad value, with the file, the key and what was expected.
    pub fn read(settings: &Settings) -> Result<Self, ConfigError> {
        let sections = Self {
            sync: settings.section("sync")?,
            proxy: settings.section("proxy")?,
            maintenance: settings.section("maintenance")?,
            grpc: settings.section("grpc")?,
            telemetry: settings.section("telemetry")?,
            process: settings.section("process")?,
        };
        check_exposure(sections.sync.grpc, "sync.grpc", &sections.grpc)
            .and_then(|()| check_exposure(sections.maintenance.listen, "maintenance.listen", &sections.grpc))
            .and_then(|()| sections.maintenance.check())
            .map_err(|error| settings.locate(&error))?;
        Ok(sections)
    }
}

/// Everything that runs, and where.
#[derive(Debug)]
pub struct Running {
    /// Trees.
    pub sync: sync_server::Running,
    /// The index.
    pub maintenance: maintenance::Running,
    /// Distfiles.
    pub proxy: proxy_cache::Running,
}

/// Starts sync-server, maintenance and proxy-cache, in the order in which each depends on the one before.
/// Where the configuration doesn't say how they find each other, they find each other in this process,
/// whatever ports they got.
///
/// # Errors
/// Whatever keeps one of them from starting.
pub async fn start(settings: &Settings, kit: &Kit) -> anyhow::Result<Running> {
    let mut sections = Sections::read(settings)?;
    let given: BTreeSet<String> = settings.describe()?.into_iter().map(|given| given.key).collect();
    let sync = sync_server::start(sections.sync, kit).await?;
    if !given.contains("maintenance.sync") {
        let endpoint = endpoint(sync.grpc_addr);
        sections.maintenance.sync = endpoint.parse().context("sync-server's own address")?;
    }
    let maintenance = maintenance::start(sections.maintenance, kit).await?;
    if !given.contains("proxy.maintenance.endpoint") {
        sections.proxy.maintenance.endpoint = endpoint(maintenance.grpc_addr);
    }
    if !given.contains("proxy.rsync_port") {
        sections.proxy.rsync_port = sync.rsync_addr.port();
    }
    let proxy = proxy_cache::start(sections.proxy, kit).await?;
    Ok(Running { sync, maintenance, proxy })
}

/// `http://` and how this host reaches what listens at `address`.
#[must_use]
pub fn endpoint(address: SocketAddr) -> String {
    format!("http://{}", reachable(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_addresses_are_reached_at_loopback() {
        assert_eq!(endpoint("0.0.0.0:7069".parse().unwrap()), "http://127.0.0.1:7069");
        assert_eq!(endpoint("[::]:7069".parse().unwrap()), "http://[::1]:7069");
        assert_eq!(endpoint("10.0.0.1:7069".parse().unwrap()), "http://10.0.0.1:7069");
    }

    #[test]
    fn grpc_that_others_can_reach_needs_a_token() {
        let file = Some(("f".into(), "[maintenance]\nlisten = \"0.0.0.0:7070\"\n".to_owned()));
        let error = Sections::read(&Settings::from_layers(file, []).unwrap()).unwrap_err().to_string();
        assert!(error.contains("maintenance.listen") && error.contains("token"), "{error}");
    }
}
