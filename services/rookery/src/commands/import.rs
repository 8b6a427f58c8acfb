//! `rookery import`: a replica adopts the distfiles of a directory.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rookery_proto::v1::{
    AfterImport, ImportDirectory, ImportDirectoryRequest, ImportDirectoryResponse, ImportOutcome,
    ImportReport, Progress,
};
use serde::Serialize;

use super::admin::Admin;
use super::meter::{INTERRUPTED, interruptible};
use super::{block_on, show, under_way};
use crate::cli::{After, Cli, Import};
use crate::text::bytes;

/// For reading and copying a whole disk of distfiles.
const DEADLINE: Duration = Duration::from_hours(24);

/// Exits 1 if a directory could not be looked through, or a file that a tree lists could not be read or
/// stored. That files were left alone is no error.
pub(crate) fn run(cli: &Cli, import: &Import) -> anyhow::Result<ExitCode> {
    let request = request(import)?;
    let view = block_on(interruptible(async {
        let admin = Admin::connect(cli, &import.admin, DEADLINE)?;
        let mut client = admin.client.clone();
        let is_it = |progress: &Progress| {
            progress.kind == "import"
                && (request.replica_id.is_empty() || progress.replica_id == request.replica_id)
                && request.directory.as_ref().is_some_and(|directory| progress.what == directory.dir)
        };
        let call = client.import_directory(request.clone());
        let answer = under_way::answer(cli, &admin, is_it, call).await;
        Ok(ImportView::from(answer.map_err(|status| admin.explain(&status))?.into_inner()))
    }))?;
    let Some(view) = view else {
        eprintln!("rookery: interrupted; a replica that has begun goes on, and its log has the report");
        return Ok(INTERRUPTED.into());
    };
    show(cli, &view)?;
    Ok(if view.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn request(import: &Import) -> anyhow::Result<ImportDirectoryRequest> {
    let dir = match &import.dir {
        Some(dir) => {
            let dir = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
            dir.into_os_string()
                .into_string()
                .map_err(|dir| anyhow::anyhow!("{} is not UTF-8", dir.display()))?
        }
        None => String::new(),
    };
    let after = match import.after {
        None | Some(After::Keep) => AfterImport::Keep,
        Some(After::Remove) => AfterImport::Remove,
    };
    Ok(ImportDirectoryRequest {
        replica_id: import.replica.clone().unwrap_or_default(),
        directory: Some(ImportDirectory {
            dir,
            after: after.into(),
            recursive: import.recursive,
            dry_run: import.dry_run,
        }),
    })
}

/// What became of the files.
#[derive(Debug, Serialize)]
struct ImportView {
    replica: String,
    directories: Vec<DirectoryView>,
}

#[derive(Debug, Serialize)]
struct DirectoryView {
    dir: String,
    dry_run: bool,
    /// Why not all of it was looked at.
    error: String,
    outcomes: Vec<TallyView>,
    files: Vec<FileView>,
    files_not_listed: u64,
}

#[derive(Debug, Serialize)]
struct TallyView {
    outcome: &'static str,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct FileView {
    name: String,
    outcome: &'static str,
    detail: String,
    size_bytes: u64,
}

impl From<ImportDirectoryResponse> for ImportView {
    fn from(answer: ImportDirectoryResponse) -> Self {
        Self {
            replica: answer.replica_id,
            directories: answer.reports.into_iter().map(DirectoryView::from).collect(),
        }
    }
}

impl From<ImportReport> for DirectoryView {
    fn from(report: ImportReport) -> Self {
        let tallies = report.tallies.iter().map(|tally| TallyView {
            outcome: word(tally.outcome()),
            files: tally.files,
            bytes: tally.bytes,
        });
        let outcomes = tallies.collect();
        let files = report.files.into_iter().map(|file| FileView {
            outcome: word(file.outcome()),
            name: file.name,
            detail: file.detail,
            size_bytes: file.size_bytes,
        });
        Self {
            outcomes,
            files: files.collect(),
            dir: report.dir,
            dry_run: report.dry_run,
            error: report.error,
            files_not_listed: report.files_not_listed,
        }
    }
}

impl ImportView {
    fn is_complete(&self) -> bool {
        let failed = word(ImportOutcome::Failed);
        self.directories
            .iter()
            .all(|dir| dir.error.is_empty() && dir.outcomes.iter().all(|tally| tally.outcome != failed))
    }
}

impl fmt::Display for ImportView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.directories.is_empty() {
            writeln!(f, "replica {} has no import_dirs", self.replica)?;
        }
        for dir in &self.directories {
            let dry = if dir.dry_run { " (dry run: nothing was changed)" } else { "" };
            writeln!(f, "{}{dry}", dir.dir)?;
            if dir.outcomes.is_empty() && dir.error.is_empty() {
                writeln!(f, "  it is empty")?;
            }
            for tally in &dir.outcomes {
                writeln!(f, "  {:8} {:26} {}", tally.files, tally.outcome, bytes(tally.bytes))?;
            }
            for file in dir.files.iter().filter(|file| file.is_worth_a_line()) {
                let detail = if file.detail.is_empty() { "" } else { ": " };
                writeln!(f, "  {}: {}{detail}{}", file.name, file.outcome, file.detail)?;
            }
            if dir.files_not_listed > 0 {
                writeln!(f, "  {} more files are counted above", dir.files_not_listed)?;
            }
            if !dir.error.is_empty() {
                writeln!(f, "  not complete: {}", dir.error)?;
            }
        }
        Ok(())
    }
}

impl FileView {
    /// What went as it was meant to is only counted.
    fn is_worth_a_line(&self) -> bool {
        let quiet = [
            ImportOutcome::Adopted,
            ImportOutcome::Removed,
            ImportOutcome::AlreadyStored,
            ImportOutcome::StoredRemoved,
        ];
        !quiet.iter().any(|outcome| word(*outcome) == self.outcome)
    }
}

/// The word for people and for programs.
fn word(outcome: ImportOutcome) -> &'static str {
    match outcome {
        ImportOutcome::Unspecified => "unspecified",
        ImportOutcome::Adopted => "adopted",
        ImportOutcome::Removed => "adopted_and_removed",
        ImportOutcome::AdoptedNotRemoved => "adopted_not_removed",
        ImportOutcome::AlreadyStored => "already_stored",
        ImportOutcome::StoredRemoved => "already_stored_and_removed",
        ImportOutcome::StoredNotRemoved => "already_stored_not_removed",
        ImportOutcome::StoredDiffers => "stored_differs",
        ImportOutcome::Unknown => "unknown",
        ImportOutcome::Damaged => "damaged",
        ImportOutcome::Unverifiable => "unverifiable",
        ImportOutcome::Growing => "growing",
        ImportOutcome::Part => "part",
        ImportOutcome::Link => "link",
        ImportOutcome::NotAFile => "not_a_file",
        ImportOutcome::BadName => "bad_name",
        ImportOutcome::NoRoom => "no_room",
        ImportOutcome::Failed => "failed",
    }
}
