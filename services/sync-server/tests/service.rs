//! The whole service over a real gRPC channel: what it publishes, what it refuses, what it tells.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rookery_proto::v1;
use rookery_proto::v1::tree_client::TreeClient;
use service_kit::Kit;
use service_kit::config::HumanDuration;
use sync_server::{Config, ModuleConfig, Running, VerifyMode};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

type Spoil = fn(&std::path::Path);

const DEADLINE: Duration = Duration::from_secs(30);

struct Scene {
    directory: tempfile::TempDir,
    kit: Kit,
    running: Running,
    client: TreeClient<Channel>,
}

impl Scene {
    /// Modules `a` and `b`, of which only `a` has a tree yet.
    async fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), true, Duration::from_hours(1)).await
    }

    async fn in_directory(directory: tempfile::TempDir, with_tree: bool, poll: Duration) -> Self {
        if with_tree {
            write_tree(&directory.path().join("a"), 3, &["one", "two"]);
        }
        let module = |name: &str| ModuleConfig {
            comment: format!("module {name}"),
            verify: VerifyMode::Consistent,
            poll: Some(HumanDuration(poll)),
            keep: 2,
            ..ModuleConfig::of_dir(name, &directory.path().join(name))
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: any,
            grpc: any,
            state_dir: directory.path().join("state"),
            modules: vec![module("a"), module("b")],
            ..Config::default()
        };
        let kit = Kit::default();
        let running = sync_server::start(config, &kit).await.unwrap();
        let client = TreeClient::connect(format!("http://{}", running.grpc_addr)).await.unwrap();
        Self { directory, kit, running, client }
    }

    fn tree(&self, module: &str) -> PathBuf {
        self.directory.path().join(module)
    }

    async fn watch(&self) -> Streaming<v1::Generation> {
        self.client.clone().watch_generations(v1::WatchGenerationsRequest {}).await.unwrap().into_inner()
    }

    async fn publish(&self, module: &str) -> Result<v1::PublishResponse, tonic::Status> {
        let request = v1::PublishRequest { module: module.to_owned(), allow_older: false };
        timeout(DEADLINE, self.client.clone().publish(request))
            .await
            .unwrap()
            .map(tonic::Response::into_inner)
    }

    async fn distfiles(
        &self,
        generation: u64,
        since: u64,
    ) -> Result<Vec<v1::DistfileChanges>, tonic::Status> {
        let request =
            v1::StreamDistfilesRequest { module: "a".to_owned(), generation, since_generation: since };
        let mut stream = self.client.clone().stream_distfiles(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(changes) = timeout(DEADLINE, stream.message()).await.unwrap()? {
            all.push(changes);
        }
        Ok(all)
    }

    async fn module(&self, name: &str) -> v1::Module {
        let answer = self.client.clone().list_modules(v1::ListModulesRequest {}).await.unwrap().into_inner();
        answer.modules.into_iter().find(|module| module.name == name).unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        timeout(DEADLINE, self.kit.tasks.finish()).await.unwrap();
        assert_eq!(self.kit.tasks.crash_so_far(), None);
        self.directory
    }
}

/// A tree whose one package has these distfiles. A later `second` is a newer tree.
fn write_tree(root: &std::path::Path, second: u32, distfiles: &[&str]) {
    let write = |path: &str, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let digest = "ab".repeat(64);
    let lines: Vec<_> = distfiles.iter().map(|name| format!("DIST {name} 5 BLAKE2B {digest}\n")).collect();
    let sources: Vec<_> = distfiles.iter().map(|name| format!("https://x.example/{name}")).collect();
    write("app-misc/p/Manifest", lines.concat());
    write("metadata/md5-cache/app-misc/p-1", format!("EAPI=8\nSRC_URI={}\n", sources.join(" ")));
    write("metadata/timestamp.chk", format!("Fri, 21 Aug 2026 17:31:{second:02} +0000\n"));
}

async fn next(watch: &mut Streaming<v1::Generation>) -> v1::Generation {
    timeout(DEADLINE, watch.message()).await.unwrap().unwrap().unwrap()
}

fn names(changes: &[v1::DistfileChanges]) -> (bool, Vec<&str>, Vec<&str>) {
    let upserts = changes.iter().flat_map(|changes| &changes.upserts).map(|distfile| distfile.name.as_str());
    let removes = changes.iter().flat_map(|changes| &changes.removes).map(String::as_str);
    (changes.first().is_some_and(|first| first.reset), upserts.collect(), removes.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_are_published_watched_and_streamed_as_differences() {
    let scene = Scene::new().await;
    let mut watch = scene.watch().await;
    let first = next(&mut watch).await;
    assert_eq!((first.module.as_str(), first.number, first.distfiles), ("a", 1, 2));
    assert_eq!(first.timestamp_ms, 1_787_333_463_000);
    assert_eq!((first.files, first.files_added), (3, 3));
    assert!(!scene.publish("a").await.unwrap().changed);

    write_tree(&scene.tree("a"), 4, &["two", "three"]);
    let published = scene.publish("a").await.unwrap();
    assert!(published.changed);
    assert_eq!(next(&mut watch).await, published.generation.unwrap());

    assert_eq!(names(&scene.distfiles(2, 1).await.unwrap()), (false, vec!["three"], vec!["one"]));
    assert_eq!(names(&scene.distfiles(2, 0).await.unwrap()), (true, vec!["three", "two"], vec![]));
    assert_eq!(names(&scene.distfiles(2, 99).await.unwrap()), (true, vec!["three", "two"], vec![]));
    assert!(scene.distfiles(2, 2).await.unwrap().is_empty());
    assert_eq!(scene.distfiles(3, 0).await.unwrap_err().code(), Code::FailedPrecondition);
    let distfile = &scene.distfiles(2, 1).await.unwrap()[0].upserts[0];
    assert_eq!(distfile.sources, ["https://x.example/three"]);
    assert_eq!(distfile.packages, ["app-misc/p"]);
    assert_eq!((distfile.size_bytes, distfile.digests[0].algorithm.as_str()), (5, "BLAKE2B"));

    // Only two are kept: differences from the first are no longer known.
    write_tree(&scene.tree("a"), 5, &["two"]);
    scene.publish("a").await.unwrap();
    assert_eq!(names(&scene.distfiles(3, 2).await.unwrap()), (false, vec![], vec!["three"]));
    assert_eq!(names(&scene.distfiles(3, 1).await.unwrap()), (true, vec!["two"], vec![]));
    assert_eq!(scene.distfiles(1, 0).await.unwrap_err().code(), Code::FailedPrecondition);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_source_leaves_the_last_good_generation_live_and_says_why() {
    let scene = Scene::new().await;
    let mut watch = scene.watch().await;
    assert_eq!(next(&mut watch).await.number, 1);
    let bad: [(&str, Spoil); 5] = [
        ("app-misc/p/Manifest:1: ", |root| fs::write(root.join("app-misc/p/Manifest"), "rubbish\n").unwrap()),
        ("no DIST line for one", |root| fs::write(root.join("app-misc/p/Manifest"), "").unwrap()),
        ("metadata/timestamp.chk: missing", |root| {
            fs::remove_file(root.join("metadata/timestamp.chk")).unwrap();
        }),
        ("17:31:01 +0000 is older", |root| write_tree(root, 1, &["one"])),
        ("open: No such file", |root| fs::remove_dir_all(root).unwrap()),
    ];
    for (expected, spoil) in bad {
        write_tree(&scene.tree("a"), 3, &["one", "two"]);
        spoil(&scene.tree("a"));
        let refusal = scene.publish("a").await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert!(refusal.message().contains(expected), "{}, but expected {expected}", refusal.message());
        let module = scene.module("a").await;
        assert_eq!(module.last_error, refusal.message());
        assert_eq!(module.live.unwrap().number, 1);
        assert!(module.last_attempt_ms > 0);
    }
    write_tree(&scene.tree("a"), 3, &["one"]);
    assert_eq!(scene.publish("a").await.unwrap().generation.unwrap().number, 2);
    assert_eq!(scene.module("a").await.last_error, "");
    assert_eq!(scene.publish("none").await.unwrap_err().code(), Code::NotFound);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_means_that_every_module_is_served() {
    let scene = Scene::new().await;
    let mut watch = scene.watch().await;
    assert_eq!(next(&mut watch).await.module, "a");
    scene.publish("b").await.unwrap_err();
    let unready = scene.kit.readiness.check().unwrap_err();
    assert_eq!(unready.len(), 1);
    assert_eq!(unready[0].0, "module b");
    assert!(unready[0].1.contains("No such file"), "{}", unready[0].1);
    write_tree(&scene.tree("b"), 3, &["one"]);
    scene.publish("b").await.unwrap();
    timeout(DEADLINE, scene.kit.readiness.wait()).await.unwrap();
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_what_is_stored_although_the_source_is_gone() {
    let scene = Scene::new().await;
    let mut watch = scene.watch().await;
    let first = next(&mut watch).await;
    let directory = scene.stop().await;
    fs::remove_dir_all(directory.path().join("a")).unwrap();
    let scene = Scene::in_directory(directory, false, Duration::from_hours(1)).await;
    assert_eq!(scene.running.modules.get("a").unwrap().live().unwrap().number(), 1);
    assert_eq!(next(&mut scene.watch().await).await, first);
    assert_eq!(names(&scene.distfiles(1, 0).await.unwrap()).1, ["one", "two"]);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_finds_what_nobody_announced() {
    let scene = Scene::in_directory(tempfile::tempdir().unwrap(), true, Duration::from_millis(20)).await;
    let mut watch = scene.watch().await;
    assert_eq!(next(&mut watch).await.number, 1);
    // Written aside and renamed, so that no poll meets half of it.
    write_tree(&scene.tree("new"), 4, &["three"]);
    fs::rename(scene.tree("a"), scene.tree("old")).unwrap();
    fs::rename(scene.tree("new"), scene.tree("a")).unwrap();
    let second = next(&mut watch).await;
    assert_eq!((second.number, second.distfiles), (2, 1));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_contents_are_mended_from_the_source_at_the_next_start() {
    let scene = Scene::new().await;
    assert_eq!(next(&mut scene.watch().await).await.number, 1);
    let directory = scene.stop().await;
    let pack = directory.path().join("state/a/packs/00000001.pack");
    let mut octets = fs::read(&pack).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    fs::write(&pack, octets).unwrap();
    let scene = Scene::in_directory(directory, false, Duration::from_hours(1)).await;
    let mut watch = scene.watch().await;
    loop {
        let generation = next(&mut watch).await;
        if generation.number == 2 {
            assert_eq!((generation.files, generation.files_changed), (3, 0));
            break;
        }
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_uses_its_masters_mirrors() {
    let directory = tempfile::tempdir().unwrap();
    write_tree(&directory.path().join("a"), 3, &["one"]);
    fs::create_dir_all(directory.path().join("a/profiles")).unwrap();
    fs::write(directory.path().join("a/profiles/repo_name"), "gentoo\n").unwrap();
    fs::write(directory.path().join("a/profiles/thirdpartymirrors"), "up https://up.example/\n").unwrap();
    let overlay = directory.path().join("b");
    write_tree(&overlay, 3, &["two"]);
    fs::write(overlay.join("metadata/layout.conf"), "masters = gentoo\n").unwrap();
    fs::write(overlay.join("metadata/md5-cache/app-misc/p-1"), "EAPI=8\nSRC_URI=mirror://up/two\n").unwrap();
    let scene = Scene::in_directory(directory, false, Duration::from_hours(1)).await;
    let mut watch = scene.watch().await;
    let mut seen = [next(&mut watch).await, next(&mut watch).await].map(|generation| generation.module);
    seen.sort();
    assert_eq!(seen, ["a", "b"]);
    let catalogue = scene.running.modules.get("b").unwrap().store().catalogue(1).unwrap();
    assert_eq!(catalogue.distfiles.values().next().unwrap().sources, ["https://up.example/two"]);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_modules_with_the_same_files_store_them_once() {
    let scene = Scene::new().await;
    next(&mut scene.watch().await).await;
    write_tree(&scene.tree("b"), 3, &["one", "two"]);
    fs::write(scene.tree("b").join("own"), "of b alone").unwrap();
    scene.publish("b").await.unwrap();
    let packs = |module: &str| {
        let packs = fs::read_dir(scene.directory.path().join("state").join(module).join("packs")).unwrap();
        packs.map(|pack| pack.unwrap().metadata().unwrap()).collect::<Vec<_>>()
    };
    let (of_a, of_b) = (packs("a"), packs("b"));
    assert_eq!((of_a.len(), of_b.len()), (1, 2));
    assert!(of_b.iter().any(|pack| pack.ino() == of_a[0].ino()), "the pack of a has a name at b");
    assert!(of_b.iter().any(|pack| pack.len() < 100), "and b's own holds what a does not have");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_cannot_share_a_state_directory() {
    let scene = Scene::new().await;
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        grpc: "127.0.0.1:0".parse().unwrap(),
        state_dir: scene.directory.path().join("state"),
        modules: vec![ModuleConfig {
            verify: VerifyMode::None,
            ..ModuleConfig::of_dir("a", &scene.tree("a"))
        }],
        ..Config::default()
    };
    let error = sync_server::start(config, &Kit::default()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error:#}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_tell_when_their_keys_expire() {
    let directory = tempfile::tempdir().unwrap();
    let keys =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/tree-store/tests/signed-tree");
    let module = |name: &str, verify, key: &str| ModuleConfig {
        verify,
        openpgp_key: keys.join(key),
        ..ModuleConfig::of_dir(name, &directory.path().join(name))
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        listen: any,
        grpc: any,
        state_dir: directory.path().join("state"),
        modules: vec![
            module("expired", VerifyMode::Signed, "expired.asc"),
            module("lasting", VerifyMode::Signed, "signer.asc"),
            module("unsigned", VerifyMode::Consistent, "expired.asc"),
        ],
        ..Config::default()
    };
    let kit = Kit::default();
    let running = sync_server::start(config, &kit).await.unwrap();
    let mut client = TreeClient::connect(format!("http://{}", running.grpc_addr)).await.unwrap();
    let modules = client.list_modules(v1::ListModulesRequest {}).await.unwrap().into_inner().modules;
    let told: Vec<_> = modules.iter().map(|module| (module.name.as_str(), module.key_expires_ms)).collect();
    assert_eq!(told, [("expired", 1_580_428_800_000), ("lasting", 0), ("unsigned", 0)]);
    timeout(DEADLINE, kit.tasks.finish()).await.unwrap();
}
