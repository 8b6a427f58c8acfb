//! The git program: a bare repository with the newest commit of a branch, and a work tree.
//!
//! A repository is served over rsync like any other: boxes need `metadata/timestamp.chk`, which trees in git
//! don't have. It is written with the time of the commit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use gentoo_repo::timestamp;
use tokio::process::Command;
use tree_store::Keyring;

use super::program::{self, ProgramError, STDOUT_BYTES_MAX};
use super::url::GitUrl;
use super::{Failed, Limits, TIMESTAMP, state};

/// What a fetch leaves under a name of ours.
const FETCHED: &str = "refs/rookery/fetched";

/// One module's repository.
#[derive(Debug)]
pub(super) struct Git {
    /// The module's directory beside staging.
    directory: PathBuf,
    limits: Limits,
    /// The commit has to be signed by a key of this file.
    key: Option<PathBuf>,
}

impl Git {
    pub(super) fn new(directory: &Path, key: Option<PathBuf>, limits: Limits) -> Self {
        Self { directory: directory.to_owned(), limits, key }
    }

    /// The commit that the branch is at.
    pub(super) async fn probe(&self, url: &GitUrl, lock: &File) -> Result<String, Failed> {
        let mut command = self.command();
        command.args(["ls-remote", "--exit-code", "--", url.repository()]).arg(url.reference());
        let printed = program::run(command, lock, self.limits.answer).await?;
        let line = String::from_utf8_lossy(&printed);
        let commit = line.split_whitespace().next().unwrap_or_default();
        if is_commit(commit) {
            Ok(commit.to_owned())
        } else {
            Err(Failed::Upstream(format!("no commit in what ls-remote says: {line:?}")))
        }
    }

    /// Brings the branch's commit into the work tree `to`; says which it is.
    pub(super) async fn pull(&self, url: &GitUrl, to: &Path, lock: &File) -> Result<String, Failed> {
        if !self.repository().join("HEAD").is_file() {
            let mut command = self.command();
            command.args(["init", "--quiet", "--bare"]).arg(self.repository());
            program::run(command, lock, self.limits.answer).await?;
        }
        let refspec = format!("+{}:{FETCHED}", url.reference());
        let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--", url.repository(), &refspec];
        self.git(&fetch, lock).await?;
        let commit = self.git(&["rev-parse", "--verify", &format!("{FETCHED}^{{commit}}")], lock).await?;
        if let Some(key) = &self.key {
            self.verify(&commit, key, lock).await?;
        }
        let work_tree = format!("--work-tree={}", to.display());
        self.git(&[&work_tree, "checkout", "--quiet", "--force", "--detach", &commit], lock).await?;
        self.git(&[&work_tree, "clean", "-ffdxq"], lock).await?;
        if !to.join(TIMESTAMP).exists() {
            let seconds = self.git(&["show", "--no-patch", "--format=%ct", &commit], lock).await?;
            write_timestamp(to, &seconds)?;
        }
        Ok(commit)
    }

    /// The commit's own signatures, by the configured keys and no others. The file is read each time, so that a new one
    /// counts from the next commit on.
    async fn verify(&self, commit: &str, key: &Path, lock: &File) -> Result<(), Failed> {
        let mut command = self.in_repository();
        command.args(["cat-file", "commit", commit]);
        let object = program::run(command, lock, self.limits.answer).await?;
        let refused = |why: String| {
            Failed::Upstream(format!("commit {commit} is not signed by a key of {}: {why}", key.display()))
        };
        if object.len() as u64 >= STDOUT_BYTES_MAX {
            return Err(refused(format!("it is an object of {STDOUT_BYTES_MAX} octets or more")));
        }
        let (file, digits) = (key.to_owned(), commit.len());
        let judge = move || -> Result<(), String> {
            let keys = Keyring::open(&file).map_err(|error| error.to_string())?;
            keys.verify_commit(&object, digits).map_err(|refusal| refusal.to_string())
        };
        let judged = tokio::task::spawn_blocking(judge).await;
        judged.map_err(|error| refused(error.to_string()))?.map_err(refused)
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("git")
    }

    /// What one command in the repository prints.
    async fn git(&self, arguments: &[&str], lock: &File) -> Result<String, ProgramError> {
        let mut command = self.in_repository();
        command.args(arguments);
        let printed = program::run(command, lock, self.limits.whole).await?;
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    }

    fn in_repository(&self) -> Command {
        let mut command = self.command();
        command.arg("--git-dir").arg(self.repository());
        command
    }

    /// git without anything that the repository could make it run.
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        let silence_s = self.limits.silence.as_secs().max(1);
        command
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "core.fsmonitor=false",
                "-c",
                "core.autocrlf=false",
            ])
            .args(["-c", "http.lowSpeedLimit=1", "-c"])
            .arg(format!("http.lowSpeedTime={silence_s}"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE");
        command
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}

fn write_timestamp(tree: &Path, seconds: &str) -> Result<(), Failed> {
    let seconds: i64 =
        seconds.parse().map_err(|_| Failed::Upstream(format!("the commit's time is {seconds:?}")))?;
    let path = tree.join(TIMESTAMP);
    let written = || {
        fs::create_dir_all(path.parent().unwrap_or(tree))?;
        fs::write(&path, timestamp::format_chk(seconds) + "\n")?;
        let since = std::time::Duration::from_secs(u64::try_from(seconds).map_err(io::Error::other)?);
        File::options().write(true).open(&path)?.set_modified(std::time::UNIX_EPOCH + since)
    };
    Ok(written().map_err(state(&path, "write"))?)
}
