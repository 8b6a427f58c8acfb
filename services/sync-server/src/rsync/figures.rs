//! What is counted of connections, for whoever collects OpenTelemetry metrics. Without an exporter it costs nothing.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};
use rsync_wire::session::Summary;

/// The instruments.
#[derive(Debug, Clone)]
pub(super) struct Figures(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    now: UpDownCounter<i64>,
    ended: Counter<u64>,
    seconds: Histogram<f64>,
    files: Counter<u64>,
    sent: Counter<u64>,
    received: Counter<u64>,
}

/// A connection that uses a module, until this is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    figures: Figures,
    module: String,
}

impl Default for Figures {
    fn default() -> Self {
        let meter = opentelemetry::global::meter("sync-server");
        Self(Arc::new(Instruments {
            now: meter
                .i64_up_down_counter("rookery.rsync.sessions")
                .with_description("Connections that use a module now.")
                .build(),
            ended: meter
                .u64_counter("rookery.rsync.sessions.ended")
                .with_description("Connections that ended, by the reason: refused ones, too.")
                .build(),
            seconds: meter
                .f64_histogram("rookery.rsync.session.duration")
                .with_unit("s")
                .with_description("How long connections took.")
                .build(),
            files: meter
                .u64_counter("rookery.rsync.files_sent")
                .with_description("Files of which contents were sent.")
                .build(),
            sent: meter
                .u64_counter("rookery.rsync.sent")
                .with_unit("By")
                .with_description("Octets to clients.")
                .build(),
            received: meter
                .u64_counter("rookery.rsync.received")
                .with_unit("By")
                .with_description("Octets from clients.")
                .build(),
        }))
    }
}

impl Figures {
    pub(super) fn enter(&self, module: &str) -> InUse {
        self.0.now.add(1, &[label(module)]);
        InUse { figures: self.clone(), module: module.to_owned() }
    }

    /// `module` is a name that the configuration knows, or empty: clients must not make up series.
    pub(super) fn ended(&self, module: &str, reason: &'static str, seconds: f64, summary: &Summary) {
        let module = label(module);
        self.0.ended.add(1, &[module.clone(), KeyValue::new("reason", reason)]);
        let of_module = [module];
        self.0.seconds.record(seconds, &of_module);
        self.0.files.add(summary.files_sent, &of_module);
        self.0.sent.add(summary.written, &of_module);
        self.0.received.add(summary.read, &of_module);
    }
}

fn label(module: &str) -> KeyValue {
    KeyValue::new("module", module.to_owned())
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.figures.0.now.add(-1, &[label(&self.module)]);
    }
}
