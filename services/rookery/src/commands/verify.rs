//! `rookery verify`: tells the replicas to read, and waits for what they find.

use std::fmt;
use std::process::ExitCode;

use rookery_proto::v1::{DecisionStatus, ListDecisionsRequest, VerifyRequest};
use serde::Serialize;

use super::admin::{Admin, DEADLINE};
use super::meter::{ASK_EVERY, At, INTERRUPTED, Meter, interruptible};
use super::views::hex;
use super::{DAMAGED, block_on, show};
use crate::cli::Cli;
use crate::cli::farm::Verify;
use crate::text;

/// Decisions asked for at once.
const IDS_MAX: usize = 10_000;

pub(crate) fn run(cli: &Cli, verify: &Verify) -> anyhow::Result<ExitCode> {
    let (view, is_interrupted) = block_on(async {
        let mut admin = Admin::connect(cli, &verify.admin, DEADLINE)?;
        let request = VerifyRequest { names: verify.names.clone(), dry_run: verify.dry_run };
        let answer =
            admin.client.verify(request).await.map_err(|status| admin.explain(&status))?.into_inner();
        let mut view = VerifyView {
            blobs: answer.blobs,
            bytes: answer.bytes,
            dry_run: verify.dry_run,
            waiting: answer.decision_ids.len() as u64,
            ..VerifyView::default()
        };
        let mut is_interrupted = false;
        if !verify.dry_run && !verify.no_wait {
            let waiting = wait(cli, &mut admin, answer.decision_ids, &mut view);
            is_interrupted = interruptible(waiting).await?.is_none();
        }
        Ok((view, is_interrupted))
    })?;
    if is_interrupted {
        eprintln!("rookery: interrupted; the replicas go on reading, `rookery objects` says what they find");
    }
    let code = show(cli, &view)?;
    Ok(match view.damaged {
        _ if is_interrupted => INTERRUPTED.into(),
        0 => code,
        _ => DAMAGED.into(),
    })
}

async fn wait(
    cli: &Cli,
    admin: &mut Admin,
    mut open: Vec<String>,
    view: &mut VerifyView,
) -> anyhow::Result<()> {
    let mut meter = Meter::new(cli);
    let total = open.len() as u64;
    while !open.is_empty() {
        tokio::time::sleep(ASK_EVERY).await;
        let mut still_open = Vec::new();
        for ids in open.chunks(IDS_MAX) {
            let request = ListDecisionsRequest { ids: ids.to_vec(), limit: 0 };
            let answer =
                admin.client.list_decisions(request).await.map_err(|status| admin.explain(&status))?;
            for decision in answer.into_inner().decisions {
                if decision.outcome.is_empty() {
                    still_open.push(decision.id);
                } else {
                    view.count(decision);
                }
            }
        }
        open = still_open;
        view.waiting = open.len() as u64;
        let done = total - view.waiting;
        meter.at(&At { step: "verify", unit: "files", done, total, more: "" });
    }
    Ok(())
}

#[derive(Debug, Default, Serialize)]
struct VerifyView {
    blobs: u64,
    bytes: u64,
    dry_run: bool,
    sound: u64,
    damaged: u64,
    /// No longer there.
    gone: u64,
    /// Could not be read now.
    unread: u64,
    /// Not answered yet.
    waiting: u64,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    replica: String,
    blake2b: String,
    outcome: String,
    detail: String,
}

impl VerifyView {
    fn count(&mut self, decision: DecisionStatus) {
        match decision.outcome.as_str() {
            "done" => {
                self.sound += 1;
                return;
            }
            "damaged" => self.damaged += 1,
            "gone" => self.gone += 1,
            _ => self.unread += 1,
        }
        self.findings.push(FindingView {
            replica: decision.replica_id,
            blake2b: hex(&decision.blake2b),
            outcome: decision.outcome,
            detail: decision.detail,
        });
    }
}

impl fmt::Display for VerifyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = format!("{}, {}", text::plural(self.blobs, "file"), text::bytes(self.bytes));
        if self.dry_run {
            return writeln!(f, "Would read {files}.");
        }
        for finding in &self.findings {
            let FindingView { replica, blake2b, outcome, detail } = finding;
            writeln!(f, "{outcome}: {} on {replica} {detail}", &blake2b[..blake2b.len().min(16)])?;
        }
        writeln!(
            f,
            "{files}: {} sound, {} damaged, {} gone, {} not read, {} not answered yet.",
            text::count(self.sound),
            text::count(self.damaged),
            text::count(self.gone),
            text::count(self.unread),
            text::count(self.waiting)
        )
    }
}
