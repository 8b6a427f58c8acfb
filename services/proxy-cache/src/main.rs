//! proxy-cache alone in a process: reads `[proxy]`, `[grpc]`, `[telemetry]` and `[process]`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_kit::process;

/// Every distfile once, verified, for every client that asks.
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
        return process::run_health("proxy-cache", arguments.config.as_deref(), async |settings| {
            proxy_cache::ask_health(settings.section("proxy")?, endpoint, process::HEALTH_TIMEOUT).await
        });
    }
    process::run("proxy-cache", arguments.config.as_deref(), async |settings, kit| {
        let config = settings.section("proxy")?;
        let running = proxy_cache::start(config, &kit).await?;
        tracing::info!(http = %running.http_addr, "proxy-cache is listening");
        if let Some(https) = running.tls_addr {
            tracing::info!(%https, "and for TLS");
        }
        Ok(running)
    })
}
