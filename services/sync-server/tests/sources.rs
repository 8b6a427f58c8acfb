//! What a source directory may do to us: nothing reaches a box, the reason names the path, and nothing needs
//! cleaning by hand. And what an operator may do about a tree that turned out bad.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, which says what it skips")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rookery_proto::v1;
use rookery_proto::v1::tree_client::TreeClient;
use service_kit::Kit;
use service_kit::config::HumanDuration;
use sync_server::{Config, Looked, ModuleConfig, Running, VerifyMode};
use tokio::time::timeout;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_mins(1);

struct Scene {
    directory: tempfile::TempDir,
    kit: Kit,
    running: Running,
}

impl Scene {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_tree(&directory.path().join("tree"), 3);
        Self::start_in(directory).await
    }

    async fn start_in(directory: tempfile::TempDir) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            listen: any,
            grpc: any,
            state_dir: directory.path().join("state"),
            modules: vec![ModuleConfig {
                verify: VerifyMode::None,
                poll: Some(HumanDuration(Duration::from_hours(1))),
                ..ModuleConfig::of_dir("m", &directory.path().join("tree"))
            }],
            ..Config::default()
        };
        let kit = Kit::default();
        let running = sync_server::start(config, &kit).await.unwrap();
        let mut live = running.modules.get("m").unwrap().watch();
        timeout(DEADLINE, live.wait_for(Option::is_some)).await.unwrap().unwrap();
        Self { directory, kit, running }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn live(&self) -> u64 {
        self.running.modules.get("m").unwrap().live().unwrap().number()
    }

    async fn publish(&self, allow_older: bool) -> Result<Looked, String> {
        timeout(DEADLINE, self.running.modules.get("m").unwrap().publish(allow_older)).await.unwrap()
    }

    async fn client(&self) -> TreeClient<Channel> {
        TreeClient::connect(format!("http://{}", self.running.grpc_addr)).await.unwrap()
    }

    async fn generations(&self) -> Vec<v1::KeptGeneration> {
        let request = v1::ListGenerationsRequest { module: "m".to_owned() };
        self.client().await.list_generations(request).await.unwrap().into_inner().generations
    }

    async fn rollback(&self, to: u64) -> Result<v1::RollbackResponse, tonic::Status> {
        let request = v1::RollbackRequest { module: "m".to_owned(), to };
        self.client().await.rollback(request).await.map(tonic::Response::into_inner)
    }

    /// Publishing fails with a reason that names this, what was live stays, and once `mend` is done it goes on.
    async fn assert_refused(&self, expected: &str, mend: impl FnOnce()) {
        let before = self.live();
        let error = self.publish(false).await.unwrap_err();
        assert!(error.contains(expected), "no {expected:?} in {error}");
        assert_eq!(self.live(), before);
        mend();
        self.publish(false).await.unwrap();
    }

    async fn stop(self) -> tempfile::TempDir {
        timeout(DEADLINE, self.kit.tasks.finish()).await.unwrap();
        self.directory
    }
}

fn stamp(second: u32) -> String {
    format!("Fri, 21 Aug 2026 17:31:{second:02} +0000\n")
}

fn write_tree(root: &Path, second: u32) {
    fs::create_dir_all(root.join("metadata")).unwrap();
    fs::create_dir_all(root.join("app-misc/p")).unwrap();
    fs::write(root.join("app-misc/p/p-1.ebuild"), format!("EAPI=8 # {second}\n")).unwrap();
    fs::write(root.join("metadata/timestamp.chk"), stamp(second)).unwrap();
}

/// What a box gets with the stock rsync.
fn pull(scene: &Scene) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    pull_into(scene, copy.path());
    copy
}

/// Brings a box's copy up to date with the stock rsync, which passes over files of the same size and second.
fn pull_into(scene: &Scene, copy: &Path) {
    let url = format!("rsync://{}/m/", scene.running.rsync_addr);
    let status = Command::new("rsync").args(["-rlpt", "--delete", &url]).arg(copy).status().unwrap();
    assert!(status.success());
}

/// Sets it when dropped: whoever waits for it ends also when the test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file system of 2 MiB; `None`, with a reason on standard output, where none can be made.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => println!("skipped: mount: {error}"),
        }
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there does not keep it from going.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_or_empty_changes_nothing() {
    let scene = Scene::start().await;
    let (tree, away) = (scene.tree(), scene.directory.path().join("away"));
    fs::rename(&tree, &away).unwrap();
    let back = || fs::rename(&away, &tree).unwrap();
    scene.assert_refused(tree.to_str().unwrap(), back).await;
    fs::rename(&tree, &away).unwrap();
    fs::create_dir(&tree).unwrap();
    let back = || {
        fs::remove_dir(&tree).unwrap();
        fs::rename(&away, &tree).unwrap();
    };
    scene.assert_refused("the tree: empty", back).await;
    assert_eq!(scene.live(), 1);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_packing_keeps_what_is_live_and_needs_no_cleaning() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let Some(disk) = SmallDisk::mount(&state) else { return };
    write_tree(&directory.path().join("tree"), 3);
    let scene = Scene::start_in(directory).await;
    let large = scene.tree().join("app-misc/p/large");
    fs::write(&large, vec![7; 3 << 20]).unwrap();
    for _ in 0..2 {
        let error = scene.publish(false).await.unwrap_err();
        assert!(error.contains("No space left") && error.contains("m/temporary/"), "{error}");
        assert_eq!(scene.live(), 1);
        assert_eq!(fs::read_dir(state.join("m/temporary")).unwrap().count(), 0);
        assert_eq!(
            fs::read(pull(&scene).path().join("app-misc/p/p-1.ebuild")).unwrap(),
            b"EAPI=8 # 3\n",
            "what is live is served"
        );
    }
    // A restart with the disk as it is, then a tree that fits, once the look of the start is over.
    let scene = Scene::start_in(scene.stop().await).await;
    scene.publish(false).await.unwrap_err();
    assert_eq!(scene.live(), 1);
    fs::write(&large, vec![7; 1 << 20]).unwrap();
    assert!(scene.publish(false).await.unwrap().changed);
    assert_eq!(fs::read(pull(&scene).path().join("app-misc/p/large")).unwrap(), vec![7; 1 << 20]);
    let directory = scene.stop().await;
    drop(disk);
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_gets_what_changed_within_the_second_of_its_copy() {
    let scene = Scene::start().await;
    let ebuild = scene.tree().join("app-misc/p/p-1.ebuild");
    let change = |octets: &str| {
        fs::write(&ebuild, octets).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        fs::File::options().append(true).open(&ebuild).unwrap().set_modified(time).unwrap();
    };
    let copy = tempfile::tempdir().unwrap();
    let boxes = || {
        pull_into(&scene, copy.path());
        fs::read_to_string(copy.path().join("app-misc/p/p-1.ebuild")).unwrap()
    };
    for octets in ["one", "two", "six"] {
        change(octets);
        assert!(scene.publish(false).await.unwrap().changed);
        assert_eq!(boxes(), octets);
        assert!(!scene.publish(false).await.unwrap().changed, "that was all");
    }
    scene.rollback(0).await.unwrap();
    assert_eq!(boxes(), "two");
    // The source goes on where it was, and a box that passed over the rollback gets that, too.
    fs::write(scene.tree().join("metadata/timestamp.chk"), stamp(9)).unwrap();
    assert!(scene.publish(false).await.unwrap().changed);
    assert_eq!(boxes(), "six");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_the_tree_are_refused_and_others_are_not() {
    let scene = Scene::start().await;
    let tree = scene.tree();
    for target in ["/etc/passwd", "../../../x", "../../p/../../x"] {
        let link = tree.join("app-misc/p/link");
        symlink(target, &link).unwrap();
        scene.assert_refused("app-misc/p/link", || fs::remove_file(&link).unwrap()).await;
    }
    symlink("../p/p-1.ebuild", tree.join("app-misc/p/link")).unwrap();
    symlink("../app-misc/none", tree.join("metadata/dangling")).unwrap();
    assert!(scene.publish(false).await.unwrap().changed);
    let copy = pull(&scene);
    assert_eq!(fs::read_link(copy.path().join("app-misc/p/link")).unwrap(), Path::new("../p/p-1.ebuild"));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_octets_and_long_paths_are_served_as_they_are() {
    let scene = Scene::start().await;
    let odd = Path::new(OsStr::from_bytes(b"app-misc/p/\xff\xfe name\n1"));
    // No file system here has names of more than 255 octets; paths of more than 300 are no trouble.
    let deep = Path::new("app-misc").join("d".repeat(255)).join("e".repeat(255));
    fs::write(scene.tree().join(odd), "odd").unwrap();
    fs::create_dir_all(scene.tree().join(deep.parent().unwrap())).unwrap();
    fs::write(scene.tree().join(&deep), "deep").unwrap();
    assert!(scene.publish(false).await.unwrap().changed);
    let copy = pull(&scene);
    assert_eq!(fs::read(copy.path().join(odd)).unwrap(), b"odd");
    assert_eq!(fs::read(copy.path().join(&deep)).unwrap(), b"deep");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_never_stops_growing_is_never_half_published() {
    use std::io::Write as _;
    let scene = Scene::start().await;
    let path = scene.tree().join("app-misc/p/growing");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Ended(&done);
        scope.spawn(|| {
            let mut file = fs::File::create(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(&[7; 1000]).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while !path.exists() {
                    tokio::task::yield_now().await;
                }
                // On a busy machine the writer may not come to write for as long as a look takes.
                let refused = async {
                    loop {
                        if let Err(error) = scene.publish(false).await {
                            break error;
                        }
                    }
                };
                let error = timeout(DEADLINE, refused).await.unwrap();
                assert!(error.contains("growing: changed while it was read"), "{error}");
            });
            drop(ended);
        });
    });
    scene.publish(false).await.unwrap();
    let copy = pull(&scene);
    assert_eq!(fs::read(copy.path().join("app-misc/p/growing")).unwrap(), fs::read(&path).unwrap());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tree_is_refused_unless_the_operator_says_so() {
    let scene = Scene::start().await;
    write_tree(&scene.tree(), 1);
    let error = scene.publish(false).await.unwrap_err();
    assert!(error.contains("timestamp.chk") && error.contains("--allow-older"), "{error}");
    assert_eq!(scene.live(), 1);
    assert!(scene.publish(true).await.unwrap().changed);
    assert_eq!(fs::read_to_string(pull(&scene).path().join("metadata/timestamp.chk")).unwrap(), stamp(1));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_newer_for_boxes_and_lasts_until_the_source_has_a_newer_tree() {
    let scene = Scene::start().await;
    for second in [4, 5] {
        write_tree(&scene.tree(), second);
        scene.publish(false).await.unwrap();
    }
    let rolled = scene.rollback(0).await.unwrap();
    assert_eq!((rolled.generation.unwrap().number, rolled.copy_of), (4, 2));
    let copy = pull(&scene);
    let read = |path: &str| fs::read_to_string(copy.path().join(path)).unwrap();
    assert_eq!(read("app-misc/p/p-1.ebuild"), "EAPI=8 # 4\n");
    assert_eq!(read("metadata/timestamp.chk"), stamp(6), "newer than what boxes may have");

    // What the source has is what was bad: it is held back, also by a restart.
    let looked = scene.publish(false).await.unwrap();
    assert!(!looked.changed && looked.note.contains("rolled back from generation 3 to 2"), "{}", looked.note);
    let scene = Scene::start_in(scene.stop().await).await;
    assert!(!scene.publish(false).await.unwrap().changed);
    assert_eq!(scene.live(), 4);
    let listed = scene.client().await.list_modules(v1::ListModulesRequest {}).await.unwrap().into_inner();
    assert!(listed.modules[0].hold.contains("rolled back"), "{}", listed.modules[0].hold);
    let kept = scene.generations().await;
    let facts: Vec<_> = kept
        .iter()
        .map(|kept| (kept.generation.as_ref().unwrap().number, kept.live, kept.copy_of, kept.verify.as_str()))
        .collect();
    assert_eq!(facts, [(4, true, 2, "none"), (3, false, 0, "none"), (2, false, 0, "none")]);

    // Further back, to what is not kept, to what is served already.
    assert_eq!(scene.rollback(3).await.unwrap().copy_of, 3, "and forth");
    assert!(scene.rollback(3).await.unwrap_err().message().contains("is what is served"));
    assert!(scene.rollback(77).await.unwrap_err().message().contains("kept are"));
    assert!(!scene.publish(false).await.unwrap().changed);

    write_tree(&scene.tree(), 9);
    let looked = scene.publish(false).await.unwrap();
    assert!(looked.changed && looked.note.contains("ends the rollback"), "{}", looked.note);
    assert_eq!(fs::read_to_string(pull(&scene).path().join("metadata/timestamp.chk")).unwrap(), stamp(9));
    assert_eq!(
        scene.client().await.list_modules(v1::ListModulesRequest {}).await.unwrap().into_inner().modules[0]
            .hold,
        ""
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_served_from_a_generation_is_known() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let scene = Scene::start().await;
    let mut socket = std::net::TcpStream::connect(scene.running.rsync_addr).unwrap();
    socket.write_all(b"@RSYNCD: 31.0 md5\nm\n").unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
    while answers.next().unwrap().unwrap() != "@RSYNCD: OK" {}
    let kept = scene.generations().await;
    let holders = &kept[0].holders;
    assert_eq!(holders.len(), 1);
    assert_eq!((holders[0].host.as_str(), holders[0].connections), ("127.0.0.1", 1));
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    drop((socket, answers));
    timeout(DEADLINE, async { while !scene.generations().await[0].holders.is_empty() {} }).await.unwrap();
    scene.stop().await;
}
