//! sync-server alone in a process: reads `[sync]`, `[grpc]`, `[telemetry]` and `[process]`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_kit::grpc::ask_health;
use service_kit::listen::reachable;
use service_kit::process;

/// Serves Gentoo repositories over rsync, each client from one verified generation.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; else `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks the process that runs with this configuration whether it serves: exits 0 if so, else 1.
    Health {
        /// Where to ask, as `http://HOST:PORT`, instead of where the configuration says.
        #[arg(long, value_name = "URL")]
        endpoint: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Health { endpoint }) = arguments.command {
        return process::run_health("sync-server", arguments.config.as_deref(), async |settings| {
            let config: sync_server::Config = settings.section("sync")?;
            let endpoint = endpoint.unwrap_or_else(|| format!("http://{}", reachable(config.grpc)));
            ask_health(&settings.section("grpc")?, &endpoint, process::HEALTH_TIMEOUT).await
        });
    }
    process::run("sync-server", arguments.config.as_deref(), async |settings, kit| {
        let config = settings.section("sync")?;
        let running = sync_server::start(config, &kit).await?;
        tracing::info!(rsync = %running.rsync_addr, grpc = %running.grpc_addr, "sync-server is listening");
        Ok(running)
    })
}
