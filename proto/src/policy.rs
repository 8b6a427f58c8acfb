//! Values of `cache-policy` in messages, field by field.

use cache_policy::import::Counts;

use crate::v1::{ImportCounts, ImportReport};

impl From<Counts> for ImportCounts {
    fn from(counts: Counts) -> Self {
        let Counts { adopted, adopted_bytes, known, removed, unknown, differing, failed } = counts;
        Self { adopted, adopted_bytes, known, removed, unknown, differing, failed }
    }
}

impl ImportCounts {
    /// The sum over all directories, in the few words of an acknowledgement. What counts as what is for
    /// `cache-policy` to say.
    #[must_use]
    pub fn of(reports: &[ImportReport]) -> Self {
        let tallies = reports.iter().flat_map(|report| &report.tallies);
        Counts::of(tallies.map(|tally| (tally.outcome, tally.files, tally.bytes))).into()
    }
}
