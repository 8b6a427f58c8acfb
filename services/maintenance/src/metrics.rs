//! The status as Prometheus text (exposition format 0.0.4), small enough to write by hand.

use std::fmt::Write as _;

use rookery_proto::v1::{Generation, GetStatusResponse, ModuleStatus, ReplicaStatus};

struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn gauges<T>(&mut self, gauges: &[Gauge<T>], label: &str, of: &[(&str, &T)]) {
        for (name, help, value) in gauges {
            self.family(name, "gauge", help);
            for (whose, one) in of {
                self.line(format_args!("{name}{{{label}=\"{}\"}} {}", escape(whose), value(one)));
            }
        }
    }
}

/// Name, help, and how it is read off.
type Gauge<T> = (&'static str, &'static str, fn(&T) -> u64);

const MODULE_GAUGES: [Gauge<ModuleStatus>; 4] = [
    ("rookery_module_generation", "Live generation, 0 before the first.", |one| {
        live(one).map_or(0, |live| live.number)
    }),
    ("rookery_module_timestamp_seconds", "The live generation's own timestamp, since the epoch.", |one| {
        live(one).map_or(0, |live| u64::try_from(live.timestamp_ms / 1000).unwrap_or(0))
    }),
    ("rookery_catalogue_generation", "Generation that the catalogue was imported from.", |one| {
        one.catalogue_generation
    }),
    ("rookery_catalogue_distfiles", "Distfiles in the catalogue.", |one| one.catalogue_distfiles),
];

const REPLICA_GAUGES: [Gauge<ReplicaStatus>; 4] = [
    ("rookery_replica_connected", "1 if the replica is connected.", |one| u64::from(one.connected)),
    ("rookery_replica_used_bytes", "What its blobs take.", |one| one.used_bytes),
    ("rookery_replica_capacity_bytes", "What its blobs may take.", |one| one.capacity_bytes),
    ("rookery_replica_blobs", "Blobs that it holds.", |one| one.blobs),
];

/// Every kind of problem has its sample at all times, so that an alert on it is never without data.
const CODES: [&str; 17] = [
    "clock_ahead",
    "clock_behind",
    "sync_server_away",
    "tree_refused",
    "tree_missing",
    "tree_old",
    "tree_held",
    "key_expires",
    "catalogue_behind",
    "catalogue_suspect",
    "eviction_waits",
    "eviction_stopped",
    "run_failed",
    "disk_full",
    "replica_gone",
    "inventory_contradicts",
    "source_failing",
];

/// `/metrics`.
pub(crate) fn page(status: &GetStatusResponse, ready: bool) -> String {
    let mut page = Page { text: String::new() };
    let savings = status.savings.unwrap_or_default();
    page.single("rookery_ready", "gauge", "1 if /readyz answers 200.", u64::from(ready));
    let modules: Vec<_> =
        status.modules.iter().filter_map(|one| Some((one.module.as_ref()?.name.as_str(), one))).collect();
    page.gauges(&MODULE_GAUGES, "module", &modules);
    let replicas: Vec<_> = status.replicas.iter().map(|one| (one.replica_id.as_str(), one)).collect();
    page.gauges(&REPLICA_GAUGES, "replica", &replicas);
    let singles = [
        ("rookery_requests_total", "counter", "Requests that the replicas reported.", savings.requests),
        ("rookery_hits_total", "counter", "Requests answered from the cache.", savings.hits),
        ("rookery_served_bytes_total", "counter", "Octets sent to clients.", savings.bytes_served),
        ("rookery_fetched_bytes_total", "counter", "Octets fetched from upstream.", savings.bytes_fetched),
        ("rookery_leases", "gauge", "Downloads under way.", status.leases.len() as u64),
        ("rookery_decisions_pending", "gauge", "Decisions not acknowledged.", status.decisions_pending),
        ("rookery_problems", "gauge", "Problems on the status screen.", status.problems.len() as u64),
        (
            "rookery_last_run_seconds",
            "gauge",
            "When a nightly run last ended, since the epoch.",
            status.last_run.as_ref().map_or(0, |run| u64::try_from(run.finished_ms / 1000).unwrap_or(0)),
        ),
        (
            "rookery_last_run_ok",
            "gauge",
            "1 if that run did everything that it should.",
            u64::from(status.last_run.as_ref().is_some_and(|run| run.outcome == "done")),
        ),
        (
            "rookery_last_eviction_seconds",
            "gauge",
            "When an eviction last ran, since the epoch.",
            u64::try_from(status.last_eviction_ms / 1000).unwrap_or(0),
        ),
    ];
    page.family("rookery_problem", "gauge", "Problems on the status screen, by kind.");
    for code in CODES {
        let count = status.problems.iter().filter(|one| one.code == code).count();
        page.line(format_args!("rookery_problem{{code=\"{code}\"}} {count}"));
    }
    for (name, kind, help, value) in singles {
        page.single(name, kind, help, value);
    }
    page.text
}

fn live(status: &ModuleStatus) -> Option<&Generation> {
    status.module.as_ref()?.live.as_ref()
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use rookery_proto::v1::Savings;

    use super::*;

    #[test]
    fn every_sample_has_its_family_before_it() {
        let status = GetStatusResponse {
            replicas: vec![ReplicaStatus {
                replica_id: "a\"b\\".to_owned(),
                used_bytes: 7,
                ..ReplicaStatus::default()
            }],
            savings: Some(Savings { requests: 3, ..Savings::default() }),
            ..GetStatusResponse::default()
        };
        let text = page(&status, true);
        assert!(text.contains("rookery_replica_used_bytes{replica=\"a\\\"b\\\\\"} 7\n"), "{text}");
        assert!(text.contains("rookery_requests_total 3\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
