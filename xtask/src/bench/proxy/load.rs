//! Those who ask: wrk and curl as fast as they can, and a client of our own at a given pace.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::super::kernel;
use super::pace::pace;
use super::peers::{Peer, Target};

/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What one server did under one load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Answers a second.
    pub(super) rate: f64,
    /// Octets of bodies a second.
    pub(super) octets_rate: f64,
    /// Processor seconds of the server for 10^9 octets of bodies.
    pub(super) cpu_per_gb: f64,
    /// The 99th of a hundred answers, by how long it took.
    pub(super) p99_ms: f64,
    pub(super) anonymous_mebibytes: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0}/s, {:.0} MB/s, {:.2} CPU s/GB, p99 {:.2} ms, {:.0} MiB",
            self.rate,
            self.octets_rate / 1e6,
            self.cpu_per_gb,
            self.p99_ms,
            self.anonymous_mebibytes
        )
    }
}

/// Runs a load and looks at the server meanwhile; `load` answers how many bodies of `octets` came, and p99.
fn measured(peer: &Peer, octets: u64, load: impl FnOnce() -> Result<(f64, f64)>) -> Result<Figures> {
    let root = peer.pid();
    let cpu_before = kernel::cpu_seconds(root);
    let began = Instant::now();
    let (ended, is_over) = (std::sync::Arc::default(), |flag: &std::sync::atomic::AtomicBool| {
        flag.load(std::sync::atomic::Ordering::Relaxed)
    });
    let looking = std::thread::spawn({
        let ended = std::sync::Arc::clone(&ended);
        move || {
            let mut most = 0.0_f64;
            while !is_over(&ended) {
                most = most.max(kernel::anonymous_mebibytes(root));
                std::thread::sleep(LOOK_EVERY);
            }
            most
        }
    });
    let loaded = load();
    let seconds = began.elapsed().as_secs_f64();
    let cpu = kernel::cpu_seconds(root) - cpu_before;
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    let most = looking.join().map_err(|_| anyhow::anyhow!("looking at the memory failed"))?;
    let (answers, p99_ms) = loaded?;
    #[allow(clippy::cast_precision_loss, reason = "sizes of files")]
    let all = answers * octets as f64;
    Ok(Figures {
        rate: answers / seconds,
        octets_rate: all / seconds,
        cpu_per_gb: cpu / (all / 1e9),
        p99_ms,
        anonymous_mebibytes: most,
    })
}

/// wrk with one thread.
pub(super) fn wrk(peer: &Peer, octets: u64, connections: u32, seconds: u64) -> Result<Figures> {
    let Target { address, path, script } = peer.target(octets);
    measured(peer, octets, || {
        let mut command = Command::new("wrk");
        command.args(["--latency", "-t1"]).arg(format!("-c{connections}")).arg(format!("-d{seconds}s"));
        if let Some(script) = script {
            command.arg("-s").arg(script);
        }
        let output = command.arg(format!("http://{address}{path}")).output().context("wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(!text.contains("Non-2xx"), "{}: wrk got errors:\n{text}", peer.name());
        parse_wrk(&text).with_context(|| format!("{}: what wrk says:\n{text}", peer.name()))
    })
}

/// How many answers, and p99 in milliseconds.
fn parse_wrk(text: &str) -> Option<(f64, f64)> {
    let answers = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%"))?.trim();
    let digits = p99.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &p99[digits.len()..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some((answers, digits.parse::<f64>().ok()? * unit))
}

/// Several curls at once, once each.
pub(super) fn curls(peer: &Peer, octets: u64, count: u32) -> Result<Figures> {
    let Target { address, path, script } = peer.target(octets);
    measured(peer, octets, || {
        let mut running = Vec::new();
        for _ in 0..count {
            let mut command = Command::new("curl");
            command.args(["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{size_download}"]);
            if script.is_some() {
                command.arg("--proxy").arg(format!("http://{address}")).arg(peer.forward_url(octets));
            } else {
                command.arg(format!("http://{address}{path}"));
            }
            running.push(command.stdout(Stdio::piped()).spawn().context("curl")?);
        }
        for curl in running {
            let output = curl.wait_with_output()?;
            let got = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success() && got == octets.to_string(), "{}: curl got {got}", peer.name());
        }
        Ok((f64::from(count), 0.0))
    })
}

/// So many requests a second.
pub(super) fn paced(peer: &Peer, octets: u64, rate: f64, seconds: u64) -> Result<Figures> {
    let target = peer.target(octets);
    if target.script.is_some() {
        bail!("only what answers in the mirror role is asked at a pace");
    }
    measured(peer, octets, || {
        let mut taken = pace(&target, rate, Duration::from_secs(seconds))?;
        taken.sort_by(f64::total_cmp);
        let p99 = taken.get(taken.len().saturating_sub(1) * 99 / 100).copied().context("no answer")?;
        #[allow(clippy::cast_precision_loss, reason = "a number of requests")]
        Ok((taken.len() as f64, p99))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 2s test @ http://127.0.0.1:8080/x\n  1 threads and 32 connections\n\
                    \u{20} Latency Distribution\n     50%  749.00us\n     75%    0.91ms\n     90%    1.21ms\n\
                    \u{20}    99%    2.78ms\n  83034 requests in 2.00s, 102.79MB read\nRequests/sec:  41484.37\n";
        assert_eq!(parse_wrk(text), Some((83034.0, 2.78)));
        assert_eq!(parse_wrk(&text.replace("2.78ms", "749.00us")), Some((83034.0, 0.749)));
        assert_eq!(parse_wrk("Running"), None);
    }
}
