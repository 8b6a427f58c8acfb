//! `rookery nightly`

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use rookery_proto::v1::RunNightlyRequest;

use super::admin::Admin;
use super::meter::{INTERRUPTED, interruptible};
use super::views::RunView;
use super::{ASKS, block_on, show, under_way};
use crate::cli::Cli;
use crate::cli::farm::Nightly;

/// Every step has its own limits; whoever doesn't want to wait may go, the run goes on.
const DEADLINE: Duration = Duration::from_hours(6);

pub(crate) fn run(cli: &Cli, nightly: &Nightly) -> anyhow::Result<ExitCode> {
    let view = block_on(interruptible(async {
        let admin = Admin::connect(cli, &nightly.admin, DEADLINE)?;
        let steps = nightly.only.iter().map(|step| step.as_str().to_owned()).collect();
        let request = RunNightlyRequest { dry_run: nightly.dry_run, steps };
        let mut client = admin.client.clone();
        let call = client.run_nightly(request);
        let answer = under_way::answer(cli, &admin, |progress| progress.kind == "run", call).await;
        let answer = answer.map_err(|status| admin.explain(&status))?;
        Ok(Report(RunView::from(answer.into_inner().run.unwrap_or_default())))
    }))?;
    let Some(view) = view else {
        eprintln!("rookery: interrupted; the run goes on, `rookery status` says how it ends");
        return Ok(INTERRUPTED.into());
    };
    let code = show(cli, &view)?;
    Ok(match view.0.outcome() {
        "done" => code,
        "stopped" => ASKS.into(),
        _ => ExitCode::FAILURE,
    })
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct Report(RunView);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.steps(f)?;
        writeln!(f, "The run is {}.", self.0.outcome())
    }
}
