//! Everything the replica has, told after each registration and every now and then.

use std::sync::Arc;

use anyhow::Context as _;
use rookery_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Inner;
use super::types::{DecisionExecutor, HeldBlob};
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
            match report(&farm, executor.as_ref()).await {
                Ok((epoch, blobs)) => {
                    info!(blobs, "inventory reported");
                    (reported_epoch, is_due) = (epoch, false);
                    retry.reset();
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "the inventory could not be reported");
                    is_due = true;
                    soft.run_until_cancelled(tokio::time::sleep(retry.next_pause())).await;
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

/// Sends one inventory; the registration under which it was, and the blobs that maintenance took down.
async fn report(farm: &Inner, executor: &dyn DecisionExecutor) -> anyhow::Result<(u64, u64)> {
    let epoch = farm.link.ensure_registered().await?;
    let order = farm.outbox.order.lock().await;
    let reported = tokio::time::timeout(farm.link.timing.inventory, stream(farm, executor))
        .await
        .context("it took too long")?;
    drop(order);
    let is_unknown = |error: &anyhow::Error| {
        error.downcast_ref::<tonic::Status>().is_some_and(|status| status.code() == tonic::Code::NotFound)
    };
    if reported.as_ref().is_err_and(is_unknown) {
        farm.link.forget_registration(epoch);
    }
    Ok((epoch, reported?))
}

async fn stream(farm: &Inner, executor: &dyn DecisionExecutor) -> anyhow::Result<u64> {
    let (batches, received) = mpsc::channel(BATCHES_WAITING_MAX);
    let (messages, outgoing) = mpsc::channel(BATCHES_WAITING_MAX);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.set_timeout(farm.link.timing.inventory);
    let mut client = farm.link.client();
    let mut call = std::pin::pin!(client.report_inventory(request));
    let scan = async {
        let (scanned, forwarded) =
            tokio::join!(executor.inventory(batches), forward(farm, received, messages.clone()));
        scanned?;
        forwarded
    };
    // The end of the stream means that this is everything, so `messages` lives until the scan is known
    // to be complete; if it fails, the call is dropped, which maintenance sees as a broken stream.
    tokio::select! {
        answer = &mut call => {
            let answer = answer.context("maintenance broke the report off")?;
            anyhow::bail!("maintenance took only the first {} blobs", answer.into_inner().blobs);
        }
        scanned = scan => scanned.context("the store could not be listed")?,
    }
    drop(messages);
    let answer = call.await.context("maintenance refused the report")?;
    debug!(blobs = answer.get_ref().blobs, "inventory taken");
    Ok(answer.into_inner().blobs)
}

/// From the store's batches to messages. The first message names the replica even if it has nothing.
async fn forward(
    farm: &Inner,
    received: mpsc::Receiver<Vec<HeldBlob>>,
    messages: mpsc::Sender<v1::InventoryBatch>,
) -> anyhow::Result<()> {
    let identity = &farm.link.identity;
    let message = |blobs| v1::InventoryBatch {
        replica_id: identity.replica_id.clone(),
        blobs,
        capacity_bytes: identity.capacity_bytes,
    };
    messages.send(message(Vec::new())).await.context("maintenance stopped listening")?;
    let mut received = ReceiverStream::new(received);
    while let Some(batch) = received.next().await {
        let mut blobs = batch.into_iter().map(wire::held_blob).peekable();
        while blobs.peek().is_some() {
            let message = message(blobs.by_ref().take(BATCH_MAX).collect());
            messages.send(message).await.context("maintenance stopped listening")?;
        }
    }
    Ok(())
}
