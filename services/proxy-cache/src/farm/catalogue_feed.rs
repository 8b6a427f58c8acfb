//! `WatchCatalogue` into the local copy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rookery_proto::v1;
use service_kit::grpc::without_deadline;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

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
    let mut said = None;
    while !soft.is_cancelled() {
        let began = Instant::now();
        let replaced = catalogue.replace_if_damaged().await;
        let ended = if let Err(error) = replaced {
            // What is stored is served all the same, so the process goes on.
            Err(anyhow::Error::new(error).context("the damaged catalogue could not be replaced"))
        } else {
            tokio::select! {
                ended = feed(&link, &catalogue) => ended,
                () = catalogue.damaged() => continue,
                () = soft.cancelled() => return Ok(()),
            }
        };
        link.stream_ended(began, &mut retry);
        if let Err(error) = ended {
            note(&catalogue, &error, &mut said);
        }
        link.pause(&mut retry, &soft).await;
    }
    Ok(())
}

/// An operator is to see what is wrong with the copy, or with what came for it, once; that maintenance is away is told
/// elsewhere.
fn note(catalogue: &Catalogue, error: &anyhow::Error, said: &mut Option<String>) {
    let what = format!("{error:#}");
    let Some(error) = error.downcast_ref::<CatalogueError>() else {
        return debug!(error = what, "the catalogue is not being fed");
    };
    catalogue.note_error(error);
    if said.as_ref() != Some(&what) {
        warn!(error = what, "the catalogue is not being fed");
        *said = Some(what);
    }
}

/// One connection, until it breaks.
async fn feed(link: &Link, catalogue: &Catalogue) -> anyhow::Result<()> {
    let epoch = link.ensure_registered().await?;
    catalogue.set_module_order(&link.module_order()).await?;
    let request = v1::WatchCatalogueRequest {
        replica_id: link.identity.replica_id.clone(),
        have: catalogue.have().await?,
    };
    debug!(have = ?request.have, "watching the catalogue");
    let mut client = link.catalogue_client();
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

#[cfg(test)]
mod tests {
    use service_kit::grpc::{GrpcConfig, connect};

    use super::super::types::{Identity, Timing};
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_damaged_copy_that_cannot_be_set_aside_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalogue.db");
        let catalogue = Catalogue::open(&path).await.unwrap();
        let in_the_way = directory.path().join("catalogue.db.broken");
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        catalogue.note_error(&CatalogueError::Damaged("a test".to_owned()));
        let channel = connect(&GrpcConfig::default(), "http://127.0.0.1:1", DEADLINE).unwrap();
        let identity = Identity { replica_id: "r".to_owned(), advertise: String::new(), capacity_bytes: 1 };
        let (retry_min, retry_max) = (Duration::from_millis(1), Duration::from_millis(20));
        let timing = Timing { retry_min, retry_max, ..Timing::default() };
        let link = Arc::new(Link::new(channel, identity, timing));
        let mut feeding = std::pin::pin!(run(link, catalogue, CancellationToken::new()));
        let first = tokio::time::timeout(5 * retry_max, &mut feeding).await;
        assert!(first.is_err(), "it gave up: {first:?}");
        std::fs::remove_dir_all(&in_the_way).unwrap();
        let replaced = async {
            while !in_the_way.is_file() {
                tokio::time::sleep(retry_min).await;
            }
        };
        tokio::select! {
            ended = feeding => panic!("it gave up: {ended:?}"),
            replaced = tokio::time::timeout(DEADLINE, replaced) => replaced.expect("it is replaced"),
        }
    }
}
