//! Everything the replica has, told after each registration and every now and then.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::{Stream, stream};
use rookery_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};
use tracing::{debug, info, warn};

use super::Inner;
use super::link::is_transient;
use super::types::{DecisionExecutor, HeldBlob, Identity};
use super::wire;

/// Blobs of one message.
const BATCH_MAX: usize = 500;
/// Batches between the store and the connection.
const BATCHES_WAITING_MAX: usize = 4;

/// Reports until the process stops.
pub(super) async fn run(
    farm: Arc<Inner>,
    executor: Arc<dyn DecisionExecutor>,
    soft: CancellationToken,
) -> anyhow::Result<()> {
    let mut registrations = farm.link.registrations();
    let mut retry = farm.link.retry();
    let mut reported_epoch = 0;
    let mut is_due = false;
    while !soft.is_cancelled() {
        let now = *registrations.borrow_and_update();
        if is_due || (now.is_current && now.epoch != reported_epoch) {
            // Dropped, it is a broken stream for maintenance, which then keeps what it knew.
            let reporting = soft.run_until_cancelled(report(&farm, executor.as_ref()));
            let Some(reported) = reporting.await else { return Ok(()) };
            match reported {
                Ok((epoch, blobs)) => {
                    info!(blobs, "inventory reported");
                    (reported_epoch, is_due) = (epoch, false);
                    retry.reset();
                }
                Err(error) if is_for_good(&error) => {
                    warn!(error = format!("{error:#}"), "maintenance does not take the inventory");
                    (reported_epoch, is_due) = (now.epoch, false);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    // Once: maintenance may be away for days.
                    if retry.failures() == 0 {
                        warn!(error, "the inventory could not be reported");
                    } else {
                        debug!(error, "the inventory could still not be reported");
                    }
                    is_due = true;
                    retry.wait(&soft).await;
                }
            }
            continue;
        }
        tokio::select! {
            _ = registrations.changed() => {}
            () = farm.outbox.inventory_due.notified() => is_due = true,
            () = tokio::time::sleep(farm.link.timing.inventory_interval) => is_due = true,
            () = soft.cancelled() => {}
        }
    }
    Ok(())
}

/// Whether the same inventory would be refused again; the next one is told when it is due.
fn is_for_good(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| !is_transient(status))
}

/// Sends one inventory; the registration under which it was, and the blobs that maintenance took down.
async fn report(farm: &Inner, executor: &dyn DecisionExecutor) -> anyhow::Result<(u64, u64)> {
    let epoch = farm.link.ensure_registered().await?;
    let order = farm.outbox.order.lock().await;
    let reported = tokio::time::timeout(farm.link.timing.inventory, stream(farm, executor))
        .await
        .context("it took too long")?;
    drop(order);
    let is_unknown = |error: &anyhow::Error| {
        error.downcast_ref::<Status>().is_some_and(|status| status.code() == Code::NotFound)
    };
    if reported.as_ref().is_err_and(is_unknown) {
        farm.link.forget_registration(epoch);
    }
    Ok((epoch, reported?))
}

async fn stream(farm: &Inner, executor: &dyn DecisionExecutor) -> anyhow::Result<u64> {
    let (batches, received) = mpsc::channel(BATCHES_WAITING_MAX);
    let (messages, outgoing) = mpsc::channel(BATCHES_WAITING_MAX);
    let mut request = tonic::Request::new(until_completed(outgoing));
    request.set_timeout(farm.link.timing.inventory);
    let mut client = farm.link.client();
    let mut call = std::pin::pin!(client.report_inventory(request));
    let scan = async {
        let (scanned, forwarded) =
            tokio::join!(executor.inventory(batches), forward(farm, received, messages.clone()));
        if forwarded {
            scanned?;
        }
        let last = message(&farm.link.identity, Vec::new(), v1::InventoryPart::Last);
        let is_all =
            forwarded && messages.send(Some(last)).await.is_ok() && messages.send(None).await.is_ok();
        Ok::<_, anyhow::Error>(is_all)
    };
    // The call is polled all the while: it is what takes the messages. Once all of them are taken, there is an answer.
    let is_all = tokio::select! {
        biased;
        scanned = scan => scanned.context("the store could not be listed")?,
        answer = &mut call => return broken_off(answer),
    };
    let answer = call.await;
    if !is_all {
        return broken_off(answer);
    }
    let answer = answer.context("maintenance refused the report")?;
    debug!(blobs = answer.get_ref().blobs, "inventory taken");
    Ok(answer.into_inner().blobs)
}

/// What an answer means that comes before everything was told.
fn broken_off(answer: Result<Response<v1::ReportInventoryResponse>, Status>) -> anyhow::Result<u64> {
    let answer = answer.context("maintenance broke the report off")?;
    anyhow::bail!("maintenance took only the first {} blobs", answer.into_inner().blobs)
}

fn message(identity: &Identity, blobs: Vec<v1::Blob>, part: v1::InventoryPart) -> v1::InventoryBatch {
    v1::InventoryBatch {
        replica_id: identity.replica_id.clone(),
        blobs,
        capacity_bytes: identity.capacity_bytes,
        part: part.into(),
    }
}

/// For a maintenance that knows no parts, the end of the stream means that this is everything, so it ends only when it is
/// told to (`None`). Whoever gives up drops the call, which resets the stream.
fn until_completed(
    messages: mpsc::Receiver<Option<v1::InventoryBatch>>,
) -> impl Stream<Item = v1::InventoryBatch> {
    stream::unfold(messages, async |mut messages| match messages.recv().await {
        Some(Some(batch)) => Some((batch, messages)),
        Some(None) => None,
        None => std::future::pending().await,
    })
}

/// From the store's batches to messages, as long as maintenance listens. The first message names the replica even if it
/// has nothing.
async fn forward(
    farm: &Inner,
    received: mpsc::Receiver<Vec<HeldBlob>>,
    messages: mpsc::Sender<Option<v1::InventoryBatch>>,
) -> bool {
    let message = |blobs| Some(message(&farm.link.identity, blobs, v1::InventoryPart::More));
    if messages.send(message(Vec::new())).await.is_err() {
        return false;
    }
    let mut received = ReceiverStream::new(received);
    while let Some(batch) = received.next().await {
        let mut blobs = batch.into_iter().map(wire::held_blob).peekable();
        while blobs.peek().is_some() {
            let message = message(blobs.by_ref().take(BATCH_MAX).collect());
            if messages.send(message).await.is_err() {
                return false;
            }
        }
    }
    true
}
