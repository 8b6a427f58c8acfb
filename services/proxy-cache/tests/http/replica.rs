//! One replica, one upstream, and clients that see broken connections for what they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blake2::Digest as _;
use farm_sim::contents::Contents;
use farm_sim::upstream::{Fault, Gate, Object, Upstream, mirror_path};
use proxy_cache::Config;
use proxy_cache::catalogue::Catalogue;
use proxy_cache::config::MirrorUrl;
use rookery_proto::v1;
use service_kit::Kit;
use service_kit::config::{HumanDuration, Networks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No wait in a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// For what a replica is to give up soon: no client that says at once what it has to say takes so long on a busy machine.
pub(crate) const HURRY: Duration = Duration::from_secs(1);

/// Tasks of a replica of which nobody wants anything: its port, and the look at its clock.
pub(crate) const TASKS_AT_REST: usize = 2;

/// A distfile of the test.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) contents: Contents,
    pub(crate) sources: Vec<String>,
    pub(crate) restriction: v1::Restriction,
}

impl File {
    pub(crate) fn new(name: &str, size_bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            contents: Contents::new(7, name, size_bytes),
            sources: Vec::new(),
            restriction: v1::Restriction::None,
        }
    }

    pub(crate) fn with_source(mut self, url: String) -> Self {
        self.sources.push(url);
        self
    }

    pub(crate) fn restricted(mut self, restriction: v1::Restriction) -> Self {
        self.restriction = restriction;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.contents.to_bytes().to_vec()
    }

    pub(crate) fn object(&self) -> Object {
        Object::Generated(self.contents)
    }

    pub(crate) fn mirror_path(&self) -> String {
        mirror_path(&self.name)
    }

    fn wire(&self) -> v1::Distfile {
        let digests = self.contents.digests();
        let digest = |algorithm: &str, value: &[u8]| v1::Digest {
            algorithm: algorithm.to_owned(),
            value: value.to_vec(),
        };
        v1::Distfile {
            name: self.name.clone(),
            size_bytes: self.contents.size_bytes(),
            digests: vec![digest("BLAKE2B", &digests.blake2b), digest("SHA512", &digests.sha512)],
            sources: self.sources.clone(),
            restriction: self.restriction.into(),
            packages: vec!["app-misc/foo".to_owned()],
        }
    }
}

/// A running replica. Dropped, it is stopped at once, as by `kill -9` but for the process.
pub(crate) struct Replica {
    pub(crate) address: std::net::SocketAddr,
    /// Of the port for TLS.
    pub(crate) tls_address: Option<std::net::SocketAddr>,
    pub(crate) kit: Kit,
    cache_dir: PathBuf,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kit.tasks.hard().cancel();
        self.kit.tasks.soft().cancel();
    }
}

/// What all tests start from: loopback sources permitted, short times.
pub(crate) fn config(cache_dir: &Path, mirrors: &[&Upstream]) -> Config {
    let mut config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        cache_dir: cache_dir.to_owned(),
        mirrors: mirrors.iter().map(|mirror| MirrorUrl::try_from(mirror.url()).unwrap()).collect(),
        allow_private_upstreams: Networks::parse(["127.0.0.0/8"]).unwrap(),
        ..Config::default()
    };
    config.maintenance.endpoint = String::new();
    config.timeouts.headers = HumanDuration(Duration::from_secs(2));
    config.timeouts.chunk = HumanDuration(Duration::from_secs(2));
    config
}

/// Fills the local catalogue of the first slot, as maintenance would have before it went away.
pub(crate) async fn know(cache_dir: &Path, module: &str, files: &[&File]) {
    let catalogue = Catalogue::open(&cache_dir.join("r0/catalogue.db")).await.unwrap();
    let generation =
        catalogue.have().await.unwrap().iter().map(|have| have.generation).max().unwrap_or(0) + 1;
    let mut step = catalogue.begin(module, generation).await.unwrap();
    let upserts = files.iter().map(|file| file.wire()).collect();
    step.apply(&v1::DistfileChanges { reset: true, upserts, removes: Vec::new() }).await.unwrap();
    step.complete(&["gentoo".to_owned(), "guru".to_owned()]).await.unwrap();
}

/// A replica that knows one file, whose upstream stops behind some octets of it until the gate opens.
pub(crate) struct Held {
    // Dropped in this order.
    pub(crate) replica: Replica,
    pub(crate) upstream: Upstream,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) file: File,
    pub(crate) gate: Gate,
}

impl Held {
    pub(crate) async fn start(name: &str, size_bytes: u64, after_bytes: u64) -> Self {
        Self::start_as(File::new(name, size_bytes), after_bytes, |_| {}).await
    }

    pub(crate) async fn start_as(file: File, after_bytes: u64, set: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await.unwrap();
        upstream.put(&file.mirror_path(), file.object());
        let gate = Gate::closed();
        upstream.add_fault(&file.mirror_path(), Fault::Gated { after_bytes, gate: gate.clone() });
        know(dir.path(), "gentoo", &[&file]).await;
        let mut settings = config(dir.path(), &[&upstream]);
        // However long the test takes to open the gate, the upstream is none that keeps silent.
        settings.timeouts.chunk = HumanDuration(Duration::from_mins(5));
        set(&mut settings);
        let replica = Replica::start(settings).await;
        Self { replica, upstream, dir, file, gate }
    }
}

impl Replica {
    pub(crate) async fn start(config: Config) -> Self {
        let (kit, cache_dir) = (Kit::default(), config.cache_dir.clone());
        let running = proxy_cache::start(config, &kit).await.unwrap();
        Self { address: running.http_addr, tls_address: running.tls_addr, kit, cache_dir }
    }

    /// Ends it and waits until it holds nothing any more, so that the next one gets its slot.
    pub(crate) async fn stop(self) {
        tokio::time::timeout(DEADLINE, self.kit.tasks.stop()).await.expect("it stops");
        // What its last tasks had begun at the disk may go on for a moment.
        until("its slot is free", || {
            let slots = std::fs::read_dir(&self.cache_dir).unwrap().map(Result::unwrap);
            let mut locks = slots.filter_map(|slot| std::fs::File::open(slot.path().join("lock")).ok());
            locks.all(|lock| lock.try_lock().is_ok_and(|()| lock.unlock().is_ok()))
        })
        .await;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    /// A download whose connection may break before, or while, the answer comes.
    pub(crate) async fn attempt(&self, path: &str) -> Answer {
        let mut client = Client::get(self, path).await;
        if client.head_or_end().await { client.rest().await } else { Answer::default() }
    }

    /// A download that goes wrong behind `gate` after this client has got some of it.
    pub(crate) async fn get_broken(&self, path: &str, gate: &Gate) -> Answer {
        let mut client = Client::get(self, path).await;
        assert_eq!(client.head().await.status, 200);
        client.body_bytes(1_000_000).await;
        gate.open();
        let broken = client.rest().await;
        assert!(!broken.complete, "a wrong file looked complete");
        broken
    }

    pub(crate) async fn get_range(&self, path: &str, range: &str) -> Answer {
        self.ask("GET", path, &[("Range", range)]).await
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = Client::send(self, method, target, headers).await;
        client.head().await;
        client.rest().await
    }

    /// Octets as they are; everything that comes back until the connection ends.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        String::from_utf8_lossy(&self.raw_bytes(request).await).into_owned()
    }

    pub(crate) async fn raw_bytes(&self, request: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let reading = socket.read_to_end(&mut answer);
        // A reset is an end too.
        drop(tokio::time::timeout(DEADLINE, reading).await.expect("the connection ends"));
        answer
    }
}

/// A response, and whether all that it promised came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn assert_is(&self, file: &File) {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.complete, "the connection broke after {} bytes", self.body.len());
        assert!(self.body == file.bytes(), "{} differs", file.name);
    }
}

/// A connection with one request, read step by step. Its own few lines of HTTP, so that a broken
/// connection is never mistaken for an end.
pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    answer: Answer,
    no_body: bool,
}

impl Client {
    pub(crate) async fn send(
        replica: &Replica,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        use std::fmt::Write as _;
        let mut socket = TcpStream::connect(replica.address).await.unwrap();
        let host = replica.address;
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, buffer: Vec::new(), answer: Answer::default(), no_body: method == "HEAD" }
    }

    pub(crate) async fn get(replica: &Replica, path: &str) -> Self {
        Self::send(replica, "GET", path, &[]).await
    }

    async fn more(&mut self) -> usize {
        let reading = self.socket.read_buf(&mut self.buffer);
        // A reset is an end too.
        tokio::time::timeout(DEADLINE, reading).await.expect("an answer in time").unwrap_or_default()
    }

    /// Reads the head; the body's first bytes may come with it.
    pub(crate) async fn head(&mut self) -> &Answer {
        assert!(self.head_or_end().await, "no head: {}", String::from_utf8_lossy(&self.buffer));
        &self.answer
    }

    /// The same; false if the connection ends without one.
    pub(crate) async fn head_or_end(&mut self) -> bool {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.more().await == 0 {
                return false;
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        self.answer.status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        self.answer.headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        true
    }

    /// Sends no more.
    pub(crate) async fn say_all(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// Goes, and has the other side told so.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until that many bytes of the body are here.
    pub(crate) async fn body_bytes(&mut self, wanted: usize) {
        while self.buffer.len() < wanted {
            assert_ne!(self.more().await, 0, "{} of {wanted} bytes came", self.buffer.len());
        }
    }

    /// What is here of the body.
    pub(crate) fn so_far(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads to the end, or to where it breaks.
    pub(crate) async fn rest(mut self) -> Answer {
        while self.more().await > 0 {}
        let mut answer = self.answer;
        answer.body = self.buffer;
        answer.complete = match answer.header("content-length") {
            Some(_) if self.no_body || matches!(answer.status, 204 | 304) => answer.body.is_empty(),
            Some(length) => length.parse() == Ok(answer.body.len()),
            None => match answer.header("transfer-encoding") {
                Some(_) => answer.body.ends_with(b"0\r\n\r\n"),
                None => true,
            },
        };
        answer
    }
}

/// Every file in the cache directory that has a distfile's name, after checking that its contents are
/// those that its blob's name says: what nginx would serve.
pub(crate) fn named(cache_dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for group in std::fs::read_dir(cache_dir.join("r0/distfiles")).unwrap().map(Result::unwrap) {
        if !group.path().is_dir() {
            continue;
        }
        for link in std::fs::read_dir(group.path()).unwrap().map(Result::unwrap) {
            let target = std::fs::read_link(link.path()).unwrap();
            let bytes = std::fs::read(link.path()).unwrap();
            let digest = hex::encode(blake2::Blake2b512::digest(&bytes));
            assert_eq!(
                target.file_name().unwrap().to_str(),
                Some(digest.as_str()),
                "{}",
                link.path().display()
            );
            names.push(link.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
