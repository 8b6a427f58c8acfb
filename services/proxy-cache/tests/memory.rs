//! What a thousand clients cost, measured from outside: the replica is a process of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use farm_sim::contents::Contents;
use farm_sim::upstream::{Object, Upstream, mirror_path};
use proxy_cache::catalogue::Catalogue;
use rookery_proto::v1;

const CLIENTS: usize = 1000;
const SIZE: u64 = 64 << 20;
const NAME: &str = "popular-1.tar.xz";
/// What the kernel says of memory that no file backs.
const ANONYMOUS_BYTES_MAX: u64 = 100 << 20;

/// Killed when dropped.
struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Replica {
    /// Where it listens, when it says so.
    fn start(config: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_proxy-cache"))
            .arg("--config")
            .arg(config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it listens").unwrap();
            if let Some((_, rest)) = line.split_once("http=") {
                let end = rest.find([' ', '"', '\u{1b}']).unwrap_or(rest.len());
                break rest[..end].parse().unwrap();
            }
        };
        // Whoever does not read it, stops it.
        drop(std::thread::spawn(move || lines.for_each(drop)));
        (Self(child), address)
    }

    fn anonymous_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

fn wire(contents: Contents) -> v1::Distfile {
    let digest = |algorithm: &str, value: [u8; 64]| v1::Digest {
        algorithm: algorithm.to_owned(),
        value: value.to_vec(),
    };
    v1::Distfile {
        name: NAME.to_owned(),
        size_bytes: SIZE,
        digests: vec![digest("BLAKE2B", contents.digests().blake2b)],
        ..v1::Distfile::default()
    }
}

/// A client that has the head and some of the body, and takes no more until it is read again.
fn begin(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    write!(socket, "GET /distfiles/{NAME} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = [0; 16_384];
    socket.read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 "));
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_download_cost_less_than_a_hundred_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let contents = Contents::new(5, NAME, SIZE);
    upstream.put(&mirror_path(NAME), Object::Generated(contents));
    std::fs::create_dir_all(dir.path().join("cache/r0")).unwrap();
    let catalogue = Catalogue::open(&dir.path().join("cache/r0/catalogue.db")).await.unwrap();
    let mut step = catalogue.begin("gentoo", 1).await.unwrap();
    let upserts = vec![wire(contents)];
    step.apply(&v1::DistfileChanges { reset: true, upserts, removes: Vec::new() }).await.unwrap();
    step.complete(&["gentoo".to_owned()]).await.unwrap();
    drop(catalogue);
    let file = dir.path().join("rookery.toml");
    let config = format!(
        "[proxy]\nlisten = \"127.0.0.1:0\"\ncache_dir = \"{}/cache\"\nmirrors = [\"{}\"]\n\
         allow_private_upstreams = [\"127.0.0.0/8\"]\n[proxy.limits]\nconnections_per_client = {}\n\
         [proxy.maintenance]\nendpoint = \"\"\n",
        dir.path().display(),
        upstream.url(),
        CLIENTS + 10,
    );
    std::fs::write(&file, config).unwrap();
    let measured = tokio::task::spawn_blocking(move || measure(&file, contents)).await.unwrap();
    println!("{measured}");
}

fn measure(config: &Path, contents: Contents) -> String {
    let (replica, address) = Replica::start(config);
    let began = Instant::now();
    let idle = replica.anonymous_bytes();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| begin(address)).collect();
    let mut most = replica.anonymous_bytes();
    // Some go on to the end while all the others wait in the middle.
    for mut client in clients.iter().take(8) {
        let (mut came, mut buffer) = (16_384, vec![0; 1 << 20]);
        let mut last = Vec::new();
        loop {
            let read = client.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            came += read as u64;
            last.extend_from_slice(&buffer[..read]);
            last.drain(..last.len().saturating_sub(1000));
            most = most.max(replica.anonymous_bytes());
        }
        assert!(came > SIZE, "{came} octets with the head");
        assert_eq!(last, &contents.chunk_at(SIZE - 1000, 1000)[..]);
    }
    assert!(most <= ANONYMOUS_BYTES_MAX, "{most} bytes for {CLIENTS} clients, {idle} before");
    format!(
        "{CLIENTS} clients in mid-download: {:.1} MiB anonymous at most, {:.1} MiB before, after {:.1} s",
        bytes_to_mib(most),
        bytes_to_mib(idle),
        began.elapsed().as_secs_f64()
    )
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn bytes_to_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
