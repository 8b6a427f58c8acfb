//! W3C trace context (`traceparent`, `tracestate`) in HTTP headers and gRPC metadata.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Writes the current span's context into the headers of a request that we send.
pub fn inject(headers: &mut HeaderMap) {
    inject_span(&Span::current(), headers);
}

/// Writes `span`'s context into the headers of a request that we send.
pub fn inject_span(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(headers));
}

/// The context that came with a request; empty if none did.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeadersRef(headers))
}

/// Makes the context that came with a request the parent of `span`, which must not have been entered yet.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    // Fails only where no exporter is configured, and then nobody misses it.
    drop(span.set_parent(extract(headers)));
}

/// The trace that work belongs to which is done later, maybe when the span that asked for it is over.
#[derive(Debug, Clone, Default)]
pub struct TraceContext(Context);

impl TraceContext {
    /// That of the current span.
    #[must_use]
    pub fn current() -> Self {
        Self(Span::current().context())
    }

    /// Makes it the parent of `span`, which must not have been entered yet.
    pub fn adopt(&self, span: &Span) {
        // Fails only where no exporter is configured, and then nobody misses it.
        drop(span.set_parent(self.0.clone()));
    }
}

/// The same as [`inject`] for gRPC metadata; `grpc::connect`'s channels do it by themselves.
pub fn inject_metadata(metadata: &mut tonic::metadata::MetadataMap) {
    let mut headers = std::mem::take(metadata).into_headers();
    inject(&mut headers);
    *metadata = tonic::metadata::MetadataMap::from_headers(headers);
}

/// The same as [`extract`] for gRPC metadata; `grpc::serve` does it by itself.
#[must_use]
pub fn extract_metadata(metadata: &tonic::metadata::MetadataMap) -> Context {
    extract(metadata.as_ref())
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct HeadersRef<'a>(&'a HeaderMap);

impl Extractor for HeadersRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
