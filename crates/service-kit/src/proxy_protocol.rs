//! Whom a connection is for, when it comes through a load balancer: the PROXY protocol, versions 1 and 2.
//!
//! Only peers that the operator named are asked for a header, and those must send one: a header is never
//! guessed, as the protocol demands. Anybody else's header is nothing that a service speaks. Specification:
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>

use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::ParseConfig;
pub use proxy_header::io::ProxiedStream;
use tokio::net::TcpStream;

use crate::config::Networks;

/// A connection behind its header, if it had one.
pub type Socket = ProxiedStream<TcpStream>;

/// A connection and its true ends.
#[derive(Debug)]
pub struct Connected {
    /// What is left to read and to write.
    pub socket: Socket,
    /// The client.
    pub peer: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
}

/// Why a connection can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The socket failed.
    #[error("it broke: {0}")]
    Broken(#[from] std::io::Error),
    /// It began with something else.
    #[error("proxy_protocol_from lists it, but it sent no PROXY protocol header ({0})")]
    NoHeader(std::io::Error),
    /// It took too long.
    #[error("proxy_protocol_from lists it, but no whole PROXY protocol header came within {0:?}")]
    TooSlow(Duration),
}

/// Reads the header that `trusted` peers send within `timeout`; others are taken for what they are.
///
/// # Errors
/// Why the connection can't be served.
pub async fn read(
    socket: TcpStream,
    peer: SocketAddr,
    trusted: &Networks,
    timeout: Duration,
) -> Result<Connected, Refusal> {
    let local = socket.local_addr()?;
    if !trusted.contains(peer.ip().to_canonical()) {
        return Ok(Connected { socket: ProxiedStream::unproxied(socket), peer, local });
    }
    // A header is at most 64 KiB long by its own length field.
    let reading = ProxiedStream::create_from_tokio(socket, ParseConfig::default());
    let socket = tokio::time::timeout(timeout, reading)
        .await
        .map_err(|_| Refusal::TooSlow(timeout))?
        .map_err(Refusal::NoHeader)?;
    // Without addresses it speaks for itself: a load balancer's own check.
    let ends = socket.proxy_header().proxied_address().map(|carried| (carried.source, carried.destination));
    let (peer, local) = ends.unwrap_or((peer, local));
    Ok(Connected { socket, peer, local })
}
