//! kill -9 at any moment of a nightly run: the next run finishes it, and index and disk agree.
//!
//! maintenance is a process of its own here, sync-server and the replica are not. `ROOKERY_KILLS` says
//! how often it is killed.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]
#![allow(clippy::cast_precision_loss, reason = "24 bits of a random number")]
#![allow(clippy::print_stdout, reason = "the moments must be known")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farm_sim::ports::free_address;
use rookery_proto::v1::admin_client::AdminClient;
use rookery_proto::v1::cache_index_client::CacheIndexClient;
use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    AcknowledgeDecisionRequest, DecisionOutcome, GetStatusRequest, InventoryBatch, ListDecisionsRequest,
    ListObjectsRequest, RegisterRequest, Run, RunNightlyRequest, WatchDecisionsRequest,
};
use support::{FakeTree, blob, distfile, eventually, key};
use tonic::transport::Channel;

/// Unreferenced files that each night finds.
const FILES: usize = 40;

/// The names of the blobs that the replica has.
type Disk = Arc<Mutex<BTreeSet<String>>>;

struct Process {
    child: Child,
    grpc: SocketAddr,
}

impl Process {
    async fn start(config: &Path, grpc: SocketAddr) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_maintenance"))
            .arg("--config")
            .arg(config)
            .env_remove("ROOKERY_CONFIG")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { child, grpc };
        eventually(async || {
            process.admin().get_status(GetStatusRequest {}).await.is_ok_and(|status| {
                status.into_inner().modules.iter().any(|module| module.catalogue_generation == 1)
            })
        })
        .await;
        process
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc)).unwrap().connect_lazy()
    }

    fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel())
    }

    /// The replica connects, tells what it has, and does what it is told for as long as there is somebody
    /// to tell it.
    async fn connect(&self, disk: &Disk) -> tokio::task::JoinHandle<()> {
        let mut client = CacheIndexClient::new(self.channel());
        let request = RegisterRequest {
            replica_id: "r1".to_owned(),
            capacity_bytes: 1 << 30,
            ..RegisterRequest::default()
        };
        client.register(request).await.unwrap();
        let blobs: Vec<_> = disk.lock().unwrap().iter().map(|name| blob(name)).collect();
        let batch = InventoryBatch {
            replica_id: "r1".to_owned(),
            capacity_bytes: 1 << 30,
            blobs,
            ..InventoryBatch::default()
        };
        client.report_inventory(tokio_stream::iter([batch])).await.unwrap();
        let request = WatchDecisionsRequest { replica_id: "r1".to_owned() };
        let mut decisions = client.watch_decisions(request).await.unwrap().into_inner();
        let disk = Arc::clone(disk);
        tokio::spawn(async move {
            while let Ok(Some(decision)) = decisions.message().await {
                if let Some(Action::Evict(order)) = &decision.action {
                    disk.lock().unwrap().retain(|name| key(name) != order.blake2b);
                }
                let request = AcknowledgeDecisionRequest {
                    replica_id: "r1".to_owned(),
                    decision_id: decision.id,
                    outcome: DecisionOutcome::Done.into(),
                    ..AcknowledgeDecisionRequest::default()
                };
                if client.acknowledge_decision(request).await.is_err() {
                    return;
                }
            }
        })
    }

    async fn run(&self) -> Result<Run, tonic::Status> {
        let answer = self.admin().run_nightly(RunNightlyRequest::default()).await?;
        Ok(answer.into_inner().run.unwrap())
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn configure(dir: &Path, tree: &FakeTree, grpc: SocketAddr) -> std::path::PathBuf {
    let file = dir.join("rookery.toml");
    let text = format!(
        "[maintenance]\nlisten = \"{grpc}\"\nweb = \"{}\"\nsync = \"{}\"\nindex = \"sqlite://{}/index.db\"\n\
         unreferenced_grace = \"0s\"\nkeep_accessed = \"0s\"\nschedule = {{ nightly = \"off\" }}\n\
         brakes = {{ share = \"100%\" }}\n",
        free_address().unwrap(),
        tree.endpoint(),
        dir.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What the index says the replica has.
async fn known(process: &Process) -> BTreeSet<String> {
    let request = ListObjectsRequest { limit: 10_000, ..ListObjectsRequest::default() };
    let objects = process.admin().list_objects(request).await.unwrap().into_inner().objects;
    objects.into_iter().flat_map(|object| object.names).collect()
}

async fn open_evictions(process: &Process) -> usize {
    let request = ListDecisionsRequest { limit: 10_000, ..ListDecisionsRequest::default() };
    let decisions = process.admin().list_decisions(request).await.unwrap().into_inner().decisions;
    decisions.iter().filter(|one| one.action == "evict" && one.outcome.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_that_is_killed_at_any_moment_is_finished_by_the_next() {
    let kills: u32 = std::env::var("ROOKERY_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let tree = FakeTree::start().await;
    let wanted: Vec<_> = (0..20).map(|number| distfile(&format!("wanted-{number}"))).collect();
    tree.publish("gentoo", 1, &wanted);
    let disk: Disk = Arc::default();
    let mut took = Duration::from_millis(400);
    let mut cut_off = 0;
    let mut seed = 1_u64;
    for round in 0..=kills {
        let grpc = free_address().unwrap();
        let config = configure(dir.path(), &tree, grpc);
        disk.lock().unwrap().extend((0..20).map(|number| format!("wanted-{number}")));
        disk.lock().unwrap().extend((0..FILES).map(|number| format!("old-{round}-{number}")));
        if round < kills {
            // Spread over a whole run, wherever in it that may be.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wait = took.mul_f64((seed >> 40) as f64 / f64::from(1_u32 << 24));
            let process = Process::start(&config, grpc).await;
            let replica = process.connect(&disk).await;
            let mut admin = process.admin();
            let run = tokio::spawn(async move { admin.run_nightly(RunNightlyRequest::default()).await });
            tokio::time::sleep(wait).await;
            process.kill();
            let ended = run.await.unwrap().is_ok();
            replica.await.unwrap();
            cut_off += u32::from(!ended);
            println!("killed {} ms after the run began, ended: {ended}", wait.as_millis());
        }
        let process = Process::start(&config, grpc).await;
        let replica = process.connect(&disk).await;
        let begun = Instant::now();
        let run = process.run().await.unwrap();
        took = begun.elapsed();
        assert_eq!(run.outcome, "done", "{run:?}");
        eventually(async || open_evictions(&process).await == 0).await;
        let here = disk.lock().unwrap().clone();
        assert_eq!(here.iter().filter(|name| name.starts_with("old")).count(), 0, "the night is finished");
        assert_eq!(here.len(), 20);
        assert_eq!(known(&process).await, here, "index and disk agree");
        let status = process.admin().get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.last_run.unwrap().outcome, "done");
        process.kill();
        replica.await.unwrap();
    }
    assert!(kills < 5 || cut_off > 0, "no run was ever cut off");
}
