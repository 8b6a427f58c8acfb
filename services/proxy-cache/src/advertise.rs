//! At which address other replicas reach this one.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use tokio::net::UdpSocket;
use tracing::{info, warn};
use url::Url;

use crate::config::Advertise;

/// The kernel's name of this host.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The address to tell maintenance; empty if there is none.
///
/// # Errors
/// The host's name was asked for and can't be read.
pub(crate) async fn address(
    configured: &Advertise,
    listen: SocketAddr,
    endpoint: &str,
) -> anyhow::Result<String> {
    Ok(match configured {
        Advertise::At(url) => url.as_str().to_owned(),
        Advertise::Never => String::new(),
        Advertise::HostName => {
            let host = std::fs::read_to_string(HOSTNAME_FILE)
                .with_context(|| format!("proxy.advertise: auto: {HOSTNAME_FILE}"))?;
            format!("http://{}:{}", host.trim(), listen.port())
        }
        Advertise::Address => {
            let ip = listen.ip().to_canonical();
            let found = if ip.is_unspecified() { towards(endpoint).await } else { Some(ip) };
            let Some(ip) = found else {
                warn!(endpoint, "proxy.advertise: no address was found; other replicas can't reach this one");
                return Ok(String::new());
            };
            let address = format!("http://{}", SocketAddr::new(ip, listen.port()));
            info!(address, "other replicas are told to ask here");
            address
        }
    })
}

/// Our own address on the way to maintenance: replicas of a farm are where it is. Nothing is sent.
async fn towards(endpoint: &str) -> Option<IpAddr> {
    let url = Url::parse(endpoint).ok()?;
    let (host, port) = (url.host_str()?, url.port_or_known_default().unwrap_or(1));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    for there in tokio::net::lookup_host((host, port)).await.ok()? {
        let any: SocketAddr =
            if there.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
        if let Ok(socket) = UdpSocket::bind(any).await
            && socket.connect(there).await.is_ok()
            && let Ok(local) = socket.local_addr()
        {
            return Some(local.ip().to_canonical());
        }
    }
    None
}

/// Whether `advertise` means something to a replica that says `own` of itself: a loopback address leads
/// another host's replicas to themselves.
pub(crate) fn is_reachable(advertise: &str, own: &str) -> bool {
    !advertise.is_empty()
        && advertise != own
        && (!is_loopback(advertise) || own.is_empty() || is_loopback(own))
}

fn is_loopback(advertise: &str) -> bool {
    Url::parse(advertise).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_configured_is_found_out() {
        let listen = |text: &str| text.parse::<SocketAddr>().unwrap();
        let address = async |configured: &Advertise, listen, endpoint| {
            address(configured, listen, endpoint).await.unwrap()
        };
        let auto = Advertise::Address;
        let named = address(&Advertise::HostName, listen("0.0.0.0:8080"), "").await;
        assert!(named.ends_with(":8080") && named.len() > "http://:8080".len(), "{named}");
        let endpoint = "http://127.0.0.1:7070";
        assert_eq!(address(&auto, listen("0.0.0.0:8080"), endpoint).await, "http://127.0.0.1:8080");
        assert_eq!(address(&auto, listen("127.0.0.2:80"), endpoint).await, "http://127.0.0.2:80");
        assert_eq!(address(&Advertise::Never, listen("127.0.0.2:80"), endpoint).await, "");
        let at = Advertise::try_from("http://ws1:8080/".to_owned()).unwrap();
        assert_eq!(address(&at, listen("127.0.0.2:80"), endpoint).await, "http://ws1:8080");
        assert_eq!(address(&auto, listen("0.0.0.0:8080"), "no url").await, "");
    }

    #[test]
    fn a_loopback_address_is_nobody_elses() {
        let (own, loopback) = ("http://10.0.0.2:8080", "http://127.0.0.1:8080");
        assert!(is_reachable("http://10.0.0.3:8080", own));
        assert!(!is_reachable(own, own) && !is_reachable("", own) && !is_reachable(loopback, own));
        assert!(is_reachable("http://127.0.0.1:8081", loopback));
        assert!(is_reachable("http://[::1]:8081", "http://localhost:1"));
    }
}
