//! maintenance on ports of its own, with a clock that stands still and a sync-server that does as told.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

mod tree;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_policy::UnixMs;
use maintenance::clock::{Clock as _, ManualClock};
use maintenance::{Config, IndexUrl, Running};
use rookery_proto::v1::admin_client::AdminClient;
use rookery_proto::v1::cache_index_client::CacheIndexClient;
use rookery_proto::v1::{
    Blob, CatalogueChange, Digest, Distfile, FetchObject, GetStatusRequest, GetStatusResponse,
    InventoryBatch, RegisterRequest, Restriction, WatchCatalogueRequest,
};
use service_kit::Kit;
use service_kit::config::HumanDuration;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

pub use tree::FakeTree;

pub const START_MS: i64 = 1_700_000_000_000;
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub struct Rig {
    pub dir: TempDir,
    pub tree: FakeTree,
    pub clock: Arc<ManualClock>,
    pub kit: Kit,
    pub running: Running,
}

impl Rig {
    /// With a sync-server that has no module yet.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = FakeTree::start().await;
        let clock = Arc::new(ManualClock::new(UnixMs::new(START_MS)));
        let kit = Kit::default();
        let config = config(&dir, &tree);
        let running = maintenance::start_with_clock(config, &kit, clock.clone()).await.unwrap();
        Self { dir, tree, clock, kit, running }
    }

    /// With other settings than the defaults.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Self::start().await;
        rig.stop().await;
        rig.start_again_with(change).await;
        rig
    }

    /// Stops it and starts it again on the same index.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again_with(|_| ()).await;
    }

    /// Starts it on the same index after it was stopped.
    pub async fn start_again_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.kit = Kit::default();
        let mut config = self.config();
        change(&mut config);
        self.running = maintenance::start_with_clock(config, &self.kit, self.clock.clone()).await.unwrap();
    }

    pub async fn stop(&self) {
        within(self.kit.tasks.finish()).await;
    }

    pub fn config(&self) -> Config {
        config(&self.dir, &self.tree)
    }

    pub fn index_path(&self) -> PathBuf {
        self.dir.path().join("index.db")
    }

    pub fn client(&self) -> CacheIndexClient<Channel> {
        CacheIndexClient::new(self.channel())
    }

    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel())
    }

    fn channel(&self) -> Channel {
        let endpoint = format!("http://{}", self.running.grpc_addr);
        Channel::from_shared(endpoint).unwrap().connect_lazy()
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now().get()
    }

    pub async fn status(&self) -> GetStatusResponse {
        self.admin().get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }

    pub async fn register(&self, replica_id: &str) {
        let request = RegisterRequest {
            replica_id: replica_id.to_owned(),
            advertise: format!("http://{replica_id}:8080"),
            capacity_bytes: 1 << 30,
            ..RegisterRequest::default()
        };
        self.client().register(request).await.unwrap();
    }

    /// Says that it may take so much.
    pub async fn inventory_of(&self, replica_id: &str, blobs: Vec<Blob>, capacity_bytes: u64) {
        let batch = InventoryBatch {
            replica_id: replica_id.to_owned(),
            capacity_bytes,
            blobs,
            ..InventoryBatch::default()
        };
        self.client().report_inventory(tokio_stream::iter([batch])).await.unwrap();
    }

    pub async fn inventory(&self, replica_id: &str, blobs: Vec<Blob>) {
        let batch = InventoryBatch {
            replica_id: replica_id.to_owned(),
            capacity_bytes: 1 << 30,
            blobs,
            ..InventoryBatch::default()
        };
        self.client().report_inventory(tokio_stream::iter([batch])).await.unwrap();
    }

    /// Publishes a generation and waits until it is imported.
    pub async fn publish(&self, module: &str, number: u64, distfiles: &[Distfile]) {
        self.tree.publish(module, number, distfiles);
        self.imported(module, number).await;
    }

    pub async fn imported(&self, module: &str, number: u64) {
        eventually(async || {
            let status = self.status().await;
            status.modules.iter().any(|one| {
                one.catalogue_generation == number
                    && one.module.as_ref().is_some_and(|known| known.name == module)
            })
        })
        .await;
    }

    pub async fn watch_catalogue(
        &self,
        replica_id: &str,
        have: &[(&str, u64)],
    ) -> Streaming<CatalogueChange> {
        let have = have.iter().map(|(module, generation)| rookery_proto::v1::ModuleGeneration {
            module: (*module).to_owned(),
            generation: *generation,
        });
        let request = WatchCatalogueRequest { replica_id: replica_id.to_owned(), have: have.collect() };
        within(self.client().watch_catalogue(request)).await.unwrap().into_inner()
    }
}

fn config(dir: &TempDir, tree: &FakeTree) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        web: ([127, 0, 0, 1], 0).into(),
        sync: tree.endpoint().parse().unwrap(),
        index: IndexUrl::from_path(&dir.path().join("index.db")).unwrap(),
        lease: HumanDuration(Duration::from_secs(30)),
        ..Config::default()
    }
}

/// A step of the catalogue: its parts up to the complete one, put together.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    pub module: String,
    pub generation: u64,
    pub reset: bool,
    pub upserts: Vec<String>,
    pub removes: Vec<String>,
    pub order: Vec<String>,
    pub messages: usize,
}

pub async fn step(stream: &mut Streaming<CatalogueChange>) -> Step {
    let mut step = Step::default();
    loop {
        let message = within(stream.message()).await.unwrap().expect("the stream never ends");
        let changes = message.changes.unwrap_or_default();
        assert!(changes.upserts.len() + changes.removes.len() <= 1000);
        if step.messages == 0 {
            step.reset = changes.reset;
            (step.module, step.generation) = (message.module.clone(), message.generation);
        } else {
            assert!(!changes.reset && message.module == step.module && message.generation == step.generation);
        }
        step.messages += 1;
        step.upserts.extend(changes.upserts.into_iter().map(|distfile| distfile.name));
        step.removes.extend(changes.removes);
        if message.complete {
            step.order = message.module_order;
            return step;
        }
    }
}

/// Octets that stand for the contents `seed`.
pub fn key(seed: &str) -> Vec<u8> {
    let mut key = seed.as_bytes().to_vec();
    key.resize(64, 0);
    key
}

pub fn distfile(name: &str) -> Distfile {
    Distfile {
        name: name.to_owned(),
        size_bytes: 1000,
        digests: vec![Digest { algorithm: "BLAKE2B".to_owned(), value: key(name) }],
        sources: vec![format!("https://example.org/{name}")],
        restriction: Restriction::None.into(),
        packages: vec!["app-misc/x".to_owned()],
    }
}

pub fn object(name: &str) -> FetchObject {
    FetchObject {
        name: name.to_owned(),
        digest: Some(Digest { algorithm: "BLAKE2B".to_owned(), value: key(name) }),
        size_bytes: 1000,
    }
}

pub fn blob(name: &str) -> Blob {
    Blob { blake2b: key(name), size_bytes: 1000, names: vec![name.to_owned()], ..Blob::default() }
}

/// What comes, comes within this time.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s")
}

/// Looks again until it is so.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not so within 20 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
