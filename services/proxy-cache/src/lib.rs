//! proxy-cache: every distfile once, verified, for every client that asks.
//!
//! One HTTP port in the mirror role (`/distfiles/…`) and the forward role (absolute-form requests). A
//! miss is fetched once by a task that the cache owns; every client follows the growing part. Nothing
//! gets a name before its length and digests are those of the catalogue.
//!
//! This service must not decide what to evict (maintenance does) and must not know blob files' paths
//! (blob-store does). Start reading at [`start`]; then `http` for what clients see and `fetch` for
//! what upstreams see.

mod advertise;
mod app;
mod beneath;
pub mod catalogue;
pub mod client_config;
mod clock_watch;
pub mod config;
mod executor;
pub mod farm;
mod fetch;
mod http;
mod import;
mod looks;
mod scrub;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use blob_store::{FaultHook, Options, ResponseLimits, Responses, Store};
use service_kit::Kit;
use service_kit::readiness::Part;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use config::Config;

use crate::app::App;
use crate::catalogue::Catalogue;
use crate::config::TlsConfig;
use crate::farm::{Farm, Identity, Timing};
use crate::fetch::candidate::Demotions;
use crate::fetch::flight::Flights;
use crate::fetch::refusals::Refusals;
use crate::fetch::upstream::Upstreams;
use crate::http::server::Entrance;
use crate::http::{KeptResponses, Tunnels};
use crate::looks::Looks;

/// The local copy of the catalogue, in the replica's slot.
const CATALOGUE_FILE: &str = "catalogue.db";
/// Heads of responses are in memory.
const RESPONSES_MAX: usize = 16_384;
/// Deadline of calls to maintenance; streams that watch have none.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new replica says that it is not ready because it has no catalogue.
const FIRST_CATALOGUE_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a started replica tells its process.
#[derive(Debug, Clone)]
pub struct Running {
    /// The bound HTTP address.
    pub http_addr: SocketAddr,
    /// The one for TLS.
    pub tls_addr: Option<SocketAddr>,
}

/// Opens the store, binds the port and spawns the service's tasks; returns once it listens.
///
/// # Errors
/// The cache directory can't be used, the port can't be bound, or a configured file can't be read.
pub async fn start(config: Config, kit: &Kit) -> anyhow::Result<Running> {
    let ready = kit.readiness.part("proxy-cache", "starting");
    service_kit::process::install_crypto_provider();
    let tls = bind_tls(config.tls.as_ref()).await?;
    let tls_addr = tls.as_ref().map(|bound| bound.listener.local_addr()).transpose()?;
    let (app, listener) = build(config, kit, None).await?;
    let http_addr = app.http_addr;
    app.farm.start(executor::executor(&app));
    drop(kit.tasks.spawn("clock", clock_watch::run(Arc::clone(&app))));
    drop(kit.tasks.spawn("import", import::at_start(Arc::clone(&app))));
    let catalogue = kit.readiness.part("catalogue", "none has come from maintenance yet");
    if app.catalogue.is_empty() && !app.config.maintenance.endpoint.is_empty() {
        drop(kit.tasks.spawn("first catalogue", wait_for_catalogue(Arc::clone(&app), catalogue)));
    } else {
        app.catalogue_settled.cancel();
        catalogue.ready();
    }
    let entrance = Entrance::new(app.config.limits.connections);
    if let Some(BoundTls { listener, tls, renewal }) = tls {
        let serving = http::server::run(Arc::clone(&app), listener, entrance.clone(), Some(tls));
        kit.tasks.spawn_critical("https", serving);
        drop(kit.tasks.spawn("tls renewal", renewal.run(kit.readiness.clone(), kit.tasks.soft())));
    }
    kit.tasks.spawn_critical("http", http::server::run(app, listener, entrance, None));
    ready.ready();
    Ok(Running { http_addr, tls_addr })
}

/// A name that nobody knows gets an unverified pass-through, and the next one who asks costs another request
/// upstream. So a new replica says that it isn't ready, and who asks all the same waits. Without maintenance a
/// pass-through is the best there is, so the wait is bounded.
async fn wait_for_catalogue(app: Arc<App>, part: Part) {
    let soft = app.tasks.soft();
    let filled = tokio::time::timeout(FIRST_CATALOGUE_WAIT_MAX, app.catalogue.filled());
    if let Some(Err(_)) = soft.run_until_cancelled(filled).await {
        warn!("no catalogue has come from maintenance: distfiles pass through and none is stored");
    }
    app.catalogue_settled.cancel();
    part.ready();
}

/// The port for TLS, not served yet.
struct BoundTls {
    listener: TcpListener,
    tls: tls::Tls,
    renewal: tls::Renewal,
}

async fn bind_tls(config: Option<&TlsConfig>) -> anyhow::Result<Option<BoundTls>> {
    let Some(config) = config else { return Ok(None) };
    let (tls, renewal) = tls::open(config)?;
    let listener = service_kit::listen::bind(config.listen, "proxy.tls.listen").await?;
    Ok(Some(BoundTls { listener, tls, renewal }))
}

/// A replica of which nothing runs yet. `faults` are for tests.
async fn build(
    config: Config,
    kit: &Kit,
    faults: Option<FaultHook>,
) -> anyhow::Result<(Arc<App>, TcpListener)> {
    let store = open_store(&config, faults).await?;
    let responses = open_responses(&config, &store).await?;
    let catalogue_path = store.slot_dir().join(CATALOGUE_FILE);
    let catalogue = Catalogue::open(&catalogue_path).await?;
    let listener = service_kit::listen::bind(config.listen, "proxy.listen").await?;
    let http_addr = listener.local_addr()?;
    let farm = farm(&config, kit, &store, &catalogue, http_addr).await?;
    let pseudonym = format!("rookery-{}", store.replica_id().get(..12).unwrap_or_default());
    let mut alias_prefixes: Vec<String> =
        config.aliases.iter().map(|alias| http::alias_prefix(&alias.prefix).to_owned()).collect();
    alias_prefixes.retain(|prefix| !prefix.is_empty());
    alias_prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    let (refuse_for, slot_dir) = (config.timeouts.refuse_ranges.0, store.slot_dir().to_owned());
    let refusals = tokio::task::spawn_blocking(move || Refusals::open(refuse_for, &slot_dir)).await?;
    let app = App {
        alias_prefixes,
        http_addr,
        upstreams: Upstreams::new(&config, &pseudonym)?,
        demotions: Demotions::default(),
        refusals,
        looks: Looks::default(),
        flights: Flights::default(),
        responses,
        tunnels: Tunnels::new(config.tunnels.connections),
        tasks: kit.tasks.clone(),
        readiness: kit.readiness.clone(),
        catalogue_settled: CancellationToken::new(),
        config,
        store,
        catalogue,
        farm,
        via: ::http::HeaderValue::try_from(format!("1.1 {pseudonym}"))?,
        pseudonym,
        importing: tokio::sync::Mutex::default(),
    };
    Ok((Arc::new(app), listener))
}

/// Asks the replica that runs with this configuration, or the one at `endpoint`, whether it can serve.
///
/// # Errors
/// It does not answer within `timeout`, or says what it waits for.
pub async fn ask_health(config: Config, endpoint: Option<String>, timeout: Duration) -> anyhow::Result<()> {
    let reachable = service_kit::listen::reachable(config.listen);
    let base = endpoint.unwrap_or_else(|| format!("http://{reachable}"));
    let url = format!("{}/readyz", base.trim_end_matches('/'));
    // A proxy of the environment is for other people's hosts.
    let client = reqwest::Client::builder().timeout(timeout).no_proxy().build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url}: is it running?"))?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{url} says {status}: {}", answer.text().await?.trim_end());
    Ok(())
}

async fn open_store(config: &Config, faults: Option<FaultHook>) -> anyhow::Result<Store> {
    let (cache_dir, capacity_bytes) = (config.cache_dir.clone(), config.blob_bytes());
    let options = Options { cache_dir, capacity_bytes, faults };
    let opened = tokio::task::spawn_blocking(move || Store::open(options)).await?;
    let (store, faults) =
        opened.with_context(|| format!("proxy.cache_dir: {}", config.cache_dir.display()))?;
    for fault in &faults {
        warn!(path = %fault.path.display(), "in the cache directory: {}", fault.what);
    }
    info!(
        slot = %store.slot_dir().display(),
        replica = store.replica_id(),
        blobs = store.inventory().len(),
        used_bytes = store.used_bytes(),
        "the store is open"
    );
    Ok(store)
}

/// What passes through is kept beside the blobs; if that can't be done, it passes through all the same.
async fn open_responses(config: &Config, store: &Store) -> anyhow::Result<Option<KeptResponses>> {
    let capacity_bytes = config.uncatalogued_bytes();
    if capacity_bytes == 0 {
        return Ok(None);
    }
    let limits = ResponseLimits {
        capacity_bytes,
        body_bytes_max: config.uncatalogued.object_max.0.min(capacity_bytes),
        responses_max: RESPONSES_MAX,
    };
    let store = store.clone();
    match tokio::task::spawn_blocking(move || Responses::open(&store, limits)).await? {
        Ok((responses, removed)) => {
            info!(used_bytes = responses.used_bytes(), removed, "responses that no tree lists are kept");
            Ok(Some(KeptResponses::new(responses)))
        }
        Err(error) => {
            warn!(%error, "responses that no tree lists are not kept");
            Ok(None)
        }
    }
}

async fn farm(
    config: &Config,
    kit: &Kit,
    store: &Store,
    catalogue: &Catalogue,
    http_addr: SocketAddr,
) -> anyhow::Result<Farm> {
    let endpoint = &config.maintenance.endpoint;
    if endpoint.is_empty() {
        return Ok(Farm::detached());
    }
    let channel = service_kit::grpc::connect(&kit.grpc, endpoint, CALL_TIMEOUT)
        .with_context(|| format!("proxy.maintenance.endpoint: {endpoint}"))?;
    let identity = Identity {
        replica_id: store.replica_id().to_owned(),
        advertise: advertise::address(&config.advertise, http_addr, endpoint).await?,
        capacity_bytes: config.blob_bytes(),
    };
    Ok(Farm::new(channel, identity, catalogue.clone(), kit.tasks.clone(), Timing::default()))
}
