//! A cache directory that is full, read-only or gone: clients get right files all the same, or an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use farm_sim::upstream::{Fault, Gate, Upstream};
use service_kit::Kit;

use crate::replica::{Client, File, Replica, config, know, named, until};

const SMALL: u64 = 40_000;
const LARGE: u64 = 5_000_000;

/// A file system of its own; unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    #[allow(clippy::print_stderr, reason = "whoever runs the tests is to know")]
    /// `None`, which is told, where this can't be done.
    fn make(arguments: &[&str], at: &Path) -> Option<Self> {
        let made = Command::new("mount").args(arguments).arg(at).output();
        let why = match made {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: mounting needs root: {}", why.trim());
        None
    }

    fn tmpfs(megabytes: u32, at: &Path) -> Option<Self> {
        Self::make(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], at)
    }

    /// What is below `at` can't be written any more.
    fn read_only(at: &Path) -> Option<Self> {
        let made = Self::make(&["--bind", at.to_str().unwrap()], at)?;
        let changed = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at).status().unwrap();
        assert!(changed.success());
        Some(made)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the replica may still hold files there.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn a_cache_directory_that_vanished_costs_the_cache_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let files = [File::new("small-1.tar", SMALL), File::new("large-1.tar", LARGE)];
    for file in &files {
        upstream.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &[&files[0], &files[1]]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    for file in &files {
        replica.get(&file.mirror_path()).await.assert_is(file);
        let name = file.name.clone();
        until("it is stored", || named(dir.path()).contains(&name)).await;
    }
    std::fs::remove_dir_all(dir.path().join("r0")).unwrap();
    for file in &files {
        let answer = replica.get(&file.mirror_path()).await;
        answer.assert_is(file);
        assert_eq!(answer.header("cache-status"), Some("rookery; fwd=bypass"), "it passes through, verified");
    }
    assert_eq!(upstream.total().requests, 4);
    replica.stop().await;
    // The next start makes it again.
    know(dir.path(), "gentoo", &[&files[0], &files[1]]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get(&files[0].mirror_path()).await.assert_is(&files[0]);
    until("it is stored", || named(dir.path()) == ["small-1.tar"]).await;
}

#[tokio::test]
async fn a_store_that_became_read_only_still_serves_what_it_has_and_passes_the_rest_through() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let (here, other) = (File::new("here-1.tar", LARGE), File::new("other-1.tar", LARGE));
    for file in [&here, &other] {
        upstream.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &[&here, &other]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get(&here.mirror_path()).await.assert_is(&here);
    until("it is stored", || named(dir.path()) == ["here-1.tar"]).await;
    let parts = ["parts", "blobs", "distfiles", "tmp", "quarantine"];
    let mounts: Vec<Option<Mount>> =
        parts.iter().map(|part| Mount::read_only(&dir.path().join("r0").join(part))).collect();
    if mounts.iter().any(Option::is_none) {
        return;
    }
    let hit = replica.get(&here.mirror_path()).await;
    hit.assert_is(&here);
    assert_eq!(hit.header("cache-status"), Some("rookery; hit"));
    replica.get(&other.mirror_path()).await.assert_is(&other);
    drop(mounts);
    replica.get(&other.mirror_path()).await.assert_is(&other);
    until("it is stored when the disk can be written again", || {
        named(dir.path()) == ["here-1.tar", "other-1.tar"]
    })
    .await;
}

#[tokio::test]
async fn a_read_only_directory_stops_the_start_with_its_key_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::read_only(dir.path()) else { return };
    let error = proxy_cache::start(config(dir.path(), &[]), &Kit::default()).await.unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("proxy.cache_dir") && told.contains("Read-only file system"), "{told}");
}

#[tokio::test]
async fn a_disk_that_fills_up_under_way_breaks_that_download_and_no_file_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::tmpfs(40, dir.path()) else { return };
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("large-2.tar", 20_000_000);
    upstream.put(&file.mirror_path(), file.object());
    let gate = Gate::closed();
    let held = Fault::Gated { after_bytes: 2_000_000, gate: gate.clone() };
    upstream.add_fault_times(&file.mirror_path(), held, 1);
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    let mut client = Client::get(&replica, &file.mirror_path()).await;
    client.head().await;
    client.body_bytes(1_000_000).await;
    let filler = dir.path().join("filler");
    let mut chunk = std::fs::File::create(&filler).unwrap();
    let full = std::io::copy(&mut std::io::repeat(0), &mut chunk).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop(chunk);
    gate.open();
    assert!(!client.rest().await.complete, "a part of a file looked whole");
    // The disk is still full: it can't be stored, and comes all the same.
    let answer = replica.get(&file.mirror_path()).await;
    answer.assert_is(&file);
    assert_eq!(answer.header("cache-status"), Some("rookery; fwd=bypass"));
    assert!(named(dir.path()).is_empty());
    std::fs::remove_file(&filler).unwrap();
    replica.get(&file.mirror_path()).await.assert_is(&file);
    until("it is stored when there is room again", || named(dir.path()) == ["large-2.tar"]).await;
}

#[tokio::test]
async fn a_blob_that_is_cut_off_while_it_is_sent_is_fetched_anew_by_the_next_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    // More than the sockets on the way hold.
    let file = File::new("large-1.tar", 64_000_000);
    upstream.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[&upstream])).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    until("it is stored", || named(dir.path()) == ["large-1.tar"]).await;
    let hex = hex::encode(file.contents.digests().blake2b);
    let blob = dir.path().join("r0/blobs").join(&hex[..2]).join(&hex);
    let mut client = Client::get(&replica, &file.mirror_path()).await;
    assert_eq!(client.head().await.header("cache-status"), Some("rookery; hit"));
    client.body_bytes(1_000_000).await;
    let damaged = std::fs::OpenOptions::new().write(true).open(&blob).unwrap();
    damaged.set_len(40_000_000).unwrap();
    assert!(!client.rest().await.complete, "a part of a file looked whole");
    // As long as before, and of zeros from there on: by its length it is right.
    damaged.set_len(64_000_000).unwrap();
    for _ in 0..2 {
        replica.get(&file.mirror_path()).await.assert_is(&file);
    }
    until("it is stored again", || named(dir.path()) == ["large-1.tar"]).await;
    assert_eq!(replica.get(&file.mirror_path()).await.header("cache-status"), Some("rookery; hit"));
    assert_eq!(upstream.total().requests, 2);
    assert_eq!(std::fs::read_dir(dir.path().join("r0/quarantine")).unwrap().count(), 1);
}
