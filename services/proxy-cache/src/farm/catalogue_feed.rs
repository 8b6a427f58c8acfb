//! `WatchCatalogue` into the local copy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rookery_proto::v1;
use service_kit::backoff::Backoff;
use service_kit::grpc::without_deadline;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::link::Link;
use crate::catalogue::{Catalogue, CatalogueError, Step};

/// The longest pause between two parts of a step: an unfinished step holds the only writer.
const PART_TIMEOUT: Duration = Duration::from_mins(1);

/// Feeds the copy until the process stops.
pub(super) async fn run(
    link: Arc<Link>,
    catalogue: Catalogue,
    soft: CancellationToken,
) -> anyhow::Result<()> {
    let mut retry = link.retry();
    let mut registrations = link.registrations();
    while !soft.is_cancelled() {
        catalogue.replace_if_damaged().await.context("the damaged catalogue could not be replaced")?;
        let ended = tokio::select! {
            ended = feed(&link, &catalogue, &mut retry) => ended,
            () = catalogue.damaged() => continue,
            () = soft.cancelled() => return Ok(()),
        };
        if let Err(error) = ended {
            debug!(error = format!("{error:#}"), "the catalogue is not being fed");
            if let Some(error) = error.downcast_ref::<CatalogueError>() {
                catalogue.note_error(error);
            }
        }
        registrations.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(retry.next_pause()) => {}
            _ = registrations.changed() => {}
            () = soft.cancelled() => {}
        }
    }
    Ok(())
}

/// One connection, until it breaks.
async fn feed(link: &Link, catalogue: &Catalogue, retry: &mut Backoff) -> anyhow::Result<()> {
    let epoch = link.ensure_registered().await?;
    catalogue.set_module_order(&link.module_order()).await?;
    let request = v1::WatchCatalogueRequest {
        replica_id: link.identity.replica_id.clone(),
        have: catalogue.have().await?,
    };
    debug!(have = ?request.have, "watching the catalogue");
    let mut client = link.client();
    let opened = client.watch_catalogue(without_deadline(request)).await;
    if opened.as_ref().is_err_and(|status| status.code() == tonic::Code::NotFound) {
        link.forget_registration(epoch);
    }
    let mut changes = opened?.into_inner();
    let mut step: Option<Step> = None;
    loop {
        let next = changes.message();
        let change = if step.is_some() {
            tokio::time::timeout(PART_TIMEOUT, next).await.context("a step was not completed in time")?
        } else {
            next.await
        };
        let Some(change) = change? else {
            info!("maintenance ended the catalogue's stream");
            return Ok(());
        };
        step = take(catalogue, step, change).await?;
        retry.reset();
    }
}

/// Applies one part; the step that goes on, if it does.
async fn take(
    catalogue: &Catalogue,
    step: Option<Step>,
    change: v1::CatalogueChange,
) -> Result<Option<Step>, CatalogueError> {
    let mut step = match step {
        Some(step) if step.is_for(&change.module, change.generation) => step,
        // What the other step was made from is unknown, so both are given up and asked for again.
        Some(_) => {
            let what = format!("{} {} came inside another step", change.module, change.generation);
            return Err(CatalogueError::Protocol(what));
        }
        None => catalogue.begin(&change.module, change.generation).await?,
    };
    if let Some(changes) = &change.changes {
        step.apply(changes).await?;
    }
    if change.complete {
        step.complete(&change.module_order).await?;
        return Ok(None);
    }
    Ok(Some(step))
}
