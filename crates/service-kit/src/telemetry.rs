//! Logs on standard error, traces to an OTLP endpoint if one is configured.

use serde::{Deserialize, Serialize};

/// The `[telemetry]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where spans are exported, `http://host:4317`; empty: nowhere.
    pub otlp_endpoint: String,
    /// A `tracing` filter.
    pub log: String,
}
