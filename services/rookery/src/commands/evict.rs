//! `rookery evict`

use std::process::ExitCode;

use rookery_proto::v1::EvictRequest;

use super::admin::{Admin, DEADLINE};
use super::views::EvictionView;
use super::{ASKS, block_on, show};
use crate::cli::Cli;
use crate::cli::farm::Evict;

pub(crate) fn run(cli: &Cli, evict: &Evict) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &evict.admin, DEADLINE)?;
        let request = EvictRequest {
            dry_run: evict.dry_run,
            agreed_percent: evict.yes_delete.unwrap_or(0),
            agreed_modules: evict.yes_catalogue.clone(),
            agreed_clock: evict.yes_clock,
        };
        let answer = admin.client.evict(request).await.map_err(|status| admin.explain(&status))?;
        Ok(EvictionView::ordered(answer.into_inner(), evict.dry_run))
    })?;
    let code = show(cli, &view)?;
    Ok(if view.is_braked() { ASKS.into() } else { code })
}
