//! What one client may take of us.

use std::time::Duration;

use farm_sim::sockets::keepalive_in;
use farm_sim::upstream::Upstream;
use service_kit::config::HumanDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::replica::{Client, DEADLINE, File, HURRY, Replica, TASKS_AT_REST, config, know, named, until};

#[tokio::test]
async fn a_client_that_stops_reading_lets_go_of_its_blob() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    // More than any kernel keeps for a socket.
    let file = File::new("large-1.tar", 60_000_000);
    upstream.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let mut config = config(dir.path(), &[&upstream]);
    config.timeouts.client_stall = HumanDuration(HURRY);
    let replica = Replica::start(config).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    until("stored", || named(dir.path()) == ["large-1.tar"]).await;
    let tasks = || replica.kit.tasks.running();
    until("the first connection is over", || tasks() <= TASKS_AT_REST).await;
    let mut client = Client::get(&replica, &file.mirror_path()).await;
    client.head().await;
    assert!(tasks() > TASKS_AT_REST);
    until("the connection is given up", || tasks() <= TASKS_AT_REST).await;
    assert!(!client.rest().await.complete);
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_and_after_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.timeouts.client_head = HumanDuration(HURRY);
    let replica = Replica::start(config).await;
    assert_eq!(replica.raw(b"").await, "");
    let answer = replica.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer:?}");
}

#[tokio::test]
async fn one_address_gets_so_many_connections_and_is_told_when_it_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.limits.connections_per_client = 3;
    let replica = Replica::start(config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        socket.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(socket);
    }
    let refused = replica.get("/healthz").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    assert!(refused.complete, "{}", refused.text());
    held.pop();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while replica.get("/healthz").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "a place that was left stays taken");
    }
}

#[tokio::test]
async fn who_says_nothing_is_asked_whether_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::start(config(dir.path(), &[])).await;
    let client = TcpStream::connect(replica.address).await.unwrap();
    let ours = client.local_addr().unwrap();
    let is_due =
        || keepalive_in(replica.address, ours).unwrap().is_some_and(|due| due <= Duration::from_mins(1));
    until("the kernel is to ask within a minute", is_due).await;
}

#[tokio::test]
async fn who_is_refused_again_and_again_takes_no_room_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.limits.connections = 100;
    config.limits.connections_per_client = 1;
    let replica = Replica::start(config).await;
    let mut refused = Vec::new();
    for _ in 0..200 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        refused.push(socket.connect(replica.address).await.unwrap());
    }
    let first = refused.remove(0);
    let answer = replica.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut without_a_word = 0;
    for socket in &mut refused {
        let mut told = Vec::new();
        tokio::time::timeout(DEADLINE, socket.read_to_end(&mut told)).await.expect("it is closed").unwrap();
        without_a_word += usize::from(told.is_empty());
    }
    assert!(without_a_word > 0, "all of them were told, each of them for as long as that takes");
    drop(first);
}
