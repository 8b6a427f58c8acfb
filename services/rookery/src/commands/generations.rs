//! Answers of `rookery generations` and `rollback`. The field names are the command line's contract.

use std::fmt;

use rookery_proto::v1;
use serde::Serialize;

use super::views::{GenerationView, table};
use crate::text;

#[derive(Debug, Serialize)]
pub(super) struct GenerationsView {
    generations: Vec<KeptView>,
}

#[derive(Debug, Serialize)]
struct KeptView {
    #[serde(flatten)]
    generation: GenerationView,
    live: bool,
    /// Empty if it is not known.
    verify: String,
    /// A rollback made it of this one; 0: it was built from the source.
    copy_of: u64,
    holders: Vec<HolderView>,
}

#[derive(Debug, Serialize)]
struct HolderView {
    host: String,
    connections: u32,
}

impl From<v1::ListModuleGenerationsResponse> for GenerationsView {
    fn from(answer: v1::ListModuleGenerationsResponse) -> Self {
        let holder = |holder: v1::Holder| HolderView { host: holder.host, connections: holder.connections };
        let view = |kept: v1::KeptGeneration| KeptView {
            generation: kept.generation.unwrap_or_default().into(),
            live: kept.live,
            verify: kept.verify,
            copy_of: kept.copy_of,
            holders: kept.holders.into_iter().map(holder).collect(),
        };
        Self { generations: answer.generations.into_iter().map(view).collect() }
    }
}

impl fmt::Display for GenerationsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "module",
            "generation",
            "published",
            "tree of",
            "files",
            "size",
            "changes",
            "verified",
            "serving",
        ];
        let mut table = table(&header);
        for kept in &self.generations {
            let generation = &kept.generation;
            let mut number = generation.number.to_string();
            if kept.live {
                number += " live";
            }
            if kept.copy_of > 0 {
                number = format!("{number}, copy of {}", kept.copy_of);
            }
            let GenerationView { files_added, files_changed, files_removed, .. } = generation;
            let holder = |holder: &HolderView| match holder.connections {
                1 => holder.host.clone(),
                connections => format!("{} ({connections})", holder.host),
            };
            table.add_row([
                generation.module.clone(),
                number,
                text::moment(generation.published_ms),
                text::moment(generation.timestamp_ms),
                text::count(generation.files),
                text::bytes(generation.bytes),
                format!("+{files_added} ~{files_changed} -{files_removed}"),
                if kept.verify.is_empty() { "not known".to_owned() } else { kept.verify.clone() },
                kept.holders.iter().map(holder).collect::<Vec<_>>().join(" "),
            ]);
        }
        writeln!(f, "{table}")
    }
}

#[derive(Debug, Serialize)]
pub(super) struct RollbackView {
    generation: GenerationView,
    copy_of: u64,
    note: String,
}

impl From<v1::RollbackResponse> for RollbackView {
    fn from(answer: v1::RollbackResponse) -> Self {
        let v1::RollbackResponse { generation, copy_of, note } = answer;
        Self { generation: generation.unwrap_or_default().into(), copy_of, note }
    }
}

impl fmt::Display for RollbackView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GenerationView { module, number, timestamp_ms, .. } = &self.generation;
        writeln!(
            f,
            "{module}: generation {number}, a copy of {}, is served as a tree of {}, so that every box takes it.",
            self.copy_of,
            text::moment(*timestamp_ms)
        )?;
        writeln!(f, "{module}: {}.", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_says_how_it_was_verified_and_who_is_served_from_it() {
        let kept = v1::KeptGeneration {
            generation: Some(v1::Generation { module: "m".to_owned(), number: 6, ..Default::default() }),
            verify: "signed".to_owned(),
            copy_of: 3,
            live: true,
            holders: vec![v1::Holder { host: "10.0.0.1".to_owned(), connections: 2 }],
        };
        let view = GenerationsView::from(v1::ListModuleGenerationsResponse { generations: vec![kept] });
        let text = view.to_string();
        for part in ["6 live, copy of 3", "signed", "10.0.0.1 (2)"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["generations"][0]["number"], 6);
        assert_eq!(json["generations"][0]["holders"][0]["connections"], 2);
    }
}
