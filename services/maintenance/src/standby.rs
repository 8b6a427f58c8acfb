//! Two maintenances on one index: the second one stands by, says so, and takes over when the first is gone.

use std::time::Duration;

use axum::Router;
use service_kit::Kit;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::index::{Index, IndexError};

/// How soon after the first one is gone the second one notices.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The index, as soon as nobody else has it, and the web listener back.
///
/// While it waits, the web port answers `/healthz`, and `/readyz` with the reason; the gRPC port is not
/// there, so that replicas and the command line keep to the one that has the index.
pub(crate) async fn open(
    config: &Config,
    kit: &Kit,
    clock: &SharedClock,
    web: TcpListener,
) -> anyhow::Result<(Index, TcpListener)> {
    let locked = match crate::open_index(config, clock).await {
        Ok(index) => return Ok((index, web)),
        Err(locked @ IndexError::Locked { .. }) => locked,
        Err(error) => return Err(crate::place(error)),
    };
    let part = kit.readiness.part("index", &format!("standing by: {locked}"));
    tracing::warn!(%locked, "standing by until the index is free");
    // Two handles of one socket: the second one serves when the first is done.
    let web = web.into_std()?;
    let answering = TcpListener::from_std(web.try_clone()?)?;
    let free = CancellationToken::new();
    let routes: Router = service_kit::health::router(kit.readiness.clone());
    let server = axum::serve(answering, routes).with_graceful_shutdown(free.clone().cancelled_owned());
    let server = IntoFuture::into_future(server);
    let index = async {
        loop {
            tokio::time::sleep(TRY_EVERY).await;
            match crate::open_index(config, clock).await {
                Err(IndexError::Locked { .. }) => {}
                opened => {
                    free.cancel();
                    return opened;
                }
            }
        }
    };
    let (answered, index) = tokio::join!(server, index);
    answered?;
    let index = index.map_err(crate::place)?;
    part.ready();
    tracing::info!("the index is free: taking over");
    Ok((index, TcpListener::from_std(web)?))
}
