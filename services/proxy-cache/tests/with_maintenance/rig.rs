//! The services, each to be started and killed on its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farm_sim::contents::Contents;
use farm_sim::tree::{GeneratedDistfile, Restriction};
use farm_sim::upstream::{Gate, Upstream};
use maintenance::IndexUrl;
use maintenance::clock::{SharedClock, SystemClock};
use proxy_cache::config::MaintenanceConfig;
use rookery_proto::v1;
use rookery_proto::v1::admin_client::AdminClient;
use service_kit::Kit;
use service_kit::config::HumanDuration;
use service_kit::grpc::{ClientChannel, GrpcConfig, connect};

use crate::tree::FakeTree;

/// One distfile that the upstream has.
pub(crate) struct Sim {
    pub(crate) name: String,
    pub(crate) contents: Contents,
    /// If there are any, no mirror is to be asked.
    pub(crate) sources: Vec<String>,
}

impl Sim {
    pub(crate) fn new(name: &str, size_bytes: u64) -> Self {
        Self { name: name.to_owned(), contents: Contents::new(1, name, size_bytes), sources: Vec::new() }
    }

    fn wire(&self) -> v1::Distfile {
        let digests = self.contents.digests();
        let digest = |algorithm: &str, value: [u8; 64]| v1::Digest {
            algorithm: algorithm.to_owned(),
            value: value.to_vec(),
        };
        v1::Distfile {
            name: self.name.clone(),
            size_bytes: self.contents.size_bytes(),
            digests: vec![digest("BLAKE2B", digests.blake2b), digest("SHA512", digests.sha512)],
            packages: vec!["app-misc/foo".to_owned()],
            sources: self.sources.clone(),
            restriction: if self.sources.is_empty() {
                v1::Restriction::None.into()
            } else {
                v1::Restriction::Mirror.into()
            },
        }
    }
}

pub(crate) fn wires(files: &[&Sim]) -> Vec<v1::Distfile> {
    files.iter().map(|file| file.wire()).collect()
}

/// An upstream, a tree, and a maintenance that can be killed.
pub(crate) struct Rig {
    pub(crate) upstream: Upstream,
    pub(crate) tree: FakeTree,
    dir: tempfile::TempDir,
    maintenance_addr: SocketAddr,
    /// How long a lease lasts without progress.
    lease: HumanDuration,
    /// Of the next start of maintenance.
    pub(crate) clock: SharedClock,
    /// Its own, so that killing it kills its connections too.
    maintenance: Option<tokio::runtime::Runtime>,
}

impl Rig {
    pub(crate) async fn start(files: &[&Sim]) -> Self {
        Self::with_lease(files, maintenance::Config::default().lease).await
    }

    pub(crate) async fn with_lease(files: &[&Sim], lease: HumanDuration) -> Self {
        let gate = Gate::closed();
        gate.open();
        Self::with(files, lease, gate).await
    }

    /// One whose sync-server says what it has only when `gate` is open.
    pub(crate) async fn gated(files: &[&Sim], gate: Gate) -> Self {
        Self::with(files, maintenance::Config::default().lease, gate).await
    }

    async fn with(files: &[&Sim], lease: HumanDuration, gate: Gate) -> Self {
        service_kit::process::install_crypto_provider();
        let upstream = Upstream::start().await.unwrap();
        for file in files {
            upstream.put_distfile(&GeneratedDistfile {
                name: file.name.clone(),
                size_bytes: file.contents.size_bytes(),
                seed: 1,
                digests: file.contents.digests(),
                sources: Vec::new(),
                restriction: Restriction::None,
                packages: Vec::new(),
            });
        }
        let tree = FakeTree::start(wires(files), gate).await;
        let maintenance_addr = free_address();
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let mut rig = Self { upstream, tree, dir, maintenance_addr, lease, clock, maintenance: None };
        rig.start_maintenance().await;
        rig
    }

    pub(crate) async fn start_maintenance(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = maintenance::Config {
            listen: self.maintenance_addr,
            web: ([127, 0, 0, 1], 0).into(),
            sync: format!("http://{}", self.tree.addr).parse().unwrap(),
            index: IndexUrl::from_path(&self.index()).unwrap(),
            unreferenced_grace: HumanDuration(Duration::ZERO),
            keep_accessed: HumanDuration(Duration::ZERO),
            lease: self.lease,
            health: maintenance::HealthConfig {
                // Three failures are enough.
                source_failing: HumanDuration(Duration::ZERO),
                ..maintenance::HealthConfig::default()
            },
            ..maintenance::Config::default()
        };
        // The last one may still be letting go of its port and its index.
        let started = async || {
            let (config, clock) = (config.clone(), Arc::clone(&self.clock));
            let start = runtime
                .spawn(async move { maintenance::start_with_clock(config, &Kit::default(), clock).await });
            start.await.unwrap().is_ok()
        };
        until("maintenance starts", started).await;
        self.maintenance = Some(runtime);
    }

    /// Ends it in mid-sentence.
    pub(crate) fn kill_maintenance(&mut self) {
        self.maintenance.take().unwrap().shutdown_background();
    }

    pub(crate) fn delete_index(&self) {
        for file in std::fs::read_dir(self.index().parent().unwrap()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    fn index(&self) -> PathBuf {
        let dir = self.dir.path().join("index");
        std::fs::create_dir_all(&dir).unwrap();
        dir.join("index.db")
    }

    pub(crate) fn admin(&self) -> AdminClient<ClientChannel> {
        let endpoint = format!("http://{}", self.maintenance_addr);
        let channel = connect(&GrpcConfig::default(), &endpoint, Duration::from_secs(10)).unwrap();
        AdminClient::new(channel)
    }

    pub(crate) async fn status(&self) -> Option<v1::GetStatusResponse> {
        let status = self.admin().get_status(v1::GetStatusRequest {}).await;
        status.ok().map(tonic::Response::into_inner)
    }

    /// Waits until all replicas are connected and have so many blobs, most first.
    pub(crate) async fn until_blobs(&self, expected: &[u64]) {
        let is_so = async || {
            let Some(status) = self.status().await else { return false };
            let mut blobs: Vec<u64> = status.replicas.iter().map(|replica| replica.blobs).collect();
            blobs.sort_unstable_by(|a, b| b.cmp(a));
            blobs == expected && status.replicas.iter().all(|replica| replica.connected)
        };
        until("the replicas' blobs", is_so).await;
    }

    /// A replica that has the catalogue with `name` in it.
    pub(crate) async fn replica(&self, number: u8, name: &str) -> Replica {
        self.replica_with(number, name, |_| {}).await
    }

    pub(crate) async fn replica_with(
        &self,
        number: u8,
        name: &str,
        configure: impl FnOnce(&mut proxy_cache::Config),
    ) -> Replica {
        let replica = self.new_replica(number, configure).await;
        // The bare form never asks a mirror.
        let knows = async || replica.get(&format!("/{name}"), true).await.status().is_success();
        until("the catalogue is imported", knows).await;
        replica
    }

    /// A replica that may know nothing yet.
    pub(crate) async fn new_replica(
        &self,
        number: u8,
        configure: impl FnOnce(&mut proxy_cache::Config),
    ) -> Replica {
        let listen = free_address();
        let cache_dir = self.dir.path().join(format!("cache-{number}"));
        let mut config = proxy_cache::Config {
            listen,
            cache_dir: cache_dir.clone(),
            mirrors: vec![self.upstream.url().try_into().unwrap()],
            maintenance: MaintenanceConfig { endpoint: format!("http://{}", self.maintenance_addr) },
            ..proxy_cache::Config::default()
        };
        configure(&mut config);
        let kit = Kit::default();
        let running = proxy_cache::start(config, &kit).await.unwrap();
        Replica { base: format!("http://{}", running.http_addr), cache_dir, kit }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(runtime) = self.maintenance.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) struct Replica {
    pub(crate) base: String,
    pub(crate) cache_dir: PathBuf,
    kit: Kit,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kit.tasks.hard().cancel();
        self.kit.tasks.soft().cancel();
    }
}

impl Replica {
    pub(crate) async fn get(&self, path: &str, head_only: bool) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let method = if head_only { reqwest::Method::HEAD } else { reqwest::Method::GET };
        client.request(method, format!("{}{path}", self.base)).send().await.unwrap()
    }

    /// Begins a download.
    pub(crate) async fn begin(&self, file: &Sim) -> reqwest::Response {
        let response = self.get(&format!("/distfiles/{}", file.name), false).await;
        assert!(response.status().is_success(), "{}: {}", file.name, response.status());
        response
    }

    /// A whole download, compared with what it should be; how the cache came by it.
    pub(crate) async fn fetch(&self, file: &Sim) -> String {
        let response = self.begin(file).await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        assert_eq!(response.bytes().await.unwrap(), file.contents.to_bytes(), "{}", file.name);
        status
    }

    /// Every blob whose contents are not those that its name says.
    pub(crate) fn wrong_blobs(&self) -> Vec<PathBuf> {
        use blake2::Digest as _;
        let mut wrong = Vec::new();
        for group in std::fs::read_dir(self.cache_dir.join("r0").join("blobs")).unwrap() {
            for blob in std::fs::read_dir(group.unwrap().path()).unwrap() {
                let blob = blob.unwrap();
                let digest = hex::encode(blake2::Blake2b512::digest(std::fs::read(blob.path()).unwrap()));
                if blob.file_name().to_str() != Some(digest.as_str()) {
                    wrong.push(blob.path());
                }
            }
        }
        wrong
    }

    pub(crate) fn blobs_on_disk(&self) -> usize {
        files_below(&self.cache_dir.join("r0").join("blobs"))
    }
}

fn files_below(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let count = |path: PathBuf| if path.is_dir() { files_below(&path) } else { 1 };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

pub(crate) fn free_address() -> SocketAddr {
    farm_sim::ports::free_address().unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
