use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const SIZE: u64 = 300_000;
const PATH: &str = "/distfiles/foo-1.tar.gz";
const DEADLINE: Duration = Duration::from_secs(20);

async fn upstream() -> (Upstream, Bytes) {
    let upstream = Upstream::start().await.unwrap();
    let contents = Contents::new(1, "foo-1.tar.gz", SIZE);
    upstream.put(PATH, Object::Generated(contents));
    (upstream, contents.to_bytes())
}

struct Reply {
    head: String,
    body: Vec<u8>,
    /// Reading ended with an error instead of an end.
    reset: bool,
}

impl Reply {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

async fn request(upstream: &Upstream, method: &str, target: &str, headers: &str) -> Reply {
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let body = answer.get(split + 4..).unwrap_or_default().to_vec();
    Reply { head: String::from_utf8_lossy(&answer[..split]).into_owned(), body, reset: ended.is_err() }
}

async fn get(upstream: &Upstream, headers: &str) -> Reply {
    request(upstream, "GET", PATH, headers).await
}

#[tokio::test]
async fn get_head_and_ranges_are_answered_and_counted() {
    let (upstream, contents) = upstream().await;
    let reply = get(&upstream, "").await;
    assert_eq!((reply.status(), reply.header("Content-Length")), ("200", Some("300000")));
    assert!(reply.body == contents);
    let reply = request(&upstream, "HEAD", PATH, "").await;
    assert_eq!(
        (reply.status(), reply.header("Content-Length"), reply.body.len()),
        ("200", Some("300000"), 0)
    );
    for (range, from, to) in [("1000-", 1000, 300_000), ("10-19", 10, 20), ("-5", 299_995, 300_000)] {
        let reply = get(&upstream, &format!("Range: bytes={range}\r\n")).await;
        assert_eq!(reply.status(), "206");
        assert_eq!(reply.header("Content-Range"), Some(format!("bytes {from}-{}/300000", to - 1).as_str()));
        assert!(reply.body == contents[from..to], "range {range}");
    }
    assert_eq!(get(&upstream, "Range: bytes=300000-\r\n").await.status(), "416");
    assert_eq!(upstream.count_of_path(PATH), Count { requests: 6, bytes: SIZE + 299_000 + 10 + 5 });
    let starts: Vec<_> = upstream.log().iter().map(|exchange| exchange.range_start).collect();
    assert_eq!(starts, [None, None, Some(1000), Some(10), None, Some(300_000)]);
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let (upstream, _) = upstream().await;
    upstream.put("/a b+c", Object::Bytes(Bytes::from_static(b"hello")));
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    let both = "GET /a%20b%2Bc HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n";
    socket.write_all(both.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let hello = answer.find("\r\n\r\nhelloHTTP/1.1 404 ").unwrap();
    assert!(hello > 0, "{answer}");
    assert_eq!(upstream.count_of_path("/a b+c"), Count { requests: 1, bytes: 5 });
    assert_eq!(upstream.total().requests, 2);
}

#[tokio::test]
async fn a_tree_is_served_in_both_layouts_and_at_its_sources() {
    let upstream = Upstream::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = crate::tree::TreeSpec {
        packages: 200,
        source_base: upstream.url(),
        size_median_bytes: 500,
        ..crate::tree::TreeSpec::default()
    };
    let tree = crate::tree::generate(&spec, dir.path()).unwrap();
    upstream.put_tree(&tree);
    assert_eq!(request(&upstream, "GET", "/distfiles/layout.conf", "").await.body, LAYOUT_CONF.as_bytes());
    for (restriction, paths) in
        [(Restriction::None, 3..=4), (Restriction::Mirror, 1..=2), (Restriction::Fetch, 0..=0)]
    {
        let file = tree.distfiles.iter().find(|file| file.restriction == restriction).unwrap();
        let served = upstream.paths(file);
        assert!(paths.contains(&served.len()), "{served:?}");
        for path in &served {
            assert!(request(&upstream, "GET", path, "").await.body == file.contents().to_bytes(), "{path}");
        }
        let count = upstream.count_of_distfile(&file.name);
        let requests = served.len() as u64;
        assert_eq!(count, Count { requests, bytes: requests * file.size_bytes });
        upstream.lie_by_one_request(&file.name);
        assert_eq!(upstream.count_of_distfile(&file.name).requests, requests + 1);
    }
}

#[test]
fn the_hashed_path_is_the_one_that_b2sum_gives() {
    // printf %s foo-1.tar.gz | b2sum
    assert_eq!(mirror_path("foo-1.tar.gz"), "/distfiles/1b/foo-1.tar.gz");
}

#[tokio::test]
async fn bodies_end_early_in_three_ways() {
    let (upstream, contents) = upstream().await;
    upstream.add_fault_times(PATH, Fault::Truncated { after_bytes: 1_000 }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!(
        (reply.header("Content-Length"), reply.body.len(), reply.reset),
        (Some("300000"), 1_000, false)
    );
    assert!(!upstream.log()[0].complete);

    upstream.add_fault_times(PATH, Fault::CleanShort { missing_bytes: 1 }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!((reply.header("Content-Length"), reply.body.len()), (Some("299999"), 299_999));

    upstream.add_fault_times(PATH, Fault::Reset { after_bytes: 0 }, 1);
    assert!(get(&upstream, "").await.reset);

    let reply = get(&upstream, "").await;
    assert!(reply.body == contents, "the faults were for one request each");
}

#[tokio::test]
async fn lengths_and_octets_lie() {
    let (upstream, contents) = upstream().await;
    upstream.add_fault_times(PATH, Fault::Overlong { extra_bytes: 7 }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!((reply.header("Content-Length"), reply.body.len()), (Some("300007"), 300_007));
    assert!(reply.body.starts_with(&contents));

    upstream.add_fault_times(PATH, Fault::WrongByte { at: 299_999 }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!(reply.body.len(), 300_000);
    assert!(reply.body[..299_999] == contents[..299_999] && reply.body[299_999] != contents[299_999]);

    upstream.add_fault_times(PATH, Fault::WrongLength { off_by: 10 }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!((reply.header("Content-Length"), reply.body.len()), (Some("300010"), 300_000));

    upstream.add_fault_times(PATH, Fault::NoLength, 1);
    let reply = get(&upstream, "").await;
    assert_eq!((reply.header("Content-Length"), reply.body.len()), (None, 300_000));
}

#[tokio::test]
async fn ranges_go_wrong() {
    let (upstream, contents) = upstream().await;
    upstream.add_fault_times(PATH, Fault::IgnoresRange, 1);
    let reply = get(&upstream, "Range: bytes=5-\r\n").await;
    assert_eq!((reply.status(), reply.body.len()), ("200", 300_000));

    upstream.add_fault_times(PATH, Fault::WrongRangeStart { shift: 3 }, 1);
    let reply = get(&upstream, "Range: bytes=5-\r\n").await;
    assert_eq!((reply.status(), reply.header("Content-Range")), ("206", Some("bytes 8-299999/300000")));
    assert!(reply.body == contents[8..]);
}

#[tokio::test]
async fn other_answers() {
    let (upstream, _) = upstream().await;
    upstream.add_fault_times(PATH, Fault::Status(500), 1);
    assert_eq!(get(&upstream, "").await.status(), "500");
    upstream.add_fault_times(PATH, Fault::Redirect { to: "http://x/".to_owned() }, 1);
    let reply = get(&upstream, "").await;
    assert_eq!((reply.status(), reply.header("Location")), ("302", Some("http://x/")));
    upstream.put("/old", Object::Redirect("/new".to_owned()));
    assert_eq!(request(&upstream, "GET", "/old", "").await.header("Location"), Some("/new"));
    assert_eq!(request(&upstream, "POST", PATH, "").await.status(), "405");
    let etag = get(&upstream, "").await.header("ETag").unwrap().to_owned();
    assert_eq!(get(&upstream, &format!("If-None-Match: {etag}\r\n")).await.status(), "304");
}

#[tokio::test]
async fn a_gate_holds_the_body_until_it_opens() {
    let (upstream, contents) = upstream().await;
    let gate = Gate::closed();
    upstream.add_fault(PATH, Fault::Gated { after_bytes: 1_000, gate: gate.clone() });
    let opening = async {
        let sent = |log: &[Exchange]| log.first().is_some_and(|exchange| exchange.bytes_sent == 1_000);
        assert!(upstream.wait_until(DEADLINE, sent).await);
        gate.open();
    };
    let (reply, ()) = tokio::join!(get(&upstream, ""), opening);
    assert!(reply.body == contents);
}

#[tokio::test]
async fn silence_is_kept_at_every_stage() {
    let (upstream, _) = upstream().await;
    let silence = |fault: Option<Fault>, expected: usize| {
        let upstream = &upstream;
        async move {
            upstream.clear_faults();
            match fault {
                Some(fault) => upstream.add_fault(PATH, fault),
                None => upstream.set_silent(true),
            }
            let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
            socket.write_all(format!("GET {PATH} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let reading = socket.read_to_end(&mut answer);
            assert!(tokio::time::timeout(Duration::from_millis(200), reading).await.is_err());
            let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
            let body = split.map_or(0, |split| answer.len() - split - 4);
            assert_eq!(body, expected);
        }
    };
    silence(None, 0).await;
    silence(Some(Fault::SilentHead), 0).await;
    silence(Some(Fault::SilentBody { after_bytes: 100 }), 100).await;
}

#[tokio::test]
async fn a_rate_limit_takes_its_time() {
    let (upstream, contents) = upstream().await;
    upstream.add_fault(PATH, Fault::RateLimit { bytes_per_second: 1_000_000 });
    let began = std::time::Instant::now();
    assert!(get(&upstream, "").await.body == contents);
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}
