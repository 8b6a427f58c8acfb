//! Trees that come over rsync: the stock program brings them into a staging directory, from which a
//! generation is built as from any other directory.
//!
//! ```text
//! state_dir/.upstream/MODULE/lock           held by us and by the rsync that we started
//!                            memory.toml    when an upstream may be asked again, what staging holds
//!                            timestamp.chk  the upstream's, at the last look
//!                            tree/          staging
//! ```
//!
//! An upstream is asked for `metadata/timestamp.chk` first. If that is what staging holds already, nothing
//! more is asked of it; if it is older than what is served, the next upstream gets its turn. After a pull
//! it is asked once more: a mirror that took over a new state meanwhile is pulled again.
//!
//! Public mirrors ban those who come too often. When the next look is due is written down *before* an
//! upstream is asked, so that a process which crashes or is restarted in a loop asks no more often.
//!
//! # Killed at any moment
//! Staging counts as whole only while `memory.toml` says of which timestamp it is; that is taken back before
//! a pull begins. An rsync that outlives us holds the lock: the next process leaves staging to it until it
//! has ended.

mod memory;
mod program;
mod url;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gentoo_repo::timestamp;
use service_kit::clock;
use service_kit::config::HumanDuration;
use tokio::sync::Mutex;
use tree_store::ModuleName;

use memory::Memory;
use program::{Program, ProgramError};

pub(crate) use program::is_installed;
pub use url::{RsyncUrl, Upstreams};

/// A mirror that is never the same twice is given up for this time.
const ROUNDS_MAX: usize = 3;

/// A time stamp is a line.
const TIMESTAMP_BYTES_MAX: u64 = 4096;

/// The file that says of which moment a tree is.
const TIMESTAMP: &str = "metadata/timestamp.chk";

/// Why no upstream gave a tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// Too soon after a look that brought no tree.
    #[error("{failure}; to be asked again in {}", rounded(.due_in))]
    NotDue { due_in: Duration, failure: String },
    /// None of them gave a tree.
    #[error("{}", .0.join("; "))]
    AllFailed(Vec<String>),
    /// Another rsync is at it.
    #[error("{}: an rsync of an earlier process still writes there; it ends by itself", .0.display())]
    Busy(PathBuf),
    /// Our own files.
    #[error("{}: {doing}: {error}", path.display())]
    State { path: PathBuf, doing: &'static str, error: io::Error },
}

/// Up to whole seconds, or whole minutes where they are many.
fn rounded(duration: &Duration) -> String {
    let unit = if *duration > Duration::from_mins(2) { 60 } else { 1 };
    let units = duration.as_millis().div_ceil(unit * 1000) * unit;
    HumanDuration(Duration::from_secs(u64::try_from(units).unwrap_or(u64::MAX))).to_string()
}

/// What a look at the upstreams came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// Staging holds a whole tree.
    Whole,
    /// No upstream was asked, it is too soon; staging holds the whole tree of the last time.
    NotDue(Duration),
}

impl Pulled {
    /// What somebody who asked for a look must know.
    pub(crate) fn note(self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::NotDue(due_in) => format!(
                "the upstream was not asked: public mirrors ban who comes too often; next in {}",
                rounded(&due_in)
            ),
        }
    }
}

/// The upstreams of one module and its staging directory.
#[derive(Debug)]
pub(crate) struct Upstream {
    urls: Vec<RsyncUrl>,
    directory: PathBuf,
    poll: Duration,
    program: Program,
    memory: Mutex<Memory>,
    lock: Arc<File>,
}

impl Upstream {
    /// Opens or creates the staging directory. Blocking.
    pub(crate) fn open(
        state_dir: &Path,
        module: &ModuleName,
        upstreams: &Upstreams,
        excludes: &[String],
        poll: Duration,
    ) -> Result<Self, UpstreamError> {
        // No module's name starts with a dot.
        let directory = state_dir.join(".upstream").join(module.as_str());
        let tree = directory.join("tree");
        fs::create_dir_all(&tree).map_err(state(&tree, "create"))?;
        let path = directory.join("lock");
        let lock = File::create(&path).map_err(state(&path, "create"))?;
        let memory = Mutex::new(Memory::load(&directory)?);
        let program = Program::new(excludes);
        Ok(Self { urls: upstreams.0.clone(), directory, poll, program, memory, lock: Arc::new(lock) })
    }

    /// How long until an upstream may be asked.
    pub(crate) async fn due_in(&self) -> Duration {
        self.memory.lock().await.due_in(clock::now_ms(), self.poll)
    }

    /// Brings staging up to date, if it is time. `live_seconds` is the timestamp of what is served.
    ///
    /// # Errors
    /// Staging is not whole afterwards.
    pub(crate) async fn pull(&self, live_seconds: Option<i64>) -> Result<Pulled, UpstreamError> {
        let mut memory = self.memory.lock().await;
        let now_ms = clock::now_ms();
        let due_in = memory.due_in(now_ms, self.poll);
        if !due_in.is_zero() {
            let Memory { staged, failure, .. } = &*memory;
            return match (staged, failure) {
                (Some(_), None) => Ok(Pulled::NotDue(due_in)),
                (_, failure) => {
                    let failure =
                        failure.clone().unwrap_or_else(|| "the last pull was broken off".to_owned());
                    Err(UpstreamError::NotDue { due_in, failure })
                }
            };
        }
        let _held = self.hold()?;
        memory.note_attempt(now_ms, self.poll);
        memory.store(&self.directory)?;
        let mut reasons = Vec::new();
        for url in &self.urls {
            match self.pull_from(url, &mut memory, live_seconds).await {
                Ok(()) => {
                    memory.note_success(clock::now_ms(), self.poll);
                    memory.store(&self.directory)?;
                    return Ok(Pulled::Whole);
                }
                Err(Failed::Upstream(reason)) => {
                    tracing::warn!(%url, reason, "this upstream gave no tree");
                    reasons.push(format!("{url}: {reason}"));
                }
                Err(Failed::Own(error)) => return Err(error),
            }
        }
        let error = UpstreamError::AllFailed(reasons);
        memory.failure = Some(error.to_string());
        memory.store(&self.directory)?;
        Err(error)
    }

    /// What staging held was not fit to be published: pull it again the next time, even if the timestamp
    /// stays the same. The upstream may have been in the middle of an update of its own.
    pub(crate) async fn note_refused(&self) -> Result<(), UpstreamError> {
        let mut memory = self.memory.lock().await;
        memory.refused = true;
        memory.store(&self.directory)
    }

    async fn pull_from(
        &self,
        url: &RsyncUrl,
        memory: &mut Memory,
        live_seconds: Option<i64>,
    ) -> Result<(), Failed> {
        let mut offered = self.probe(url).await?;
        if seconds(&offered)? < live_seconds.unwrap_or(i64::MIN) {
            return Err(Failed::Upstream(format!(
                "its tree of {offered} is older than the one that is served"
            )));
        }
        if memory.staged.as_ref() == Some(&offered) && !memory.refused {
            tracing::debug!(%url, offered, "nothing new");
            return Ok(());
        }
        for _ in 0..ROUNDS_MAX {
            memory.staged = None;
            memory.store(&self.directory)?;
            tracing::info!(%url, tree = offered, "pulling");
            self.program.pull(url, &self.tree(), &self.lock).await?;
            let pulled = read_timestamp(&self.tree().join(TIMESTAMP))?;
            offered = self.probe(url).await?;
            if pulled == offered {
                memory.staged = Some(pulled);
                memory.refused = false;
                return Ok(());
            }
        }
        Err(Failed::Upstream(format!("changed during each of {ROUNDS_MAX} pulls")))
    }

    /// The upstream's timestamp.
    async fn probe(&self, url: &RsyncUrl) -> Result<String, Failed> {
        let path = self.directory.join("timestamp.chk");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(state(&path, "remove")(error).into());
            }
            _ => {}
        }
        self.program.fetch(&url.file(TIMESTAMP), &path, TIMESTAMP_BYTES_MAX, &self.lock).await?;
        read_timestamp(&path)
    }

    /// The staging directory.
    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Keeps other processes out of staging until the result is dropped, and until the last rsync that was
    /// started meanwhile has ended.
    fn hold(&self) -> Result<Held<'_>, UpstreamError> {
        match self.lock.try_lock() {
            Ok(()) => Ok(Held(&self.lock)),
            Err(TryLockError::WouldBlock) => Err(UpstreamError::Busy(self.directory.clone())),
            Err(TryLockError::Error(error)) => Err(state(&self.directory, "lock")(error)),
        }
    }
}

/// The right to write to staging.
struct Held<'a>(&'a File);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "could not unlock a staging directory");
        }
    }
}

/// Whose fault it is: another upstream may do better, or none will.
enum Failed {
    Upstream(String),
    Own(UpstreamError),
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Self {
        Self::Own(error)
    }
}

impl From<ProgramError> for Failed {
    fn from(error: ProgramError) -> Self {
        Self::Upstream(error.to_string())
    }
}

fn read_timestamp(path: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TIMESTAMP_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) => Err(Failed::Upstream(format!("no {TIMESTAMP} that could be read: {error}"))),
    }
}

fn seconds(offered: &str) -> Result<i64, Failed> {
    timestamp::parse_chk(offered.as_bytes()).map_err(|error| Failed::Upstream(error.to_string()))
}

fn state(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> UpstreamError {
    let path = path.to_owned();
    move |error| UpstreamError::State { path, doing, error }
}
