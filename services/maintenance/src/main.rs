//! `maintenance`: boot order.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_kit::grpc::ask_health;
use service_kit::listen::reachable;
use service_kit::process;

/// The farm's memory: index, leases, eviction, schedule.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; else `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there.
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
        return process::run_health("maintenance", arguments.config.as_deref(), async |settings| {
            let config: maintenance::Config = settings.section("maintenance")?;
            let endpoint = endpoint.unwrap_or_else(|| format!("http://{}", reachable(config.listen)));
            ask_health(&settings.section("grpc")?, &endpoint, process::HEALTH_TIMEOUT).await
        });
    }
    process::run("maintenance", arguments.config.as_deref(), async |settings, kit| {
        let config: maintenance::Config = settings.section("maintenance")?;
        config.check().map_err(|error| settings.locate(&error))?;
        let running = maintenance::start(config, &kit).await?;
        tracing::info!(grpc = %running.grpc_addr, web = %running.web_addr, "maintenance is up");
        Ok(running)
    })
}
