//! Export of traces and metrics, from outside: a collector that receives, and one that never answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// How long an export waits for an answer, and so whoever waits for an export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps what it is sent: service name, span name, trace id, parent's id.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<[String; 4]>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", service.and_then(|attribute| attribute.value.clone()));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let [trace, parent] = [span.trace_id, span.parent_span_id].map(hex::encode);
                seen.push([service.clone(), span.name, trace, parent]);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Keeps the names of metrics that it is sent.
#[derive(Clone, Default)]
struct Figures(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl MetricsService for Figures {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.0.lock().unwrap().extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Starts the example with this collector and gives its address.
fn start(collector: SocketAddr) -> (Child, SocketAddr) {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/miniature");
    let mut child = Command::new(&program)
        .env_clear()
        .env("ROOKERY__TELEMETRY__OTLP_ENDPOINT", format!("http://{collector}"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}: cargo build -p service-kit --examples", program.display())
        });
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("listening")).unwrap();
    // Goes on reading, so that the log never blocks.
    std::thread::spawn(move || log.for_each(drop));
    (child, line.rsplit("address=").next().unwrap().trim().parse().unwrap())
}

async fn work(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /work/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\ntraceparent: 00-{TRACE}-{PARENT}-01\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn end(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_and_figures_are_sent_before_the_process_ends() {
    let collector = Collector::default();
    let figures = Figures::default();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(figures.clone()))
        .serve_with_incoming(incoming);
    let tasks = service_kit::lifecycle::Tasks::new();
    drop(tasks.spawn("collector", serving));

    let (child, service) = start(address);
    assert!(work(service).await.ends_with("worked for 0s\n"));
    assert_eq!(end(child).await, Some(0));
    let seen = collector.0.lock().unwrap().clone();
    let [service, name, trace, parent] = seen.first().expect("a span");
    assert!(service.contains("miniature"), "{service}");
    assert_eq!([name.as_str(), trace, parent], ["work", TRACE, PARENT]);
    assert_eq!(*figures.0.lock().unwrap(), ["miniature.requests"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_nothing() {
    // Accepts by its backlog alone, reads nothing, answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (child, service) = start(silent.local_addr().unwrap());
    for number in 0..200 {
        let began = Instant::now();
        assert!(work(service).await.ends_with("worked for 0s\n"));
        assert!(began.elapsed() < EXPORT_TIMEOUT, "{:?} for request {number}", began.elapsed());
    }
    let asked = Instant::now();
    assert_eq!(end(child).await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(12), "took {:?} to stop", asked.elapsed());
}
