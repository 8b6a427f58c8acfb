//! Decisions to verify, carried out on a real store.

use std::path::{Path, PathBuf};

use farm_sim::contents::Contents;
use farm_sim::upstream::{Object, Upstream, mirror_path};
use proxy_cache::catalogue::Catalogue;
use proxy_cache::config::{MaintenanceConfig, MirrorUrl};
use rookery_proto::v1;
use rookery_proto::v1::decision::Action;
use service_kit::Kit;

use crate::fake::Fake;
use crate::replica::until;

pub(crate) const NAME: &str = "foo-1.tar.gz";

/// A replica with one distfile in its catalogue, and where it comes from.
pub(crate) struct Rig {
    pub(crate) fake: Fake,
    upstream: Upstream,
    contents: Contents,
    dir: tempfile::TempDir,
    pub(crate) base: String,
    pub(crate) kit: Kit,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kit.tasks.hard().cancel();
        self.kit.tasks.soft().cancel();
    }
}

impl Rig {
    pub(crate) async fn start(restriction: v1::Restriction) -> Self {
        Self::sized(restriction, 100_000).await
    }

    async fn sized(restriction: v1::Restriction, size_bytes: u64) -> Self {
        service_kit::process::install_crypto_provider();
        let (fake, upstream) = (Fake::start(), Upstream::start().await.unwrap());
        let contents = Contents::new(3, NAME, size_bytes);
        upstream.put(&mirror_path(NAME), Object::Generated(contents));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("r0")).unwrap();
        know(dir.path(), &[wire(contents, restriction)]).await;
        let config = proxy_cache::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            cache_dir: dir.path().to_owned(),
            mirrors: vec![MirrorUrl::try_from(upstream.url()).unwrap()],
            maintenance: MaintenanceConfig { endpoint: fake.endpoint() },
            ..proxy_cache::Config::default()
        };
        let kit = Kit::default();
        let running = proxy_cache::start(config, &kit).await.unwrap();
        let base = format!("http://{}", running.http_addr);
        Self { fake, upstream, contents, dir, base, kit }
    }

    async fn get(&self) -> Vec<u8> {
        let answer = reqwest::get(format!("{}/distfiles/{NAME}", self.base)).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.unwrap().to_vec()
    }

    fn blob(&self) -> PathBuf {
        let hex = hex::encode(self.contents.digests().blake2b);
        self.dir.path().join("r0/blobs").join(&hex[..2]).join(hex)
    }

    fn verify(&self, id: &str) {
        let blake2b = self.contents.digests().blake2b.to_vec();
        self.fake.state.send_decision(&v1::Decision {
            id: id.to_owned(),
            action: Some(Action::Verify(v1::VerifyBlob { blake2b })),
            ..v1::Decision::default()
        });
    }

    /// The outcome of a verification, and its words.
    async fn verified(&self, id: &str) -> (v1::DecisionOutcome, String) {
        let find = || {
            let script = self.fake.state.lock();
            script.acknowledged.iter().find(|ack| ack.decision_id == id).cloned()
        };
        until(id, async || {
            // Before the stream is there, nobody hears it.
            if find().is_none() {
                self.verify(id);
            }
            find().is_some()
        })
        .await;
        let ack = find().unwrap();
        (ack.outcome(), ack.detail)
    }
}

fn wire(contents: Contents, restriction: v1::Restriction) -> v1::Distfile {
    let digests = contents.digests();
    let digest = |algorithm: &str, value: [u8; 64]| v1::Digest {
        algorithm: algorithm.to_owned(),
        value: value.to_vec(),
    };
    v1::Distfile {
        name: NAME.to_owned(),
        size_bytes: contents.size_bytes(),
        digests: vec![digest("BLAKE2B", digests.blake2b), digest("SHA512", digests.sha512)],
        restriction: restriction.into(),
        ..v1::Distfile::default()
    }
}

/// Fills the local catalogue, as maintenance would have before.
async fn know(cache_dir: &Path, upserts: &[v1::Distfile]) {
    let catalogue = Catalogue::open(&cache_dir.join("r0/catalogue.db")).await.unwrap();
    let mut step = catalogue.begin("gentoo", 1).await.unwrap();
    let upserts = upserts.to_vec();
    step.apply(&v1::DistfileChanges { reset: true, upserts, removes: Vec::new() }).await.unwrap();
    step.complete(&["gentoo".to_owned()]).await.unwrap();
}

fn flip_byte(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[77] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_blob_is_quarantined_and_fetched_again() {
    let rig = Rig::start(v1::Restriction::None).await;
    assert_eq!(rig.get().await, rig.contents.to_bytes());
    until("the blob is stored", async || rig.blob().exists()).await;
    let (outcome, detail) = rig.verified("sound").await;
    assert_eq!((outcome, detail.as_str()), (v1::DecisionOutcome::Done, "sound"));

    flip_byte(&rig.blob());
    let (outcome, detail) = rig.verified("damaged").await;
    assert_eq!(outcome, v1::DecisionOutcome::Done);
    assert!(detail.contains("quarantine") && detail.contains("fetched again"), "{detail}");
    assert_eq!(std::fs::read(rig.blob()).unwrap(), rig.contents.to_bytes());
    let quarantine = std::fs::read_dir(rig.dir.path().join("r0/quarantine")).unwrap();
    assert_eq!(quarantine.count(), 1);
    assert_eq!(rig.upstream.count_of_path(&mirror_path(NAME)).requests, 2);
    assert_eq!(rig.get().await, rig.contents.to_bytes());
    assert_eq!(rig.upstream.count_of_path(&mirror_path(NAME)).requests, 2, "it is a hit");
    // Maintenance learns of it, whatever it believed between.
    until("a second commit", async || rig.fake.state.lock().commits.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_had_again_is_gone_and_the_reason_is_told() {
    let rig = Rig::start(v1::Restriction::None).await;
    rig.get().await;
    until("the blob is stored", async || rig.blob().exists()).await;
    flip_byte(&rig.blob());
    rig.upstream.remove(&mirror_path(NAME));
    let (outcome, detail) = rig.verified("damaged").await;
    assert_eq!(outcome, v1::DecisionOutcome::Damaged);
    assert!(detail.contains("not fetched again"), "{detail}");
    assert!(!rig.blob().exists());
    // What lies in quarantine is told as that, until it is evicted.
    let blake2b = rig.contents.digests().blake2b.to_vec();
    let last = || rig.fake.state.lock().inventories.last().map(|last| last.blobs.clone()).unwrap_or_default();
    until("the inventory", async || last().iter().any(|one| one.quarantined && one.blake2b == blake2b)).await;
    assert_eq!((last().len(), last()[0].size_bytes), (1, 100_000));
    let evict = v1::EvictBlob { blake2b: blake2b.clone(), quarantined: true, ..v1::EvictBlob::default() };
    rig.fake.state.send_decision(&v1::Decision {
        id: "evict".to_owned(),
        action: Some(Action::Evict(evict)),
        ..v1::Decision::default()
    });
    until("the eviction", async || {
        rig.fake.state.lock().acknowledged.iter().any(|one| one.decision_id == "evict")
    })
    .await;
    assert_eq!(std::fs::read_dir(rig.dir.path().join("r0/quarantine")).unwrap().count(), 0);
    // Delivered again: the same answer, nothing is done twice.
    let answers = rig.fake.state.lock().acknowledged.len();
    rig.verify("damaged");
    until("the answer again", async || rig.fake.state.lock().acknowledged.len() > answers).await;
    assert_eq!(rig.verified("again").await.0, v1::DecisionOutcome::Gone, "it is not here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_under_a_client_is_told_without_a_decision() {
    // More than the sockets on the way hold.
    let rig = Rig::sized(v1::Restriction::None, 64_000_000).await;
    rig.get().await;
    until("the blob is stored", async || rig.blob().exists()).await;
    rig.upstream.remove(&mirror_path(NAME));
    let mut answer = reqwest::get(format!("{}/distfiles/{NAME}", rig.base)).await.unwrap();
    answer.chunk().await.unwrap();
    let damaged = std::fs::OpenOptions::new().write(true).open(rig.blob()).unwrap();
    damaged.set_len(40_000_000).unwrap();
    answer.bytes().await.unwrap_err();
    let blake2b = rig.contents.digests().blake2b;
    let is_told = || {
        let script = rig.fake.state.lock();
        let last = script.inventories.last().map(|last| last.blobs.clone()).unwrap_or_default();
        last.iter().any(|one| one.quarantined && one.blake2b == blake2b)
    };
    until("the inventory", async || is_told()).await;
    assert!(!rig.blob().exists());
    assert_eq!(rig.verified("later").await.0, v1::DecisionOutcome::Gone);
}
