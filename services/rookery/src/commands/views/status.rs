//! `rookery status`

use std::fmt;

use comfy_table::Table;
use rookery_proto::v1;
use serde::Serialize;

use super::{GenerationView, table};
use crate::text;

#[derive(Debug, Serialize)]
pub(in crate::commands) struct StatusView {
    version: String,
    modules: Vec<ModuleView>,
    replicas: Vec<ReplicaView>,
    savings: SavingsView,
    today: SavingsView,
    thirty_days: SavingsView,
    last_run: Option<RunView>,
    next_run_ms: i64,
    leases: Vec<LeaseView>,
    decisions_pending: u64,
    last_eviction_ms: i64,
    problems: Vec<ProblemView>,
}

#[derive(Debug, Serialize)]
struct ModuleView {
    name: String,
    comment: String,
    verify: String,
    live: Option<GenerationView>,
    catalogue_generation: u64,
    catalogue_distfiles: u64,
    source: String,
    activity: String,
    hold: String,
    key_expires_ms: i64,
    last_attempt_ms: i64,
    next_attempt_ms: i64,
    last_error: String,
    report: String,
}

#[derive(Debug, Serialize)]
struct ReplicaView {
    id: String,
    advertise: String,
    connected: bool,
    capacity_bytes: u64,
    used_bytes: u64,
    blobs: u64,
    last_seen_ms: i64,
}

#[derive(Debug, Serialize)]
pub(in crate::commands) struct RunView {
    started_ms: i64,
    finished_ms: i64,
    outcome: String,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize)]
struct StepView {
    name: String,
    outcome: String,
    report: String,
}

impl From<v1::Run> for RunView {
    fn from(run: v1::Run) -> Self {
        let step =
            |step: v1::RunStep| StepView { name: step.name, outcome: step.outcome, report: step.report };
        Self {
            started_ms: run.started_ms,
            finished_ms: run.finished_ms,
            outcome: run.outcome,
            steps: run.steps.into_iter().map(step).collect(),
        }
    }
}

impl RunView {
    /// How it ended, or that it has not.
    pub(in crate::commands) fn outcome(&self) -> &str {
        if self.outcome.is_empty() { "under way" } else { &self.outcome }
    }

    /// A line for each step.
    pub(in crate::commands) fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StepView { name, outcome, report } in &self.steps {
            let mark = if matches!(outcome.as_str(), "failed" | "stopped") { '!' } else { ' ' };
            writeln!(f, "{mark} {name:<9} {outcome:<7} {report}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct SavingsView {
    requests: u64,
    hits: u64,
    bytes_served: u64,
    bytes_fetched: u64,
}

#[derive(Debug, Serialize)]
struct LeaseView {
    name: String,
    replica: String,
    fence: u64,
    bytes_so_far: u64,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ProblemView {
    code: String,
    subject: String,
    what: String,
    what_to_do: String,
}

impl From<Option<v1::Savings>> for SavingsView {
    fn from(savings: Option<v1::Savings>) -> Self {
        let savings = savings.unwrap_or_default();
        Self {
            requests: savings.requests,
            hits: savings.hits,
            bytes_served: savings.bytes_served,
            bytes_fetched: savings.bytes_fetched,
        }
    }
}

impl From<v1::GetStatusResponse> for StatusView {
    fn from(status: v1::GetStatusResponse) -> Self {
        Self {
            version: status.version,
            modules: status.modules.into_iter().map(ModuleView::from).collect(),
            replicas: status.replicas.into_iter().map(ReplicaView::from).collect(),
            savings: status.savings.into(),
            today: status.today.into(),
            thirty_days: status.thirty_days.into(),
            last_run: status.last_run.map(RunView::from),
            next_run_ms: status.next_run_ms,
            leases: status.leases.into_iter().map(LeaseView::from).collect(),
            decisions_pending: status.decisions_pending,
            last_eviction_ms: status.last_eviction_ms,
            problems: status.problems.into_iter().map(ProblemView::from).collect(),
        }
    }
}

impl From<v1::ModuleStatus> for ModuleView {
    fn from(status: v1::ModuleStatus) -> Self {
        let module = status.module.unwrap_or_default();
        Self {
            name: module.name,
            comment: module.comment,
            verify: module.verify,
            live: module.live.map(GenerationView::from),
            catalogue_generation: status.catalogue_generation,
            catalogue_distfiles: status.catalogue_distfiles,
            source: module.source,
            activity: module.activity,
            hold: module.hold,
            key_expires_ms: module.key_expires_ms,
            last_attempt_ms: module.last_attempt_ms,
            next_attempt_ms: module.next_attempt_ms,
            last_error: module.last_error,
            report: module.report,
        }
    }
}

impl From<v1::ReplicaStatus> for ReplicaView {
    fn from(replica: v1::ReplicaStatus) -> Self {
        Self {
            id: replica.replica_id,
            advertise: replica.advertise,
            connected: replica.connected,
            capacity_bytes: replica.capacity_bytes,
            used_bytes: replica.used_bytes,
            blobs: replica.blobs,
            last_seen_ms: replica.last_seen_ms,
        }
    }
}

impl From<v1::LeaseStatus> for LeaseView {
    fn from(lease: v1::LeaseStatus) -> Self {
        Self {
            name: lease.name,
            replica: lease.replica_id,
            fence: lease.fence,
            bytes_so_far: lease.bytes_so_far,
            size_bytes: lease.size_bytes,
        }
    }
}

impl From<v1::Problem> for ProblemView {
    fn from(problem: v1::Problem) -> Self {
        let v1::Problem { subject, what, what_to_do, code } = problem;
        Self { code, subject, what, what_to_do }
    }
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Rookery {}\n", self.version)?;
        writeln!(f, "{}\n", self.modules_table())?;
        writeln!(f, "{}\n", self.replicas_table())?;
        writeln!(f, "{}\n", self.savings_table())?;
        match &self.last_run {
            None => writeln!(f, "No nightly run yet.")?,
            Some(run) => {
                writeln!(f, "Nightly run of {}: {}.", text::moment(run.started_ms), run.outcome())?;
                run.steps(f)?;
            }
        }
        if self.next_run_ms > 0 {
            writeln!(f, "Next run: {}.", text::moment(self.next_run_ms))?;
        }
        writeln!(f, "Last eviction: {}.", text::moment(self.last_eviction_ms))?;
        if self.decisions_pending > 0 {
            writeln!(f, "Under way: {}.", text::plural(self.decisions_pending, "decision"))?;
        }
        for lease in &self.leases {
            let (so_far, size) = (text::bytes(lease.bytes_so_far), text::bytes(lease.size_bytes));
            writeln!(f, "Fetching {}: {so_far} of {size}, by {}.", lease.name, lease.replica)?;
        }
        if self.problems.is_empty() {
            return writeln!(f, "Nothing is wrong.");
        }
        for problem in &self.problems {
            writeln!(f, "! {}: {}", problem.subject, problem.what)?;
            if !problem.what_to_do.is_empty() {
                writeln!(f, "  {}", problem.what_to_do)?;
            }
        }
        Ok(())
    }
}

impl StatusView {
    /// All of it in one line, for a log.
    pub(in crate::commands) fn line(&self) -> String {
        let trees = self.modules.iter().map(|module| {
            let live = module.live.as_ref().map_or(0, |live| live.number);
            format!("{} {live}", module.name)
        });
        let (used, capacity) = self.replicas.iter().fold((0_u64, 0_u64), |(used, capacity), replica| {
            (used.saturating_add(replica.used_bytes), capacity.saturating_add(replica.capacity_bytes))
        });
        format!(
            "{}; {} of {} used; today {} of {} from the cache; {} under way; {}",
            trees.collect::<Vec<_>>().join(", "),
            text::bytes(used),
            text::bytes(capacity),
            text::share(self.today.hits, self.today.requests),
            text::plural(self.today.requests, "request"),
            text::plural(self.leases.len() as u64, "download"),
            text::plural(self.problems.len() as u64, "problem")
        )
    }

    fn savings_table(&self) -> Table {
        let mut table = table(&["", "requests", "from the cache", "served", "fetched", "saved"]);
        let rows = [("today", &self.today), ("30 days", &self.thirty_days), ("ever", &self.savings)];
        for (when, savings) in rows {
            table.add_row([
                when.to_owned(),
                text::count(savings.requests),
                text::share(savings.hits, savings.requests),
                text::bytes(savings.bytes_served),
                text::bytes(savings.bytes_fetched),
                text::bytes(savings.bytes_served.saturating_sub(savings.bytes_fetched)),
            ]);
        }
        table
    }

    fn modules_table(&self) -> Table {
        let mut table = table(&[
            "module",
            "generation",
            "published",
            "tree of",
            "files",
            "size",
            "distfiles",
            "no source",
            "next look",
        ]);
        for module in &self.modules {
            let live = module.live.as_ref();
            let of = |value: fn(&GenerationView) -> String| live.map_or_else(|| "-".to_owned(), value);
            table.add_row([
                module.name.clone(),
                of(|live| live.number.to_string()),
                of(|live| text::moment(live.published_ms)),
                of(|live| text::moment(live.timestamp_ms)),
                of(|live| text::count(live.files)),
                of(|live| text::bytes(live.bytes)),
                text::count(module.catalogue_distfiles),
                of(|live| text::count(live.distfiles_without_source)),
                match module.next_attempt_ms {
                    _ if !module.activity.is_empty() => "under way".to_owned(),
                    0 => "now".to_owned(),
                    next_ms => text::moment(next_ms),
                },
            ]);
        }
        table
    }

    fn replicas_table(&self) -> Table {
        let mut table = table(&["replica", "blobs", "used", "capacity", "full", "seen"]);
        for replica in &self.replicas {
            table.add_row([
                replica.id.clone(),
                text::count(replica.blobs),
                text::bytes(replica.used_bytes),
                text::bytes(replica.capacity_bytes),
                text::share(replica.used_bytes, replica.capacity_bytes),
                if replica.connected { "now".to_owned() } else { text::moment(replica.last_seen_ms) },
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_wrong_and_what_to_do() {
        let status = v1::GetStatusResponse {
            modules: vec![v1::ModuleStatus {
                module: Some(v1::Module { name: "gentoo-portage".to_owned(), ..Default::default() }),
                ..Default::default()
            }],
            savings: Some(v1::Savings { requests: 4, hits: 3, bytes_served: 4096, bytes_fetched: 1024 }),
            problems: vec![v1::Problem {
                subject: "module gentoo-portage".to_owned(),
                what: "no timestamp.chk".to_owned(),
                what_to_do: "look at the tree".to_owned(),
                code: "tree_refused".to_owned(),
            }],
            ..Default::default()
        };
        let view = StatusView::from(status);
        let text = view.to_string();
        assert!(text.contains("! module gentoo-portage: no timestamp.chk\n  look at the tree\n"), "{text}");
        assert!(text.contains("75%") && text.contains("3.0 KiB"), "{text}");
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["problems"][0]["what"], "no timestamp.chk");
        assert_eq!(json["modules"][0]["live"], serde_json::Value::Null);
    }
}
