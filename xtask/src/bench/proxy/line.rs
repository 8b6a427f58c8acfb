//! A line to the upstream that is no faster than a real one.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Octets a second: 1 Gbit/s.
const OCTETS_A_SECOND: u32 = 125_000_000;
/// What an interface hands over at once, more or less.
const PIECE_OCTETS: usize = 16 << 10;
/// Waiting for longer than this for the origin is a pause of the line's.
const PAUSE: Duration = Duration::from_micros(500);

/// Connections to the address that this answers get to `origin`, whose octets come at the line's pace. For as long as the
/// process lives.
pub(super) fn to(origin: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming() {
            let relayed = client.and_then(|client| relay(client, origin));
            if let Err(error) = relayed {
                eprintln!("the line to {origin}: {error}");
            }
        }
    });
    Ok(address)
}

fn relay(client: TcpStream, origin: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(origin)?;
    for end in [&client, &upstream] {
        end.set_nodelay(true)?;
    }
    let (mut asks, mut asked) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        // One end that goes takes the other one with it.
        drop(io::copy(&mut asks, &mut asked));
        asked.shutdown(std::net::Shutdown::Write)
    });
    thread::spawn(move || {
        drop(paced(upstream, &client));
        client.shutdown(std::net::Shutdown::Both)
    });
    Ok(())
}

/// What waits for its turn is not made up for: a pause is no reason to be faster behind it.
fn paced(mut upstream: TcpStream, mut client: &TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE_OCTETS];
    let mut free_at = Instant::now();
    loop {
        let asked = Instant::now();
        let octets = upstream.read(&mut piece)?;
        if octets == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let takes = Duration::from_secs(1) * u32::try_from(octets).unwrap_or(u32::MAX) / OCTETS_A_SECOND;
        let has_paused = now - asked > PAUSE;
        // A timer that rings late by some pieces is made up for.
        free_at =
            if has_paused { now } else { free_at.max(now.checked_sub(16 * takes).unwrap_or(now)) } + takes;
        thread::sleep(free_at.saturating_duration_since(now));
        client.write_all(&piece[..octets])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_through_and_not_faster_than_the_line() {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = to(origin.local_addr().unwrap()).unwrap();
        let octets: Vec<u8> = (0..8_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
        let sent = octets.clone();
        let server = thread::spawn(move || {
            let (mut client, _) = origin.accept().unwrap();
            let mut request = [0; 4];
            client.read_exact(&mut request).unwrap();
            client.write_all(&sent).unwrap();
            request
        });
        let mut client = TcpStream::connect(address).unwrap();
        let began = Instant::now();
        client.write_all(b"ask\n").unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(server.join().unwrap(), *b"ask\n");
        assert!(got == octets);
        let least = Duration::from_secs(1) * u32::try_from(octets.len()).unwrap() / OCTETS_A_SECOND;
        assert!(began.elapsed() > least * 9 / 10, "{:?} of {least:?}", began.elapsed());
    }
}
