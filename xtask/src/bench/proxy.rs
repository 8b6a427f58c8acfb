//! `cargo xtask bench proxy`: plain hits and misses, side by side with nginx and others.
//!
//! All servers run at the same time and only one is asked, so that every round asks each of them in turn, in an
//! order that is turned around from round to round. Nothing in the product knows that it is measured.

mod line;
mod load;
mod miss;
mod pace;
mod peers;
pub(super) mod table;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::kernel;
use crate::tools;
use load::Figures;
use peers::{Kind, Peer, Site};
use table::Rounds;

const SECTION: &str = "cargo xtask bench proxy";
const LARGE_OCTETS: u64 = 512 << 20;
const LARGE_CLIENTS: u32 = 4;
/// Octets of a file, and wrk's connections.
const SMALL: [(u64, u32); 3] = [(1 << 10, 32), (64 << 10, 32), (1 << 20, 16)];
/// Of [`SMALL`], the one that is asked for at half of nginx's rate.
const PACED: usize = 1;

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each load by wrk, and of the paced one.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Workers of each server.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Only servers whose names contain one of these; nginx is always there.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Without the files of 512 MiB and 1 GiB.
    #[arg(long)]
    without_large: bool,
    /// Only files that no cache has; nothing is put into the document.
    #[arg(long, conflicts_with = "write")]
    misses: bool,
    /// Put the table into docs/benchmarks.md.
    #[arg(long)]
    write: bool,
}

impl Options {
    /// The sizes that are asked for where nobody has them.
    fn missed(&self) -> &'static [u64] {
        if self.without_large { &miss::SIZES[..1] } else { &miss::SIZES }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned();
    let wanted: Vec<_> = Kind::ALL.into_iter().filter(|kind| is_wanted(*kind, &options.only)).collect();
    tools::install_measuring_programs(wanted.contains(&Kind::Squid), wanted.contains(&Kind::AptCacherNg))?;
    let dir = std::env::temp_dir().join(format!("rookery-bench-proxy-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let measured = prepare(&root, &dir, options).and_then(|site| measure(site, &wanted, options));
    fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let text = measured?;
    println!("{text}");
    if options.write {
        let path = root.join("docs/benchmarks.md");
        let document = fs::read_to_string(&path)?;
        fs::write(&path, table::put(&document, SECTION, &text))?;
    }
    Ok(())
}

fn is_wanted(kind: Kind, only: &[String]) -> bool {
    kind == Kind::Nginx || only.is_empty() || only.iter().any(|part| kind.name().contains(part.as_str()))
}

/// Builds what is measured and lays out the files.
fn prepare(root: &Path, dir: &Path, options: &Options) -> Result<Site> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built = cargo()
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "proxy-cache", "--bin", "proxy-cache"])
        .args(["--example", "engine_spike", "--example", "bench_cache"])
        .status()?;
    ensure!(built.success(), "cargo build: {built}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let release = target.join("release");
    let site = Site {
        dir: dir.to_owned(),
        files: dir.join("files"),
        cache: dir.join("replica"),
        proxy_cache: release.join("proxy-cache"),
        engine_spike: release.join("examples/engine_spike"),
        workers: options.workers,
        origin: None,
    };
    let mut sizes: Vec<u64> = SMALL.iter().map(|(octets, _)| *octets).collect();
    if !options.without_large {
        sizes.push(LARGE_OCTETS);
    }
    let lay_out = |cache: &Path, sizes: &[u64], more: &[&str]| {
        let mut command = Command::new(release.join("examples/bench_cache"));
        command.args(more).arg(cache).arg(&site.files).args(sizes.iter().map(u64::to_string));
        let laid_out = command.status()?;
        ensure!(laid_out.success(), "bench_cache: {laid_out}");
        Ok(())
    };
    lay_out(&site.cache, &sizes, &[])?;
    let missed: Vec<u64> = options.missed().iter().chain(&[miss::FIRST]).copied().collect();
    lay_out(&blank(&site), &missed, &["--unstored"])?;
    Ok(site)
}

/// A cache directory of ours that has nothing yet.
fn blank(site: &Site) -> PathBuf {
    site.dir.join("blank")
}

fn measure(mut site: Site, wanted: &[Kind], options: &Options) -> Result<String> {
    let machine = kernel::machine();
    let origin = Peer::origin(&site)?;
    site.origin = Some(origin.address());
    if options.misses {
        let missed = miss::measure(&site, &blank(&site), wanted, options.rounds, options.missed())?;
        return Ok(missed.render(options.missed()));
    }
    let (mut peers, mut absent) = (Vec::new(), Vec::new());
    for kind in wanted {
        match ready(*kind, &site, options) {
            Ok(peer) => peers.push(peer),
            // What is only there for the whole picture is told of instead.
            Err(error) if matches!(kind, Kind::Squid | Kind::AptCacherNg) => {
                absent.push(format!("{} is not in the tables: {error:#}", kind.name()));
                eprintln!("{}", absent.last().map_or("", String::as_str));
            }
            Err(error) => return Err(error),
        }
    }
    let mut rounds = Rounds::new();
    for round in 0..options.rounds {
        for load in 0..=SMALL.len() + 1 {
            let order: Box<dyn Iterator<Item = &Peer>> =
                if round % 2 == 0 { Box::new(peers.iter()) } else { Box::new(peers.iter().rev()) };
            for peer in order {
                let Some(figures) = one(load, peer, &rounds, options)? else { continue };
                eprintln!("round {}, {}, {}: {figures}", round + 1, title(load), peer.name());
                rounds.entry((load, peer.kind())).or_default().push(figures);
            }
        }
    }
    let hits = report(&machine, &peers, &rounds, options);
    let kinds: Vec<Kind> = peers.iter().map(Peer::kind).collect();
    drop(peers);
    let missed = miss::measure(&site, &blank(&site), &kinds, options.rounds, options.missed())?;
    // Where it lay is nobody's business.
    let dir = site.dir.display().to_string();
    Ok((hits + &missed.render(options.missed()) + &absent.join("\n")).replace(&dir, "DIR"))
}

/// A server with everything in its cache.
fn ready(kind: Kind, site: &Site, options: &Options) -> Result<Peer> {
    let peer = Peer::start(kind, site)?;
    for (octets, _) in SMALL {
        peer.warm_up(octets, &site.files)?;
    }
    if !options.without_large {
        peer.warm_up(LARGE_OCTETS, &site.files)?;
    }
    Ok(peer)
}

/// The loads are those of [`SMALL`], then the large file, then the paced one.
fn one(load: usize, peer: &Peer, rounds: &Rounds, options: &Options) -> Result<Option<Figures>> {
    if let Some((octets, connections)) = SMALL.get(load) {
        return load::wrk(peer, *octets, *connections, options.seconds).map(Some);
    }
    if load == SMALL.len() {
        return if options.without_large {
            Ok(None)
        } else {
            load::curls(peer, LARGE_OCTETS, LARGE_CLIENTS).map(Some)
        };
    }
    if peer.target(SMALL[PACED].0).script.is_some() {
        return Ok(None);
    }
    // Of the same round: the machine is not as fast in each.
    let rate = rounds.get(&(PACED, Kind::Nginx)).and_then(|rounds| rounds.last()).map(|figures| figures.rate);
    let rate = rate.context("nginx was not measured")? / 2.0;
    load::paced(peer, SMALL[PACED].0, rate, options.seconds).map(Some)
}

fn title(load: usize) -> String {
    match SMALL.get(load) {
        Some((octets, connections)) => format!("**{} KiB**, wrk, {connections} connections", octets >> 10),
        None if load == SMALL.len() => {
            format!("**{} MiB**, {LARGE_CLIENTS} curls at once", LARGE_OCTETS >> 20)
        }
        None => format!("**{} KiB at half of nginx's rate**, 16 connections", SMALL[PACED].0 >> 10),
    }
}

fn report(machine: &str, peers: &[Peer], rounds: &Rounds, options: &Options) -> String {
    let titles: Vec<_> = (0..=SMALL.len() + 1)
        .filter(|load| *load != SMALL.len() || !options.without_large)
        .map(title)
        .collect();
    let mut kept = Rounds::new();
    for ((load, kind), figures) in rounds {
        // Without the large file the paced load moves up.
        let at = if *load > SMALL.len() { titles.len() - 1 } else { *load };
        kept.insert((at, *kind), figures.clone());
    }
    let mut text = format!(
        "## Plain hits beside nginx\n\n```sh\ncargo xtask bench proxy --rounds {} --seconds {} --workers {}\n```\n\n\
         {machine}; clients on the same machine. Medians of {} rounds in alternating order, ratios those of the two\n\
         within a round, all files in the page cache. CPU is user and system time of all of a server's processes, from the kernel's accounts.\n",
        options.rounds, options.seconds, options.workers, options.rounds
    );
    text += &table::render(&titles, &kept);
    text += "\nSettings:\n";
    for peer in peers {
        // Writing to a string can't fail.
        let _ = write!(text, "\n{}:\n\n```\n{}\n```\n", peer.name(), peer.settings.trim_end());
    }
    text
}
