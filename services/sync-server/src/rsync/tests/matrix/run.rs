//! One combination against one daemon.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::bench::Bench;
use super::trees;

/// rsync's own daemon over the same directory.
pub(in super::super) struct StockDaemon {
    child: Child,
    address: SocketAddr,
}

impl StockDaemon {
    pub(super) fn start(source: &Path, state: &Path) -> Self {
        Self::with(source, state, "")
    }

    /// With further modules.
    pub(in super::super) fn with(source: &Path, state: &Path, modules: &str) -> Self {
        let address = farm_sim::ports::free_address().unwrap();
        let conf = state.join("rsyncd.conf");
        let text = format!(
            "use chroot = no\nmunge symlinks = no\nuid = 0\ngid = 0\naddress = {}\nport = {}\nlog file = {}\n[m]\npath = {}\ncomment = a test tree\n{modules}",
            address.ip(),
            address.port(),
            state.join("log").display(),
            source.display(),
        );
        // Only root may become root.
        let text = if trees::is_root() { text } else { text.replace("uid = 0\ngid = 0\n", "") };
        fs::write(state.join("motd"), "welcome\n").unwrap();
        let text = text.replacen(
            "use chroot",
            &format!("motd file = {}\nuse chroot", state.join("motd").display()),
            1,
        );
        fs::write(&conf, text).unwrap();
        let child = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--config"])
            .arg(&conf)
            .stdin(Stdio::null())
            .spawn()
            .expect("rsync can't be run: `cargo xtask test` installs it");
        let daemon = Self { child, address };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the stock daemon does not listen");
            std::thread::yield_now();
        }
        daemon
    }

    pub(in super::super) fn url(&self, path: &str) -> String {
        format!("rsync://{}/{path}", self.address)
    }
}

impl Drop for StockDaemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a client made of a daemon.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    exit: String,
    printed: String,
    complained: String,
    tree: String,
}

impl Outcome {
    /// The parts that differ.
    pub(super) fn differences(ours: &Self, theirs: &Self) -> Vec<&'static str> {
        let parts = ["exit", "printed", "complained", "tree"];
        parts.into_iter().filter(|part| ours.full(part) != theirs.full(part)).collect()
    }

    /// Whether the file `known` belongs to this owner in the copy.
    pub(super) fn has_known_of(&self, owner: &str) -> bool {
        self.tree.lines().any(|line| line.starts_with("known|") && line.contains(owner))
    }

    fn full(&self, part: &str) -> &str {
        match part {
            "exit" => &self.exit,
            "printed" => &self.printed,
            "complained" => &self.complained,
            _ => &self.tree,
        }
    }

    /// The lines that only one of them has.
    pub(super) fn contrast(ours: &Self, theirs: &Self, part: &str) -> String {
        let only = |a: &str, b: &str, mark: &str| {
            let lines = a.lines().filter(|line| !b.lines().any(|other| other == *line));
            lines.take(12).fold(String::new(), |text, line| text + "  " + mark + " " + line + "\n")
        };
        let (ours, theirs) = (ours.full(part), theirs.full(part));
        let text = only(ours, theirs, "ours:  ") + &only(theirs, ours, "theirs:");
        if text.is_empty() { "  another order or number of lines\n".to_owned() } else { text }
    }
}

/// Runs the client with a fresh, older copy as its destination.
pub(super) async fn run(bench: &Bench, url: &str, combination: &str, protocol: &str) -> Outcome {
    let (options, paths) = combination.split_once("::").expect("`::` is missing");
    let name = format!("destination{protocol}/");
    let target = bench.target(&name);
    trees::destination(&target, &bench.source());
    // `_` stands for the space in a filter rule.
    let option = |option: &str| {
        let is_rule = option.starts_with("--filter=");
        if is_rule { option.replacen('_', " ", 1) } else { option.to_owned() }
    };
    let mut arguments: Vec<String> = options.split_whitespace().map(option).collect();
    arguments.push(format!("--protocol={protocol}"));
    let listing = options.contains("--list-only");
    let mut sources: Vec<String> = paths.split_whitespace().map(|path| format!("{url}{path}")).collect();
    if sources.is_empty() {
        sources.push(url.to_owned());
    }
    arguments.extend(sources);
    if !listing {
        arguments.extend(["-i".to_owned(), name]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bench.rsync(&arguments).await;
    let text = |octets: &[u8]| plain(&String::from_utf8_lossy(octets).replace(url, "URL/"));
    Outcome {
        exit: output.status.to_string(),
        printed: text(&output.stdout),
        complained: text(&output.stderr),
        tree: tree(&target),
    }
}

/// Without what differs from run to run, or says nothing about what was agreed: how far a broken connection had come,
/// which of the client's processes noticed first that it broke, the server's own last line (its version and source line), and the order, which is
/// another one with incremental recursion.
fn plain(said: &str) -> String {
    const NOISE: [&str; 3] = ["Connection reset by peer", "[sender=", "received SIGUSR1"];
    let is_noise = |line: &str| NOISE.iter().any(|noise| line.contains(noise));
    let strip = |line: &str| match line.split_once(" (") {
        Some((start, rest)) if rest.contains("bytes received so far") => start.to_owned(),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = said.lines().filter(|line| !is_noise(line)).map(strip).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// All that a copy is: names, kinds, modes, sizes, times, link targets, owners, contents.
fn tree(root: &Path) -> String {
    let listed = Command::new("find")
        .args([".", "-printf", "%P|%y|%m|%s|%Ts|%l|%U:%G|%i\n", "-type", "f", "-exec", "md5sum", "{}", "+"])
        .current_dir(root)
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    // How many names in the copy are this file: others may be elsewhere (--link-dest).
    let inodes: Vec<&str> = listed.lines().filter_map(|line| Some(line.rsplit_once('|')?.1)).collect();
    let listed: String = listed
        .lines()
        .map(|line| match line.rsplit_once('|') {
            Some((start, inode)) => {
                format!("{start}|{}\n", inodes.iter().filter(|other| **other == inode).count())
            }
            None => format!("{line}\n"),
        })
        .collect();
    // What is as young as this run was not given a time.
    let ageless = |line: &str| {
        let mut fields: Vec<&str> = line.split('|').collect();
        if fields.get(4).is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 1_710_000_000)) {
            fields[4] = "now";
        }
        fields.join("|")
    };
    let mut lines: Vec<String> = listed.lines().map(ageless).collect();
    lines.sort_unstable();
    lines.join("\n")
}
