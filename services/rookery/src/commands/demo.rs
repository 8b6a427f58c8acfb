//! `rookery demo`

use std::process::ExitCode;

use farm_sim::boxes::Programs;
use service_kit::telemetry::{self, TelemetryConfig};

use super::{print, print_json};
use crate::cli::{self, Cli};
use crate::demo::{self, Options, Progress, Report};

pub(crate) fn run(cli: &Cli, demo: &cli::Demo) -> anyhow::Result<ExitCode> {
    let options = Options {
        packages: usize::try_from(demo.packages)?,
        shared: usize::try_from(demo.shared)?,
        private: usize::try_from(demo.private)?,
        seed: demo.seed,
        programs: Programs::find(),
        progress: Progress::on_stderr(),
        before_verdict: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // Warnings only: the bars and the table say the rest.
        let log = std::env::var("ROOKERY__TELEMETRY__LOG").unwrap_or_else(|_| "warn".to_owned());
        let telemetry = telemetry::init(&TelemetryConfig { log, ..TelemetryConfig::default() }, "rookery")?;
        let interrupted = tokio::signal::ctrl_c();
        let result = tokio::select! {
            result = show(options, demo.keep, cli.json) => result,
            _ = interrupted => Ok(ExitCode::from(130)),
        };
        telemetry.shutdown(std::time::Duration::ZERO);
        result
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

async fn show(options: Options, keep: bool, json: bool) -> anyhow::Result<ExitCode> {
    let demo = demo::run(options).await?;
    if json {
        print_json(&demo.report)?;
    } else {
        print(&demo.report)?;
    }
    let code = verdict(&demo.report);
    if keep {
        eprintln!("\n{}", demo.how_to_use());
        tokio::signal::ctrl_c().await?;
    }
    demo.stop().await;
    Ok(code)
}

/// 0 if all is right, 1 if not.
fn verdict(report: &Report) -> ExitCode {
    if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
