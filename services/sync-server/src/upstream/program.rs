//! Programs that bring a tree, run with a time limit and without leaving anything running behind.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// What is kept of each of the program's outputs.
const STDERR_BYTES_MAX: usize = 2048;
pub(crate) const STDOUT_BYTES_MAX: u64 = 1 << 20;

/// Why it did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("{program} could not be run: {error}")]
    Start { program: String, error: std::io::Error },
    #[error("{program} was not done within {limit:?}")]
    TooLong { program: String, limit: Duration },
    #[error("{program} ended with {status}{last_words}")]
    Ended { program: String, status: std::process::ExitStatus, last_words: String },
}

impl ProgramError {
    /// The program's exit code, if it ended with one.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Ended { status, .. } => status.code(),
            Self::Start { .. } | Self::TooLong { .. } => None,
        }
    }
}

/// Whether there is a program of this name or at this path. Blocking.
pub(crate) fn is_in_path(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether it can be run at all. Blocking.
pub(crate) fn is_installed(program: &str) -> std::io::Result<()> {
    let mut command = std::process::Command::new(program);
    let status =
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(status.to_string())) }
}

/// Runs it to its end; what it printed.
///
/// Its standard input is never read: it is `lock`, which so is held until the program and all that it
/// started have ended, even if we end before them. It gets a process group of its own: what it started
/// ends with it when the time is up or the caller gives up.
pub(crate) async fn run(mut command: Command, lock: &File, limit: Duration) -> Result<Vec<u8>, ProgramError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let start = |error| ProgramError::Start { program: program.clone(), error };
    command
        .env("LC_ALL", "C")
        .stdin(lock.try_clone().map_err(start)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut running = Group(command.spawn().map_err(start)?);
    let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
    let finished = async {
        let (stdout, last_words) = tokio::join!(head(stdout), tail(stderr));
        (running.0.wait().await, stdout, last_words)
    };
    match tokio::time::timeout(limit, finished).await {
        Ok((Ok(status), stdout, _)) if status.success() => Ok(stdout),
        Ok((Ok(status), _, last_words)) => {
            Err(ProgramError::Ended { program, status, last_words: describe(&last_words) })
        }
        Ok((Err(error), ..)) => Err(start(error)),
        Err(_) => Err(ProgramError::TooLong { program, limit }),
    }
}

/// A program and what it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it has been waited for: then the number may be somebody else's.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "a program had ended by itself");
        }
    }
}

/// The first octets of an output; the rest is read and dropped, so that nobody waits for room.
async fn head(output: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut output) = output {
        // What could not be read is missing where it is looked for.
        drop((&mut output).take(STDOUT_BYTES_MAX).read_to_end(&mut kept).await);
        drop(tokio::io::copy(&mut output, &mut tokio::io::sink()).await);
    }
    kept
}

/// The last octets of an output.
async fn tail(output: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut output) = output {
        let mut chunk = [0; 1024];
        while let Ok(length @ 1..) = output.read(&mut chunk).await {
            kept.extend_from_slice(&chunk[..length]);
            let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
            kept.drain(..excess);
        }
    }
    kept
}

/// ` (rsync: [Receiver] failed to connect …)`, on one line.
fn describe(last_words: &[u8]) -> String {
    let text = String::from_utf8_lossy(last_words);
    let line: Vec<_> = text.split_whitespace().collect();
    if line.is_empty() { String::new() } else { format!(" ({})", line.join(" ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_it_printed_and_what_it_died_of() {
        let lock = tempfile::tempfile().unwrap();
        let printed = run(shell("echo one; echo two >&2"), &lock, Duration::from_mins(1)).await.unwrap();
        assert_eq!(printed, b"one\n");
        let error = run(shell("echo 'a  b' >&2; exit 3"), &lock, Duration::from_mins(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh ended with exit status: 3 (a b)");
        assert_eq!(error.code(), Some(3));
        let error = run(Command::new("/none"), &lock, Duration::from_mins(1)).await.unwrap_err();
        assert!(error.to_string().contains("/none could not be run"), "{error}");
    }

    #[tokio::test]
    async fn what_it_started_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = File::create(&path).unwrap();
        lock.lock().unwrap();
        // The inner shell keeps the lock as its standard input for as long as it lives.
        let error = run(shell("sleep 600 & wait"), &lock, Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, ProgramError::TooLong { .. }), "{error}");
        drop(lock);
        let started = Instant::now();
        while File::open(&path).unwrap().try_lock().is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "sleep is still running");
            tokio::task::yield_now().await;
        }
    }
}
