//! Answers of the Admin service as JSON and as text. The field names are the command line's contract:
//! docs/json.md.

mod eviction;
mod publish;
mod status;

use comfy_table::{Table, presets};
use rookery_proto::v1;
use serde::Serialize;

pub(super) use eviction::EvictionView;
pub(super) use publish::PublishView;
pub(super) use status::{RunView, StatusView};

#[derive(Debug, Serialize)]
pub(super) struct GenerationView {
    pub(super) module: String,
    pub(super) number: u64,
    pub(super) published_ms: i64,
    pub(super) timestamp_ms: i64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) distfiles: u64,
    pub(super) distfiles_without_source: u64,
    pub(super) files_added: u64,
    pub(super) files_changed: u64,
    pub(super) files_removed: u64,
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

/// As digests are written.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |hex, octet| hex + &format!("{octet:02x}"))
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}
