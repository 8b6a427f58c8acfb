//! proxy-cache alone in a process: reads `[proxy]`, `[grpc]`, `[telemetry]` and `[process]`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use service_kit::process;

/// Every distfile once, verified, for every client that asks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; else `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::run("proxy-cache", arguments.config.as_deref(), async |settings, kit| {
        let config = settings.section("proxy")?;
        let running = proxy_cache::start(config, &kit).await?;
        tracing::info!(http = %running.http_addr, "proxy-cache is listening");
        Ok(running)
    })
}
