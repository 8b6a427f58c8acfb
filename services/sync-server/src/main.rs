//! sync-server alone in a process: reads `[sync]`, `[grpc]`, `[telemetry]` and `[process]`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use service_kit::process;

/// Serves Gentoo repositories over rsync, each client from one verified generation.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; else `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::run("sync-server", arguments.config.as_deref(), async |settings, kit| {
        let config = settings.section("sync")?;
        let running = sync_server::start(config, &kit).await?;
        tracing::info!(rsync = %running.rsync_addr, grpc = %running.grpc_addr, "sync-server is listening");
        Ok(running)
    })
}
