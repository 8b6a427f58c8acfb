//! Pulls that end in the middle, and what the next one makes of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rand::RngCore as _;

use crate::daemon::{Daemon, Habits, free_port, stamp, write_tree};
use crate::scene::{Scene, eventually, pulled};
use crate::{LONG, SHORT};

/// A tree that takes some seconds to come.
fn slow_daemon() -> (Daemon, Vec<u8>) {
    let daemon = Daemon::start(&Habits { rate: Some(2048), ..Habits::default() });
    write_tree(&daemon.tree(), 3, &["one"]);
    let mut large = vec![0; 8 << 20];
    rand::rng().fill_bytes(&mut large);
    fs::write(daemon.tree().join("app-misc/p/large"), &large).unwrap();
    (daemon, large)
}

/// Whether a pull has written a part of the large file.
fn is_half(staging: &Path) -> bool {
    let Ok(entries) = fs::read_dir(staging.join("app-misc/p")) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with(".large.")
            && entry.metadata().is_ok_and(|found| (1..8 << 20).contains(&found.len()))
    })
}

/// The processes whose parent is this one and whose command is `rsync` without `--daemon`.
fn own_rsyncs() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let status = read("status");
        let is_child = status.lines().any(|line| line == format!("PPid:\t{}", std::process::id()));
        let line = read("cmdline");
        if is_child && line.starts_with("rsync\0") && !line.contains("--daemon") {
            found.push(id);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsync_that_is_killed_leaves_nothing_that_is_taken_for_a_tree() {
    let (daemon, large) = slow_daemon();
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], SHORT)]).await;
    eventually("half of the large file", || is_half(&scene.staging())).await;
    // Other tests of this process have rsyncs too: the one that pulls from here.
    let port = daemon.url().split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    let ours = |id: &String| {
        fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains(&port))
    };
    let victim = own_rsyncs().into_iter().find(ours).unwrap();
    assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
    scene.failure("signal: 9").await;
    assert!(scene.module("m").live().is_none());
    let generation = scene.generation(1).await;
    let id = generation.lookup(b"app-misc/p/large").unwrap();
    assert!(generation.read(id, 9 << 20).unwrap() == large);
    assert_eq!(generation.summary().files, 4, "no temporary file");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_pull_does_not_wait_for_it() {
    let (daemon, _) = slow_daemon();
    let scene = Scene::start(vec![pulled("m", &[daemon.url()], LONG)]).await;
    eventually("half of the large file", || is_half(&scene.staging())).await;
    let directory = scene.stop().await;
    // The tree is not whole; the upstream is left alone for the first pause, and everybody is told.
    let scene = Scene::start_in(directory, vec![pulled("m", &[daemon.url()], LONG)]).await;
    let error = scene.failure("broken off").await;
    assert!(error.contains("to be asked again in"), "{error}");
    assert_eq!(daemon.pulls(), 1);
    scene.stop().await;
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start_process(config: &Path) -> Killed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sync-server"));
    Killed(command.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// What a box gets as `metadata/timestamp.chk`, if anything.
fn probe(port: u16, to: &Path) -> Option<String> {
    let mut command = Command::new("rsync");
    command.arg("-q").arg(format!("rsync://127.0.0.1:{port}/m/metadata/timestamp.chk")).arg(to);
    let succeeded = command.stderr(Stdio::null()).status().unwrap().success();
    succeeded.then(|| fs::read_to_string(to).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_in_the_middle_of_a_pull_starts_right_again() {
    let (daemon, large) = slow_daemon();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let port = free_port();
    let config = format!(
        "[sync]\nlisten = \"127.0.0.1:{port}\"\ngrpc = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n\
         [[sync.modules]]\nname = \"m\"\nsource = {{ rsync = \"{}\" }}\nverify = \"consistent\"\npoll = \"1s\"\n",
        at("state").display(),
        daemon.url()
    );
    fs::write(at("rookery.toml"), config).unwrap();
    let staging = at("state/.upstream/m/tree");
    for _ in 0..2 {
        let process = start_process(&at("rookery.toml"));
        eventually("half of the large file", || is_half(&staging)).await;
        // Its rsync lives on and writes to staging; the next process waits for its end.
        drop(process);
    }
    let _process = start_process(&at("rookery.toml"));
    eventually("a generation", || probe(port, &at("probe")) == Some(stamp(3))).await;
    let status = Command::new("rsync")
        .args(["-r", &format!("rsync://127.0.0.1:{port}/m/")])
        .arg(at("copy"))
        .status()
        .unwrap();
    assert!(status.success());
    assert!(fs::read(at("copy/app-misc/p/large")).unwrap() == large);
    assert_eq!(fs::read_dir(at("copy/app-misc/p")).unwrap().count(), 2, "no temporary file");
}
