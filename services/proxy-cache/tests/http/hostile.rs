//! Clients that mean no good, or are no HTTP clients at all.

use farm_sim::upstream::{Object, Upstream};
use service_kit::config::{HumanDuration, Networks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::replica::{File, HURRY, Replica, config, know, named};

async fn replica(dir: &std::path::Path) -> Replica {
    Replica::start(config(dir, &[])).await
}

/// One answer, which says no, and the end of the connection.
async fn assert_refused(request: &str) {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path()).await;
    let answer = replica.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?} got {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "a second request was read: {answer:?}");
}

#[tokio::test]
async fn a_length_beside_chunks_is_refused() {
    assert_refused(
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
}

#[tokio::test]
async fn two_hosts_are_refused() {
    assert_refused("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
}

#[tokio::test]
async fn a_bare_line_feed_is_refused_after_the_request_line() {
    assert_refused("GET /healthz HTTP/1.1\nHost: a\r\n\r\n").await;
}

#[tokio::test]
async fn a_bare_line_feed_is_refused_between_headers() {
    assert_refused("GET /healthz HTTP/1.1\r\nHost: a\nX: y\r\n\r\n").await;
}

#[tokio::test]
async fn a_bare_line_feed_is_refused_at_the_end_of_the_head() {
    assert_refused("GET /healthz HTTP/1.1\r\nHost: a\r\n\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path()).await;
    for request in [
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let answer = replica.raw(request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "405" | "505"), "{request:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "a second request was read: {answer:?}");
    }
}

#[tokio::test]
async fn no_http_at_all_is_answered_shortly() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path()).await;
    for junk in [
        b"@RSYNCD: 31.0\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\rx\n\n",
    ] {
        let answer = replica.raw(junk).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{junk:?} got {answer:?}");
    }
    assert_eq!(replica.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn heads_without_end_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.timeouts.client_head = HumanDuration(HURRY);
    let replica = Replica::start(config).await;
    let fields: Vec<String> = (0..100).map(|number| format!("X-{number}: y\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat());
    let answer = replica.raw(many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    let answer = replica.raw(long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    // A head that never comes to its end.
    let answer = replica.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test]
async fn other_networks_and_methods_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.allow_clients = Networks::parse(["10.0.0.0/8"]).unwrap();
    let replica = Replica::start(config).await;
    assert_eq!(replica.get("/distfiles/layout.conf").await.status, 403);
    assert_eq!(replica.get("http://example.org/").await.status, 403);
    assert_eq!(replica.get("/healthz").await.status, 200);
    drop(replica);

    let dir = tempfile::tempdir().unwrap();
    let replica = self::replica(dir.path()).await;
    let connect = replica.raw(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n").await;
    assert!(connect.starts_with("HTTP/1.1 403 ") && connect.contains("GENTOO_MIRRORS"), "{connect:?}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        assert_eq!(replica.ask(method, "/distfiles/a", &[]).await.status, 405, "{method}");
    }
    assert_eq!(replica.get("https://example.org/").await.status, 400);
    assert_eq!(replica.get("ftp://example.org/").await.status, 400);
}

#[tokio::test]
async fn private_upstreams_are_refused_wherever_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mirror, inside) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    inside.put("/secret", Object::Bytes("secret".into()));
    let by_source = File::new("source-1.tar", 100).with_source(format!("{}/secret", inside.url()));
    let by_name = File::new("name-1.tar", 100)
        .with_source(format!("http://localhost:{}/secret", inside.address().port()));
    let by_redirect = File::new("redirect-1.tar", 100);
    mirror.put(&by_redirect.mirror_path(), Object::Redirect(format!("{}/secret", inside.url())));
    know(dir.path(), "gentoo", &[&by_source, &by_name, &by_redirect]).await;
    let mut config = config(dir.path(), &[&mirror]);
    config.allow_private_upstreams = Networks::default();
    let replica = Replica::start(config).await;
    for file in [&by_source, &by_name, &by_redirect] {
        assert_eq!(replica.get(&file.mirror_path()).await.status, 502, "{}", file.name);
    }
    assert_eq!(replica.get(&format!("{}/other", inside.url())).await.status, 403);
    let by_name = format!("http://localhost:{}/other", inside.address().port());
    assert_eq!(replica.get(&by_name).await.status, 403);
    assert_eq!(replica.get("http://169.254.169.254/latest/meta-data").await.status, 403);
    assert_eq!(replica.get("http://[::ffff:127.0.0.1]/").await.status, 403);
    assert_eq!(inside.total().requests, 0);
    assert!(named(dir.path()).is_empty());
}

#[tokio::test]
async fn nothing_leaves_the_cache_directory() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica(dir.path()).await;
    for path in [
        "/../../../../etc/passwd",
        "/distfiles/../../replica-id",
        "/distfiles/..%2f..%2freplica-id",
        "/distfiles/%2e%2e/replica-id",
        "/m/../../etc/distfiles/passwd",
        "/m/%2e%2e/distfiles/replica-id",
        "/m/..%2f../distfiles/replica-id",
        "/replica-id",
    ] {
        let answer = replica.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn other_versions_and_other_expectations_have_answers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::start(config(dir.path(), &[])).await;
    for (request, status) in [
        ("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("GET /healthz HTTP/0.9\r\n\r\n", "505"),
        ("GET /healthz HTTP/2\r\n\r\n", "400"),
        ("GET /healthz HTTP/1.3\r\nHost: a\r\nConnection: close\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: something\r\nConnection: close\r\n\r\n", "417"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", "200"),
        ("GET /healthz HTTP/1.0\r\nExpect: something\r\n\r\n", "200"),
    ] {
        let answer = replica.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1."), "{request:?}: {answer:?}");
        assert_eq!(answer.get(9..12), Some(status), "{request:?}: {answer:?}");
    }
    // The connection goes on behind a 417.
    let both = b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = replica.raw(both).await;
    assert!(answers.contains("HTTP/1.1 417 ") && answers.contains("HTTP/1.1 200 "), "{answers:?}");
}

/// An upstream that answers what nobody asked for.
async fn interim(answer: &'static str, is_endless: bool) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[allow(clippy::disallowed_methods, reason = "it ends with the test")]
    drop(tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            drop(socket.read(&mut head).await);
            while socket.write_all(answer.as_bytes()).await.is_ok() && is_endless {}
        }
    }));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_only_gives_interim_answers_is_one_that_fails() {
    const SWITCHES: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhatever";
    const GOES_ON: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    for (answer, is_endless, status) in [(SWITCHES, false, 502), (GOES_ON, true, 504)] {
        let dir = tempfile::tempdir().unwrap();
        let good = Upstream::start().await.unwrap();
        let file = File::new("odd-1.tar", 100_000);
        know(dir.path(), "gentoo", &[&file]).await;
        let odd = interim(answer, is_endless).await;
        let mut settings = config(dir.path(), &[]);
        settings.mirrors.push(format!("http://{odd}").try_into().unwrap());
        let mut with_another = settings.clone();
        let replica = Replica::start(settings).await;
        let failed = replica.get(&file.mirror_path()).await;
        assert_eq!(failed.status, status, "{}", failed.text());
        // What no tree lists, too.
        let other = replica.get(&format!("http://{odd}/else.txt")).await;
        assert!(matches!(other.status, 502 | 504), "{}", other.status);
        replica.stop().await;
        // It is no more than a source that has to be passed over.
        good.put(&file.mirror_path(), file.object());
        with_another.mirrors.push(good.url().try_into().unwrap());
        let dir = tempfile::tempdir().unwrap();
        know(dir.path(), "gentoo", &[&file]).await;
        with_another.cache_dir = dir.path().to_owned();
        Replica::start(with_another).await.get(&file.mirror_path()).await.assert_is(&file);
    }
}

#[tokio::test]
async fn interim_answers_before_the_answer_are_overlooked() {
    use crate::origin::{Origin, Script};
    let dir = tempfile::tempdir().unwrap();
    let file = File::new("hinted-1.txt", 1000);
    let body = String::from_utf8_lossy(b"hello").into_owned();
    let origin = Origin::start([Script::new(&format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}"
    ))])
    .await;
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(config(dir.path(), &[])).await;
    let answer = replica.get(&origin.url("/some.txt")).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("link")), (200, "hello", None));
}
