//! Serves immutable generations over the rsync daemon protocol, and says over gRPC what is in them.
//!
//! Start reading at [`start`]. `generations` is the life of a module: look at the source, verify, publish,
//! collect; `upstream` pulls a source that is not on this host; [`rsync`] is the daemon, which is given the
//! live generation of each module for each connection; `tree_service` tells maintenance.
//!
//! It must never open a file at a path that a client named: clients name nodes of a generation, and only
//! tree-store opens files.

mod config;
mod convert;
mod generations;
mod history;
mod key_expiry;
mod module;
mod pins;
mod refusals;
mod rollback;
pub mod rsync;
mod tree_service;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rookery_proto::v1::tree_server::TreeServer;
use service_kit::readiness::Readiness;
use service_kit::{Kit, grpc, listen};
use tokio::sync::{mpsc, oneshot};
use tonic::service::Routes;
use tree_store::TreeError;

pub use config::{
    AuthUsers, Config, DigestName, FacilityName, Hosts, Md5CacheMode, ModuleConfig, PullConfig, SourceConfig,
    VerifyMode,
};
pub use module::{Attempt, Looked, Module, Modules};
pub use upstream::{RsyncUrl, Upstreams};

use config::{ModulePlan, Resolved};
use generations::{FirstTurn, Shared};
use module::Request;
use rsync::{Limits, LogTarget, LoginRules, Lookups, Motd, RsyncServer};
use rsyncd_conf::hosts::HostAccess;
use rsyncd_conf::refuse::RefusedOptions;
use tree_service::TreeService;

/// A service that listens.
#[derive(Debug)]
pub struct Running {
    /// Where rsync clients connect.
    pub rsync_addr: SocketAddr,
    /// Where maintenance asks.
    pub grpc_addr: SocketAddr,
    /// What is served.
    pub modules: Modules,
}

/// Opens the stores, listens, and starts to look at the sources. What is stored is served at once.
///
/// # Errors
/// The configuration is wrong, an address is taken, or the state directory can't be used.
pub async fn start(config: Config, kit: &Kit) -> anyhow::Result<Running> {
    // Reading keys and indexes blocks.
    let readiness = kit.readiness.clone();
    let (config, opened) =
        tokio::task::spawn_blocking(move || open(config, &readiness)).await.context("opening stores")??;
    futures_util::future::join_all(opened.iter().map(|(module, _)| module.learn_key_expiry())).await;
    let rsync = listen::bind(config.listen, "sync.listen").await?;
    let grpc = grpc::bind(config.grpc, "sync.grpc", &kit.grpc).await?;
    let rsync_addr = rsync.local_addr().context("the rsync listener")?;

    let modules = Modules::new(opened.iter().map(|(module, _)| Arc::clone(module)).collect());
    let shared = Shared::new(modules.clone());
    let turn = shared.turn();
    let mut before = None;
    for (module, inbox) in opened {
        let (done, after) = oneshot::channel();
        let first = FirstTurn { before: before.replace(after), done };
        let run = generations::run(module, inbox, shared.clone(), first, kit.tasks.soft());
        kit.tasks.spawn_critical("generations", run);
    }
    let server = Arc::new(rsync_server(&config, &modules));
    let service = TreeService::new(modules.clone(), turn, server.pins().clone());
    let grpc_addr = grpc::serve(grpc, Routes::new(TreeServer::new(service)), kit)?;
    kit.tasks.spawn_critical("rsync daemon", rsync::serve(rsync, server, kit.tasks.clone()));
    Ok(Running { rsync_addr, grpc_addr, modules })
}

type Opened = Vec<(Arc<Module>, mpsc::Receiver<Request>)>;

fn open(config: Config, readiness: &Readiness) -> anyhow::Result<(Config, Opened)> {
    let Resolved { config, notes } = config.resolve()?;
    for note in notes {
        tracing::info!("{note}");
    }
    let plans = config.plans()?;
    make_private(&config.state_dir)?;
    let open = |plan: ModulePlan| {
        let (module, inbox) = Module::open(plan, &config.state_dir, &config.pull, readiness)?;
        Ok::<_, anyhow::Error>((Arc::new(module), inbox))
    };
    let opened = plans.into_iter().map(open).collect::<anyhow::Result<_>>()?;
    Ok((config, opened))
}

fn make_private(state_dir: &Path) -> Result<(), TreeError> {
    std::fs::create_dir_all(state_dir).map_err(|error| TreeError::Store {
        path: PathBuf::from(state_dir),
        doing: "create sync.state_dir",
        error,
    })
}

fn login_rules(config: &ModuleConfig) -> Option<LoginRules> {
    let secrets_file = config.secrets_file.clone().filter(|_| !config.auth_users.0.is_empty())?;
    Some(LoginRules {
        users: config.auth_users.0.clone(),
        secrets_file,
        weakest: config.auth_digest.map(|digest| digest.0),
        strict_modes: config.strict_modes,
    })
}

/// The daemon asks for a module's live generation once for each connection.
fn rsync_server(config: &Config, modules: &Modules) -> RsyncServer {
    let log_file = config.log_file.as_deref();
    let served = modules.iter().map(|module| {
        let config = &module.plan().config;
        let live = Arc::clone(module);
        rsync::Module {
            name: module.name().to_owned(),
            comment: config.comment.clone(),
            listed: config.list,
            access: HostAccess { allow: config.hosts_allow.0.clone(), deny: config.hosts_deny.0.clone() },
            lookups: Lookups { reverse: config.reverse_lookup, forward: config.forward_lookup },
            max_connections: config.max_connections,
            timeout_s: u32::try_from(config.timeout.0.as_secs()).unwrap_or(u32::MAX),
            login: login_rules(config).map(Arc::new),
            refused: Arc::new(RefusedOptions::new(&config.refuse_options)),
            dont_compress: config.dont_compress,
            numeric_ids: config.numeric_ids,
            log: Arc::new(module.plan().config.log(log_file)),
            live: Arc::new(move || live.live()),
        }
    });
    let limits = Limits {
        max_connections: config.max_connections,
        connections_per_address: config.connections_per_address,
        queue_timeout: config.queue_timeout.0,
        proxy_protocol_from: config.proxy_protocol_from.clone(),
        log: config.log_file.clone().map(LogTarget::File),
        bodies: Some((config.state_dir.clone(), config.kept_bodies.0)).filter(|(_, octets)| *octets > 0),
    };
    RsyncServer::new(served.collect(), Motd::new(config.motd_file.clone()), &limits)
}
