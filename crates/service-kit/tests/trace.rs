//! One trace from an HTTP request through a gRPC client and server into a handler.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rookery_proto::v1::admin_client::AdminClient;
use service_kit::telemetry::{propagation, trace_layer};
use service_kit::{Kit, grpc};
use tonic::codegen::http as tonic_http;
use tonic::service::Routes;
use tonic::{Code, Status};
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A gRPC service whose every method makes a span and then refuses.
#[derive(Clone)]
struct Refusing;

impl tonic::server::NamedService for Refusing {
    const NAME: &'static str = "rookery.v1.Admin";
}

impl tower::Service<tonic_http::Request<tonic::body::Body>> for Refusing {
    type Response = tonic_http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic_http::Request<tonic::body::Body>) -> Self::Future {
        tracing::info_span!("handling").in_scope(|| ());
        std::future::ready(Ok(Status::unimplemented("a stub").into_http()))
    }
}

#[tokio::test]
async fn a_trace_goes_through_http_client_server_and_handler() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(trace_layer(provider.tracer("test")));
    // One thread runs the whole test, so that its default is enough.
    let _subscribed = tracing::subscriber::set_default(subscriber);

    let kit = Kit::default();
    let listener = grpc::bind("127.0.0.1:0".parse().unwrap(), "maintenance.listen", &kit.grpc).await.unwrap();
    let address = grpc::serve(listener, Routes::new(Refusing), &kit).unwrap();
    let channel = grpc::connect(&kit.grpc, &format!("http://{address}"), Duration::from_secs(30)).unwrap();

    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
    headers.insert("tracestate", "vendor=1".parse().unwrap());
    let request = tracing::info_span!("http request");
    propagation::adopt(&request, &headers);
    let refusal = AdminClient::new(channel)
        .get_status(rookery_proto::v1::GetStatusRequest::default())
        .instrument(request)
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    kit.tasks.finish().await;

    let spans = exporter.get_finished_spans().unwrap();
    let find = |name: &str| -> SpanData {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {spans:#?}")).clone()
    };
    let parents =
        ["http request", "rookery.v1.Admin/GetStatus", "handling"].map(|name| find(name).parent_span_id);
    assert_eq!(parents[0].to_string(), PARENT);
    let both: Vec<_> = spans.iter().filter(|span| span.name == "rookery.v1.Admin/GetStatus").collect();
    assert_eq!(both.len(), 2, "{spans:#?}");
    let client = both.iter().find(|span| span.span_kind == opentelemetry::trace::SpanKind::Client).unwrap();
    let server = both.iter().find(|span| span.span_kind == opentelemetry::trace::SpanKind::Server).unwrap();
    assert_eq!(client.parent_span_id, find("http request").span_context.span_id());
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert!(server.parent_span_is_remote);
    assert_eq!(parents[2], server.span_context.span_id());
    for span in &spans {
        assert_eq!(span.span_context.trace_id().to_string(), TRACE, "{}", span.name);
    }
    assert_eq!(server.span_context.trace_state().get("vendor"), Some("1"));
}

#[test]
fn without_an_exporter_nothing_is_sent_along() {
    let mut headers = HeaderMap::new();
    propagation::inject(&mut headers);
    assert!(headers.is_empty(), "{headers:?}");
}
