//! What an import says it has done.

use std::collections::BTreeMap;

use cache_policy::import::Outcome;
use rookery_proto::v1;

use super::walk::{self, Found};

/// Files that a report lists.
const FILES_MAX: usize = 1000;
/// The longest text for people.
const TEXT_OCTETS_MAX: usize = 1024;

/// Counts every file, keeps those that somebody may want to look at.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<Outcome, (u64, u64)>,
    left: Vec<v1::ImportedFile>,
    stored: Vec<v1::ImportedFile>,
}

impl Tally {
    pub(super) fn add(&mut self, found: &Found, outcome: Outcome, detail: &str) {
        let (files, bytes) = self.counts.entry(outcome).or_default();
        *files += 1;
        *bytes = bytes.saturating_add(found.size_bytes);
        let list = if outcome.is_stored() { &mut self.stored } else { &mut self.left };
        if list.len() < FILES_MAX {
            list.push(v1::ImportedFile {
                name: walk::shown(&found.path),
                outcome: outcome.number(),
                detail: line(detail),
                size_bytes: found.size_bytes,
            });
        }
    }

    /// `3 adopted, 1 damaged`.
    pub(super) fn words(&self) -> String {
        if self.counts.is_empty() {
            return "nothing is there".to_owned();
        }
        let words = self.counts.iter().map(|(outcome, (files, _))| format!("{files} {}", outcome.as_str()));
        words.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn into_report(self, report: &mut v1::ImportReport) {
        let all: u64 = self.counts.values().map(|(files, _)| files).sum();
        let tally = |(outcome, (files, bytes)): (Outcome, (u64, u64))| v1::ImportTally {
            outcome: outcome.number(),
            files,
            bytes,
        };
        report.tallies = self.counts.into_iter().map(tally).collect();
        report.files = self.left;
        report.files.extend(self.stored);
        report.files.truncate(FILES_MAX);
        report.files_not_listed = all - report.files.len() as u64;
    }
}

/// Text for people: one line, not too long.
pub(super) fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while line.len() > TEXT_OCTETS_MAX {
        line.pop();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cache_policy::import::Kind;

    use super::*;

    #[test]
    fn every_file_counts_and_those_that_were_left_are_listed_first() {
        let mut tally = Tally::default();
        for number in 0..FILES_MAX + 10 {
            let name = format!("f{number}");
            let found = Found {
                path: PathBuf::from(&name),
                name: name.into(),
                kind: Kind::File,
                size_bytes: 3,
                is_settled: true,
            };
            let outcome = if number % 100 == 0 { Outcome::Damaged } else { Outcome::Adopted };
            tally.add(&found, outcome, "");
        }
        let mut report = v1::ImportReport::default();
        tally.into_report(&mut report);
        assert_eq!(report.files.len(), FILES_MAX);
        assert_eq!(report.files_not_listed, 10);
        assert_eq!(report.files[0].outcome(), v1::ImportOutcome::Damaged);
        let count: u64 = report.tallies.iter().map(|tally| tally.files).sum();
        assert_eq!(count, FILES_MAX as u64 + 10);
        let damaged = report.tallies.iter().find(|tally| tally.outcome() == v1::ImportOutcome::Damaged);
        assert_eq!(damaged.map(|tally| (tally.files, tally.bytes)), Some((11, 33)));
    }

    #[test]
    fn outcomes_have_the_numbers_of_the_contract() {
        for outcome in Outcome::ALL {
            let number = v1::ImportOutcome::try_from(outcome.number()).unwrap();
            assert_eq!(format!("{number:?}"), format!("{outcome:?}"));
        }
        let all = (1..).map_while(|number| v1::ImportOutcome::try_from(number).ok()).count();
        assert_eq!(all, Outcome::ALL.len());
    }
}
