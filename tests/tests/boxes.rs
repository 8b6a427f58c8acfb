//! The simulated boxes against the stock rsync daemon: they must be right about others before they judge
//! us.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::Result;
use farm_sim::boxes::{BoxSpec, GentooBox, Programs, differences};
use farm_sim::tree::{TreeSpec, generate};
use rookery_tests::farm::eventually;
use rookery_tests::program;

/// A stock daemon that serves one directory as the module `m`.
struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    async fn start(dir: &Path, tree: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = dir.join("rsyncd.conf");
        let text = format!(
            "use chroot = no\nuid = 0\ngid = 0\nlog file = {0}/log\npid file = {0}/pid\n[m]\npath = {1}\n",
            dir.display(),
            tree.display()
        );
        fs::write(&config, text)?;
        let process = program::stock("rsync")
            .args(["--daemon", "--no-detach", "--address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--config={}", config.display()))
            .stdin(Stdio::null())
            .spawn()?;
        let daemon = Self { process, port };
        eventually("the daemon listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()).await?;
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn new_box(name: &str, dir: &Path, port: u16, programs: Programs) -> Result<GentooBox> {
    Ok(GentooBox::new(BoxSpec {
        name: name.to_owned(),
        dir: dir.join(name),
        sync_uri: format!("rsync://127.0.0.1:{port}/m"),
        mirror: "http://127.0.0.1:1".to_owned(),
        programs,
    })?)
}

/// A generated tree with the odd things that a real one has.
fn odd_tree(dir: &Path, revision: u32) -> Result<PathBuf> {
    let tree = dir.join("tree");
    generate(&TreeSpec { packages: 80, revision, ..TreeSpec::default() }, &tree)?;
    if revision == 0 {
        symlink("eapi", tree.join("profiles/link"))?;
        fs::create_dir_all(tree.join("app-misc/a/files/sub+dir"))?;
        fs::write(tree.join("app-misc/a/files/sub+dir/é ü.patch"), "")?;
        fs::write(tree.join("app-misc/a/files/large"), vec![7; 300_000])?;
        fs::create_dir(tree.join("empty"))?;
    }
    Ok(tree)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_of_a_box_end_with_the_tree_of_the_stock_daemon() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tree = odd_tree(dir.path(), 0)?;
    let daemon = Daemon::start(dir.path(), &tree).await?;
    let programs = Programs::find();
    assert!(programs.rsync.is_some(), "rsync is missing: cargo xtask test installs it");
    let stock = new_box("stock", dir.path(), daemon.port, programs)?;
    let own = new_box("own", dir.path(), daemon.port, Programs::none())?;
    let mut files = Vec::new();
    for gentoo in [&stock, &own] {
        let report = gentoo.sync().await?;
        assert_eq!(differences(&tree, &gentoo.repository())?, [], "{}", gentoo.name());
        assert!(!report.unchanged);
        files.push(report.files);
        assert!(gentoo.sync().await?.unchanged, "{}", gentoo.name());
    }
    assert_eq!(files[0], files[1], "both count the same files");

    // A later tree, in which something is gone and something else became a directory.
    odd_tree(dir.path(), 1)?;
    fs::remove_dir_all(tree.join("app-misc/a/files"))?;
    fs::write(tree.join("app-misc/a/files"), "now a file")?;
    fs::remove_file(tree.join("profiles/link"))?;
    fs::create_dir(tree.join("profiles/link"))?;
    let mut files = Vec::new();
    for gentoo in [&stock, &own] {
        fs::create_dir(gentoo.repository().join("local"))?;
        fs::write(gentoo.repository().join("surplus"), "to be deleted")?;
        files.push(gentoo.sync().await?.files);
        assert_eq!(differences(&tree, &gentoo.repository())?, [], "{}", gentoo.name());
        assert!(gentoo.repository().join("local").is_dir(), "{}: what is excluded stays", gentoo.name());
    }
    assert_eq!(files[0], files[1], "both transfer only what changed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_refuse_an_older_tree_and_name_a_missing_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tree = odd_tree(dir.path(), 0)?;
    let daemon = Daemon::start(dir.path(), &tree).await?;
    for (name, programs) in [("stock", Programs::find()), ("own", Programs::none())] {
        let gentoo = new_box(name, dir.path(), daemon.port, programs)?;
        fs::create_dir_all(gentoo.repository().join("metadata"))?;
        let ours = gentoo.repository().join("metadata/timestamp.chk");
        fs::write(&ours, "Thu, 15 Jan 2026 12:00:01 +0000\n")?;
        let error = gentoo.sync().await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("server out of date"), "{name}: {error}");
        fs::rename(tree.join("metadata/timestamp.chk"), dir.path().join("away"))?;
        let error = gentoo.sync().await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("timestamp.chk"), "{name}: {error}");
        fs::rename(dir.path().join("away"), tree.join("metadata/timestamp.chk"))?;
    }
    Ok(())
}
