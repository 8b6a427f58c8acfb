//! `rookery plan` and `evict`

use std::fmt;

use rookery_proto::v1;
use serde::Serialize;

use super::{hex, table};
use crate::text;

#[derive(Debug, Serialize)]
pub(in crate::commands) struct EvictionView {
    evictions: Vec<EvictedView>,
    bytes: u64,
    /// Why it is not carried out without the operator's word.
    brakes: Vec<BrakeView>,
    /// Nothing is told to the replicas: it is a plan, a dry run, or braked.
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<PlannedReplicaView>,
}

#[derive(Debug, Serialize)]
struct BrakeView {
    kind: String,
    subject: String,
    percent: u32,
    percent_max: u32,
    text: String,
}

#[derive(Debug, Serialize)]
struct PlannedReplicaView {
    id: String,
    capacity_bytes: u64,
    used_bytes: u64,
    used_after_bytes: u64,
    short_bytes: u64,
    kept: Vec<KeptForView>,
}

#[derive(Debug, Serialize)]
struct KeptForView {
    why: String,
    blobs: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct EvictedView {
    replica: String,
    blake2b: String,
    names: Vec<String>,
    size_bytes: u64,
    class: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct KeptView {
    blobs: u64,
    bytes: u64,
}

impl EvictionView {
    pub(in crate::commands) fn planned(plan: v1::PlanEvictionResponse) -> Self {
        let kept = KeptView { blobs: plan.blobs_kept, bytes: plan.bytes_kept };
        let replicas = plan.replicas.into_iter().map(PlannedReplicaView::from).collect();
        Self { kept: Some(kept), replicas, ..Self::new(plan.evictions, plan.brakes, true) }
    }

    pub(in crate::commands) fn ordered(evict: v1::EvictResponse, dry_run: bool) -> Self {
        Self::new(evict.evictions, evict.brakes, dry_run)
    }

    pub(in crate::commands) fn is_braked(&self) -> bool {
        !self.brakes.is_empty()
    }

    fn new(evictions: Vec<v1::PlannedEviction>, brakes: Vec<v1::Brake>, dry_run: bool) -> Self {
        let bytes = evictions.iter().map(|eviction| eviction.size_bytes).sum();
        let view = |eviction: v1::PlannedEviction| EvictedView {
            replica: eviction.replica_id,
            blake2b: hex(&eviction.blake2b),
            names: eviction.names,
            size_bytes: eviction.size_bytes,
            class: eviction.class,
            reason: eviction.reason,
        };
        let brake = |brake: v1::Brake| BrakeView {
            kind: brake.kind,
            subject: brake.subject,
            percent: brake.percent,
            percent_max: brake.percent_max,
            text: brake.text,
        };
        Self {
            evictions: evictions.into_iter().map(view).collect(),
            bytes,
            dry_run: dry_run || !brakes.is_empty(),
            brakes: brakes.into_iter().map(brake).collect(),
            kept: None,
            replicas: Vec::new(),
        }
    }
}

impl From<v1::PlannedReplica> for PlannedReplicaView {
    fn from(replica: v1::PlannedReplica) -> Self {
        let kept =
            |kept: v1::KeptFor| KeptForView { why: kept.protection, blobs: kept.blobs, bytes: kept.bytes };
        Self {
            id: replica.replica_id,
            capacity_bytes: replica.capacity_bytes,
            used_bytes: replica.used_bytes,
            used_after_bytes: replica.used_after_bytes,
            short_bytes: replica.short_bytes,
            kept: replica.kept.into_iter().map(kept).collect(),
        }
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
        for replica in &self.replicas {
            let kept = replica.kept.iter().map(|kept| format!("{} {}", text::count(kept.blobs), kept.why));
            let kept: Vec<_> = kept.collect();
            writeln!(
                f,
                "{}: {} of {} used, {} after; stay: {}",
                replica.id,
                text::bytes(replica.used_bytes),
                text::bytes(replica.capacity_bytes),
                text::bytes(replica.used_after_bytes),
                if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
            )?;
            if replica.short_bytes > 0 {
                let short = text::bytes(replica.short_bytes);
                writeln!(f, "! {short} are missing to the low water, and nothing more may go")?;
            }
        }
        for brake in &self.brakes {
            writeln!(f, "! {}", brake.text)?;
            let agree = match brake.kind.as_str() {
                "catalogue" => format!("--yes-catalogue {}", brake.subject),
                "clock" => "--yes-clock".to_owned(),
                _ => format!("--yes-delete {}%", brake.percent),
            };
            writeln!(f, "  if that is right: rookery evict {agree}")?;
        }
        match &self.kept {
            Some(kept) => writeln!(
                f,
                "Would delete {files}, {}; {} with {} stay.",
                text::bytes(self.bytes),
                text::plural(kept.blobs, "blob"),
                text::bytes(kept.bytes)
            ),
            None if self.is_braked() => writeln!(f, "Nothing was deleted."),
            None if self.dry_run => writeln!(f, "Would delete {files}, {}.", text::bytes(self.bytes)),
            None => writeln!(f, "Told the replicas to delete {files}, {}.", text::bytes(self.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_brake_is_told_with_the_option_that_agrees() {
        let brake = |kind: &str, subject: &str, percent| v1::Brake {
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            percent,
            text: format!("it is the {kind}"),
            ..v1::Brake::default()
        };
        let brakes =
            vec![brake("clock", "clock", 0), brake("catalogue", "guru", 40), brake("share", "r1", 34)];
        let answer = v1::EvictResponse { brakes, ..v1::EvictResponse::default() };
        let text = EvictionView::ordered(answer, false).to_string();
        for (kind, option) in
            [("clock", "--yes-clock"), ("catalogue", "--yes-catalogue guru"), ("share", "--yes-delete 34%")]
        {
            let told = format!("! it is the {kind}\n  if that is right: rookery evict {option}\n");
            assert!(text.contains(&told), "{text}");
        }
        assert!(text.ends_with("Nothing was deleted.\n"), "{text}");
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
            ..Default::default()
        };
        let view = EvictionView::planned(plan);
        let text = view.to_string();
        assert!(text.contains("a-1.tar") && text.contains("unreferenced"), "{text}");
        assert!(text.ends_with("Would delete 1 file, 2.0 KiB; 2 blobs with 1 B stay.\n"), "{text}");
        assert_eq!(serde_json::to_value(&view).unwrap()["evictions"][0]["blake2b"], "ab01");
    }
}
