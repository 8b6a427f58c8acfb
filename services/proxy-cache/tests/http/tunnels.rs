//! CONNECT: only where the operator said, only to addresses that may be used, and octets as they are.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy_cache::Config;
use proxy_cache::config::TunnelRule;
use service_kit::config::{HumanDuration, Networks, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::replica::{DEADLINE, Replica, config, until};

/// A server that gives back what it gets, and how its port is asked for.
async fn echo() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("localhost:{}", listener.local_addr().unwrap().port());
    (listener, place)
}

fn allowing(dir: &std::path::Path, places: &[&str]) -> Config {
    let mut config = config(dir, &[]);
    config.tunnels.allow =
        places.iter().map(|place| TunnelRule::try_from((*place).to_owned()).unwrap()).collect();
    config
}

/// The head of the answer, and the connection behind it.
async fn connect(replica: &Replica, place: &str) -> (String, TcpStream) {
    let mut socket = TcpStream::connect(replica.address).await.unwrap();
    socket.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let octet = tokio::time::timeout(DEADLINE, socket.read_u8()).await.expect("an answer in time");
        head.push(octet.unwrap());
    }
    (String::from_utf8(head).unwrap(), socket)
}

#[tokio::test]
async fn octets_go_through_both_ways_as_they_are_and_each_end_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let replica = Replica::start(allowing(dir.path(), &[&place])).await;
    let (head, mut client) = connect(&replica, &place).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        !head.to_lowercase().contains("content-length") && !head.to_lowercase().contains("transfer-encoding")
    );
    let (mut server, _) = listener.accept().await.unwrap();
    // Lone line feeds, zeros, and what looks like a request.
    let octets: Vec<u8> = (0..=255).chain(*b"\n\nGET / HTTP/1.1\n\r\n").cycle().take(300_000).collect();
    let sent = octets.clone();
    let sending = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    tokio::join!(sending, async { server.read_to_end(&mut got).await.unwrap() });
    assert!(got == octets, "what came differs");
    server.write_all(b"and back\n").await.unwrap();
    drop(server);
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"and back\n");
}

#[tokio::test]
async fn a_tunnel_leads_only_where_it_is_allowed_to() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let port = listener.local_addr().unwrap().port();
    let off = Replica::start(config(dir.path(), &[])).await;
    let (head, _) = connect(&off, &place).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "off by default: {head}");
    let listed = format!("*.example.org:{port}");
    let replica = Replica::start(allowing(dir.path(), &[&place, &listed])).await;
    for (place, status) in [
        (format!("127.0.0.1:{port}"), 403),
        ("localhost:1".to_owned(), 403),
        (format!("example.org:{port}"), 403),
        (format!("localhost.evil.example:{port}"), 403),
    ] {
        let (head, _) = connect(&replica, &place).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{place}: {head}");
    }
    let id = std::fs::read_to_string(dir.path().join("r1/replica-id")).unwrap();
    let looped = format!("CONNECT {place} HTTP/1.1\r\nHost: x\r\nVia: 1.1 rookery-{}\r\n\r\n", &id[..12]);
    assert!(replica.raw(looped.as_bytes()).await.starts_with("HTTP/1.1 508 "));
    let mut accepting = std::pin::pin!(listener.accept());
    assert!(futures_util::poll!(accepting.as_mut()).is_pending(), "somebody got through");
}

#[tokio::test]
async fn a_listed_name_with_a_private_address_is_refused_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (_listener, place) = echo().await;
    let mut settings = allowing(dir.path(), &[&place]);
    settings.allow_private_upstreams = Networks::default();
    let replica = Replica::start(settings).await;
    let (head, _) = connect(&replica, &place).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[tokio::test]
async fn a_tunnel_through_which_nothing_goes_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let mut settings = allowing(dir.path(), &[&place]);
    settings.tunnels.idle = HumanDuration(Duration::from_millis(50));
    let replica = Replica::start(settings).await;
    let (head, mut client) = connect(&replica, &place).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let _server = listener.accept().await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, client.read_to_end(&mut rest)).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn there_are_no_more_tunnels_than_configured_and_a_place_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let mut settings = allowing(dir.path(), &[&place]);
    settings.tunnels.connections = 1;
    let replica = Replica::start(settings).await;
    let (head, client) = connect(&replica, &place).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (head, _) = connect(&replica, &place).await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("retry-after"), "{head}");
    drop(client);
    // Its connection ends with it.
    drop(listener);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while connect(&replica, &place).await.0.starts_with("HTTP/1.1 503 ") {
        assert!(tokio::time::Instant::now() < deadline, "its place was never given back");
    }
}

#[tokio::test]
async fn what_a_client_sends_before_the_answer_goes_through_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let replica = Replica::start(allowing(dir.path(), &[&place])).await;
    let eager = format!("CONNECT {place} HTTP/1.1\r\nHost: x\r\n\r\nearly\noctets");
    let (answer, got) = tokio::join!(replica.raw(eager.as_bytes()), async {
        let (mut server, _) = listener.accept().await.unwrap();
        let mut got = vec![0; "early\noctets".len()];
        server.read_exact(&mut got).await.unwrap();
        got
    });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(got, b"early\noctets");
}

/// One round through a tunnel.
async fn round(client: &mut TcpStream, server: &mut TcpStream) {
    let mut got = [0; 4];
    client.write_all(b"ping").await.unwrap();
    server.read_exact(&mut got).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"pong");
}

#[tokio::test]
async fn a_stop_leaves_a_tunnel_in_use_alone_and_ends_an_idle_one() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let replica = Replica::start(allowing(dir.path(), &[&place])).await;
    let (_, mut idle) = connect(&replica, &place).await;
    let _idle_server = listener.accept().await.unwrap();
    let (_, mut used) = connect(&replica, &place).await;
    let (mut server, _) = listener.accept().await.unwrap();
    round(&mut used, &mut server).await;
    replica.kit.tasks.soft().cancel();
    let mut rest = Vec::new();
    let mut idle_end = std::pin::pin!(tokio::time::timeout(DEADLINE, idle.read_to_end(&mut rest)));
    let mut rounds = 0;
    loop {
        tokio::select! {
            ended = &mut idle_end => break drop(ended.expect("the idle one ends")),
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                round(&mut used, &mut server).await;
                rounds += 1;
            }
        }
    }
    assert!(rounds > 0, "it ended at once");
    round(&mut used, &mut server).await;
    drop((used, server));
    tokio::time::timeout(DEADLINE, replica.kit.tasks.finish()).await.expect("nothing is left");
}

#[tokio::test]
async fn a_stop_begins_no_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let (_listener, place) = echo().await;
    let replica = Replica::start(allowing(dir.path(), &[&place])).await;
    let mut client = TcpStream::connect(replica.address).await.unwrap();
    // With the answer to the first request, the begin of the second one has come, too.
    let begun = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nCONNECT {place} HTTP/1.1\r\n");
    client.write_all(begun.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.starts_with(b"HTTP/1.1 200 ") {
        assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
    }
    replica.kit.tasks.soft().cancel();
    client.write_all(b"Host: x\r\n\r\n").await.unwrap();
    tokio::time::timeout(DEADLINE, client.read_to_end(&mut answer)).await.expect("it ends").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("HTTP/1.1 503 ") && answer.contains("this replica stops"), "{answer}");
}

/// What was logged, in text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_what_went_through_a_tunnel_that_the_end_of_the_grace_time_cuts() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // While there is only one, whichever thread comes first to a place in the code decides for all whether that
    // place is logged.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    // One thread runs the whole test, so that its default is enough.
    let _subscribed = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let replica = Replica::start(allowing(dir.path(), &[&place])).await;
    let (_, mut client) = connect(&replica, &place).await;
    let (mut server, _) = listener.accept().await.unwrap();
    round(&mut client, &mut server).await;
    replica.kit.tasks.hard().cancel();
    let mut rest = Vec::new();
    drop(tokio::time::timeout(DEADLINE, client.read_to_end(&mut rest)).await.expect("it ends"));
    until("the log says it", || {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("a tunnel ended"));
        line.is_some_and(|line| {
            ["bytes_up=4", "bytes_down=4", "reason=\"stopping\"", &place]
                .iter()
                .all(|part| line.contains(part))
        })
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_lasts_too_long_ends_however_much_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, place) = echo().await;
    let mut settings = allowing(dir.path(), &[&place]);
    settings.tunnels.lifetime = HumanDuration(Duration::from_millis(200));
    let replica = Replica::start(settings).await;
    let (_, mut client) = connect(&replica, &place).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let pouring = async { while server.write_all(&[0; 1000]).await.is_ok() {} };
    let taking = async { while client.read(&mut [0; 1000]).await.is_ok_and(|octets| octets > 0) {} };
    let both = async { tokio::join!(pouring, taking) };
    tokio::time::timeout(DEADLINE, both).await.expect("it ends");
}

#[tokio::test]
async fn a_time_that_makes_no_sense_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rookery.toml");
    std::fs::write(&file, "[proxy.tunnels]\nidle = \"0s\"\n").unwrap();
    let read = Settings::read(Some(&file)).and_then(|settings| settings.section::<Config>("proxy"));
    let error = read.unwrap_err().to_string();
    assert!(error.contains("proxy.tunnels.idle") && error.contains("above 0"), "{error}");
}
