//! Ports for programs that have to be told one: none that the system gives to others in the meantime.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that Linux gives to clients, and to servers that take any.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// How far apart processes with neighbouring numbers begin.
const PROCESS_STEP: u32 = 101;

/// A loopback address that nobody listens at. This process never gets it again, and other processes begin elsewhere.
///
/// # Errors
/// All are taken.
pub fn free_address() -> io::Result<SocketAddr> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(PROCESS_STEP);
    for _ in 0..COUNT {
        let place = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + place).map_err(io::Error::other)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_comes_twice_and_none_that_is_taken() {
        let first = free_address().unwrap();
        let next = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port() + 1));
        let listener = TcpListener::bind(next);
        let later: Vec<_> = (0..20).map(|_| free_address().unwrap()).collect();
        assert!(!later.contains(&first));
        // Unless somebody else was faster.
        assert!(listener.is_err() || !later.contains(&next));
    }
}
