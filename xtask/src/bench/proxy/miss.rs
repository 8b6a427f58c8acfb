//! What the first who asks for a file waits: through a cache that has nothing, and straight from the same upstream.
//!
//! Each cache is started anew for each file, so that it has never seen it, and asked once by curl. Before that, what
//! others wrote is written out.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::peers::{Kind, Peer, Site, Target};

/// Octets of the files.
pub(super) const SIZES: [u64; 2] = [1 << 20, 1 << 30];

/// Who is asked: a cache, or without one the upstream.
type Way = Option<Kind>;

/// Seconds of each way and size.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<(Way, u64, f64)>);

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
    let mut ways: Vec<Way> = vec![None];
    ways.extend(kinds.iter().copied().filter(|kind| is_cache(*kind)).map(Some));
    let mut taken = Taken::default();
    for round in 0..rounds {
        for octets in sizes {
            ways.reverse();
            for way in &ways {
                let seconds = once(site, blank, *way, *octets)?;
                eprintln!(
                    "round {}, miss of {} MiB, {}: {seconds:.4} s",
                    round + 1,
                    octets >> 20,
                    name(*way)
                );
                taken.0.push((*way, *octets, seconds));
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
    rustix::fs::sync();
    let Target { address, path, script } = peer.target(octets);
    let seconds = if script.is_some() {
        curl(&peer.forward_url(octets), octets, &["--proxy", &format!("http://{address}")])
    } else {
        curl(&format!("http://{address}{path}"), octets, &[])
    };
    drop(peer);
    fs::remove_dir_all(&dir)?;
    seconds
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

impl Taken {
    fn of(&self, way: Way, octets: u64) -> Vec<f64> {
        let mut of: Vec<f64> =
            self.0.iter().filter(|one| (one.0, one.1) == (way, octets)).map(|one| one.2).collect();
        of.sort_by(f64::total_cmp);
        of
    }

    /// Medians, with their spread, and their ratio to the straight way's.
    pub(super) fn render(&self, sizes: &[u64]) -> String {
        let mut text = String::from("\n### Misses beside the upstream itself\n\n");
        text += "One curl for a file that the cache has never seen, on a new connection, and one straight from the same\n\
                 upstream: nginx with static files in the page cache, one worker.\n\n| file | through | ms (least–most) | to straight |\n\
                 | --- | --- | --- | --- |\n";
        let mut ways: Vec<Way> = self.0.iter().map(|one| one.0).collect();
        ways.sort_unstable();
        ways.dedup();
        for octets in sizes {
            let median = |of: &[f64]| of.get(of.len() / 2).copied().unwrap_or(f64::NAN);
            let straight = median(&self.of(None, *octets));
            for way in &ways {
                let of = self.of(*way, *octets);
                let (Some(least), Some(most)) = (of.first(), of.last()) else { continue };
                // Writing to a string can't fail.
                let _ = writeln!(
                    text,
                    "| {} MiB | {} | {:.1} ({:.1}–{:.1}) | {:.2} |",
                    octets >> 20,
                    name(*way),
                    median(&of) * 1e3,
                    least * 1e3,
                    most * 1e3,
                    median(&of) / straight
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
        let taken = Taken(vec![
            (None, 1 << 20, 0.002),
            (None, 1 << 20, 0.004),
            (None, 1 << 20, 0.001),
            (Some(Kind::Rookery), 1 << 20, 0.005),
        ]);
        let text = taken.render(&[1 << 20]);
        assert!(text.contains("| 1 MiB | straight | 2.0 (1.0–4.0) | 1.00 |\n"), "{text}");
        assert!(text.contains("| 1 MiB | rookery | 5.0 (5.0–5.0) | 2.50 |\n"), "{text}");
    }
}
