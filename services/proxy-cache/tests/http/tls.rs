//! The port for TLS, with the stock clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farm_sim::upstream::{Object, Upstream};
use proxy_cache::Config;
use proxy_cache::config::TlsConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use service_kit::config::HumanDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::replica::{DEADLINE, File, Replica, config, know};

const SIZE: u64 = 2_000_000;

/// A certificate for this host by an authority that nobody knows, in files.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        // Of the authority's name, OpenSSL would take it for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        write("cert.pem", params.signed_by(&key, &issuer).unwrap().pem());
        write("key.pem", key.serialize_pem());
        Self(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn option(&self, option: &str) -> String {
        format!("{option}={}", self.file("ca.pem").display())
    }

    fn config(&self, cache_dir: &Path, mirrors: &[&Upstream]) -> Config {
        let listen = "127.0.0.1:0".parse().unwrap();
        let tls = TlsConfig { listen, cert: self.file("cert.pem"), key: self.file("key.pem") };
        Config { tls: Some(tls), ..config(cache_dir, mirrors) }
    }
}

fn url(replica: &Replica, path: &str) -> String {
    format!("https://localhost:{}{path}", replica.tls_address.unwrap().port())
}

/// A program beside the replica that it talks to.
async fn run(name: &'static str, arguments: &[&str]) -> Output {
    let mut command = Command::new(name);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn curl(arguments: &[&str]) -> Output {
    run("curl", &[&["--silent", "--show-error", "--fail", "--max-time", "60"], arguments].concat()).await
}

#[track_caller]
fn assert_output(output: &Output, expected: &[u8]) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == expected, "{} octets came", output.stdout.len());
}

#[tokio::test]
async fn curl_and_wget_get_files_and_the_rest_of_files() {
    let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::make());
    let upstream = Upstream::start().await.unwrap();
    let file = File::new("a-1.tar", SIZE);
    upstream.put(&file.mirror_path(), file.object());
    know(dir.path(), "gentoo", &[&file]).await;
    let replica = Replica::start(certificates.config(dir.path(), &[&upstream])).await;
    let (url, bytes) = (url(&replica, &file.mirror_path()), file.bytes());
    let authority = certificates.file("ca.pem").display().to_string();

    let unknown = curl(&[&url]).await;
    assert_eq!(unknown.status.code(), Some(60), "curl trusts an authority that it does not know");
    // A miss, and then hits.
    assert_output(&curl(&["--cacert", &authority, &url]).await, &bytes);
    assert_output(&curl(&["--cacert", &authority, "--range", "1000-1999", &url]).await, &bytes[1000..2000]);
    assert_output(&curl(&["--cacert", &authority, "--tls-max", "1.2", &url]).await, &bytes);

    let half = dir.path().join("half");
    std::fs::write(&half, &bytes[..700_000]).unwrap();
    let target = half.display().to_string();
    let wget = ["--no-config", "-c", "-t", "3", "-T", "60", "--no-verbose", "-O", &target, &url];
    let unknown = run("wget", &wget).await;
    assert_eq!(unknown.status.code(), Some(5), "{}", String::from_utf8_lossy(&unknown.stderr));
    let resumed =
        run("wget", &[&[certificates.option("--ca-certificate").as_str()], &wget[..]].concat()).await;
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert!(std::fs::read(&half).unwrap() == bytes);
    assert_eq!(upstream.total().requests, 1);
    // The other port is what it was.
    replica.get(&file.mirror_path()).await.assert_is(&file);
}

#[tokio::test]
async fn client_files_name_the_port_that_was_asked() {
    let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::make());
    let replica = Replica::start(certificates.config(dir.path(), &[])).await;
    let authority = certificates.file("ca.pem").display().to_string();
    let output = curl(&["--cacert", &authority, &url(&replica, "/client/make.conf")]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("GENTOO_MIRRORS=\"{}\"", url(&replica, ""))), "{text}");
    let plain = replica.get("/client/make.conf").await.text();
    assert!(plain.contains(&format!("GENTOO_MIRRORS=\"http://{}\"", replica.address)), "{plain}");
}

#[tokio::test]
async fn the_forward_role_and_tunnels_are_there_too() {
    let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::make());
    let upstream = Upstream::start().await.unwrap();
    upstream.put("/index", Object::Bytes("an index".into()));
    let mut config = certificates.config(dir.path(), &[]);
    config.tunnels.allow = vec![upstream.address().to_string().try_into().unwrap()];
    let replica = Replica::start(config).await;
    let (proxy, wanted) = (url(&replica, ""), format!("{}/index", upstream.url()));
    let authority = certificates.file("ca.pem").display().to_string();
    let through = ["--proxy", &proxy, "--proxy-cacert", &authority, &wanted];
    assert_output(&curl(&through).await, b"an index");
    let agent = |number: usize| upstream.log()[number].header("user-agent").unwrap().to_owned();
    assert!(agent(0).starts_with("rookery/"));
    assert_output(&curl(&[&["--proxytunnel"], &through[..]].concat()).await, b"an index");
    assert!(agent(1).starts_with("curl/"), "it did not go through a tunnel");
}

/// What comes of octets that are no TLS, until the end of the connection.
async fn answer_to(replica: &Replica, octets: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(replica.tls_address.unwrap()).await.unwrap();
    socket.write_all(octets).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    drop(tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("the connection ends"));
    answer
}

#[tokio::test]
async fn who_does_not_shake_hands_is_let_go() {
    let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::make());
    let mut config = certificates.config(dir.path(), &[]);
    config.timeouts.client_head = HumanDuration(std::time::Duration::from_millis(300));
    let replica = Replica::start(config).await;
    assert!(answer_to(&replica, b"").await.is_empty());
    let plain = answer_to(&replica, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!plain.starts_with(b"HTTP/"), "{plain:?}");
}

#[tokio::test]
async fn one_address_gets_so_many_connections_whichever_port_they_are_at() {
    let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::make());
    let mut config = certificates.config(dir.path(), &[]);
    config.limits.connections_per_client = 1;
    let replica = Replica::start(config).await;
    let mut held = TcpStream::connect(replica.address).await.unwrap();
    held.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    held.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let authority = certificates.file("ca.pem").display().to_string();
    let healthy = url(&replica, "/healthz");
    let refused = curl(&["--cacert", &authority, "--include", "--no-fail", &healthy]).await;
    let told = String::from_utf8_lossy(&refused.stdout);
    assert!(
        refused.status.success() && told.starts_with("HTTP/1.1 503 ") && told.contains("\nRetry-After: 10\r"),
        "{told}"
    );
    drop(held);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !curl(&["--cacert", &authority, &healthy]).await.status.success() {
        assert!(tokio::time::Instant::now() < deadline, "a place that was left stays taken");
    }
}

/// Whether the certificate that is shown is one of this authority.
async fn shows(replica: &Replica, authority: &Certificates) -> bool {
    let authority = authority.file("ca.pem").display().to_string();
    curl(&["--cacert", &authority, &url(replica, "/healthz")]).await.status.success()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_told() {
    let (dir, certificates, renewed) =
        (tempfile::tempdir().unwrap(), Certificates::make(), Certificates::make());
    let replica = Replica::start(certificates.config(dir.path(), &[])).await;
    assert!(shows(&replica, &certificates).await);
    let readyz = async || replica.get("/readyz").await.text();
    let deadline = || tokio::time::Instant::now() + DEADLINE;

    // Another key than the certificate's: the connection goes on as before.
    let cert = std::fs::read(certificates.file("cert.pem")).unwrap();
    std::fs::copy(renewed.file("cert.pem"), certificates.file("cert.pem")).unwrap();
    let in_time = deadline();
    while !readyz().await.contains("warning: proxy.tls: ") {
        assert!(tokio::time::Instant::now() < in_time, "nobody tells that the pair is broken");
    }
    assert_eq!(replica.get("/readyz").await.status, 200);
    assert!(shows(&replica, &certificates).await && !shows(&replica, &renewed).await);

    // The whole pair, by rename as certbot does it.
    let new_key = certificates.file("new-key.pem");
    std::fs::copy(renewed.file("key.pem"), &new_key).unwrap();
    std::fs::rename(&new_key, certificates.file("key.pem")).unwrap();
    let in_time = deadline();
    while !shows(&replica, &renewed).await {
        assert!(tokio::time::Instant::now() < in_time, "the renewed certificate is not shown");
    }
    let in_time = deadline();
    while readyz().await != "ready\n" {
        assert!(tokio::time::Instant::now() < in_time, "the warning stays");
    }

    // No file at all.
    std::fs::remove_file(certificates.file("key.pem")).unwrap();
    std::fs::write(certificates.file("cert.pem"), cert).unwrap();
    let in_time = deadline();
    while readyz().await == "ready\n" {
        assert!(tokio::time::Instant::now() < in_time, "nobody tells that a file is missing");
    }
    assert!(shows(&replica, &renewed).await && !shows(&replica, &certificates).await);
}
