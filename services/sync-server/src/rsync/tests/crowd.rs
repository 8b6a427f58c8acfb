//! Many clients that say nothing more: what they cost, and whether others feel them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::Limits;
use super::bench::Bench;

/// Octets of anonymous memory that a stalled connection may cost, its client's socket in this process included.
const STALLED_BYTES_MAX: u64 = 256 * 1024;
/// How many: each takes two descriptors here. `cargo xtask bench crowd` has a thousand of each kind.
const CROWD: u32 = 400;
const SYNCS: usize = 3;
/// How often a crowd may seem to harm.
const ROUNDS_MAX: usize = 5;

/// Octets of anonymous memory of this process.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Says `words`, then reads until `until` octets have come, and no more.
async fn stall(bench: &Bench, words: &[u8], until: usize) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(words).await.unwrap();
    let mut said = vec![0; until];
    stream.read_exact(&mut said).await.unwrap();
    stream
}

/// The fastest of some: the others may have waited for others who use this machine.
async fn sync_time(bench: &Bench, name: &str) -> Duration {
    let mut fastest = Duration::MAX;
    for run in 0..SYNCS {
        let target = format!("{name} {run}/");
        bench.target(&target);
        let started = Instant::now();
        bench.succeeds(&["-rlpt", "{}m/", &target]).await;
        fastest = fastest.min(started.elapsed());
        assert_eq!(bench.differences("", &bench.target(&target)).await, "");
    }
    fastest
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_cost_little_and_harm_nobody() {
    let limits = Limits { max_connections: 0, connections_per_address: 0, ..Limits::default() };
    let bench = Bench::start(limits, &[]).await;
    // The same tree a thousand times is more than the sockets hold.
    let paths = "m/\0".repeat(1000);
    let hello = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-logDtpre.iLsfxC\0.\0";
    let in_list = [hello, paths.as_bytes(), b"\0\x04\0\0\x07\0\0\0\0"].concat();
    for (what, words, until) in [("before the handshake", &b""[..], 20), ("in mid-list", &in_list, 20_000)] {
        // A crowd that harms does so each time. What else this machine does may come between two measurements, and so
        // they are taken side by side, and anew if they don't look alike.
        let mut measured = Vec::new();
        loop {
            let round = measured.len();
            let before = sync_time(&bench, &format!("{what}, {round} before")).await;
            let memory = anonymous();
            let mut crowd = Vec::new();
            for _ in 0..CROWD {
                crowd.push(stall(&bench, words, until).await);
            }
            let each = anonymous().saturating_sub(memory) / u64::from(CROWD);
            assert!(each <= STALLED_BYTES_MAX, "{what}: {each} octets each");
            let beside = sync_time(&bench, &format!("{what}, {round} beside")).await;
            drop(crowd);
            let alone = before.max(sync_time(&bench, &format!("{what}, {round} after")).await);
            measured.push((beside, alone));
            // 1.2 is the aim; this is what a busy machine allows to promise.
            if beside <= alone * 2 {
                break;
            }
            assert!(measured.len() < ROUNDS_MAX, "{what}: beside it and alone {measured:?}");
        }
    }
}
