//! `cargo xtask bench crowd`: what clients of the rsync daemon cost that say nothing more, and whether one that does
//! its sync feels them.
//!
//! The daemon is the real program in a process of its own; the crowd is this process, the good client is stock rsync.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::median::{Spread, spread};

/// Octets of the list that a client takes before it stalls.
const LIST_OCTETS_TAKEN: usize = 20_000;
/// How often a client of the crowd names the tree, so that its list is more than sockets hold.
const LIST_TREES: usize = 5;
const GREETING_OCTETS: usize = 20;
const READY_WITHIN: Duration = Duration::from_mins(2);
/// Descriptors of this process beside the crowd's.
const DESCRIPTORS_SPARE: u64 = 256;

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Clients that stall in mid-list, and as many before the handshake.
    #[arg(long, default_value_t = 1000)]
    clients: u32,
    /// Syncs of the good client alone, before and after, and beside the crowd; the median counts.
    #[arg(long, default_value_t = 7)]
    syncs: usize,
    /// Files of the tree.
    #[arg(long, default_value_t = 20_000)]
    files: usize,
    /// A sync-server that is built already; else it is built in release mode.
    #[arg(long)]
    program: Option<PathBuf>,
}

pub(crate) fn run(options: &Options, dir: &Path) -> Result<()> {
    allow_descriptors(u64::from(options.clients) * 2 + DESCRIPTORS_SPARE)?;
    let program = options.program.clone().map_or_else(build, Ok)?;
    fs::create_dir_all(dir)?;
    let measured = measure(options, &program, dir);
    fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    measured
}

fn measure(options: &Options, program: &Path, dir: &Path) -> Result<()> {
    lay_out(&dir.join("tree"), options.files)?;
    let daemon = Daemon::start(program, dir)?;
    let good = || daemon.syncs(dir, options.syncs);
    daemon.sync(dir)?;
    let mut alone = good()?;
    let hello = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-logDtpre.iLsfxC\0.\0";
    let hello = [hello, "m/\0".repeat(LIST_TREES).as_bytes(), b"\0\x04\0\0\x07\0\0\0\0"].concat();
    let (in_list, in_list_kib) = daemon.crowd(options.clients, &hello, LIST_OCTETS_TAKEN)?;
    let (before, before_kib) = daemon.crowd(options.clients, b"", GREETING_OCTETS)?;
    let beside = good()?;
    let here = in_list.iter().chain(&before).filter(|client| is_connected(client)).count();
    drop((in_list, before));
    alone.extend(good()?);
    compare(dir)?;
    let clients = options.clients;
    ensure!(here == 2 * clients as usize, "only {here} of the crowd were still there at the end");
    let [alone, beside] = [alone, beside].map(|times| spread(times.iter().map(Duration::as_secs_f64)));
    println!("| what | measured | aim |\n| --- | --- | --- |");
    println!("| memory of each of {clients} clients in mid-list | {in_list_kib:.1} KiB | 256 KiB |");
    println!("| memory of each of {clients} clients before the handshake | {before_kib:.1} KiB | 256 KiB |");
    println!("| a sync of {} files alone | {} | |", options.files, shown(alone));
    println!("| beside both crowds | {} | |", shown(beside));
    println!("| ratio of the medians | {:.2} | 1.2 |", beside.median / alone.median);
    Ok(())
}

/// Median, least and most.
fn shown(Spread { median, least, most }: Spread) -> String {
    format!("{median:.3} s ({least:.3} to {most:.3})")
}

/// What is started inherits it.
pub(super) fn allow_descriptors(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let wanted = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, wanted)
            .with_context(|| format!("{count} open files are needed: raise `ulimit -Hn`"))?;
    }
    Ok(())
}

/// Builds the daemon.
pub(super) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--release", "--package", "sync-server"])
        .current_dir(root)
        .status()
        .context("cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/sync-server"))
}

/// Sizes and depth as in a repository of ebuilds: hundreds to thousands of octets, ten files a package.
fn lay_out(tree: &Path, files: usize) -> Result<()> {
    fs::create_dir_all(tree.join("metadata"))?;
    fs::write(tree.join("metadata/timestamp.chk"), "Fri, 21 Aug 2026 17:31:03 +0000\n")?;
    for number in 0..files {
        let package = tree.join(format!("category-{}/package-{}", number / 1000, number / 10));
        fs::create_dir_all(&package)?;
        let text = format!("file {number} of a tree\n").repeat(10 + number * 37 % 150);
        fs::write(package.join(format!("package-{}.ebuild", number % 10)), text)?;
    }
    Ok(())
}

struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    fn start(program: &Path, dir: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = format!(
            "[sync]\nlisten = \"{address}\"\ngrpc = \"127.0.0.1:0\"\nstate_dir = \"{0}/state\"\n\
             max_connections = 0\nconnections_per_address = 0\n\
             [[sync.modules]]\nname = \"m\"\nsource = {{ dir = \"{0}/tree\" }}\nverify = \"none\"\n",
            dir.display()
        );
        fs::write(dir.join("rookery.toml"), config)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(dir.join("rookery.toml"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("log"))?)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let daemon = Self { child, address };
        let started = Instant::now();
        while daemon.sync(dir).is_err() {
            if started.elapsed() > READY_WITHIN {
                bail!("it never served: {}", fs::read_to_string(dir.join("log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// A whole sync into an empty directory.
    fn sync(&self, dir: &Path) -> Result<Duration> {
        let target = dir.join("target");
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        let started = Instant::now();
        let output = Command::new("rsync")
            .arg("-rlpt")
            .arg(format!("rsync://{}/m/", self.address))
            .arg(&target)
            .output()
            .context("rsync: `cargo xtask test` installs it")?;
        ensure!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
        Ok(started.elapsed())
    }

    fn syncs(&self, dir: &Path, count: usize) -> Result<Vec<Duration>> {
        (0..count).map(|_| self.sync(dir)).collect()
    }

    /// Clients that say `words`, take so many octets and then nothing; and KiB of the daemon's memory for each.
    fn crowd(&self, count: u32, words: &[u8], octets_taken: usize) -> Result<(Vec<TcpStream>, f64)> {
        let before = self.anonymous_kib()?;
        let mut crowd = Vec::new();
        for _ in 0..count {
            let mut client = TcpStream::connect(self.address)?;
            client.set_read_timeout(Some(READY_WITHIN))?;
            client.write_all(words)?;
            client.read_exact(&mut vec![0; octets_taken])?;
            crowd.push(client);
        }
        Ok((crowd, (self.anonymous_kib()? - before) / f64::from(count)))
    }

    fn anonymous_kib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
        Ok(line.trim_end_matches("kB").trim().parse()?)
    }
}

/// Whether the last sync has brought the tree.
pub(super) fn compare(dir: &Path) -> Result<()> {
    let output = Command::new("rsync")
        .args(["-rlpt", "--checksum", "--omit-dir-times", "--delete", "--dry-run", "--itemize-changes"])
        .args([dir.join("tree/"), dir.join("target/")])
        .output()?;
    ensure!(output.status.success() && output.stdout.is_empty(), "the sync brought something else");
    Ok(())
}

/// Whether the daemon has not closed it.
fn is_connected(client: &TcpStream) -> bool {
    let is_open = |peeked: std::io::Result<usize>| match peeked {
        Ok(octets) => octets > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    client.set_nonblocking(true).is_ok() && is_open(client.peek(&mut [0]))
}
