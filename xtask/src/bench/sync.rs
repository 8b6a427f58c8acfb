//! `cargo xtask bench sync`: the rsync daemon beside the stock one, over one tree.
//!
//! Both serve the same directory at the same time and only one is asked; each round asks them in turn, in an order that is
//! turned around from round to round. The clients are stock rsync with Portage's options, and for latencies one of our
//! own that says what a client says, all at once. Nothing in the product knows that it is measured.

mod daemon;
mod probe;
mod table;
mod tree;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use farm_sim::boxes::PORTAGE_OPTIONS;

use super::{crowd, kernel, proxy};
use daemon::{Daemon, MODULE};
use table::{Figure, Rounds, Unit, Work};

const SECTION: &str = "cargo xtask bench sync";
/// Processor time is counted in hundredths of a second: what takes less is done so often for one figure.
const NO_CHANGE_SYNCS: u32 = 5;
const PROBES: u32 = 500;
const AT_ONCE: usize = 20;
/// For those that stall, at both ends.
const DESCRIPTORS: u64 = 4096;

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Packages of the tree: each has eight or nine files and two directories.
    #[arg(long, default_value_t = 20_000)]
    packages: usize,
    /// Put the table into docs/benchmarks.md.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options, dir: &Path) -> Result<()> {
    let program = crowd::build()?;
    let machine = kernel::machine();
    fs::create_dir_all(dir)?;
    let measured = measure(options, &program, dir);
    fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    let (laid_out, settings, rounds) = measured?;
    let text = format!(
        "## Syncs beside the stock daemon\n\n```sh\ncargo xtask bench sync --rounds {} --packages {}\n```\n\n\
         {machine}; clients on the same machine, everything in memory. The tree: {laid_out}. Medians of {} rounds in\n\
         alternating order, least and most in brackets, ratios those of the two within a round; processor time is user\n\
         and system time of all of a daemon's processes, from the kernel's accounts. The client is {}.\n\n{}\nSettings:\n\n{settings}",
        options.rounds,
        options.packages,
        options.rounds,
        version()?,
        table::render(&rounds),
    )
    .replace(&dir.display().to_string(), "DIR");
    println!("{text}");
    if options.write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the workspace")?
            .join("docs/benchmarks.md");
        let document = fs::read_to_string(&path)?;
        fs::write(&path, proxy::table::put(&document, SECTION, &text))?;
    }
    Ok(())
}

fn measure(options: &Options, program: &Path, dir: &Path) -> Result<(String, String, Rounds)> {
    crowd::allow_descriptors(DESCRIPTORS)?;
    let laid_out = tree::lay_out(&dir.join("tree"), options.packages)?;
    let mut daemons = [Daemon::rookery(program, dir)?, Daemon::stock(dir)?];
    let settings = daemons.iter().map(Daemon::settings).collect::<Vec<_>>().join("\n");
    let mut rounds = Rounds::default();
    for daemon in &daemons {
        // Whatever is made once is made now.
        full_sync(daemon, dir)?;
        crowd::compare(dir)?;
    }
    for round in 0..options.rounds {
        let mut order: Vec<&Daemon> = daemons.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for daemon in order {
            let figures = one(daemon, dir).with_context(|| daemon.side.name().to_owned())?;
            for (work, figure) in figures {
                eprintln!("round {}, {}, {}: {figure}", round + 1, work.title(), daemon.side.name());
                rounds.add(work, daemon.side, figure);
            }
        }
    }
    for _ in 0..options.rounds {
        for daemon in &mut daemons {
            // Of one that has served others before, a part of what it has at hand is used again.
            daemon.restart()?;
            daemon.rest()?;
            let kib = probe::stalled_kib(daemon, daemon.side.stalled())?;
            rounds.add(Work::StalledMemory, daemon.side, Figure(kib, Unit::Kibibytes));
        }
    }
    Ok((laid_out.to_string(), settings, rounds))
}

/// Everything that is measured, once.
fn one(daemon: &Daemon, dir: &Path) -> Result<Vec<(Work, Figure)>> {
    let mut figures = Vec::new();
    let ((), cpu, wall) = accounted(daemon, || full_sync(daemon, dir))?;
    crowd::compare(dir)?;
    figures.push((Work::FullCpu, Figure(cpu, Unit::Seconds)));
    figures.push((Work::FullWall, Figure(wall, Unit::Seconds)));
    let ((), cpu, wall) = accounted(daemon, || (0..NO_CHANGE_SYNCS).try_for_each(|_| sync(daemon, dir)))?;
    figures.push((Work::NoChangeCpu, Figure(cpu / f64::from(NO_CHANGE_SYNCS), Unit::Seconds)));
    figures.push((Work::NoChangeWall, Figure(wall / f64::from(NO_CHANGE_SYNCS), Unit::Seconds)));
    let ((), _, wall) = accounted(daemon, || at_once(daemon, dir))?;
    figures.push((Work::AtOnceWall, Figure(wall, Unit::Seconds)));
    let (latency, cpu, _) = accounted(daemon, || probe::latency(daemon.address, PROBES))?;
    figures.push((Work::ProbeLatency, Figure(latency.as_secs_f64() * 1e3, Unit::Milliseconds)));
    figures.push((Work::ProbeCpu, Figure(cpu / f64::from(PROBES) * 1e3, Unit::Milliseconds)));
    Ok(figures)
}

/// What it answers, with the daemon's processor time and how long it took.
fn accounted<T>(daemon: &Daemon, work: impl FnOnce() -> Result<T>) -> Result<(T, f64, f64)> {
    let before = daemon.cpu_seconds();
    let began = Instant::now();
    let done = work()?;
    let wall = began.elapsed().as_secs_f64();
    // A process that has ended counts once its parent has looked.
    daemon.settle()?;
    Ok((done, daemon.cpu_seconds() - before, wall))
}

fn full_sync(daemon: &Daemon, dir: &Path) -> Result<()> {
    let target = dir.join("target");
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    sync(daemon, dir)
}

fn command(daemon: &Daemon, dir: &Path) -> Command {
    let mut command = Command::new("rsync");
    command
        .args(PORTAGE_OPTIONS)
        .arg(format!("rsync://{}/{MODULE}/", daemon.address))
        .arg(dir.join("target"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn sync(daemon: &Daemon, dir: &Path) -> Result<()> {
    let output = command(daemon, dir).output().context("rsync: `cargo xtask test` installs it")?;
    ensure!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn at_once(daemon: &Daemon, dir: &Path) -> Result<()> {
    let clients: std::io::Result<Vec<_>> = (0..AT_ONCE).map(|_| command(daemon, dir).spawn()).collect();
    for client in clients? {
        let output = client.wait_with_output()?;
        ensure!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn version() -> Result<String> {
    let output = Command::new("rsync").arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<_> = text.lines().next().unwrap_or_default().split_whitespace().take(3).collect();
    Ok(words.join(" ").replace(" version", ""))
}

/// Waits until something is so.
fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        ensure!(began.elapsed() < within, "{what}: not within {} s", within.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
