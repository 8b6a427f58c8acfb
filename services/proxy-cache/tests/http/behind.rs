//! Behind a load balancer: the PROXY protocol, from those who are trusted with it and from others.

use std::path::Path;

use service_kit::config::{HumanDuration, Networks};

use crate::replica::{HURRY, Replica, config};

const GET: &str = "GET /client/make.conf HTTP/1.0\r\nConnection: close\r\n\r\n";

/// Version 2, command PROXY, TCP over IPv4: 203.0.113.9:40000 → 10.13.18.101:8080.
const V2_ABROAD: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\x0d\x12\x65\x9c\x40\x1f\x90";
/// The same from 10.13.18.102.
const V2_FARM: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x0d\x12\x66\x0a\x0d\x12\x65\x9c\x40\x1f\x90";
/// Version 2, command LOCAL: the load balancer's own check.
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn replica(dir: &Path, trusted: &[&str]) -> Replica {
    let mut config = config(dir, &[]);
    config.proxy_protocol_from = Networks::parse(trusted.iter().copied()).unwrap();
    config.timeouts.client_head = HumanDuration(HURRY);
    Replica::start(config).await
}

async fn status(replica: &Replica, header: &[u8]) -> String {
    let answer = replica.raw(&[header, GET.as_bytes()].concat()).await;
    answer.split(' ').nth(1).unwrap_or("refused").to_owned()
}

#[tokio::test]
async fn a_trusted_peer_speaks_for_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path(), &["127.0.0.1"]).await;
    for (header, expected) in [
        (b"PROXY TCP4 10.13.18.102 10.13.18.101 40000 8080\r\n".as_slice(), "200"),
        (b"PROXY TCP6 fd00::2 fd00::1 40000 8080\r\n", "200"),
        (V2_FARM, "200"),
        // proxy.allow_clients judges the client, not the load balancer.
        (b"PROXY TCP4 203.0.113.9 10.13.18.101 40000 8080\r\n", "403"),
        (b"PROXY TCP6 2001:db8::2 fd00::1 40000 8080\r\n", "403"),
        (V2_ABROAD, "403"),
        // It speaks for itself, and is allowed to.
        (b"PROXY UNKNOWN\r\n", "200"),
        (V2_LOCAL, "200"),
    ] {
        assert_eq!(status(&replica, header).await, expected, "{}", header.escape_ascii());
    }
    // The client's files name the address that it connected to, not the one behind the load balancer.
    let request =
        [b"PROXY TCP4 10.13.18.102 10.13.18.101 40000 8080\r\n".as_slice(), GET.as_bytes()].concat();
    let answer = replica.raw(&request).await;
    assert!(answer.contains("http://10.13.18.101:8080"), "{answer}");
}

#[tokio::test]
async fn a_trusted_peer_without_a_whole_header_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path(), &["127.0.0.1"]).await;
    let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 400]].concat();
    for header in [
        b"".as_slice(),
        b"PROXY TCP4 10.13.18.102 nobody 40000 8080\r\n",
        b"PROXY TCP4 10.13.18.102 10.13.18.101 40000 808080\r\n",
        b"PROXY\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        &endless,
    ] {
        assert_eq!(status(&replica, header).await, "refused", "{}", header.escape_ascii());
    }
    // Nothing at all, and then nothing more: the time for a request's head is the limit.
    for silent in [b"".as_slice(), b"PROXY TCP4", &V2_FARM[..15]] {
        assert_eq!(replica.raw(silent).await, "", "{}", silent.escape_ascii());
    }
}

#[tokio::test]
async fn each_cut_of_a_header_is_the_same_header() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path(), &["127.0.0.0/8"]).await;
    for header in [b"PROXY TCP4 203.0.113.9 10.13.18.101 40000 8080\r\n".as_slice(), V2_ABROAD] {
        for cut in 1..=header.len() {
            let mut socket = tokio::net::TcpStream::connect(replica.address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            socket.write_all(&header[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            socket.write_all(&[&header[cut..], GET.as_bytes()].concat()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.0 403 "), "cut at {cut}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_stranger_can_not_say_that_he_is_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    for trusted in [&[][..], &["10.89.73.250", "::1"]] {
        let replica = replica(dir.path(), trusted).await;
        for header in [b"PROXY TCP4 10.13.18.102 10.13.18.101 40000 8080\r\n".as_slice(), V2_FARM, V2_LOCAL] {
            let status = status(&replica, header).await;
            assert!(matches!(status.as_str(), "400" | "refused"), "{}: {status}", header.escape_ascii());
        }
        assert_eq!(status(&replica, b"").await, "200");
        replica.stop().await;
    }
}
