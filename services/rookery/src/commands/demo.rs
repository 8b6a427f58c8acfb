//! `rookery demo`

use std::path::Path;
use std::process::ExitCode;

use farm_sim::boxes::Programs;
use service_kit::telemetry::{self, TelemetryConfig};

use super::{print, print_json};
use crate::cli::{self, Cli};
use crate::demo::{self, Options, Progress};

/// What shells make of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(cli: &Cli, asked: &cli::Demo) -> anyhow::Result<ExitCode> {
    let options = Options {
        packages: usize::try_from(asked.packages)?,
        shared: usize::try_from(asked.shared)?,
        private: usize::try_from(asked.private)?,
        seed: asked.seed,
        programs: Programs::find(),
        progress: Progress::on_stderr(),
        before_verdict: None,
    };
    // It goes last, when nothing writes to it any more.
    let dir = demo::scratch_dir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // Warnings only: the bars and the table say the rest.
        let log = std::env::var("ROOKERY__TELEMETRY__LOG").unwrap_or_else(|_| "warn".to_owned());
        let telemetry = telemetry::init(&TelemetryConfig { log, ..TelemetryConfig::default() }, "rookery")?;
        let result = show(options, dir.path(), asked.keep, cli.json).await;
        telemetry.shutdown(std::time::Duration::ZERO);
        result
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn show(options: Options, dir: &Path, keep: bool, json: bool) -> anyhow::Result<ExitCode> {
    let demo = tokio::select! {
        demo = demo::run(options, dir) => demo?,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    if json {
        print_json(&demo.report)?;
    } else {
        print(&demo.report)?;
    }
    let code = demo.report.exit().into();
    if keep {
        eprintln!("\n{}", demo.how_to_use());
        tokio::signal::ctrl_c().await?;
    }
    demo.stop().await;
    Ok(code)
}
