//! `maintenance`: boot order.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

/// The farm's memory: index, leases, eviction, schedule.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; else `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    service_kit::process::run("maintenance", arguments.config.as_deref(), async |settings, kit| {
        let config: maintenance::Config = settings.section("maintenance")?;
        let running = maintenance::start(config, &kit).await?;
        tracing::info!(grpc = %running.grpc_addr, web = %running.web_addr, "maintenance is up");
        Ok(running)
    })
}
