//! `rookery migrate --http-replicator`: its configuration as the `[proxy]` section of a rookery.toml.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use toml::Table;

use crate::http_replicator::{Translated, translate};

/// A file of a few lines; one that is larger is another file.
const FILE_OCTETS_MAX: u64 = 256 << 10;

/// The section, and what a person has to know about it.
pub(super) fn read(file: &Path) -> anyhow::Result<(Table, Vec<String>)> {
    let translated = text_of(file).and_then(|text| Ok(translate(&text)?));
    let Translated { proxy, notes } = translated.with_context(|| file.display().to_string())?;
    Ok((proxy, notes))
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    let mut octets = Vec::new();
    std::fs::File::open(file)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    anyhow::ensure!(octets.len() as u64 <= FILE_OCTETS_MAX, "more than 256 KiB is no configuration");
    String::from_utf8(octets).context("it is not UTF-8")
}
