//! `rookery publish`

use std::fmt;

use rookery_proto::v1;
use serde::Serialize;

use super::GenerationView;
use crate::text;

#[derive(Debug, Serialize)]
pub(in crate::commands) struct PublishView {
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
