//! A collector of traces that shows what it was sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::json;
use service_kit::lifecycle::Tasks;
use tonic::{Request, Response, Status};

use crate::control;

#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<serde_json::Value>>>,
    refuses: Arc<AtomicBool>,
}

/// Receives until SIGTERM.
pub(crate) async fn run() -> Result<()> {
    let collector = Collector::default();
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4317)));
    let tasks = Tasks::new();
    tasks.spawn_critical("otlp", async { Ok(serving.await?) });
    tokio::select! {
        ended = control::listen(|words| collector.obey(words)) => ended,
        crash = tasks.crashed() => Err(crash.into()),
    }
}

impl Collector {
    fn obey(&self, words: &[&str]) -> Result<String> {
        match words {
            ["spans"] => Ok(json!(*self.spans.lock().unwrap_or_else(PoisonError::into_inner)).to_string()),
            ["refuse"] => {
                self.refuses.store(true, Ordering::SeqCst);
                Ok("refusing".to_owned())
            }
            ["accept"] => {
                self.refuses.store(false, Ordering::SeqCst);
                Ok("accepting".to_owned())
            }
            _ => bail!("what is {words:?}?"),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Status::internal("refusing, as told to"));
        }
        let mut seen = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = object(&resource.resource.unwrap_or_default().attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let events: Vec<_> = span
                    .events
                    .iter()
                    .map(|event| json!({ "name": event.name, "attributes": object(&event.attributes) }))
                    .collect();
                seen.push(json!({
                    "service": attributes["service.name"],
                    "resource": attributes,
                    "name": span.name,
                    "kind": span.kind,
                    "trace": hex::encode(span.trace_id),
                    "id": hex::encode(span.span_id),
                    "parent": hex::encode(span.parent_span_id),
                    "start_ns": span.start_time_unix_nano,
                    "end_ns": span.end_time_unix_nano,
                    "attributes": object(&span.attributes),
                    "events": events,
                }));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn object(attributes: &[KeyValue]) -> serde_json::Value {
    attributes.iter().map(|one| (one.key.clone(), value(one.value.as_ref()))).collect()
}

fn value(any: Option<&AnyValue>) -> serde_json::Value {
    match any.and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::BoolValue(flag)) => json!(flag),
        other => json!(format!("{other:?}")),
    }
}
