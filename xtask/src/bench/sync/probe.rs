//! Clients of our own: they say what a stock client of protocol 31 says, all at once, so that what they measure is the
//! daemon's time and not that of a client's start and end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::daemon::{Daemon, MODULE};

const PATIENCE: Duration = Duration::from_mins(1);
/// Octets of the list that a client takes before it stalls.
const LIST_OCTETS_TAKEN: usize = 20_000;
/// What timestamp.chk says, which is sent as it is.
pub(super) const TIMESTAMP: &str = "Fri, 21 Aug 2026 17:31:03 +0000\n";

/// The words up to the filters, which are none.
fn hello(letters: &str, paths: &str) -> Vec<u8> {
    let arguments = format!("--server\0--sender\0-{letters}\0--timeout=180\0.\0{paths}");
    [format!("@RSYNCD: 31.0\n{MODULE}\n{arguments}\0").as_bytes(), b"\x04\0\0\x07\0\0\0\0"].concat()
}

/// The median time from connecting until the contents of timestamp.chk are there.
pub(super) fn latency(address: SocketAddr, count: u32) -> Result<Duration> {
    let words = hello("lWtpre.LsfxC", &format!("{MODULE}/metadata/timestamp.chk\0"));
    let mut taken = (0..count).map(|_| probe(address, &words)).collect::<Result<Vec<_>>>()?;
    taken.sort();
    Ok(taken.get(taken.len() / 2).copied().unwrap_or_default())
}

fn probe(address: SocketAddr, words: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    let mut server = TcpStream::connect(address)?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(PATIENCE))?;
    // The file is entry 0: its index is one octet, as the distance from -1, its flags say that contents are wanted.
    let request = [&b"\x13\0\0\x07\x01\x00\x80"[..], &[0; 16]].concat();
    server.write_all(&[words, &request].concat())?;
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.windows(TIMESTAMP.len()).any(|window| window == TIMESTAMP.as_bytes()) {
        let read = server.read(&mut buffer)?;
        ensure!(read > 0, "the daemon closed: {}", String::from_utf8_lossy(&said).escape_debug());
        said.extend_from_slice(&buffer[..read]);
    }
    Ok(began.elapsed())
}

/// KiB of anonymous memory for each of `count` clients that stall in mid-list.
pub(super) fn stalled_kib(daemon: &Daemon, count: u32) -> Result<f64> {
    // Named several times, so that the list is more than sockets hold.
    let words = hello("lWtpre.iLsfxC", &format!("{MODULE}/\0").repeat(5));
    // What is made for the first one is everybody's.
    let first = stall(daemon.address, &words)?;
    let before = daemon.anonymous_kib();
    let crowd = (0..count).map(|_| stall(daemon.address, &words)).collect::<Result<Vec<_>>>()?;
    let kib = (daemon.anonymous_kib() - before) / f64::from(count);
    drop((first, crowd));
    Ok(kib)
}

fn stall(address: SocketAddr, words: &[u8]) -> Result<TcpStream> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(words)?;
    client.read_exact(&mut vec![0; LIST_OCTETS_TAKEN])?;
    Ok(client)
}
