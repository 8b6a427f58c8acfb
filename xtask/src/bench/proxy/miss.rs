//! What the first who asks for a file waits: through a cache that has nothing, and straight from the same upstream.
//!
//! Each cache is started anew for each file, so that it has never seen it, asked for another one first, as one that runs
//! has been, and then for the file, once, by curl. Before that, what others wrote is written out.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::super::median::{ratio, spread};
use super::line;
use super::peers::{Kind, Peer, Site, Target};

/// Octets of the files.
pub(super) const SIZES: [u64; 2] = [1 << 20, 1 << 30];
/// Of the file that each cache is asked for first.
pub(super) const FIRST: u64 = 64 << 10;

/// What the upstream is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Upstream {
    /// The machine's own memory, in effect: what a cache does of its own shows here.
    Loopback,
    /// A line as fast as a good one outside.
    Line,
}

/// Who is asked: a cache, or without one the upstream.
type Way = Option<Kind>;

/// Seconds of each upstream, way and size.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<(Upstream, Way, u64, f64)>);

/// Whether it fetches what it does not have.
fn is_cache(kind: Kind) -> bool {
    !matches!(kind, Kind::Spike(_))
}

/// `blank` is a cache directory of ours that has a catalogue and no blob.
pub(super) fn measure(
    site: &Site,
    blank: &std::path::Path,
    kinds: &[Kind],
    rounds: usize,
    sizes: &[u64],
) -> Result<Taken> {
    let by_line = Site { origin: Some(line::to(site.origin.context("no origin")?)?), ..site.clone() };
    let caches: Vec<Kind> = kinds.iter().copied().filter(|kind| is_cache(*kind)).collect();
    let mut taken = Taken::default();
    for round in 0..rounds {
        for octets in sizes {
            for (upstream, site) in [(Upstream::Loopback, site), (Upstream::Line, &by_line)] {
                let asked = caches.iter().copied().filter(|kind| upstream.is_for(*kind)).map(Some);
                let mut ways: Vec<Way> = std::iter::once(None).chain(asked).collect();
                if round % 2 == 0 {
                    ways.reverse();
                }
                for way in ways {
                    let seconds = once(site, blank, way, *octets)?;
                    let (number, mebibytes, by) = (round + 1, octets >> 20, upstream.name());
                    eprintln!("round {number}, miss of {mebibytes} MiB, {by}, {}: {seconds:.4} s", name(way));
                    taken.0.push((upstream, way, *octets, seconds));
                }
            }
        }
    }
    Ok(taken)
}

fn once(site: &Site, blank: &std::path::Path, way: Way, octets: u64) -> Result<f64> {
    let dir = site.dir.join("miss");
    let Some(kind) = way else { return curl(&straight(site, octets)?, octets, &[]) };
    fs::create_dir_all(&dir)?;
    let cache = dir.join("replica");
    let copied = Command::new("cp").arg("--archive").arg(blank).arg(&cache).status()?;
    ensure!(copied.success(), "cp: {copied}");
    let peer = Peer::start(kind, &Site { dir: dir.clone(), cache, ..site.clone() })?;
    through(&peer, FIRST)?;
    rustix::fs::sync();
    let seconds = through(&peer, octets);
    drop(peer);
    fs::remove_dir_all(&dir)?;
    seconds
}

fn through(peer: &Peer, octets: u64) -> Result<f64> {
    let Target { address, path, script } = peer.target(octets);
    if script.is_some() {
        curl(&peer.forward_url(octets), octets, &["--proxy", &format!("http://{address}")])
    } else {
        curl(&format!("http://{address}{path}"), octets, &[])
    }
}

fn straight(site: &Site, octets: u64) -> Result<String> {
    Ok(format!("http://{}{}", site.origin.context("no origin")?, super::peers::path(octets)))
}

fn curl(url: &str, octets: u64, more: &[&str]) -> Result<f64> {
    let said = "%{time_total} %{size_download}";
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--output", "/dev/null", "--write-out", said]);
    let output = command.args(more).arg(url).output().context("curl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (seconds, size) = text.split_once(' ').unwrap_or_default();
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && size == octets.to_string(), "{url}: curl got {size} octets: {why}");
    seconds.parse().with_context(|| format!("curl says {text}"))
}

fn name(way: Way) -> String {
    way.map_or_else(|| "straight".to_owned(), Kind::name)
}

impl Upstream {
    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Line => "1 Gbit/s",
        }
    }

    /// The line is slow: only the two that are compared are asked through it.
    fn is_for(self, kind: Kind) -> bool {
        self == Self::Loopback || matches!(kind, Kind::Rookery | Kind::Nginx)
    }
}

impl Taken {
    /// Milliseconds, by rounds.
    fn of(&self, upstream: Upstream, way: Way, octets: u64) -> Vec<f64> {
        let is_it = |one: &&(Upstream, Way, u64, f64)| (one.0, one.1, one.2) == (upstream, way, octets);
        self.0.iter().filter(is_it).map(|one| one.3 * 1e3).collect()
    }

    /// Medians, with their spread, and their ratio to the straight way's.
    pub(super) fn render(&self, sizes: &[u64]) -> String {
        let mut text = String::from("\n### Misses beside the upstream itself\n\n");
        text += "One curl for a file that the cache has never seen, on a new connection, to a cache that has been asked for\n\
                 another one of 64 KiB just before, and one straight from the same upstream: nginx with static files in\n\
                 the page cache, one worker; over the loopback, and behind a line of 1 Gbit/s.\n\n| file | upstream | through | ms (least–most) | to straight |\n\
                 | --- | --- | --- | --- | --- |\n";
        let mut ways: Vec<(Upstream, Way)> = self.0.iter().map(|one| (one.0, one.1)).collect();
        ways.sort_unstable();
        ways.dedup();
        for octets in sizes {
            for (upstream, way) in &ways {
                let of = self.of(*upstream, *way, *octets);
                if of.is_empty() {
                    continue;
                }
                let to_straight = ratio(&of, &self.of(*upstream, None, *octets));
                let ms = spread(of);
                // Writing to a string can't fail.
                let _ = writeln!(
                    text,
                    "| {} MiB | {} | {} | {:.1} ({:.1}–{:.1}) | {to_straight:.2} |",
                    octets >> 20,
                    upstream.name(),
                    name(*way),
                    ms.median,
                    ms.least,
                    ms.most
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_to_the_straight_way() {
        let (loopback, line) = (Upstream::Loopback, Upstream::Line);
        let taken = Taken(vec![
            (loopback, None, 1 << 20, 0.002),
            (loopback, None, 1 << 20, 0.004),
            (loopback, None, 1 << 20, 0.001),
            (line, None, 1 << 20, 0.010),
            (line, Some(Kind::Rookery), 1 << 20, 0.015),
            (loopback, Some(Kind::Rookery), 1 << 20, 0.005),
            (loopback, Some(Kind::Rookery), 1 << 20, 0.006),
            (loopback, Some(Kind::Rookery), 1 << 20, 0.004),
        ]);
        let text = taken.render(&[1 << 20]);
        for row in [
            "| 1 MiB | loopback | straight | 2.0 (1.0–4.0) | 1.00 |\n",
            "| 1 MiB | loopback | rookery | 5.0 (4.0–6.0) | 2.50 |\n",
            "| 1 MiB | 1 Gbit/s | rookery | 15.0 (15.0–15.0) | 1.50 |\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }
}
