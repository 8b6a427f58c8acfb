//! Those that are no rsync client, or half of one.

use std::net::SocketAddr;
use std::time::Duration;

use farm_sim::sockets::keepalive_in;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench::Bench;

const DEADLINE: Duration = Duration::from_secs(20);

/// A connection that says what it is told.
pub(super) struct Stranger(TcpStream);

impl Stranger {
    pub(super) async fn connect(address: SocketAddr, words: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words).await.unwrap();
        Self(stream)
    }

    pub(super) async fn say(&mut self, words: &[u8]) {
        self.0.write_all(words).await.unwrap();
    }

    /// All that the daemon says until it closes.
    pub(super) async fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        let read = tokio::time::timeout(DEADLINE, self.0.read_to_end(&mut said)).await;
        read.expect("the daemon did not close").unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Reads until `text` has come.
    async fn hear(&mut self, text: &str) {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(text) {
            let read = tokio::time::timeout(DEADLINE, self.0.read_buf(&mut said)).await;
            assert_ne!(read.expect("the daemon says nothing").unwrap(), 0);
        }
    }

    /// Waits until it may use the module that it named.
    pub(super) async fn granted(mut self) -> Self {
        self.hear("@RSYNCD: OK\n").await;
        self
    }

    pub(super) async fn close(&mut self) {
        self.0.shutdown().await.unwrap();
        self.last_words().await;
    }
}

/// Names a module, waits for its slot and then says nothing.
pub(super) async fn hold_module(address: SocketAddr, module: &str) -> Stranger {
    ask_for_module(address, module).await.granted().await
}

/// Names a module.
pub(super) async fn ask_for_module(address: SocketAddr, module: &str) -> Stranger {
    let words = format!("@RSYNCD: 31.0\n{module}\n");
    Stranger::connect(address, words.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_module_and_says_nothing_is_asked_whether_it_is_there() {
    let bench = Bench::plain().await;
    let stranger = hold_module(bench.address, "m").await;
    let ours = stranger.0.local_addr().unwrap();
    let until = tokio::time::Instant::now() + DEADLINE;
    // What it was sent has to be acknowledged first.
    while keepalive_in(bench.address, ours).unwrap().is_none_or(|due| due > Duration::from_mins(1)) {
        assert!(tokio::time::Instant::now() < until, "the kernel does not ask");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_get_a_short_answer() {
    let bench = Bench::plain().await;
    for words in [
        &b"GET / HTTP/1.1\r\nHost: ws1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\n",
        b"SSH-2.0-x\r\n",
    ] {
        let said = Stranger::connect(bench.address, words).await.last_words().await;
        assert!(said.ends_with("@ERROR: protocol startup error\n"), "{said}");
        assert!(said.len() < 200, "{said}");
    }
    let said = Stranger::connect(bench.address, b"@RSYNCD: 28\n").await.last_words().await;
    assert!(said.contains("@ERROR: protocol version mismatch"), "{said}");
    let said = Stranger::connect(bench.address, b"@RSYNCD: 32.0\n").await.last_words().await;
    assert!(said.contains("omitted the digest name list"), "{said}");
    let said = Stranger::connect(bench.address, &[b'@'; 4096]).await.last_words().await;
    assert!(said.ends_with("@ERROR: protocol startup error\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_at_any_moment_does_no_harm() {
    let bench = Bench::plain().await;
    let talk = b"@RSYNCD: 31.0\nm\n--server\0--sender\0-logDtpre.iLsfxC\0.\0m/\0\0\0\0\0\0";
    for end in 0..=talk.len() {
        let mut stranger = Stranger::connect(bench.address, &talk[..end]).await;
        if end % 2 == 0 {
            drop(stranger);
        } else {
            stranger.close().await;
        }
    }
    bench.target("target");
    bench.succeeds(&["-rlpt", "{}m/", "target/"]).await;
}
