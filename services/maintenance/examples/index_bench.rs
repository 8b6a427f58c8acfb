//! How the index does at the size of a large farm, measured from outside, over gRPC:
//!
//! ```sh
//! cargo run --release -p maintenance --example index_bench
//! ```
//!
//! 300,000 distfiles are imported, 500 of them change, and a replica holds 200,000 blobs; 700,000 more
//! names in other modules make a million. A table goes to standard output.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rookery_proto::v1::{
    Blob, CatalogueChange, Digest, Distfile, InventoryBatch, ListObjectsRequest, ObjectOrder,
    PlanEvictionRequest, Restriction,
};
use support::{DAY_MS, Rig};
use tonic::Streaming;

const DISTFILES: u32 = 300_000;
const MODULES: u32 = 3;
const NAMES: u32 = 1_000_000;
const BLOBS: u32 = 200_000;
const CHANGED: u32 = 500;

fn key(number: u32, version: u32) -> Vec<u8> {
    let mut key = vec![0; 64];
    // Spread as digests are.
    let mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key[..8].copy_from_slice(&mixed.to_be_bytes());
    key[8..12].copy_from_slice(&version.to_be_bytes());
    key
}

fn distfile(number: u32, version: u32) -> Distfile {
    Distfile {
        name: format!("some-package-{number}.{version}.tar.xz"),
        size_bytes: 100_000,
        digests: vec![
            Digest { algorithm: "BLAKE2B".to_owned(), value: key(number, version) },
            Digest { algorithm: "SHA512".to_owned(), value: key(number, version) },
        ],
        sources: vec![
            format!("https://example.org/releases/some-package-{number}.{version}.tar.xz"),
            format!("https://mirror.example.net/some-package-{number}.{version}.tar.xz"),
        ],
        restriction: Restriction::None.into(),
        packages: vec![format!("app-misc/some-package-{}", number / 2)],
    }
}

fn blob(number: u32) -> Blob {
    let distfile = distfile(number, 1);
    Blob {
        blake2b: key(number, 1),
        size_bytes: distfile.size_bytes,
        names: vec![distfile.name],
        last_access_ms: support::START_MS - 90 * DAY_MS + i64::from(number % 1000) * 60_000,
        quarantined: false,
    }
}

fn row(what: &str, took: Duration, goal: &str) {
    println!("| {what} | {:.2} s | {goal} |", took.as_secs_f64());
}

struct Farm {
    rig: Rig,
    /// What a connected replica is told of the catalogue.
    catalogue: Streaming<CatalogueChange>,
}

/// How long a generation took.
struct Took {
    /// Until it was the catalogue.
    imported: Duration,
    /// Until the replica had all of it.
    told: Duration,
}

impl Farm {
    async fn start() -> Self {
        let rig = Rig::start().await;
        rig.register("r1").await;
        let catalogue = rig.watch_catalogue("r1", &[]).await;
        Self { rig, catalogue }
    }

    /// From the moment when sync-server has published it. The import is over when this returns, with all that
    /// it leaves for afterwards: replicas are told last.
    async fn publish(&mut self, module: &str, number: u64, distfiles: &[Distfile]) -> Took {
        self.rig.tree.publish(module, number, distfiles);
        let begun = Instant::now();
        while !self.is_catalogue(module, number).await {
            assert!(begun.elapsed() < Duration::from_mins(10), "{module} is not imported");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let imported = begun.elapsed();
        loop {
            let change = self.catalogue.message().await.unwrap().expect("the stream never ends");
            if change.complete && change.module == module && change.generation == number {
                return Took { imported, told: begun.elapsed() };
            }
        }
    }

    async fn is_catalogue(&self, module: &str, number: u64) -> bool {
        let status = self.rig.status().await;
        status.modules.iter().any(|one| {
            one.catalogue_generation == number
                && one.module.as_ref().is_some_and(|known| known.name == module)
        })
    }
}

#[tokio::main]
async fn main() {
    let mut farm = Farm::start().await;
    println!("| what | took | goal |\n| --- | --- | --- |");
    let mut distfiles: Vec<_> = (0..DISTFILES).map(|number| distfile(number, 1)).collect();
    let took = farm.publish("gentoo", 1, &distfiles).await;
    row("first import of 300,000 distfiles", took.imported, "30 s");

    let begun = Instant::now();
    let batches = (0..BLOBS).step_by(500).map(|first| InventoryBatch {
        replica_id: "r1".to_owned(),
        blobs: (first..first + 500).map(blob).collect(),
        capacity_bytes: 21_000_000_000,
        ..InventoryBatch::default()
    });
    farm.rig.client().report_inventory(tokio_stream::iter(batches.collect::<Vec<_>>())).await.unwrap();
    row("inventory of 200,000 blobs", begun.elapsed(), "");

    for number in 0..CHANGED {
        distfiles[number as usize * 7] = distfile(number * 7, 2);
    }
    let took = farm.publish("gentoo", 2, &distfiles).await;
    row("difference of 500 distfiles, with 200,000 blobs", took.imported, "1 s");

    for module in 1..MODULES {
        let share = (NAMES - DISTFILES) / (MODULES - 1);
        let first = DISTFILES + (module - 1) * share;
        let more: Vec<_> = (first..first + share).map(|number| distfile(number, 1)).collect();
        let took = farm.publish(&format!("overlay{module}"), 1, &more).await;
        row(&format!("import of {share} distfiles of another module"), took.imported, "");
    }
    for number in 0..CHANGED {
        distfiles[number as usize * 7] = distfile(number * 7, 3);
    }
    let took = farm.publish("gentoo", 3, &distfiles).await;
    row("difference of 500 distfiles among 1,000,000 names", took.imported, "1 s");
    row("… and until a replica had it", took.told, "");

    let Farm { rig, catalogue } = farm;
    rig.clock.advance_ms(30 * DAY_MS);
    let begun = Instant::now();
    rig.status().await;
    row("status", begun.elapsed(), "1 s");
    let begun = Instant::now();
    let plan = rig.admin().max_decoding_message_size(256 << 20).plan_eviction(PlanEvictionRequest {}).await;
    let plan = plan.unwrap().into_inner();
    row(&format!("plan above the high water ({} evictions)", plan.evictions.len()), begun.elapsed(), "1 s");
    for (order, what) in [
        (ObjectOrder::Name, "objects by name"),
        (ObjectOrder::Size, "objects by size"),
        (ObjectOrder::LastAccess, "objects by last access"),
        (ObjectOrder::Requests, "objects by requests"),
    ] {
        let begun = Instant::now();
        let request = ListObjectsRequest { order: order.into(), descending: true, ..Default::default() };
        let answer = rig.admin().list_objects(request).await.unwrap().into_inner();
        assert_eq!((answer.objects.len(), answer.matching), (100, u64::from(BLOBS)));
        row(what, begun.elapsed(), "1 s");
    }
    let begun = Instant::now();
    let request = ListObjectsRequest { name: "19999".to_owned(), ..Default::default() };
    rig.admin().list_objects(request).await.unwrap();
    row("objects with a part of a name", begun.elapsed(), "1 s");
    let size = std::fs::metadata(rig.index_path()).unwrap().len();
    println!("| size of the index | {} MB | |", size / 1_000_000);
    drop(catalogue);
    rig.stop().await;
}
