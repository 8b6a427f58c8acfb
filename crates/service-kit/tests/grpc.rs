//! A server and clients as services use them: who is let in, how long calls take, how they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use rookery_proto::v1::tree_client::TreeClient;
use rookery_proto::v1::tree_server::{Tree, TreeServer};
use rookery_proto::v1::{
    DistfileChanges, Generation, ListGenerationsRequest, ListGenerationsResponse, ListModulesRequest,
    ListModulesResponse, ListRefusalsRequest, ListRefusalsResponse, Module, PublishRequest, PublishResponse,
    RollbackRequest, RollbackResponse, StreamDistfilesRequest, WatchGenerationsRequest,
};
use service_kit::Kit;
use service_kit::grpc::{self, ClientChannel, GrpcConfig, TlsConfig};
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Far above what anything here takes, so that only a hang fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ListModules` answers, `Publish` never does; a watch gives one generation and stays;
/// `StreamDistfiles` gives one batch and then stalls for ever.
struct Stub;

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// One message, then silence.
fn one_then_silence<T: Send + 'static>(message: T) -> Stream<T> {
    Box::pin(tokio_stream::once(Ok(message)).chain(tokio_stream::pending()))
}

#[tonic::async_trait]
impl Tree for Stub {
    type WatchGenerationsStream = Stream<Generation>;
    type StreamDistfilesStream = Stream<DistfileChanges>;

    async fn list_modules(
        &self,
        _: Request<ListModulesRequest>,
    ) -> Result<Response<ListModulesResponse>, Status> {
        tracing::info_span!("looking").in_scope(|| ());
        let module = Module { name: "gentoo".to_owned(), ..Module::default() };
        Ok(Response::new(ListModulesResponse { modules: vec![module] }))
    }

    async fn watch_generations(
        &self,
        _: Request<WatchGenerationsRequest>,
    ) -> Result<Response<Self::WatchGenerationsStream>, Status> {
        Ok(Response::new(one_then_silence(Generation { number: 1, ..Generation::default() })))
    }

    async fn stream_distfiles(
        &self,
        _: Request<StreamDistfilesRequest>,
    ) -> Result<Response<Self::StreamDistfilesStream>, Status> {
        Ok(Response::new(one_then_silence(DistfileChanges { reset: true, ..DistfileChanges::default() })))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        std::future::pending().await
    }

    async fn list_generations(
        &self,
        _: Request<ListGenerationsRequest>,
    ) -> Result<Response<ListGenerationsResponse>, Status> {
        std::future::pending().await
    }

    async fn list_refusals(
        &self,
        _: Request<ListRefusalsRequest>,
    ) -> Result<Response<ListRefusalsResponse>, Status> {
        std::future::pending().await
    }

    async fn rollback(&self, _: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        std::future::pending().await
    }
}

async fn serve(config: GrpcConfig) -> (Kit, SocketAddr) {
    let kit = Kit { grpc: config, ..Kit::default() };
    let listener = grpc::bind("127.0.0.1:0".parse().unwrap(), "sync.grpc", &kit.grpc).await.unwrap();
    let address = grpc::serve(listener, Routes::new(TreeServer::new(Stub)), &kit).unwrap();
    (kit, address)
}

fn channel(config: &GrpcConfig, address: SocketAddr) -> ClientChannel {
    grpc::connect(config, &format!("http://{address}"), PATIENCE).unwrap()
}

async fn list(channel: ClientChannel) -> Result<String, Status> {
    let answer = TreeClient::new(channel).list_modules(ListModulesRequest {}).await?.into_inner();
    Ok(answer.modules.into_iter().map(|module| module.name).collect())
}

fn file(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn with_token(path: PathBuf) -> GrpcConfig {
    GrpcConfig { token_file: Some(path), tls: None }
}

#[tokio::test]
async fn a_token_is_demanded_of_every_call() {
    let directory = tempfile::tempdir().unwrap();
    let right = with_token(file(directory.path(), "right", "0123456789abcdef\n", 0o600));
    let wrong = with_token(file(directory.path(), "wrong", "0123456789abcdeg\n", 0o640));
    let (_kit, address) = serve(right.clone()).await;

    assert_eq!(list(channel(&right, address)).await.unwrap(), "gentoo");
    for config in [wrong, GrpcConfig::default()] {
        let refusal = list(channel(&config, address)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}");
        let mut health = HealthClient::new(channel(&config, address));
        let refusal = health.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}");
    }
}

#[tokio::test]
async fn a_token_file_must_be_private_and_hold_a_token() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text, mode, reason) in [
        ("open", "0123456789abcdef", 0o644, "expected a file that others can't use (chmod 640)"),
        ("short", "secret", 0o600, "at least 16 printable characters"),
        ("two-lines", "0123456789abcdef\n0123456789abcdef", 0o600, "expected one line"),
        ("empty", "", 0o600, "at least 16 printable characters"),
    ] {
        let config = with_token(file(directory.path(), name, text, mode));
        let error = grpc::connect(&config, "http://127.0.0.1:1", PATIENCE).unwrap_err().to_string();
        assert!(error.contains("grpc.token_file: ") && error.contains(reason), "{error}");
    }
    let missing = with_token(directory.path().join("missing"));
    let error = grpc::connect(&missing, "http://127.0.0.1:1", PATIENCE).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_tls() {
    let open = GrpcConfig::default();
    for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(grpc::check_exposure(loopback.parse().unwrap(), "sync.grpc", &open).is_ok(), "{loopback}");
    }
    for exposed in ["0.0.0.0:1", "[::]:1", "10.13.18.1:1"] {
        let address = exposed.parse().unwrap();
        let error = grpc::check_exposure(address, "sync.grpc", &open).unwrap_err().to_string();
        assert!(error.contains("sync.grpc") && error.contains("grpc.token_file or grpc.tls"), "{error}");
        assert!(grpc::check_exposure(address, "sync.grpc", &with_token("/token".into())).is_ok());
    }
}

/// A certificate authority and what it signed, as the files of a `TlsConfig`.
struct Authority {
    directory: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        file(directory.path(), "ca.pem", &certificate.pem(), 0o644);
        Self { directory, issuer: rcgen::Issuer::new(params, key) }
    }

    /// The files of one party whose certificate is good for `name`.
    fn party(&self, name: &str) -> GrpcConfig {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let root = self.directory.path();
        let tls = TlsConfig {
            cert: file(root, &format!("{name}.pem"), &certificate.pem(), 0o644),
            key: file(root, &format!("{name}.key"), &key.serialize_pem(), 0o600),
            ca: root.join("ca.pem"),
        };
        GrpcConfig { token_file: None, tls: Some(tls) }
    }
}

#[tokio::test]
async fn mutual_tls_lets_in_only_who_the_authority_signed() {
    let ours = Authority::new();
    let (_kit, address) = serve(ours.party("127.0.0.1")).await;

    // The scheme says http: a party with certificates speaks TLS all the same.
    assert_eq!(list(channel(&ours.party("box"), address)).await.unwrap(), "gentoo");

    let theirs = Authority::new();
    let stranger = theirs.party("stranger");
    let mut half = ours.party("half");
    half.tls.as_mut().unwrap().cert = stranger.tls.clone().unwrap().cert;
    half.tls.as_mut().unwrap().key = stranger.tls.clone().unwrap().key;
    for config in [stranger, half, GrpcConfig::default()] {
        assert!(list(channel(&config, address)).await.is_err());
    }

    let (_kit, wrong_name) = serve(ours.party("elsewhere")).await;
    assert!(list(channel(&ours.party("box"), wrong_name)).await.is_err());
}

#[test]
fn endpoints_and_certificates_are_checked_before_the_first_call() {
    for wrong in ["", "127.0.0.1:7070", "ftp://x", "https://127.0.0.1:1"] {
        let error = grpc::connect(&GrpcConfig::default(), wrong, PATIENCE).unwrap_err().to_string();
        assert!(error.contains("expected a gRPC endpoint"), "{wrong}: {error}");
    }
    let authority = Authority::new();
    let mut config = authority.party("x");
    config.tls.as_mut().unwrap().key = config.tls.as_ref().unwrap().ca.clone();
    let error = grpc::check_credentials(&config).unwrap_err().to_string();
    assert!(error.contains("grpc.tls.key: expected a PEM file with a PRIVATE KEY"), "{error}");
}

#[tokio::test]
async fn every_call_has_a_deadline() {
    let (_kit, address) = serve(GrpcConfig::default()).await;
    let short = Duration::from_secs(1);
    let quick = grpc::connect(&GrpcConfig::default(), &format!("http://{address}"), short).unwrap();

    // An answer that never comes.
    let began = Instant::now();
    let late = TreeClient::new(quick.clone()).publish(PublishRequest::default()).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(began.elapsed() >= short && began.elapsed() < PATIENCE);

    // An answer that begins and never ends.
    let mut client = TreeClient::new(quick.clone());
    let mut changes = client.stream_distfiles(StreamDistfilesRequest::default()).await.unwrap().into_inner();
    assert!(changes.message().await.unwrap().unwrap().reset);
    assert_eq!(changes.message().await.unwrap_err().code(), Code::DeadlineExceeded);

    // The caller's own deadline counts, not the channel's.
    let mut own = Request::new(PublishRequest::default());
    own.set_timeout(short);
    let late = TreeClient::new(channel(&GrpcConfig::default(), address)).publish(own).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");

    // A watch outlives it.
    let request = grpc::without_deadline(WatchGenerationsRequest {});
    let mut watch = client.watch_generations(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().number, 1);
    assert!(tokio::time::timeout(short * 3, watch.message()).await.is_err());
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_no_more_than_the_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let short = Duration::from_millis(300);
    let quick = grpc::connect(&GrpcConfig::default(), &format!("http://{address}"), short).unwrap();
    let began = Instant::now();
    let late = list(quick).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_stop_ends_watches_and_finishes_the_server() {
    let (kit, address) = serve(GrpcConfig::default()).await;
    let mut client = TreeClient::new(channel(&GrpcConfig::default(), address));
    let request = grpc::without_deadline(WatchGenerationsRequest {});
    let mut watch = client.watch_generations(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().number, 1);
    // Strangers that begin and say no more don't hold it up either.
    let strangers: Vec<_> = ["", "PRI * HTTP", "GET / HTTP/1.1\r\n"]
        .into_iter()
        .map(|bytes| {
            let mut stranger = std::net::TcpStream::connect(address).unwrap();
            stranger.write_all(bytes.as_bytes()).unwrap();
            stranger
        })
        .collect();
    let (ended, finished) = tokio::join!(watch.message(), tokio::time::timeout(PATIENCE, kit.tasks.finish()));
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    assert!(finished.is_ok());
    assert_eq!(kit.tasks.crash_so_far(), None);
    drop(strangers);
}

#[tokio::test]
async fn health_follows_readiness() {
    let kit = Kit::default();
    let part = kit.readiness.part("tree", "no generation yet");
    let listener = grpc::bind("127.0.0.1:0".parse().unwrap(), "sync.grpc", &kit.grpc).await.unwrap();
    let address = grpc::serve(listener, Routes::new(TreeServer::new(Stub)), &kit).unwrap();
    let mut health = HealthClient::new(channel(&kit.grpc, address));
    let watch = grpc::without_deadline(HealthCheckRequest::default());
    let mut states = health.watch(watch).await.unwrap().into_inner();
    let mut wait_for = async |wanted: ServingStatus| {
        while states.message().await.unwrap().unwrap().status() != wanted {}
    };
    let whole = async {
        wait_for(ServingStatus::NotServing).await;
        part.ready();
        wait_for(ServingStatus::Serving).await;
        part.not_ready("the tree is gone");
        wait_for(ServingStatus::NotServing).await;
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap();
}

#[tokio::test]
async fn reflection_names_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response};

    let (_kit, address) = serve(GrpcConfig::default()).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(&GrpcConfig::default(), address));
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let server_reflection_response::MessageResponse::ListServicesResponse(services) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["rookery.v1.Tree", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
}
