//! Logs on standard error, traces and metrics to an OTLP endpoint if one is configured.
//!
//! Spans are handed to a bounded queue and sent in batches by a thread of their own, as are the sums of what was counted:
//! a collector that is slow or away costs spans and figures, never a request's time.

pub mod propagation;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
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

/// How often figures are exported.
const METRICS_INTERVAL: Duration = Duration::from_secs(30);

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where spans and metrics are exported, `http://host:4317`; empty: nowhere.
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
    meters: Option<SdkMeterProvider>,
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
    let (provider, meters) = match config.otlp_endpoint.as_str() {
        "" => (None, None),
        endpoint => {
            let resource = resource(service_name);
            (Some(provider(endpoint, resource.clone())?), Some(meters(endpoint, resource)?))
        }
    };
    if let Some(meters) = &meters {
        // Instruments are made from the global one; without it they count nothing.
        opentelemetry::global::set_meter_provider(meters.clone());
    }
    let tracer = provider.as_ref().map(|provider| provider.tracer(service_name));
    // Fails only if a subscriber is there already, which then goes on logging.
    drop(subscriber(filter, config.format, tracer).try_init());
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { provider, meters })
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

fn wrong_endpoint(endpoint: &str, reason: &dyn std::fmt::Display) -> ConfigError {
    let expected = format!(r#"expected a URL such as "http://127.0.0.1:4317", found "{endpoint}": {reason}"#);
    ConfigError::wrong("telemetry.otlp_endpoint", expected)
}

fn resource(service_name: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service_name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

fn provider(endpoint: &str, resource: Resource) -> Result<SdkTracerProvider, ConfigError> {
    let url = url::Url::parse(endpoint).map_err(|error| wrong_endpoint(endpoint, &error))?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(wrong_endpoint(endpoint, &"a collector is spoken to over plain http"));
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| wrong_endpoint(endpoint, &error))?;
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_scheduled_delay(Duration::from_secs(2))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource)
        .build())
}

fn meters(endpoint: &str, resource: Resource) -> Result<SdkMeterProvider, ConfigError> {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| wrong_endpoint(endpoint, &error))?;
    let reader = PeriodicReader::builder(exporter).with_interval(METRICS_INTERVAL).build();
    Ok(SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build())
}

impl Telemetry {
    /// Sends the spans that wait and the last figures and stops, within `bound`. Blocks: call it outside of the
    /// runtime's threads, while the runtime still runs.
    pub fn shutdown(self, bound: Duration) {
        let until = Instant::now() + bound;
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(bound)
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        if let Some(meters) = self.meters
            && let Err(error) = meters.shutdown_with_timeout(left)
        {
            tracing::warn!(%error, "the last figures were not exported");
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
