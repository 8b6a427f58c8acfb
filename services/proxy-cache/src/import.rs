//! Adopts the distfiles of directories on this host: a DISTDIR, an old cache.
//!
//! A file is looked up in the catalogue by its name, copied (or reflinked) while its length and digests
//! are checked, and stored durably; only then, and only if the operator wants it, it is compared with what
//! the disk holds now and removed. So is one that an earlier import or a client brought in: a kill between
//! the two steps leaves nothing that no later import removes. Everything else is left as it is and told with a reason.
//!
//! This module must not decide what becomes of a file: `cache_policy::import` does. Start reading at
//! [`run`]; `file` is one file, `walk` the directory, `tally` the report.

mod file;
mod seen;
mod tally;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cache_policy::UnixMs;
use cache_policy::import::Outcome;
use rookery_proto::v1;
use tracing::{info, warn};

use crate::app::{App, now_ms};
use crate::config::{AfterImport, ImportDir};
use crate::farm::ImportMeter;
use file::Importer;
pub(crate) use seen::Seen;
use tally::Tally;
use walk::Now;

/// One directory and how it is to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    dir: PathBuf,
    is_to_go: bool,
    is_recursive: bool,
    is_dry_run: bool,
}

impl Order {
    fn of_config(import: &ImportDir, is_dry_run: bool) -> Self {
        Self {
            dir: import.dir.clone(),
            is_to_go: import.after == AfterImport::Remove,
            is_recursive: import.recursive,
            is_dry_run,
        }
    }

    fn blank_report(&self) -> v1::ImportReport {
        let after = if self.is_to_go { v1::AfterImport::Remove } else { v1::AfterImport::Keep };
        v1::ImportReport {
            dir: walk::shown(&self.dir),
            after: after.into(),
            recursive: self.is_recursive,
            dry_run: self.is_dry_run,
            started_ms: now_ms(),
            ..v1::ImportReport::default()
        }
    }
}

/// What a decision asks for.
pub(crate) async fn by_decision(
    app: &Arc<App>,
    order: &v1::ImportDirectory,
    meter: &ImportMeter,
) -> Vec<v1::ImportReport> {
    if order.dir.is_empty() {
        return of_config(app, order.dry_run, meter).await;
    }
    let order = Order {
        dir: PathBuf::from(&order.dir),
        is_to_go: order.after() == v1::AfterImport::Remove,
        is_recursive: order.recursive,
        is_dry_run: order.dry_run,
    };
    vec![run(app, &order, meter).await]
}

/// Once a start: waits for a catalogue, imports what the configuration names, and reports it.
pub(crate) async fn at_start(app: Arc<App>) {
    if app.config.import_dirs.is_empty() {
        return;
    }
    let soft = app.tasks.soft();
    let imported = async {
        app.catalogue.filled().await;
        of_config(&app, false, &ImportMeter::default()).await
    };
    if let Some(reports) = soft.run_until_cancelled(imported).await {
        app.farm.report_import(reports);
    }
}

async fn of_config(app: &Arc<App>, is_dry_run: bool, meter: &ImportMeter) -> Vec<v1::ImportReport> {
    let mut reports = Vec::new();
    for import in &app.config.import_dirs {
        reports.push(run(app, &Order::of_config(import, is_dry_run), meter).await);
    }
    reports
}

/// Imports one directory; one at a time.
async fn run(app: &Arc<App>, order: &Order, meter: &ImportMeter) -> v1::ImportReport {
    let mut alone = app.importing.lock().await;
    let mut report = order.blank_report();
    let mut tally = Tally::default();
    if let Err(error) = import(app, order, &mut alone, &mut tally, meter).await {
        warn!(dir = report.dir, "the import is not complete: {error}");
        report.error = tally::line(&error);
    }
    drop(alone);
    report.finished_ms = now_ms();
    info!(dir = report.dir, dry_run = order.is_dry_run, "imported: {}", tally.words());
    tally.into_report(&mut report);
    report
}

async fn import(
    app: &Arc<App>,
    order: &Order,
    seen: &mut Seen,
    tally: &mut Tally,
    meter: &ImportMeter,
) -> Result<(), String> {
    check(app, &order.dir)?;
    if app.catalogue.is_empty() {
        return Err("no catalogue yet, so no file can be verified: wait until one is imported".to_owned());
    }
    let (dir, is_recursive) = (order.dir.clone(), order.is_recursive);
    let mut known = std::mem::take(seen);
    let walked = tokio::task::spawn_blocking(move || {
        let now = Now { clock: UnixMs::new(now_ms()), at: Instant::now() };
        known.forget_before(now.at);
        (walk::walk(&dir, is_recursive, &mut known, now), known)
    });
    let (walked, known) = walked.await.map_err(|error| error.to_string())?;
    *seen = known;
    let walked = walked.map_err(|error| error.to_string())?;
    let importer = Importer::new(app, order, walked.root);
    meter.send_replace(v1::ImportProgress {
        dir: walk::shown(&order.dir),
        files: walked.found.len() as u64,
        bytes: walked.found.iter().map(|found| found.size_bytes).fold(0, u64::saturating_add),
        ..v1::ImportProgress::default()
    });
    let soft = app.tasks.soft();
    for found in &walked.found {
        if soft.is_cancelled() {
            return Err("the replica is stopping; what is left is done by the next import".to_owned());
        }
        let (outcome, detail) = importer.import(found).await;
        if outcome == Outcome::Failed {
            warn!(file = walk::shown(&found.path), "not imported: {detail}");
        }
        tally.add(found, outcome, &detail);
        meter.send_modify(|progress| {
            progress.files_done += 1;
            progress.bytes_done = progress.bytes_done.saturating_add(found.size_bytes);
        });
    }
    walked.stopped.map_or(Ok(()), Err)
}

/// A directory that can be imported: not our own.
fn check(app: &App, dir: &Path) -> Result<(), String> {
    if !dir.is_absolute() {
        return Err("an absolute path is expected".to_owned());
    }
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let own = app.config.cache_dir.canonicalize().map_err(|error| error.to_string())?;
    if dir.starts_with(&own) || own.starts_with(&dir) {
        return Err(format!("it must have nothing to do with the cache directory {}", own.display()));
    }
    Ok(())
}
