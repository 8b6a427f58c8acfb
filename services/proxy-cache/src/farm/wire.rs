//! From the crate's types to the contract's messages.
//!
//! One refused field costs a whole report, so what a client or an upstream may have put into it is
//! brought into bounds here.

use gentoo_repo::DistfileName;
use prost::Message as _;
use rookery_proto::v1;

use super::types::{Access, AccessOutcome, CommittedBlob, HeldBlob, Outcome};
use crate::catalogue::KnownDistfile;

/// The longest text for people.
const TEXT_OCTETS_MAX: usize = 1024;
/// Names of one blob; more than a few are a curiosity.
const NAMES_MAX: usize = 64;
/// What the report of an import may take: maintenance takes no message of more than 4 MiB.
const IMPORT_OCTETS_MAX: usize = 3 << 20;

/// Text for people: one line, not too long.
pub(super) fn text(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + character.len_utf8() > TEXT_OCTETS_MAX {
            break;
        }
        line.push(character);
    }
    line
}

fn names(mut names: Vec<String>) -> Vec<String> {
    names.truncate(NAMES_MAX);
    names
}

/// Identity of a distfile in the farm: its name and the best digest of its DIST line. `None` if it has
/// no digest, so that it can't be told from another file of that name.
pub(super) fn fetch_object(known: &KnownDistfile) -> Option<v1::FetchObject> {
    let (algorithm, value) = known.distfile.digests.best()?;
    Some(v1::FetchObject {
        name: known.distfile.name.as_str().to_owned(),
        digest: Some(v1::Digest { algorithm: algorithm.manifest_name().to_owned(), value: value.to_vec() }),
        size_bytes: known.distfile.size_bytes,
    })
}

pub(super) fn held_blob(blob: HeldBlob) -> v1::Blob {
    v1::Blob {
        blake2b: blob.blake2b.to_vec(),
        size_bytes: blob.size_bytes,
        names: names(blob.names),
        last_access_ms: blob.last_access_ms,
        quarantined: blob.quarantined,
    }
}

/// A commit; `lease` is its id and fence, if it was fetched under one.
pub(super) fn commit(
    replica_id: &str,
    lease: Option<(String, u64)>,
    blob: CommittedBlob,
) -> v1::CommitFetchRequest {
    let object = fetch_object(&blob.known);
    let (lease_id, fence) = lease.unwrap_or_default();
    v1::CommitFetchRequest {
        replica_id: replica_id.to_owned(),
        lease_id,
        fence,
        object,
        blob: Some(v1::Blob {
            blake2b: blob.blake2b.to_vec(),
            size_bytes: blob.known.distfile.size_bytes,
            names: names(blob.names),
            last_access_ms: blob.last_access_ms,
            quarantined: false,
        }),
        source: text(&blob.source),
        upstream_bytes: blob.upstream_bytes,
    }
}

/// `None` if what was asked for can't be the name of a distfile.
pub(super) fn access(access: Access) -> Option<v1::Access> {
    DistfileName::try_from(access.name.as_str()).ok()?;
    let outcome = match access.outcome {
        AccessOutcome::Hit => v1::AccessOutcome::Hit,
        AccessOutcome::Miss => v1::AccessOutcome::Miss,
        AccessOutcome::Failed => v1::AccessOutcome::Failed,
    };
    Some(v1::Access {
        name: access.name,
        blake2b: access.blake2b.map(|hash| hash.to_vec()).unwrap_or_default(),
        client: access.client.to_string(),
        at_ms: access.at_ms,
        bytes_served: access.bytes_served,
        outcome: outcome.into(),
    })
}

/// Lists fewer files where all of them are too much for one message; what became of each still counts.
pub(super) fn import_reports(mut reports: Vec<v1::ImportReport>) -> Vec<v1::ImportReport> {
    while reports.iter().map(v1::ImportReport::encoded_len).sum::<usize>() > IMPORT_OCTETS_MAX {
        let Some(longest) = reports.iter_mut().max_by_key(|report| report.files.len()) else { break };
        if longest.files.is_empty() {
            break;
        }
        let kept = longest.files.len() / 2;
        longest.files_not_listed += (longest.files.len() - kept) as u64;
        longest.files.truncate(kept);
    }
    reports
}

pub(super) fn outcome(outcome: Outcome) -> v1::DecisionOutcome {
    match outcome {
        Outcome::Done => v1::DecisionOutcome::Done,
        Outcome::Busy => v1::DecisionOutcome::Busy,
        Outcome::Gone => v1::DecisionOutcome::Gone,
        Outcome::Damaged => v1::DecisionOutcome::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::AccessOutcome;
    use super::*;

    #[test]
    fn text_is_one_bounded_line() {
        assert_eq!(text("no space\nleft\u{1b}[0m"), "no space left [0m");
        let long = text(&"é".repeat(TEXT_OCTETS_MAX));
        assert_eq!(long.len(), TEXT_OCTETS_MAX);
    }

    #[test]
    fn a_report_of_many_directories_fits_into_a_message_and_no_file_is_lost_count_of() {
        let file = v1::ImportedFile { name: "n".repeat(4096), ..v1::ImportedFile::default() };
        let report = |files: usize| v1::ImportReport {
            files: vec![file.clone(); files],
            files_not_listed: 7,
            ..v1::ImportReport::default()
        };
        let small = vec![report(3), report(0)];
        assert_eq!(import_reports(small.clone()), small);
        let fitted = import_reports(vec![report(1000), report(10), report(900)]);
        assert!(fitted.iter().map(v1::ImportReport::encoded_len).sum::<usize>() <= IMPORT_OCTETS_MAX);
        let counts = fitted.iter().map(|report| report.files.len() as u64 + report.files_not_listed);
        assert_eq!(counts.collect::<Vec<_>>(), [1007, 17, 907]);
        assert_eq!(fitted[1].files.len(), 10, "the long ones are shortened first");
    }

    #[test]
    fn an_access_to_what_is_no_name_is_left_out() {
        let access_to = |name: &str| {
            access(Access {
                name: name.to_owned(),
                blake2b: None,
                client: [10, 0, 0, 1].into(),
                at_ms: 0,
                bytes_served: 0,
                outcome: AccessOutcome::Failed,
            })
        };
        assert!(access_to("foo-1.tgz").is_some());
        assert!(access_to("../x").is_none() && access_to("").is_none());
    }
}
