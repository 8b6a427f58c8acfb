//! What is counted of connections, as a collector would get it.

use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ScopeMetrics, SumDataPoint};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

use super::super::Limits;
use super::bench::Bench;

/// The value of a sum with these labels, in the last export.
fn sum(exporter: &InMemoryMetricExporter, name: &str, labels: &[(&str, &str)]) -> i64 {
    let exports = exporter.get_finished_metrics().unwrap();
    let scopes = exports.last().unwrap().scope_metrics();
    let metric = scopes.flat_map(ScopeMetrics::metrics).find(|metric| metric.name() == name);
    let is_wanted = |attributes: &mut dyn Iterator<Item = &opentelemetry::KeyValue>| {
        let found: Vec<_> =
            attributes.map(|label| (label.key.to_string(), label.value.to_string())).collect();
        labels.iter().all(|(key, value)| found.contains(&((*key).to_owned(), (*value).to_owned())))
    };
    match metric.unwrap_or_else(|| panic!("no {name}")).data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            let mut points = sum.data_points().filter(|point| is_wanted(&mut point.attributes()));
            points.next().map_or(0, |point| i64::try_from(point.value()).unwrap())
        }
        AggregatedMetrics::I64(MetricData::Sum(sum)) => {
            let mut points = sum.data_points().filter(|point| is_wanted(&mut point.attributes()));
            points.next().map_or(0, SumDataPoint::value)
        }
        other @ (AggregatedMetrics::F64(_) | AggregatedMetrics::U64(_) | AggregatedMetrics::I64(_)) => {
            panic!("{name} is {other:?}")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_by_module_and_reason() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    opentelemetry::global::set_meter_provider(provider.clone());
    // A module of this test's own: others run beside it.
    let bench =
        Bench::start(Limits::default(), &[("counted", true, rsyncd_conf::hosts::HostAccess::default())])
            .await;
    bench.target("out");
    for _ in 0..2 {
        bench.succeeds(&["-t", "{}counted/header.txt", "{}counted/sort/z", "out/"]).await;
    }
    bench.fails(23, &["-t", "{}counted/nosuch", "out/"]).await;
    bench.fails(4, &["-tA", "{}counted/header.txt", "out/"]).await;
    bench.fails(5, &["-t", "{}counted-not/header.txt", "out/"]).await;
    let of = |reason| [("module", "counted"), ("reason", reason)];
    let until = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        provider.force_flush().unwrap();
        let ended = |reason| sum(&exporter, "rookery.rsync.sessions.ended", &of(reason));
        let counts = [ended("complete"), ended("empty_list"), ended("refused")];
        let unknown = [("module", ""), ("reason", "unknown_module")];
        let unknown = sum(&exporter, "rookery.rsync.sessions.ended", &unknown);
        let module = [("module", "counted")];
        let now = sum(&exporter, "rookery.rsync.sessions", &module);
        // The last words of a connection are counted a little after its client has gone.
        if (counts, now) == ([2, 1, 1], 0) && unknown >= 1 {
            assert!((1..=4).contains(&sum(&exporter, "rookery.rsync.files_sent", &module)));
            assert!(sum(&exporter, "rookery.rsync.sent", &module) > 500);
            return;
        }
        assert!(std::time::Instant::now() < until, "{counts:?}, {now} now, {unknown} unknown");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
