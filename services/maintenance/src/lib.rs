//! maintenance: the farm's memory. It knows the catalogue, who holds what, who may fetch, and decides what
//! goes.
//!
//! Start reading at [`start`], which wires the parts together:
//!
//! - `import` follows sync-server and turns each generation into the catalogue;
//! - `grpc` answers the replicas (`CacheIndex`) and the operator (`Admin`);
//! - `nightly` is the night's work, step by step, and `schedule` does it when `nights` says so;
//! - `clock_trust` says whether the clock is believed; while it is not, nothing goes for its age;
//! - `problems` says what is wrong, `notify` tells who wants to be told;
//! - `web` shows it all to people and to Prometheus;
//! - `index` is the one place that all of them remember in, and the only one that knows SQL.
//!
//! This service must not touch a blob file, move a distfile's octets, or stand in a client's way: a farm
//! without it keeps serving, and only forgets to share downloads. What it decides is decided by
//! `cache_policy`; it stores decisions and hands them out, the replicas carry them out.

pub mod clock;
mod clock_trust;
mod config;
mod core;
mod eviction;
mod grpc;
mod import;
mod imports;
mod index;
mod json;
mod metrics;
mod nightly;
mod nights;
mod notify;
mod page;
mod problems;
mod progress;
mod publish;
mod schedule;
mod standby;
mod status;
mod text;
mod trees;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rookery_proto::v1::admin_server::AdminServer;
use rookery_proto::v1::cache_index_server::CacheIndexServer;
use service_kit::Kit;
use service_kit::config::ConfigError;
use tonic::service::Routes;

pub use config::{Brakes, Config, Endpoint, HealthConfig, IndexUrl, Percent, ValueError};
pub use index::IndexError;
pub use nights::{Nightly, Schedule, Zone};

use crate::clock::{SharedClock, SystemClock};
use crate::core::Core;
use crate::grpc::{AdminService, CacheIndexService};
use crate::index::Index;

/// How long sync-server may take for a short answer.
const TREE_DEADLINE: Duration = Duration::from_secs(10);

/// A running maintenance.
#[derive(Debug, Clone)]
pub struct Running {
    /// Where `CacheIndex` and `Admin` answer.
    pub grpc_addr: SocketAddr,
    /// Where the status page answers.
    pub web_addr: SocketAddr,
}

/// Opens the index, binds both ports and starts everything; returns once both listen.
///
/// # Errors
/// The index is in use, unreadable, or from a newer release; an address can't be bound, or needs
/// authentication that `[grpc]` doesn't give.
pub async fn start(config: Config, kit: &Kit) -> anyhow::Result<Running> {
    start_with_clock(config, kit, Arc::new(SystemClock)).await
}

/// The same with a clock of the caller's.
///
/// # Errors
/// As [`start`].
pub async fn start_with_clock(config: Config, kit: &Kit, clock: SharedClock) -> anyhow::Result<Running> {
    config.check()?;
    let ready = kit.readiness.part("catalogue", "starting");
    let web_listener = service_kit::listen::bind(config.web, "maintenance.web").await?;
    let web_addr = web_listener.local_addr()?;
    let tree = service_kit::grpc::connect(&kit.grpc, config.sync.as_str(), TREE_DEADLINE)?;
    let (index, web_listener) = standby::open(&config, kit, &clock, web_listener).await?;
    let grpc_listener = service_kit::grpc::bind(config.listen, "maintenance.listen", &kit.grpc).await?;
    if index.close_interrupted(clock.now()).await? > 0 {
        tracing::warn!("a run was cut off when the process ended; the next look begins it anew");
    }
    let remembered = index.remembered_clock().await?;
    // Before anything is stored by a clock that nobody has looked at yet.
    index.remember_clock(remembered).await?;
    let core = Arc::new(Core::new(&config, index.clone(), clock, remembered, tree, kit.tasks.clone()));
    let unused = core.unused.clone();
    // Last of all, so that the file is whole and nobody's when the process says that it has stopped.
    kit.tasks.spawn_critical("index", async move {
        unused.cancelled().await;
        index.close().await;
        Ok(())
    });

    let routes = Routes::new(CacheIndexServer::new(CacheIndexService { core: Arc::clone(&core) }))
        .add_service(AdminServer::new(AdminService { core: Arc::clone(&core) }));
    let grpc_addr = service_kit::grpc::serve(grpc_listener, routes, kit)?;

    let web = web::router(Arc::clone(&core), kit.readiness.clone());
    let stop = kit.tasks.soft().cancelled_owned();
    kit.tasks.spawn_critical("maintenance web", async move {
        Ok(axum::serve(web_listener, web).with_graceful_shutdown(stop).await?)
    });
    kit.tasks.spawn_critical("catalogue import", import::run(Arc::clone(&core), ready));
    kit.tasks.spawn_critical("health", notify::run(Arc::clone(&core), kit.readiness.clone()));
    kit.tasks.spawn_critical("schedule", schedule::run(core));
    Ok(Running { grpc_addr, web_addr })
}

/// Opens the index, as [`standby`] may have to do more than once.
async fn open_index(config: &Config, clock: &SharedClock) -> Result<Index, IndexError> {
    Index::open(config.index.path(), clock.now()).await
}

/// What only the operator can put right is a matter of configuration: restarting would not help.
fn place(error: IndexError) -> anyhow::Error {
    if matches!(error, IndexError::Newer { .. } | IndexError::Schema { .. }) {
        return ConfigError::wrong("maintenance.index", error.to_string()).into();
    }
    error.into()
}
