//! Behind a load balancer that says by the PROXY protocol whom a connection is for.

use std::net::SocketAddr;

use rsyncd_conf::hosts::HostAccess;
use service_kit::config::Networks;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::Limits;
use super::bench::Bench;
use super::strangers::Stranger;

const V1: &[u8] = b"PROXY TCP4 192.0.2.9 10.13.18.101 40000 873\r\n";
/// Version 2, command PROXY, TCP over IPv4, the same.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\x0d\x12\x65\x9c\x40\x03\x69";
/// Version 2, command LOCAL: the load balancer's own check.
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const HELLO: &[u8] = b"@RSYNCD: 31.0\nabroad\n";

/// A daemon with a module that only 192.0.2.0/24 may use.
async fn bench(trusted: &[&str]) -> Bench {
    let proxy_protocol_from = Networks::parse(trusted.iter().copied()).unwrap();
    let access = HostAccess { allow: vec!["192.0.2.0/24".parse().unwrap()], deny: Vec::new() };
    let limits = Limits { proxy_protocol_from, ..Limits::default() };
    Bench::start(limits, &[("abroad", true, access)]).await
}

/// A load balancer: its address, and its work: one connection after the other, each begun with this header.
async fn balancer(to: SocketAddr, header: &'static [u8]) -> (SocketAddr, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(to).await.unwrap();
            server.write_all(header).await.unwrap();
            // Either may break off; the client's exit code tells.
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        }
    };
    (address, relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_client_is_known_by_its_own_address() {
    let bench = bench(&["127.0.0.1"]).await;
    let target = bench.target("target");
    for header in [V1, V2] {
        let (address, relay) = balancer(bench.address, header).await;
        let url = format!("rsync://{address}/abroad/");
        let arguments = ["-rlpt", &url, "target/"];
        tokio::select! {
            () = relay => panic!("the relay ended"),
            _ = bench.succeeds(&arguments) => {}
        }
        assert_eq!(bench.differences("", &target).await, "");
    }
    let (address, relay) = balancer(bench.address, V2_LOCAL).await;
    let url = format!("rsync://{address}/abroad/");
    let arguments = ["-rlpt", &url, "target/"];
    let said = tokio::select! {
        () = relay => panic!("the relay ended"),
        said = bench.fails(5, &arguments) => said,
    };
    assert!(said.contains("access denied to abroad from UNDETERMINED (127.0.0.1)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_and_words_may_come_in_any_pieces() {
    let bench = bench(&["127.0.0.1"]).await;
    for header in [V1, V2] {
        let all = [header, HELLO].concat();
        for at in 0..=all.len() {
            let mut stranger = Stranger::connect(bench.address, &all[..at]).await;
            stranger.say(&all[at..]).await;
            stranger.granted().await.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_a_trusted_peer_gets_nothing_and_others_can_not_lie() {
    let trusting = bench(&["127.0.0.1"]).await;
    for words in [HELLO, b"PROXY TCP4 1 2 3 4\r\n@RSYNCD: 31.0\nabroad\n"] {
        let said = Stranger::connect(trusting.address, words).await.last_words().await;
        assert_eq!(said, "");
    }
    let direct = bench(&["10.13.18.7"]).await;
    for words in [V1, V2] {
        let said = Stranger::connect(direct.address, &[words, HELLO].concat()).await.last_words().await;
        assert!(said.ends_with("@ERROR: protocol startup error\n"), "{said}");
    }
    let said = Stranger::connect(direct.address, HELLO).await.last_words().await;
    assert!(said.contains("access denied to abroad from UNDETERMINED (127.0.0.1)"), "{said}");
}
