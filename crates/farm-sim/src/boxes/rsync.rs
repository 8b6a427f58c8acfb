//! `emerge --sync`: the probe, then the tree, with the stock `rsync` and Portage's own options, or with the
//! box's own client.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::programs::{Program, command, failure};
use super::pull::{Wanted, pull};
use super::{BoxError, BoxSpec, Listener, Progress, SyncReport, blocking};

/// What Portage passes to rsync, in its order.
pub const PORTAGE_OPTIONS: &[&str] = &[
    "--recursive",
    "--links",
    "--safe-links",
    "--perms",
    "--times",
    "--omit-dir-times",
    "--compress",
    "--force",
    "--whole-file",
    "--delete",
    "--stats",
    "--human-readable",
    "--timeout=180",
    "--exclude=/distfiles",
    "--exclude=/local",
    "--exclude=/packages",
    "--exclude=/.git",
    "--verbose",
];

const TIMESTAMP: &str = "metadata/timestamp.chk";

pub(super) async fn sync(
    spec: &BoxSpec,
    repository: &Path,
    listener: &Listener,
) -> Result<SyncReport, BoxError> {
    let began = Instant::now();
    probe_timestamp(spec).await?;
    let theirs = read_timestamp(&spec.dir.join("timestamp.chk")).await?;
    let program = spec.programs.rsync.as_ref();
    let client = program.map_or_else(|| "own rsync client".to_owned(), |program| program.version.clone());
    let mut report = SyncReport { client, files: 0, unchanged: false, elapsed: began.elapsed() };
    if let Ok(ours) = read_timestamp(&repository.join(TIMESTAMP)).await {
        if ours.1 == theirs.1 {
            report.unchanged = true;
            return Ok(report);
        }
        if theirs.0 < ours.0 {
            return Err(BoxError::OutOfDate { theirs: theirs.1, ours: ours.1 });
        }
    }
    report.files = match program {
        Some(program) => pull_with(program, spec, repository, listener).await?,
        None => pull_ourselves(spec, repository, listener).await?,
    };
    report.elapsed = began.elapsed();
    Ok(report)
}

/// Gets the server's timestamp into the box's own directory.
async fn probe_timestamp(spec: &BoxSpec) -> Result<(), BoxError> {
    let uri = format!("{}/{TIMESTAMP}", spec.sync_uri.trim_end_matches('/'));
    let Some(program) = &spec.programs.rsync else {
        let dir = spec.dir.clone();
        let probe = move || Ok(pull(&Wanted { uri: &uri, delete: false }, &dir, &|_| {})?);
        return blocking(probe).await.map(|_| ());
    };
    let mut command = command(&program.path);
    command.args(PORTAGE_OPTIONS).arg("--inplace");
    command.arg(uri).arg(spec.dir.join("timestamp.chk"));
    let output = command.output().await?;
    if !output.status.success() {
        return Err(failure("rsync", output.status.code(), &output.stderr));
    }
    Ok(())
}

/// The timestamp as a number to compare and as it is written.
async fn read_timestamp(path: &Path) -> Result<(i64, String), BoxError> {
    let text = tokio::fs::read_to_string(path).await?.trim().to_owned();
    let time = jiff::fmt::rfc2822::parse(&text).map_err(std::io::Error::other)?;
    Ok((time.timestamp().as_second(), text))
}

async fn pull_ourselves(spec: &BoxSpec, repository: &Path, listener: &Listener) -> Result<u64, BoxError> {
    let uri = format!("{}/", spec.sync_uri.trim_end_matches('/'));
    let (repository, listener) = (repository.to_owned(), listener.clone());
    blocking(move || {
        let progress = |files| listener(Progress::Synced { files });
        Ok(pull(&Wanted { uri: &uri, delete: true }, &repository, &progress)?)
    })
    .await
}

/// Pulls the tree and says how many files were transferred.
async fn pull_with(
    program: &Program,
    spec: &BoxSpec,
    repository: &Path,
    listener: &Listener,
) -> Result<u64, BoxError> {
    let mut command = command(&program.path);
    command.args(PORTAGE_OPTIONS);
    command.arg(format!("{}/", spec.sync_uri.trim_end_matches('/'))).arg(repository);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    let mut transferred = 0;
    let stdout = child.stdout.take();
    let reading = async {
        let mut seen = 0;
        let Some(stdout) = stdout else { return };
        let mut lines = BufReader::new(stdout).lines();
        // A line that isn't UTF-8 ends the counting, never the sync.
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(number) = line.strip_prefix("Number of regular files transferred: ") {
                transferred = number.replace(',', "").trim().parse().unwrap_or(0);
            } else if !line.is_empty() && !line.ends_with('/') {
                seen += 1;
                listener(Progress::Synced { files: seen });
            }
        }
    };
    let stderr = child.stderr.take();
    let listening = async {
        if let Some(stderr) = stderr {
            // What it says is for people; if it can't be read, there is nothing to show.
            drop(stderr.take(64 * 1024).read_to_end(&mut said).await);
        }
    };
    let ((), (), status) = tokio::join!(reading, listening, child.wait());
    let status = status?;
    if !status.success() {
        return Err(failure("rsync", status.code(), &said));
    }
    Ok(transferred)
}
