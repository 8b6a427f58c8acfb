//! The replica's side of a test: a farm, its catalogue, and a store that only remembers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gentoo_repo::{Digests, Distfile, DistfileName, HashAlgorithm, Restriction};
use proxy_cache::catalogue::{Catalogue, KnownDistfile};
use proxy_cache::farm::{
    BlobHash, CommittedBlob, DecisionExecutor, Executed, Farm, HeldBlob, Identity, ImportMeter, Outcome,
    Timing,
};
use rookery_proto::v1;
use service_kit::grpc::{GrpcConfig, connect};
use service_kit::lifecycle::Tasks;
use tokio::sync::{Semaphore, mpsc};

/// Short pauses, so that outages pass quickly. Who answers at all is waited for: on a busy machine an answer may take a
/// second.
pub(crate) const TIMING: Timing = Timing {
    acquire: Duration::from_secs(20),
    call: Duration::from_secs(20),
    inventory: Duration::from_secs(20),
    access_flush: Duration::from_millis(20),
    inventory_interval: Duration::from_hours(1),
    progress: Duration::from_millis(20),
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_millis(100),
    farewell: Duration::from_secs(10),
};

/// A store that remembers what it was told to do.
pub(crate) struct Store {
    pub(crate) executed: Mutex<Vec<String>>,
    pub(crate) held: Mutex<Vec<HeldBlob>>,
    /// Fetches wait for a permit.
    pub(crate) fetch_gate: Semaphore,
    /// An inventory waits for a permit after its first batch.
    pub(crate) inventory_gate: Semaphore,
    /// So many inventories fail after their first batch.
    pub(crate) inventory_failures: AtomicU64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            executed: Mutex::default(),
            held: Mutex::default(),
            fetch_gate: Semaphore::new(0),
            inventory_gate: Semaphore::new(1000),
            inventory_failures: AtomicU64::new(0),
        }
    }
}

impl Store {
    fn note(&self, what: String) {
        self.executed.lock().unwrap().push(what);
    }

    pub(crate) fn executed(&self) -> Vec<String> {
        self.executed.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl DecisionExecutor for Store {
    async fn evict(&self, blob: BlobHash, unless_accessed_after_ms: i64) -> Executed {
        self.note(format!("evict {} {unless_accessed_after_ms}", blob[0]));
        match blob[0] {
            0xbb => Executed::new(Outcome::Busy, "being read"),
            0xcc => panic!("a bug"),
            _ => Outcome::Done.into(),
        }
    }

    async fn evict_quarantined(&self, blob: BlobHash) -> Executed {
        self.note(format!("evict quarantined {}", blob[0]));
        Outcome::Done.into()
    }

    async fn verify(&self, blob: BlobHash) -> Executed {
        self.note(format!("verify {}", blob[0]));
        Outcome::Gone.into()
    }

    async fn fetch(&self, name: &DistfileName) -> Executed {
        self.note(format!("fetch {name}"));
        self.fetch_gate.acquire().await.unwrap().forget();
        Outcome::Done.into()
    }

    async fn import(&self, order: &v1::ImportDirectory, meter: &ImportMeter) -> Vec<v1::ImportReport> {
        self.note(format!("import {}", order.dir));
        meter.send_replace(v1::ImportProgress { files_done: 2, files: 7, ..v1::ImportProgress::default() });
        if order.dir == "/gated" {
            let gate = self.fetch_gate.acquire().await;
            gate.unwrap().forget();
        }
        vec![v1::ImportReport { dir: order.dir.clone(), ..v1::ImportReport::default() }]
    }

    async fn inventory(&self, batches: mpsc::Sender<Vec<HeldBlob>>) -> anyhow::Result<()> {
        let held = self.held.lock().unwrap().clone();
        let (first, rest) = held.split_at(held.len() / 2);
        batches.send(first.to_vec()).await?;
        self.inventory_gate.acquire().await?.forget();
        let fails =
            self.inventory_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        anyhow::ensure!(fails.is_err(), "the disk is on fire");
        batches.send(rest.to_vec()).await?;
        Ok(())
    }
}

/// A replica without an HTTP side.
pub(crate) struct Replica {
    pub(crate) farm: Farm,
    pub(crate) catalogue: Catalogue,
    pub(crate) store: Arc<Store>,
    pub(crate) tasks: Tasks,
    _directory: tempfile::TempDir,
}

impl Replica {
    /// One that is not started yet.
    pub(crate) async fn prepare(endpoint: &str, timing: Timing) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&directory.path().join("catalogue.db")).await.unwrap();
        let channel = connect(&GrpcConfig::default(), endpoint, timing.call).unwrap();
        let identity = Identity {
            replica_id: "replica-1".to_owned(),
            advertise: "http://127.0.0.1:9".to_owned(),
            capacity_bytes: 1 << 30,
        };
        let tasks = Tasks::new();
        let farm = Farm::new(channel, identity, catalogue.clone(), tasks.clone(), timing);
        Self { farm, catalogue, store: Arc::default(), tasks, _directory: directory }
    }

    pub(crate) async fn start(endpoint: &str) -> Self {
        let replica = Self::prepare(endpoint, TIMING).await;
        replica.farm.start(replica.store.clone());
        replica
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.hard().cancel();
        self.tasks.soft().cancel();
    }
}

pub(crate) fn held(number: u8) -> HeldBlob {
    HeldBlob {
        blake2b: [number; 64],
        size_bytes: 100,
        names: vec![format!("file-{number}")],
        last_access_ms: 7,
        quarantined: false,
    }
}

pub(crate) fn known(name: &str) -> KnownDistfile {
    let digests: Digests = [(HashAlgorithm::Blake2b, vec![7; 64])].into_iter().collect();
    KnownDistfile {
        module: "gentoo".to_owned(),
        distfile: Distfile {
            name: name.parse().unwrap(),
            size_bytes: 12,
            digests,
            sources: vec!["https://example.org/x".to_owned()],
            restriction: Restriction::None,
            packages: Vec::new(),
        },
    }
}

pub(crate) fn blob(name: &str) -> CommittedBlob {
    CommittedBlob {
        known: known(name).into(),
        blake2b: [7; 64],
        names: vec![name.to_owned()],
        last_access_ms: 5,
        source: "https://example.org/x".to_owned(),
        upstream_bytes: 12,
    }
}

pub(crate) fn wire(name: &str, version: u8) -> v1::Distfile {
    v1::Distfile {
        name: name.to_owned(),
        size_bytes: u64::from(version),
        digests: vec![v1::Digest { algorithm: "BLAKE2B".to_owned(), value: vec![version; 64] }],
        ..v1::Distfile::default()
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
