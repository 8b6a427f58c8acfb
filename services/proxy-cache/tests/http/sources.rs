//! Which source is asked, how fast, and through whom.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farm_sim::upstream::{Fault, Upstream};
use proxy_cache::config::UpstreamProxy;
use rookery_proto::v1::Restriction;
use service_kit::config::{ByteSize, HumanDuration, Networks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::replica::{File, Replica, config, know};

const SIZE: u64 = 300_000;

#[tokio::test]
async fn a_mirror_that_fails_is_asked_after_the_others_for_the_next_file() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, good) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    bad.add_fault_everywhere(Fault::Status(500));
    let files: Vec<File> = (0..3).map(|number| File::new(&format!("f-{number}.tar"), SIZE)).collect();
    for file in &files {
        good.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &files.iter().collect::<Vec<_>>()).await;
    let replica = Replica::start(config(dir.path(), &[&bad, &good])).await;
    for file in &files {
        replica.get(&file.mirror_path()).await.assert_is(file);
    }
    assert_eq!(bad.total().requests, 1, "it was asked once, and is not the first any more");
    assert_eq!(good.total().requests, 3);
}

#[tokio::test]
async fn a_source_that_keeps_us_waiting_is_hedged_and_the_first_answer_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (silent, good) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    silent.add_fault_everywhere(Fault::SilentHead);
    let file = File::new("hedged-1.tar", SIZE);
    good.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let mut settings = config(dir.path(), &[&silent, &good]);
    // Without the second one, the answer would come after the first one's time is over.
    settings.timeouts.headers = HumanDuration(Duration::from_hours(1));
    settings.hedge_after = HumanDuration(Duration::from_millis(50));
    let replica = Replica::start(settings).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    assert_eq!((silent.total().requests, good.total().requests), (1, 1));
}

#[tokio::test]
async fn who_answers_in_time_is_not_hedged() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let file = File::new("prompt-1.tar", SIZE);
    for mirror in [&first, &second] {
        mirror.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &[&file]).await;
    let mut settings = config(dir.path(), &[&first, &second]);
    settings.hedge_after = HumanDuration(Duration::from_secs(20));
    let replica = Replica::start(settings).await;
    replica.get(&file.mirror_path()).await.assert_is(&file);
    assert_eq!((first.total().requests, second.total().requests), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_downloads_together_keep_below_the_bandwidth() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await.unwrap();
    let files: Vec<File> = (0..4).map(|number| File::new(&format!("slow-{number}.tar"), SIZE)).collect();
    for file in &files {
        upstream.put(&file.mirror_path(), file.object());
    }
    know(dir.path(), "gentoo", &files.iter().collect::<Vec<_>>()).await;
    let mut settings = config(dir.path(), &[&upstream]);
    settings.bandwidth = ByteSize(1 << 20);
    let replica = Replica::start(settings).await;
    let began = Instant::now();
    let paths: Vec<String> = files.iter().map(File::mirror_path).collect();
    let answers = futures_util::future::join_all(paths.iter().map(|path| replica.get(path))).await;
    for (answer, file) in answers.iter().zip(&files) {
        answer.assert_is(file);
    }
    // 1.2 MB at 1 MiB a second, of which 256 KiB may come at once; each download may be one read ahead of the
    // bucket. Only a lower bound is a property; how long a loaded machine takes is none.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

/// A proxy that passes on what it is asked to, and remembers the names.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Whatever the name, `upstream` is who answers.
    async fn start(scheme: &'static str, upstream: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let names = Arc::clone(&asked);
        #[allow(clippy::disallowed_methods, reason = "it ends with the test")]
        drop(tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let names = Arc::clone(&names);
                let serving = async move {
                    drop(if scheme == "http" {
                        http(client, upstream, &names).await
                    } else {
                        socks5(client, upstream, &names).await
                    });
                };
                #[allow(clippy::disallowed_methods, reason = "it ends with the test")]
                drop(tokio::spawn(serving));
            }
        }));
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn http(
    mut client: TcpStream,
    upstream: std::net::SocketAddr,
    names: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let url = url::Url::parse(text.split(' ').nth(1).unwrap()).unwrap();
    names.lock().unwrap().push(url.host_str().unwrap().to_owned());
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(text.replacen(url.as_str(), url.path(), 1).as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn socks5(
    mut client: TcpStream,
    upstream: std::net::SocketAddr,
    names: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    // RFC 1928: methods, then a request with a name.
    let methods = [client.read_u8().await?, client.read_u8().await?][1];
    client.read_exact(&mut vec![0; methods.into()]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    assert_eq!(request, [5, 1, 0, 3], "a name is to be resolved by the proxy");
    let mut name = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut name).await?;
    client.read_u16().await?;
    names.lock().unwrap().push(String::from_utf8(name).unwrap());
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let mut server = TcpStream::connect(upstream).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn everything_outside_is_asked_through_the_upstream_proxy_but_what_is_excepted() {
    for scheme in ["http", "socks5"] {
        let dir = tempfile::tempdir().unwrap();
        let (outside, near) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
        let proxy = Proxy::start(scheme, outside.address()).await;
        let far = File::new("far-1.tar", SIZE)
            .with_source("http://sources.invalid/far-1.tar".to_owned())
            .restricted(Restriction::Mirror);
        let local = File::new("near-1.tar", SIZE);
        outside.put("/far-1.tar", far.object());
        near.put(&local.mirror_path(), local.object());
        know(dir.path(), "gentoo", &[&far, &local]).await;
        let mut settings = config(dir.path(), &[&near]);
        settings.upstream_proxy = UpstreamProxy::try_from(proxy.url.clone()).unwrap();
        settings.upstream_proxy_except = vec!["127.0.0.0/8".to_owned()];
        let replica = Replica::start(settings).await;
        replica.get(&far.mirror_path()).await.assert_is(&far);
        replica.get(&local.mirror_path()).await.assert_is(&local);
        assert_eq!(proxy.asked(), ["sources.invalid"], "{scheme}");
        assert_eq!(near.total().requests, 1);
    }
}

#[tokio::test]
async fn a_proxy_is_no_way_around_the_rules_for_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let outside = Upstream::start().await.unwrap();
    let proxy = Proxy::start("http", outside.address()).await;
    outside.put("/x", farm_sim::upstream::Object::Bytes("x".into()));
    let mut settings = config(dir.path(), &[]);
    settings.allow_private_upstreams = Networks::default();
    settings.upstream_proxy = UpstreamProxy::try_from(proxy.url.clone()).unwrap();
    let replica = Replica::start(settings).await;
    for url in
        ["http://127.0.0.1:1/x", "http://localhost:1/x", "http://[::1]:1/x", "http://169.254.169.254/x"]
    {
        assert_eq!(replica.get(url).await.status, 403, "{url}");
    }
    assert_eq!(proxy.asked(), Vec::<String>::new());
    assert_eq!(replica.get("http://outside.invalid/x").await.text(), "x");
    assert_eq!(proxy.asked(), ["outside.invalid"]);
}
