//! `rookery forget`: a replica that is gone for good.

use std::fmt;
use std::process::ExitCode;

use rookery_proto::v1::ForgetReplicaRequest;
use serde::Serialize;

use super::admin::{Admin, DEADLINE};
use super::{block_on, show};
use crate::cli::Cli;
use crate::cli::farm::Forget;
use crate::text;

pub(crate) fn run(cli: &Cli, forget: &Forget) -> anyhow::Result<ExitCode> {
    let view = block_on(async {
        let mut admin = Admin::connect(cli, &forget.admin, DEADLINE)?;
        let request = ForgetReplicaRequest { replica_id: forget.replica.clone(), dry_run: forget.dry_run };
        let answer = admin.client.forget_replica(request).await.map_err(|status| admin.explain(&status))?;
        let answer = answer.into_inner();
        Ok(ForgottenView {
            replica: forget.replica.clone(),
            dry_run: forget.dry_run,
            blobs: answer.blobs,
            bytes: answer.bytes,
            only_here: answer.only_here,
            leases: answer.leases,
            decisions: answer.decisions,
        })
    })?;
    show(cli, &view)
}

#[derive(Debug, Serialize)]
struct ForgottenView {
    replica: String,
    dry_run: bool,
    blobs: u64,
    bytes: u64,
    only_here: u64,
    leases: u64,
    decisions: u64,
}

impl fmt::Display for ForgottenView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would be forgotten" } else { "is forgotten" };
        writeln!(
            f,
            "Replica {} {verb}: {} ({}), {} of them on no other replica; {}, {}.",
            self.replica,
            text::plural(self.blobs, "file"),
            text::bytes(self.bytes),
            text::count(self.only_here),
            text::plural(self.leases, "lease"),
            text::plural(self.decisions, "decision"),
        )?;
        writeln!(f, "Its disk is not touched; if it starts again, it registers anew with what it has.")
    }
}
