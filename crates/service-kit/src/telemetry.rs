//! Logs on standard error, traces to an OTLP endpoint if one is configured.
//!
//! Spans are handed to a bounded queue and sent in batches by a thread of their own: a collector that is
//! slow or away costs spans, never a request's time.

pub mod propagation;

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Tracer};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

use crate::config::ConfigError;

/// Spans that wait to be sent; further ones are dropped.
const QUEUE_SPANS_MAX: usize = 4096;

/// How long one batch may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where spans are exported, `http://host:4317`; empty: nowhere.
    pub otlp_endpoint: String,
    /// A `tracing` filter: `info`, or `warn,proxy_cache=debug`.
    pub log: String,
    /// How a line of the log looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; in colour if standard error is a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), log: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Holds the exporter; [`Self::shutdown`] sends what still waits.
#[derive(Debug, Default)]
#[must_use = "spans that wait are lost without `shutdown`"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging and, if configured, exporting. Call it once, inside the runtime.
///
/// # Errors
/// `telemetry.log` is no filter, or `telemetry.otlp_endpoint` no URL.
pub fn init(config: &TelemetryConfig, service_name: &'static str) -> Result<Telemetry, ConfigError> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        ConfigError::wrong(
            "telemetry.log",
            format!(
                r#"expected a filter such as "info" or "warn,proxy_cache=debug", found "{}": {error}"#,
                config.log
            ),
        )
    })?;
    let provider = match config.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(provider(endpoint, service_name)?),
    };
    let tracer = provider.as_ref().map(|provider| provider.tracer(service_name));
    // Fails only if a subscriber is there already, which then goes on logging.
    drop(subscriber(filter, config.format, tracer).try_init());
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { provider })
}

/// The log behind its filter, and traces behind theirs: what is exported doesn't depend on what is logged.
fn subscriber(
    filter: EnvFilter,
    format: LogFormat,
    tracer: Option<Tracer>,
) -> impl tracing::Subscriber + Send + Sync {
    let log = match format {
        LogFormat::Text => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).boxed()
        }
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(log.with_filter(filter)).with(tracer.map(trace_layer))
}

/// Panics go to the log as everything else does: a line of their own would break a log of JSON.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(message = "panic", reason = message, place);
}

/// The layer that turns our spans, down to `info`, into OpenTelemetry's. The RPC libraries' own spans are
/// left out: the exporter itself runs on them and would feed on its own traffic.
#[must_use]
pub fn trace_layer<S>(tracer: Tracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    const NOT_OURS: &[&str] = &["h2", "hyper", "hyper_util", "tonic", "tower", "reqwest"];
    let ours = FilterFn::new(|metadata| {
        let root = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= tracing::Level::INFO
            && !NOT_OURS.contains(&root)
            && !root.starts_with("opentelemetry")
    });
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
}

fn provider(endpoint: &str, service_name: &'static str) -> Result<SdkTracerProvider, ConfigError> {
    let wrong = |reason: String| {
        let expected =
            format!(r#"expected a URL such as "http://127.0.0.1:4317", found "{endpoint}": {reason}"#);
        ConfigError::wrong("telemetry.otlp_endpoint", expected)
    };
    let url = url::Url::parse(endpoint).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong("a collector is spoken to over plain http".to_owned()));
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_scheduled_delay(Duration::from_secs(2))
        .build();
    let resource = Resource::builder()
        .with_service_name(service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource)
        .build())
}

impl Telemetry {
    /// Sends the spans that wait and stops, within `bound`. Blocks: call it outside of the runtime's
    /// threads, while the runtime still runs.
    pub fn shutdown(self, bound: Duration) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(bound)
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::InMemorySpanExporter;

    use super::*;

    #[test]
    fn what_is_exported_does_not_depend_on_what_is_logged() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let silent = EnvFilter::try_new("off").unwrap();
        let subscriber = subscriber(silent, LogFormat::Text, Some(provider.tracer("test")));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("a request").in_scope(|| ());
            tracing::debug_span!("a detail").in_scope(|| ());
            tracing::info_span!(target: "h2::proto", "a frame").in_scope(|| ());
        });
        let names: Vec<_> =
            exporter.get_finished_spans().unwrap().into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["a request"]);
    }
}
