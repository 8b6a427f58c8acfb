//! The stock rsync daemon on loopback, as a mirror that this host pulls from.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that should take a moment, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Runs until it is dropped; its one module `m` is the directory `tree`.
pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    port: u16,
    child: Child,
}

/// What is special about it.
#[derive(Default)]
pub(crate) struct Habits {
    /// A shell script that runs before each transfer; `$RSYNC_REQUEST` is the path that was asked for.
    pub(crate) before: &'static str,
    /// KiB a second.
    pub(crate) rate: Option<u32>,
}

impl Daemon {
    pub(crate) fn start(habits: &Habits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("tree")).unwrap();
        let head = format!("#!/bin/sh\ncd {}\n", directory.path().display());
        fs::write(at("before"), head + habits.before + "\nexit 0\n").unwrap();
        fs::set_permissions(at("before"), fs::Permissions::from_mode(0o755)).unwrap();
        let here = directory.path().display();
        let config = format!(
            "use chroot = no\nlog file = {here}/log\n[m]\npath = {here}/tree\nread only = yes\n\
             uid = root\ngid = root\npre-xfer exec = {here}/before\n"
        );
        // Only root can and must keep the daemon from becoming nobody.
        let is_root =
            fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let config = if is_root { config } else { config.replace("uid = root\ngid = root\n", "") };
        fs::write(at("rsyncd.conf"), config).unwrap();
        let port = free_port();
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]).arg(format!("--port={port}"));
        if let Some(rate) = habits.rate {
            command.arg(format!("--bwlimit={rate}"));
        }
        command.arg("--config").arg(at("rsyncd.conf")).stdin(Stdio::null());
        let child = command.spawn().expect("the tests need rsync");
        let daemon = Self { directory, port, child };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(started.elapsed() < DEADLINE, "the rsync daemon does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    pub(crate) fn url(&self) -> String {
        format!("rsync://127.0.0.1:{}/m", self.port)
    }

    /// What was asked for so far, in order: `m/` for the whole tree.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let asked = log.lines().filter_map(|line| line.split_once("rsync on ")?.1.split_once(" from "));
        asked.map(|(path, _)| path.to_owned()).collect()
    }

    /// How often the whole tree was asked for.
    pub(crate) fn pulls(&self) -> usize {
        self.requests().iter().filter(|path| *path == "m/").count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A loopback port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    farm_sim::ports::free_address().unwrap().port()
}

/// A tree whose one package has these distfiles. A later `second` is a newer tree.
pub(crate) fn write_tree(root: &Path, second: u32, distfiles: &[&str]) {
    let digest = "ab".repeat(64);
    let lines: Vec<_> = distfiles.iter().map(|name| format!("DIST {name} 5 BLAKE2B {digest}\n")).collect();
    let sources: Vec<_> = distfiles.iter().map(|name| format!("https://x.example/{name}")).collect();
    write(root, "app-misc/p/Manifest", &lines.concat());
    write(root, "metadata/md5-cache/app-misc/p-1", &format!("EAPI=8\nSRC_URI={}\n", sources.join(" ")));
    write(root, "metadata/timestamp.chk", &stamp(second));
}

pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn stamp(second: u32) -> String {
    format!("Fri, 21 Aug 2026 17:31:{second:02} +0000\n")
}

/// The same in milliseconds.
pub(crate) fn stamp_ms(second: u32) -> i64 {
    1_787_333_460_000 + i64::from(second) * 1000
}
