//! Thirty days of a farm of seven boxes on a clock of its own: versions are bumped, boxes fetch, nights pass.
//!
//! The core is the real one; the replica is a map that does what it is told. What must hold: nothing is
//! fetched from upstream twice, the disk is never fuller than it may be, every night's deletions have
//! reasons, and nothing that is protected is ever chosen.

#![allow(clippy::unwrap_used, reason = "how a test fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own tasks end with it")]
#![allow(clippy::print_stdout, reason = "the nights are to be read")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use rookery_proto::v1::acquire_fetch_response::Outcome;
use rookery_proto::v1::decision::Action;
use rookery_proto::v1::{
    Access, AccessOutcome, AcknowledgeDecisionRequest, AcquireFetchRequest, Blob, CommitFetchRequest,
    Decision, DecisionOutcome, Digest, Distfile, FetchObject, InventoryBatch, PinRequest,
    PlanEvictionRequest, ReportAccessesRequest, Restriction, RunNightlyRequest, WatchDecisionsRequest,
};
use support::{DAY_MS, Rig, START_MS, key, within};
use tonic::Streaming;

const BOXES: usize = 7;
const DAYS: u32 = 30;
const PACKAGES: u32 = 120;
const KEEP_DAYS: i64 = 7;

/// Numbers that follow from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What the replica has: size, and when anybody last asked for it.
#[derive(Default)]
struct Disk {
    blobs: BTreeMap<String, (u64, i64)>,
    capacity_bytes: u64,
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        self.blobs.values().map(|(size, _)| size).sum()
    }

    fn inventory(&self) -> InventoryBatch {
        let blobs = self.blobs.iter().map(|(name, (size_bytes, last_access_ms))| Blob {
            blake2b: key(name),
            size_bytes: *size_bytes,
            names: vec![name.clone()],
            last_access_ms: *last_access_ms,
            quarantined: false,
        });
        InventoryBatch {
            replica_id: "r1".to_owned(),
            blobs: blobs.collect(),
            capacity_bytes: self.capacity_bytes,
            ..InventoryBatch::default()
        }
    }
}

struct Farm {
    rig: Rig,
    random: Random,
    disk: Disk,
    versions: Vec<u32>,
    /// What the boxes have: box and name.
    have: BTreeSet<(usize, String)>,
    sizes: BTreeMap<String, u64>,
    asked_for: BTreeSet<String>,
    upstream_bytes: u64,
    reports: u64,
    pinned: BTreeSet<String>,
}

fn file(package: u32, version: u32) -> String {
    format!("p{package:03}-{version}.tar.xz")
}

impl Farm {
    fn now_ms(&self) -> i64 {
        use maintenance::clock::Clock as _;
        self.rig.clock.now().get()
    }

    fn size(&mut self, name: &str) -> u64 {
        let size = 1_000_000 + self.random.below(40_000_000);
        *self.sizes.entry(name.to_owned()).or_insert(size)
    }

    /// The tree keeps the last two versions of each package; some are bumped each day.
    async fn publish(&mut self, generation: u64) {
        for package in 0..PACKAGES as usize {
            if self.random.below(12) == 0 {
                self.versions[package] += 1;
            }
        }
        let mut distfiles = Vec::new();
        for package in 0..PACKAGES {
            let newest = self.versions[package as usize];
            for version in newest.saturating_sub(1).max(1)..=newest {
                let name = file(package, version);
                let size_bytes = self.size(&name);
                distfiles.push(Distfile {
                    digests: vec![Digest { algorithm: "BLAKE2B".to_owned(), value: key(&name) }],
                    size_bytes,
                    // One package in forty was brought by hand and can't be had again.
                    restriction: if package % 40 == 7 { Restriction::Fetch } else { Restriction::None }
                        .into(),
                    packages: vec![format!("app-misc/p{package:03}")],
                    sources: vec![format!("https://example.org/{name}")],
                    name,
                });
            }
        }
        self.rig.publish("gentoo", generation, &distfiles).await;
    }

    /// Each box installs what is new of the packages that it uses.
    async fn boxes_fetch(&mut self) {
        let mut accesses = Vec::new();
        for box_number in 0..BOXES {
            for package in 0..PACKAGES {
                // Every box has its own half of the packages, and looks at a third of them each day.
                let uses = (package as usize * 31 + box_number * 17) % 100 < 50;
                if !uses || self.random.below(3) > 0 {
                    continue;
                }
                let name = file(package, self.versions[package as usize]);
                if self.have.insert((box_number, name.clone())) {
                    accesses.push(self.fetch(box_number, &name).await);
                }
            }
        }
        self.reports += 1;
        for (part, accesses) in accesses.chunks(5000).enumerate() {
            let request = ReportAccessesRequest {
                replica_id: "r1".to_owned(),
                report_id: format!("report-{}-{part}", self.reports),
                accesses: accesses.to_vec(),
                sources: Vec::new(),
            };
            self.rig.client().report_accesses(request).await.unwrap();
        }
    }

    async fn fetch(&mut self, box_number: usize, name: &str) -> Access {
        let (now_ms, size) = (self.now_ms(), self.sizes[name]);
        self.asked_for.insert(name.to_owned());
        let hit = self.disk.blobs.contains_key(name);
        if !hit {
            self.upstream_bytes += size;
        }
        self.disk.blobs.insert(name.to_owned(), (size, now_ms));
        let used = self.disk.used_bytes();
        assert!(used <= self.disk.capacity_bytes, "{used} bytes on a disk of {}", self.disk.capacity_bytes);
        if !hit {
            let digest = Digest { algorithm: "BLAKE2B".to_owned(), value: key(name) };
            let object = Some(FetchObject { name: name.to_owned(), digest: Some(digest), size_bytes: size });
            let request = AcquireFetchRequest { replica_id: "r1".to_owned(), object: object.clone() };
            let acquired = self.rig.client().acquire_fetch(request).await.unwrap().into_inner();
            let Some(Outcome::Granted(lease)) = acquired.outcome else { panic!("{acquired:?}") };
            let request = CommitFetchRequest {
                replica_id: "r1".to_owned(),
                lease_id: lease.lease_id,
                fence: lease.fence,
                object,
                blob: Some(Blob {
                    blake2b: key(name),
                    size_bytes: size,
                    names: vec![name.to_owned()],
                    last_access_ms: now_ms,
                    quarantined: false,
                }),
                source: format!("https://example.org/{name}"),
                upstream_bytes: size,
            };
            self.rig.client().commit_fetch(request).await.unwrap();
        }
        Access {
            name: name.to_owned(),
            blake2b: key(name),
            client: format!("10.13.18.{}", 101 + box_number),
            at_ms: now_ms,
            bytes_served: size,
            outcome: if hit { AccessOutcome::Hit } else { AccessOutcome::Miss }.into(),
        }
    }

    /// Tells what there is, has the night done, and does what it is told. Answers how many files went.
    async fn night(&mut self, decisions: &mut Streaming<Decision>) -> usize {
        let batch = self.disk.inventory();
        self.rig.client().report_inventory(tokio_stream::iter([batch])).await.unwrap();
        let plan = self.rig.admin().plan_eviction(PlanEvictionRequest {}).await.unwrap().into_inner();
        assert!(plan.brakes.is_empty(), "{:?}", plan.brakes);
        for one in &plan.evictions {
            self.check(&one.names[0]);
            assert!(one.reason.starts_with(&one.class) && one.reason.len() > 40, "{}", one.reason);
            println!("    {} ({} MB): {}", one.names[0], one.size_bytes / 1_000_000, one.reason);
        }
        let mut admin = self.rig.admin();
        let steps = ["scrub", "plan", "evict"].map(str::to_owned).to_vec();
        let run =
            tokio::spawn(async move { admin.run_nightly(RunNightlyRequest { dry_run: false, steps }).await });
        let mut gone = 0;
        let mut run = std::pin::pin!(within(run));
        let run = loop {
            tokio::select! {
                run = &mut run => break run.unwrap().unwrap().into_inner().run.unwrap(),
                decision = decisions.message() => gone += self.carry_out(&decision.unwrap().unwrap()).await,
            }
        };
        assert_eq!(run.outcome, "done", "{run:?}");
        assert_eq!(gone, plan.evictions.len(), "what was planned is what was done");
        gone
    }

    /// What may never be chosen, known from the outside.
    fn check(&self, name: &str) {
        let (_, last_access_ms) = self.disk.blobs[name];
        assert!(self.now_ms() - last_access_ms >= KEEP_DAYS * DAY_MS, "{name} was just asked for");
        assert!(!self.pinned.contains(name), "{name} is pinned");
        let package: u32 = name[1..4].parse().unwrap();
        assert_ne!(package % 40, 7, "{name} can't be had again");
    }

    async fn carry_out(&mut self, decision: &Decision) -> usize {
        let before = self.disk.blobs.len();
        if let Some(Action::Evict(order)) = &decision.action {
            let name = self.disk.blobs.keys().find(|name| key(name) == order.blake2b).unwrap().clone();
            self.check(&name);
            self.disk.blobs.remove(&name);
        }
        let request = AcknowledgeDecisionRequest {
            replica_id: "r1".to_owned(),
            decision_id: decision.id.clone(),
            outcome: DecisionOutcome::Done.into(),
            ..AcknowledgeDecisionRequest::default()
        };
        self.rig.client().acknowledge_decision(request).await.unwrap();
        before - self.disk.blobs.len()
    }
}

#[tokio::test]
async fn seven_boxes_live_for_thirty_days_on_one_disk() {
    let rig = Rig::start().await;
    rig.register("r1").await;
    let mut farm = Farm {
        rig,
        random: Random(7),
        disk: Disk { capacity_bytes: 4_000_000_000, ..Disk::default() },
        versions: vec![1; PACKAGES as usize],
        have: BTreeSet::new(),
        sizes: BTreeMap::new(),
        asked_for: BTreeSet::new(),
        upstream_bytes: 0,
        reports: 0,
        pinned: BTreeSet::from([file(3, 1), file(11, 1)]),
    };
    for name in farm.pinned.clone() {
        farm.rig.admin().pin(PinRequest { name, note: "for db1".to_owned() }).await.unwrap();
    }
    let request = WatchDecisionsRequest { replica_id: "r1".to_owned() };
    let mut decisions = within(farm.rig.client().watch_decisions(request)).await.unwrap().into_inner();
    let mut gone = 0;
    for day in 0..DAYS {
        farm.publish(u64::from(day) + 1).await;
        farm.boxes_fetch().await;
        farm.rig.clock.advance_ms(DAY_MS / 2);
        println!("night {}: {} MB used", day + 1, farm.disk.used_bytes() / 1_000_000);
        gone += farm.night(&mut decisions).await;
        farm.rig.clock.advance_ms(DAY_MS / 2);
    }
    assert!(gone > 20, "{gone} files went in all: the disk was never short");
    for name in &farm.pinned {
        assert!(farm.disk.blobs.contains_key(name) || !farm.asked_for.contains(name), "{name} is pinned");
    }
    let unique: u64 = farm.asked_for.iter().map(|name| farm.sizes[name]).sum();
    let (found, allowed) = (farm.upstream_bytes, unique / 50);
    println!("{gone} files went; upstream {found} bytes, unique {unique}");
    assert!(found.abs_diff(unique) <= allowed, "{found} bytes from upstream for {unique} unique ones");
    let status = farm.rig.status().await;
    let (ever, thirty_days) = (status.savings.unwrap(), status.thirty_days.unwrap());
    assert_eq!(ever.bytes_fetched, found, "the farm's own count");
    assert!(
        thirty_days.hits > 0 && thirty_days.bytes_served > 2 * thirty_days.bytes_fetched,
        "{thirty_days:?}"
    );
    assert!(farm.now_ms() > START_MS + i64::from(DAYS - 1) * DAY_MS);
}
