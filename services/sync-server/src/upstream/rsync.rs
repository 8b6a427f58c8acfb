//! The stock rsync program, called as a client.

use std::fs::File;
use std::path::Path;

use tokio::process::Command;

use super::Limits;
use super::program::{self, ProgramError};
use super::url::RsyncUrl;

/// A server that does not even take the connection: seconds.
const CONNECT_MAX_S: u64 = 30;

/// Where mirrors keep files that are not in place yet: rsync's `--delay-updates`, and the name that
/// rsync(1) suggests for `--partial-dir`.
const UNFINISHED: [&str; 2] = [".~tmp~/", ".rsync-partial/"];

/// rsync(1): "Partial transfer due to vanished source files".
const VANISHED: i32 = 24;

/// How it is called for one module.
#[derive(Debug)]
pub(super) struct Rsync {
    filters: Vec<String>,
    limits: Limits,
}

impl Rsync {
    /// What `excludes` name is not even transferred.
    pub(super) fn new(excludes: &[String], limits: Limits) -> Self {
        let all = tree_store::ALWAYS.into_iter().chain(UNFINISHED);
        let all = all.chain(excludes.iter().map(String::as_str));
        // A rule with its kind spelled out: a pattern can't be taken for anything else.
        let filters = all
            .map(|pattern| format!("--filter=- {}", pattern.strip_prefix("- ").unwrap_or(pattern)))
            .collect();
        Self { filters, limits }
    }

    /// One small file.
    pub(super) async fn fetch(
        &self,
        url: &str,
        to: &Path,
        bytes_max: u64,
        lock: &File,
    ) -> Result<(), ProgramError> {
        let mut command = self.command();
        command.arg(format!("--max-size={bytes_max}")).arg("--").arg(url).arg(to);
        program::run(command, lock, self.limits.answer).await.map(drop)
    }

    /// The whole tree; `false` if it changed under rsync's hands. Modes are the upstream's, but we can
    /// always read and replace what we have. With `distrust`, contents are compared even of files that have the
    /// right size and time: what we have was refused.
    pub(super) async fn pull(
        &self,
        url: &RsyncUrl,
        to: &Path,
        distrust: bool,
        lock: &File,
    ) -> Result<bool, ProgramError> {
        let mut command = self.command();
        if distrust {
            command.arg("--checksum");
        }
        command
            .args([
                "--recursive",
                "--links",
                "--safe-links",
                "--perms",
                "--times",
                "--compress",
                "--whole-file",
            ])
            .args(["--chmod=Du+rwx,Fu+rw", "--delete", "--delete-excluded", "--force"])
            .args(&self.filters)
            .arg("--")
            .arg(url.contents())
            .arg(to);
        match program::run(command, lock, self.limits.whole).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(VANISHED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn command(&self) -> Command {
        let silence_s = self.limits.silence.as_millis().div_ceil(1000).max(1);
        let mut command = Command::new("rsync");
        command
            .args(["--no-motd", "--quiet"])
            .arg(format!("--timeout={silence_s}"))
            .arg(format!("--contimeout={CONNECT_MAX_S}"));
        command
    }
}
