//! Listening sockets, with errors that say what to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// An address that can't be listened on. The process exits with 69.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {source}: {advice}")]
pub struct BindError {
    /// What was asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
    /// What to do about it.
    pub advice: String,
}

/// Listens on `address`, which the configuration gives as `key` (`proxy.listen`).
///
/// # Errors
/// The address is in use, not this host's, or not permitted.
pub async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let advice = advice(&source, address, key);
        BindError { address, source, advice }
    })
}

/// Where this host reaches what listens at `address`: what was bound to every interface, at loopback.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn advice(error: &io::Error, address: SocketAddr, key: &str) -> String {
    let port = address.port();
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        return format!(
            "stop the program that listens there (`ss -ltnp 'sport = {port}'` names it) or change {key}"
        );
    }
    if kind == io::ErrorKind::AddrNotAvailable {
        return format!(
            "no interface of this host has this address; change {key} (0.0.0.0 or [::] means all)"
        );
    }
    if kind == io::ErrorKind::PermissionDenied {
        return format!("ports below 1024 need root or CAP_NET_BIND_SERVICE; give it that, or change {key}");
    }
    format!("change {key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_to_do_about_an_address_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "proxy.listen").await.unwrap_err().to_string();
        let port = address.port();
        assert_eq!(
            error,
            format!(
                "127.0.0.1:{port}: Address already in use (os error 98): stop the program that listens there \
                 (`ss -ltnp 'sport = {port}'` names it) or change proxy.listen"
            )
        );
        let elsewhere = bind("192.0.2.1:1".parse().unwrap(), "sync.grpc").await.unwrap_err().to_string();
        assert!(elsewhere.contains("no interface of this host"), "{elsewhere}");
    }
}
