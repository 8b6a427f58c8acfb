//! Answers of the Admin service as JSON and as text. The field names are the command line's contract.

use std::fmt;

use comfy_table::{Table, presets};
use rookery_proto::v1;
use serde::Serialize;

use crate::text;

#[derive(Debug, Serialize)]
pub(super) struct StatusView {
    version: String,
    modules: Vec<ModuleView>,
    replicas: Vec<ReplicaView>,
    savings: SavingsView,
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
    last_attempt_ms: i64,
    next_attempt_ms: i64,
    last_error: String,
}

#[derive(Debug, Serialize)]
struct GenerationView {
    module: String,
    number: u64,
    published_ms: i64,
    timestamp_ms: i64,
    files: u64,
    bytes: u64,
    distfiles: u64,
    distfiles_without_source: u64,
    files_added: u64,
    files_changed: u64,
    files_removed: u64,
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
    subject: String,
    what: String,
    what_to_do: String,
}

impl From<v1::GetStatusResponse> for StatusView {
    fn from(status: v1::GetStatusResponse) -> Self {
        let savings = status.savings.unwrap_or_default();
        Self {
            version: status.version,
            modules: status.modules.into_iter().map(ModuleView::from).collect(),
            replicas: status.replicas.into_iter().map(ReplicaView::from).collect(),
            savings: SavingsView {
                requests: savings.requests,
                hits: savings.hits,
                bytes_served: savings.bytes_served,
                bytes_fetched: savings.bytes_fetched,
            },
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
            last_attempt_ms: module.last_attempt_ms,
            next_attempt_ms: module.next_attempt_ms,
            last_error: module.last_error,
        }
    }
}

impl From<v1::Generation> for GenerationView {
    fn from(generation: v1::Generation) -> Self {
        Self {
            module: generation.module,
            number: generation.number,
            published_ms: generation.published_ms,
            timestamp_ms: generation.timestamp_ms,
            files: generation.files,
            bytes: generation.bytes,
            distfiles: generation.distfiles,
            distfiles_without_source: generation.distfiles_without_source,
            files_added: generation.files_added,
            files_changed: generation.files_changed,
            files_removed: generation.files_removed,
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
        Self { subject: problem.subject, what: problem.what, what_to_do: problem.what_to_do }
    }
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Rookery {}\n", self.version)?;
        writeln!(f, "{}\n", self.modules_table())?;
        writeln!(f, "{}\n", self.replicas_table())?;
        let SavingsView { requests, hits, bytes_served, bytes_fetched } = &self.savings;
        writeln!(
            f,
            "Served {} in {}, {} of them from the cache; fetched {}, saved {}.",
            text::bytes(*bytes_served),
            text::plural(*requests, "request"),
            text::share(*hits, *requests),
            text::bytes(*bytes_fetched),
            text::bytes(bytes_served.saturating_sub(*bytes_fetched)),
        )?;
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
    fn modules_table(&self) -> Table {
        let mut table = table(&[
            "module",
            "generation",
            "published",
            "tree of",
            "files",
            "size",
            "distfiles",
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

#[derive(Debug, Serialize)]
pub(super) struct EvictionView {
    evictions: Vec<EvictedView>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptView>,
}

#[derive(Debug, Serialize)]
struct EvictedView {
    replica: String,
    blake2b: String,
    names: Vec<String>,
    size_bytes: u64,
    reason: String,
}

#[derive(Debug, Serialize)]
struct KeptView {
    blobs: u64,
    bytes: u64,
}

impl EvictionView {
    pub(super) fn planned(plan: v1::PlanEvictionResponse) -> Self {
        let kept = KeptView { blobs: plan.blobs_kept, bytes: plan.bytes_kept };
        Self::new(plan.evictions, Some(kept))
    }

    pub(super) fn ordered(evict: v1::EvictResponse) -> Self {
        Self::new(evict.evictions, None)
    }

    fn new(evictions: Vec<v1::PlannedEviction>, kept: Option<KeptView>) -> Self {
        let bytes = evictions.iter().map(|eviction| eviction.size_bytes).sum();
        let view = |eviction: v1::PlannedEviction| EvictedView {
            replica: eviction.replica_id,
            blake2b: eviction.blake2b.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}")),
            names: eviction.names,
            size_bytes: eviction.size_bytes,
            reason: eviction.reason,
        };
        Self { evictions: evictions.into_iter().map(view).collect(), bytes, kept }
    }
}

impl fmt::Display for EvictionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = table(&["file", "size", "replica", "why"]);
        for evicted in &self.evictions {
            let name = if evicted.names.is_empty() {
                evicted.blake2b.chars().take(16).collect()
            } else {
                evicted.names.join(" ")
            };
            table.add_row([
                name,
                text::bytes(evicted.size_bytes),
                evicted.replica.clone(),
                evicted.reason.clone(),
            ]);
        }
        if !self.evictions.is_empty() {
            writeln!(f, "{table}\n")?;
        }
        let files = text::plural(self.evictions.len() as u64, "file");
        match &self.kept {
            Some(kept) => writeln!(
                f,
                "Would delete {files}, {}; {} with {} stay.",
                text::bytes(self.bytes),
                text::plural(kept.blobs, "blob"),
                text::bytes(kept.bytes)
            ),
            None => writeln!(f, "Told the replicas to delete {files}, {}.", text::bytes(self.bytes)),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PublishView {
    published: Vec<PublishedView>,
}

#[derive(Debug, Serialize)]
struct PublishedView {
    changed: bool,
    generation: Option<GenerationView>,
    /// What else there is to know; mostly empty.
    note: String,
}

impl From<v1::PublishModuleResponse> for PublishView {
    fn from(response: v1::PublishModuleResponse) -> Self {
        let view = |published: v1::PublishResponse| PublishedView {
            changed: published.changed,
            generation: published.generation.map(GenerationView::from),
            note: published.note,
        };
        Self { published: response.published.into_iter().map(view).collect() }
    }
}

impl fmt::Display for PublishView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for published in &self.published {
            let Some(generation) = &published.generation else { continue };
            let GenerationView { module, number, files_added, files_changed, files_removed, .. } = generation;
            if published.changed {
                writeln!(
                    f,
                    "{module}: generation {number} is served ({} added, {} changed, {} removed).",
                    text::plural(*files_added, "file"),
                    text::count(*files_changed),
                    text::count(*files_removed)
                )?;
            } else {
                writeln!(f, "{module}: nothing new, generation {number} is served.")?;
            }
            if !published.note.is_empty() {
                writeln!(f, "{module}: {}.", published.note)?;
            }
        }
        Ok(())
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
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
            }],
            ..Default::default()
        };
        let view = StatusView::from(status);
        let text = view.to_string();
        assert!(text.contains("! module gentoo-portage: no timestamp.chk\n  look at the tree\n"), "{text}");
        assert!(text.contains("4.0 KiB in 4 requests, 75% of them from the cache"), "{text}");
        assert!(text.contains("saved 3.0 KiB"), "{text}");
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["problems"][0]["what"], "no timestamp.chk");
        assert_eq!(json["modules"][0]["live"], serde_json::Value::Null);
    }

    #[test]
    fn a_plan_names_files_and_reasons() {
        let plan = v1::PlanEvictionResponse {
            evictions: vec![v1::PlannedEviction {
                names: vec!["a-1.tar".to_owned()],
                blake2b: vec![0xab, 0x01],
                size_bytes: 2048,
                reason: "unreferenced".to_owned(),
                ..Default::default()
            }],
            blobs_kept: 2,
            bytes_kept: 1,
        };
        let view = EvictionView::planned(plan);
        let text = view.to_string();
        assert!(text.contains("a-1.tar") && text.contains("unreferenced"), "{text}");
        assert!(text.ends_with("Would delete 1 file, 2.0 KiB; 2 blobs with 1 B stay.\n"), "{text}");
        assert_eq!(serde_json::to_value(&view).unwrap()["evictions"][0]["blake2b"], "ab01");
    }
}
