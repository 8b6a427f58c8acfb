//! The stock rsync program, run as a client.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::url::RsyncUrl;

/// One file.
const FETCH_MAX: Duration = Duration::from_mins(2);

/// A whole tree over a slow line.
const PULL_MAX: Duration = Duration::from_hours(6);

/// A server that says nothing for this long is given up: seconds, for rsync's own `--timeout`.
const SILENCE_MAX_S: u32 = 180;

/// And one that does not answer at all.
const CONNECT_MAX_S: u32 = 30;

/// What is kept of the program's last words.
const STDERR_BYTES_MAX: usize = 2048;

/// Where a mirror that uses `--delay-updates` keeps files that are not in place yet.
const DELAYED: &str = ".~tmp~/";

/// Why it gave no file or no tree.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("rsync could not be run: {0}")]
    Start(std::io::Error),
    #[error("rsync was not done within {0:?}")]
    TooLong(Duration),
    #[error("rsync ended with {0}")]
    Ended(String),
}

/// Whether there is one.
pub(crate) fn is_installed() -> std::io::Result<()> {
    let version = std::process::Command::new("rsync").arg("--version").stdout(Stdio::null()).status();
    version.map(drop)
}

/// How it is called for one module.
#[derive(Debug)]
pub(super) struct Program {
    filters: Vec<String>,
}

impl Program {
    /// What `excludes` name is not even transferred.
    pub(super) fn new(excludes: &[String]) -> Self {
        let all = tree_store::ALWAYS.into_iter().chain([DELAYED]).chain(excludes.iter().map(String::as_str));
        // A rule with its kind spelled out: a pattern can't be taken for anything else.
        let filters = all
            .map(|pattern| format!("--filter=- {}", pattern.strip_prefix("- ").unwrap_or(pattern)))
            .collect();
        Self { filters }
    }

    /// One small file.
    pub(super) async fn fetch(
        &self,
        url: &str,
        to: &Path,
        bytes_max: u64,
        lock: &File,
    ) -> Result<(), ProgramError> {
        let mut command = command(lock)?;
        command.arg(format!("--max-size={bytes_max}")).arg("--").arg(url).arg(to);
        run(command, FETCH_MAX).await
    }

    /// The whole tree. Modes are the upstream's, but we can always read and replace what we have.
    pub(super) async fn pull(&self, url: &RsyncUrl, to: &Path, lock: &File) -> Result<(), ProgramError> {
        let mut command = command(lock)?;
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
        run(command, PULL_MAX).await
    }
}

/// Its standard input is never read: it is our lock, which so is held until the program has ended, even if
/// we end before it.
fn command(lock: &File) -> Result<Command, ProgramError> {
    let lock = lock.try_clone().map_err(ProgramError::Start)?;
    let mut command = Command::new("rsync");
    command
        .args(["--no-motd", "--quiet"])
        .arg(format!("--timeout={SILENCE_MAX_S}"))
        .arg(format!("--contimeout={CONNECT_MAX_S}"))
        .env("LC_ALL", "C")
        .stdin(lock)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

async fn run(mut command: Command, limit: Duration) -> Result<(), ProgramError> {
    let mut child = command.spawn().map_err(ProgramError::Start)?;
    let mut stderr = child.stderr.take();
    let finished = async {
        let mut last_words = Vec::new();
        if let Some(stderr) = &mut stderr {
            let mut chunk = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
                last_words.extend_from_slice(&chunk[..length]);
                let excess = last_words.len().saturating_sub(STDERR_BYTES_MAX);
                last_words.drain(..excess);
            }
        }
        (child.wait().await, last_words)
    };
    match tokio::time::timeout(limit, finished).await {
        Ok((Ok(status), _)) if status.success() => Ok(()),
        Ok((Ok(status), last_words)) => Err(ProgramError::Ended(describe(status, &last_words))),
        Ok((Err(error), _)) => Err(ProgramError::Start(error)),
        Err(_) => Err(ProgramError::TooLong(limit)),
    }
}

/// `exit status: 10 (rsync: [Receiver] failed to connect …)`, on one line.
fn describe(status: std::process::ExitStatus, last_words: &[u8]) -> String {
    let text = String::from_utf8_lossy(last_words);
    let line: Vec<_> = text.split_whitespace().collect();
    if line.is_empty() { status.to_string() } else { format!("{status} ({})", line.join(" ")) }
}
