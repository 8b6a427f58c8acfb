//! What is reported after a request is over belongs to the request's trace.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rookery_proto::v1;
use service_kit::telemetry::trace_layer;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::replica::until;
use crate::scrub::{NAME, Rig};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The call that says it.
const CALL: &str = "rookery.v1.CacheIndex/CommitFetch";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn the_commit_of_a_miss_is_in_its_trace() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(trace_layer(provider.tracer("test")));
    // While there is only one, whichever thread comes first to a place in the code decides for all whether that
    // place is traced, and other tests' threads would decide that it is not.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    // One thread runs the whole test, so that its default is enough.
    let _subscribed = tracing::subscriber::set_default(subscriber);

    let rig = Rig::start(v1::Restriction::None).await;
    let request = reqwest::Client::new()
        .get(format!("{}/distfiles/{NAME}", rig.base))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    assert!(request.send().await.unwrap().status().is_success());

    let of_trace = || -> Vec<SpanData> {
        let all = exporter.get_finished_spans().unwrap();
        all.into_iter().filter(|span| span.span_context.trace_id().to_string() == TRACE).collect()
    };
    let find = |name: &str| of_trace().into_iter().find(|span| span.name == name);
    until("the commit is in the trace", async || find(CALL).is_some() && find("report").is_some()).await;
    let (request, fetch) = (find("http_request").unwrap(), find("fetch").unwrap());
    let (report, call) = (find("report").unwrap(), find(CALL).unwrap());
    assert_eq!(request.parent_span_id.to_string(), PARENT);
    assert_eq!(fetch.parent_span_id, request.span_context.span_id());
    assert_eq!(report.parent_span_id, fetch.span_context.span_id());
    assert_eq!(call.parent_span_id, report.span_context.span_id());
    rig.kit.tasks.hard().cancel();
}
