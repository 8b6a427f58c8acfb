//! What happened, as a table and as JSON.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use farm_sim::boxes::{FetchReport, SyncReport};
use serde::Serialize;
use service_kit::exit_code::Exit;

use crate::text;

/// How many problems are listed; more are counted.
const PROBLEMS_SHOWN: usize = 10;

/// What happened.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Packages of the tree.
    pub packages: usize,
    /// Files of the tree.
    pub tree_files: usize,
    /// Distfiles that all boxes fetched.
    pub shared: usize,
    /// One of them.
    #[serde(skip)]
    pub shared_example: Option<String>,
    /// Each box's day.
    pub boxes: Vec<BoxReport>,
    /// What the boxes got against what the upstream sent.
    pub total: Saved,
    /// Distfiles that the upstream did not send exactly once.
    pub problems: Vec<String>,
    /// From the first line to the last.
    #[serde(rename = "elapsed_s", serialize_with = "as_seconds")]
    pub elapsed: Duration,
}

/// One box's day.
#[derive(Debug, Clone, Serialize)]
pub struct BoxReport {
    /// Its name.
    pub name: String,
    /// Its sync, if it worked.
    pub sync: Option<SyncReport>,
    /// Its fetches, if it came to that.
    pub fetch: Option<FetchReport>,
    /// Whatever differs from what was generated, and whatever failed.
    pub problems: Vec<String>,
}

/// Distfiles only: trees don't come from the upstream stand-in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// Distfiles that boxes got.
    pub box_requests: u64,
    /// Their length together.
    pub box_bytes: u64,
    /// Distfiles that the upstream was asked for, by its own count.
    pub upstream_requests: u64,
    /// What it sent, by its own count.
    pub upstream_bytes: u64,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl BoxReport {
    /// A box that has done nothing yet.
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), sync: None, fetch: None, problems: Vec::new() }
    }
}

impl Report {
    /// Every box has what it should, and the upstream sent everything once.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.problems.is_empty()
            && self
                .boxes
                .iter()
                .all(|gentoo| gentoo.problems.is_empty() && gentoo.sync.is_some() && gentoo.fetch.is_some())
    }

    /// What the demo exits with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_right() { Exit::Clean } else { Exit::Failed }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["box", "synced", "in", "fetched", "size", "in", "verdict"]);
        for gentoo in &self.boxes {
            let (sync, fetch) = (gentoo.sync.as_ref(), gentoo.fetch.as_ref());
            let none = || "-".to_owned();
            let verdict = match gentoo.problems.len() {
                0 => "all right".to_owned(),
                number => text::plural(number as u64, "problem"),
            };
            table.add_row([
                gentoo.name.clone(),
                sync.map_or_else(none, |sync| text::plural(sync.files, "file")),
                sync.map_or_else(none, |sync| text::duration(sync.elapsed)),
                fetch.map_or_else(none, |fetch| text::plural(fetch.files, "distfile")),
                fetch.map_or_else(none, |fetch| text::bytes(fetch.bytes)),
                fetch.map_or_else(none, |fetch| text::duration(fetch.elapsed)),
                verdict,
            ]);
        }
        for column in table.column_iter_mut().skip(1).take(5) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.table())?;
        if let Some((sync, fetch)) = self.boxes.first().and_then(|b| b.sync.as_ref().zip(b.fetch.as_ref())) {
            writeln!(f, "Clients    {}, {}", sync.client, fetch.client)?;
        }
        let Saved { box_requests, box_bytes, upstream_requests, upstream_bytes } = self.total;
        let saved = box_bytes.saturating_sub(upstream_bytes);
        writeln!(f, "Boxes got  {}, {}", text::plural(box_requests, "distfile"), text::bytes(box_bytes))?;
        writeln!(
            f,
            "Upstream   {}, {} (its own count)",
            text::plural(upstream_requests, "request"),
            text::bytes(upstream_bytes)
        )?;
        writeln!(f, "Saved      {}, {} of all bytes", text::bytes(saved), text::share(saved, box_bytes))?;
        writeln!(f, "Time       {}\n", text::duration(self.elapsed))?;
        if self.is_right() {
            return writeln!(
                f,
                "All {} trees are equal to the source, all distfiles are right, and each of the {} shared ones was \
                 requested once upstream.",
                self.boxes.len(),
                self.shared
            );
        }
        let of_boxes = self.boxes.iter();
        let of_boxes =
            of_boxes.flat_map(|gentoo| gentoo.problems.iter().map(move |p| format!("{}: {p}", gentoo.name)));
        let problems: Vec<String> = self.problems.iter().cloned().chain(of_boxes).collect();
        writeln!(f, "NOT RIGHT:")?;
        for problem in problems.iter().take(PROBLEMS_SHOWN) {
            writeln!(f, "  {problem}")?;
        }
        if let Some(more) = problems.len().checked_sub(PROBLEMS_SHOWN).filter(|more| *more > 0) {
            writeln!(f, "  and {more} more")?;
        }
        Ok(())
    }
}
