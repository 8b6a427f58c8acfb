//! Trees that are not on this host: a program brings them into a staging directory, from which a
//! generation is built as from any other directory.
//!
//! ```text
//! state_dir/.upstream/MODULE/lock           held by us and by the programs that we started
//!                            memory.toml    when an upstream may be asked again, what staging holds
//!                            timestamp.chk  the upstream's, at the last look
//!                            tree/          staging
//!                            git/, gnupg/   of a git source: its repository, the keys of its commits
//!                            md5-cache/     what egencache made, while a pull changes the tree
//! ```
//!
//! An rsync upstream is asked for `metadata/timestamp.chk` first. If that is what staging holds already,
//! nothing more is asked of it; if it is older than what is served, the next upstream gets its turn. After
//! a pull it is asked once more: a mirror that took over a new state meanwhile is pulled again.
//!
//! Public mirrors ban those who come too often. When the next look is due is written down *before* an
//! upstream is asked, so that a process which crashes or is restarted in a loop asks no more often.
//!
//! # Killed at any moment
//! Staging counts as whole only while `memory.toml` says of which tree it is; that is taken back before
//! a pull begins. A program that outlives us holds the lock: the next process leaves staging to it until it
//! has ended.

mod git;
mod md5_cache;
mod memory;
mod program;
mod rsync;
mod url;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use gentoo_repo::timestamp;
use service_kit::clock;
use service_kit::config::HumanDuration;
use tokio::sync::Mutex;
use tree_store::ModuleName;

use git::Git;
use md5_cache::Md5Cache;
use memory::Memory;
use program::ProgramError;
use rsync::Rsync;

pub(crate) use md5_cache::{Master, repo_name};
pub(crate) use program::{is_in_path, is_installed};
pub(crate) use url::GitUrl;
pub use url::{RsyncUrl, Upstreams};

/// A mirror that is never the same twice is given up for this time.
const ROUNDS_MAX: usize = 3;

/// A time stamp is a line.
const TIMESTAMP_BYTES_MAX: u64 = 4096;

/// The file that says of which moment a tree is.
const TIMESTAMP: &str = "metadata/timestamp.chk";

/// How long a program may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For one small file.
    pub(crate) answer: Duration,
    /// Without a word, while a tree is transferred.
    pub(crate) silence: Duration,
    /// For a whole tree.
    pub(crate) whole: Duration,
}

/// Why no upstream gave a tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// None of them gave a tree, now or the last time it was asked.
    #[error("{}", .0.join("; "))]
    AllFailed(Vec<String>),
    /// Another program is at it.
    #[error("{}: a program of an earlier process still writes there; it ends by itself", .0.display())]
    Busy(PathBuf),
    /// Our own files.
    #[error("{}: {doing}: {error}", path.display())]
    State { path: PathBuf, doing: &'static str, error: io::Error },
}

/// Up to whole seconds, or whole minutes where they are many.
fn rounded(duration: Duration) -> String {
    let unit = if duration > Duration::from_mins(2) { 60 } else { 1 };
    let units = duration.as_millis().div_ceil(unit * 1000) * unit;
    HumanDuration(Duration::from_secs(u64::try_from(units).unwrap_or(u64::MAX))).to_string()
}

/// What a look at the upstreams came to: staging holds a whole tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// No upstream was asked, it is too soon for this long; the tree is the one of the last time.
    pub(crate) not_due_for: Option<Duration>,
    /// An operator wants it even if it is older than what is served.
    pub(crate) allow_older: bool,
}

impl Pulled {
    /// What somebody who asked for a look must know.
    pub(crate) fn note(self) -> String {
        self.not_due_for.map_or_else(String::new, |due_in| {
            format!(
                "the upstream was not asked: public mirrors ban who comes too often; next in {}",
                rounded(due_in)
            )
        })
    }
}

/// One place that a tree can be had from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// An rsync mirror.
    Rsync(RsyncUrl),
    /// A branch of a git repository.
    Git(GitUrl),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsync(url) => url.fmt(f),
            Self::Git(url) => url.fmt(f),
        }
    }
}

/// What is pulled for one module, and how.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// In the order to try.
    pub(crate) origins: &'a [Origin],
    pub(crate) excludes: &'a [String],
    /// Who must have signed a commit.
    pub(crate) commit_key: Option<&'a Path>,
    /// The program that makes a cache where a tree ships none.
    pub(crate) egencache: Option<&'a Path>,
    pub(crate) poll: Duration,
    pub(crate) limits: Limits,
}

/// The upstreams of one module and its staging directory.
#[derive(Debug)]
pub(crate) struct Upstream {
    origins: Vec<Origin>,
    names: Vec<String>,
    directory: PathBuf,
    poll: Duration,
    rsync: Rsync,
    git: Git,
    md5_cache: Option<Md5Cache>,
    memory: Mutex<Memory>,
    activity: std::sync::Mutex<String>,
}

impl Upstream {
    /// Opens or creates the staging directory. Blocking.
    pub(crate) fn open(
        state_dir: &Path,
        module: &ModuleName,
        plan: &Plan<'_>,
    ) -> Result<Self, UpstreamError> {
        // No module's name starts with a dot.
        let directory = state_dir.join(".upstream").join(module.as_str());
        let tree = directory.join("tree");
        fs::create_dir_all(&tree).map_err(state(&tree, "create"))?;
        let names: Vec<_> = plan.origins.iter().map(ToString::to_string).collect();
        let mut memory = Memory::load(&directory)?;
        memory.retain(&names);
        Ok(Self {
            origins: plan.origins.to_vec(),
            names,
            poll: plan.poll,
            rsync: Rsync::new(plan.excludes, plan.limits),
            md5_cache: plan.egencache.map(|program| Md5Cache::new(&directory, program, plan.limits)),
            git: Git::new(&directory, plan.commit_key.map(Path::to_owned), plan.limits),
            directory,
            memory: Mutex::new(memory),
            activity: std::sync::Mutex::default(),
        })
    }

    /// How long until the next pull is of use.
    pub(crate) async fn look_in(&self) -> Duration {
        self.memory.lock().await.look_in(&self.names, clock::now_ms(), self.poll)
    }

    /// What is being done now, for people; mostly nothing.
    pub(crate) fn activity(&self) -> String {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_activity(&self, activity: String) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
    }

    /// Brings staging up to date, if it is time. `live_seconds` is the timestamp of what is served; `masters` are
    /// the repositories that this one may build upon.
    ///
    /// # Errors
    /// Staging is not whole afterwards.
    pub(crate) async fn pull(
        &self,
        live_seconds: Option<i64>,
        allow_older: bool,
        masters: &[Master],
    ) -> Result<Pulled, UpstreamError> {
        self.pull_at(Instant::now(), live_seconds, allow_older, masters).await
    }

    /// `at` is the time of a clock that nobody sets.
    async fn pull_at(
        &self,
        at: Instant,
        live_seconds: Option<i64>,
        allow_older: bool,
        masters: &[Master],
    ) -> Result<Pulled, UpstreamError> {
        let mut memory = self.memory.lock().await;
        let now_ms = clock::now_ms();
        self.put_pauses_back(&mut memory, now_ms, at).await?;
        let due_in = memory.due_in(&self.names, now_ms, self.poll);
        if due_in.is_zero() {
            let live_seconds = live_seconds.filter(|_| !allow_older && !memory.allow_older);
            let outcome = self.ask_each(&mut memory, live_seconds, masters).await;
            self.set_activity(String::new());
            outcome?;
        } else if !memory.is_settled() {
            return Err(self.all_failed(&memory));
        }
        let not_due_for = Some(due_in).filter(|due_in| !due_in.is_zero());
        Ok(Pulled { not_due_for, allow_older: allow_older || memory.allow_older })
    }

    /// What a clock that was ahead noted keeps nobody from being asked.
    async fn put_pauses_back(
        &self,
        memory: &mut Memory,
        now_ms: u64,
        at: Instant,
    ) -> Result<(), UpstreamError> {
        let pauses = memory.put_back(now_ms, at, self.poll);
        if pauses == 0 {
            return Ok(());
        }
        self.store(memory).await?;
        tracing::warn!(
            directory = %self.directory.display(), pauses,
            "upstreams may be asked again sooner than was noted: the clock was ahead then, or poll was longer"
        );
        Ok(())
    }

    /// One after the other, as far as they may be asked, until one gives a tree.
    async fn ask_each(
        &self,
        memory: &mut Memory,
        live_seconds: Option<i64>,
        masters: &[Master],
    ) -> Result<(), UpstreamError> {
        let held = self.hold()?;
        for (origin, name) in self.origins.iter().zip(&self.names) {
            let now_ms = clock::now_ms();
            if !memory.url_due_in(name, now_ms, self.poll).is_zero() {
                continue;
            }
            memory.note_asked(name, now_ms, self.poll);
            self.store(memory).await?;
            self.set_activity(format!("asking {name}"));
            let pulled = match origin {
                Origin::Rsync(url) => self.pull_rsync(url, memory, live_seconds, &held).await,
                Origin::Git(url) => self.pull_git(url, memory, &held).await,
            };
            let outcome = match pulled {
                Ok(Some(pulled)) => self.complete(pulled, memory, masters, &held).await,
                Ok(None) => Ok(()),
                Err(failed) => Err(failed),
            };
            let now_ms = clock::now_ms();
            match outcome {
                Ok(()) => memory.note_whole(name, now_ms, self.poll),
                Err(Failed::Useless(reason)) => {
                    tracing::warn!(url = name, reason, "this upstream has nothing of use");
                    memory.note_useless(name, &reason, now_ms, self.poll);
                }
                Err(Failed::Upstream(reason)) => {
                    tracing::warn!(url = name, reason, "this upstream gave no tree");
                    memory.note_failed(name, &reason);
                }
                Err(Failed::Own(error)) => return Err(error),
            }
            self.store(memory).await?;
            if memory.is_settled() {
                return Ok(());
            }
        }
        Err(self.all_failed(memory))
    }

    fn all_failed(&self, memory: &Memory) -> UpstreamError {
        let now_ms = clock::now_ms();
        let reason = |url: &String| {
            let reason = memory.reason(url);
            let due_in = rounded(memory.url_due_in(url, now_ms, self.poll));
            format!("{url}: {reason}; to be asked again in {due_in}")
        };
        UpstreamError::AllFailed(self.names.iter().map(reason).collect())
    }

    /// An operator wants a tree even if it is older, and none could be had now: the next look takes it.
    pub(crate) async fn allow_older_next(&self) -> Result<(), UpstreamError> {
        let mut memory = self.memory.lock().await;
        memory.allow_older = true;
        self.store(&memory).await
    }

    /// What staging held was not fit to be published: pull it again the next time, even if the timestamp
    /// stays the same. The upstream may have been in the middle of an update of its own.
    pub(crate) async fn note_refused(&self) -> Result<(), UpstreamError> {
        let mut memory = self.memory.lock().await;
        memory.refused = true;
        self.store(&memory).await
    }

    /// What staging holds is served.
    pub(crate) async fn note_served(&self) -> Result<(), UpstreamError> {
        let mut memory = self.memory.lock().await;
        if !memory.refused && !memory.allow_older {
            return Ok(());
        }
        memory.refused = false;
        memory.allow_older = false;
        self.store(&memory).await
    }

    /// git's own protocol sees to it that what comes is one state of the branch.
    async fn pull_git(
        &self,
        url: &GitUrl,
        memory: &mut Memory,
        held: &File,
    ) -> Result<Option<String>, Failed> {
        let offered = self.git.probe(url, held).await?;
        if memory.staged == Some(self.identity(&offered)) && !memory.refused {
            tracing::debug!(%url, offered, "nothing new");
            return Ok(None);
        }
        self.begin(memory).await?;
        tracing::info!(%url, commit = offered, "pulling");
        self.set_activity(format!("pulling commit {offered} from {url}"));
        Ok(Some(self.git.pull(url, &self.tree(), held).await?))
    }

    /// What `memory.toml` calls a whole tree of this timestamp or commit.
    fn identity(&self, pulled: &str) -> String {
        match self.md5_cache {
            Some(_) => format!("{pulled}, with a cache"),
            None => pulled.to_owned(),
        }
    }

    /// Staging is about to change.
    async fn begin(&self, memory: &mut Memory) -> Result<(), UpstreamError> {
        memory.staged = None;
        self.store(memory).await?;
        if let Some(md5_cache) = self.md5_cache.as_ref().filter(|_| memory.generated) {
            md5_cache.put_aside(&self.tree())?;
            memory.generated = false;
            self.store(memory).await?;
        }
        Ok(())
    }

    /// Staging is what the upstream has; the rest is ours to add.
    async fn complete(
        &self,
        pulled: String,
        memory: &mut Memory,
        masters: &[Master],
        held: &File,
    ) -> Result<(), Failed> {
        if let Some(md5_cache) = &self.md5_cache
            && !Md5Cache::is_shipped(&self.tree())
        {
            self.set_activity(format!("making the metadata cache of {pulled}"));
            memory.generated = true;
            self.store(memory).await?;
            let entries = md5_cache.generate(&self.tree(), masters, held).await?;
            tracing::info!(entries, "egencache made the metadata cache");
        }
        memory.staged = Some(self.identity(&pulled));
        memory.refused = false;
        Ok(())
    }

    async fn pull_rsync(
        &self,
        url: &RsyncUrl,
        memory: &mut Memory,
        live_seconds: Option<i64>,
        held: &File,
    ) -> Result<Option<String>, Failed> {
        let mut offered = self.probe(url, held).await?;
        if seconds(&offered)? < live_seconds.unwrap_or(i64::MIN) {
            return Err(Failed::Useless(format!(
                "{TIMESTAMP}: its tree of {offered} is older than the one that is served \
                 (`rookery publish --allow-older` takes it all the same)"
            )));
        }
        if memory.staged == Some(self.identity(&offered)) && !memory.refused {
            tracing::debug!(%url, offered, "nothing new");
            return Ok(None);
        }
        for _ in 0..ROUNDS_MAX {
            self.begin(memory).await?;
            // It is to come anew, even if it has the size and the time of the one that was there.
            remove(&self.tree().join(TIMESTAMP))?;
            tracing::info!(%url, tree = offered, "pulling");
            self.set_activity(format!("pulling the tree of {offered} from {url}"));
            let is_whole = self.rsync.pull(url, &self.tree(), memory.refused, held).await?;
            let pulled = read_timestamp(&self.tree().join(TIMESTAMP))?;
            offered = self.probe(url, held).await?;
            if is_whole && pulled == offered {
                return Ok(Some(pulled));
            }
        }
        Err(Failed::Upstream(format!("changed during each of {ROUNDS_MAX} pulls")))
    }

    /// The upstream's timestamp.
    async fn probe(&self, url: &RsyncUrl, held: &File) -> Result<String, Failed> {
        let path = self.directory.join("timestamp.chk");
        remove(&path)?;
        self.rsync.fetch(&url.file(TIMESTAMP), &path, TIMESTAMP_BYTES_MAX, held).await?;
        read_timestamp(&path)
    }

    /// The staging directory.
    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Whether it matters what the masters are.
    pub(crate) fn wants_masters(&self) -> bool {
        self.md5_cache.is_some()
    }

    /// The upstreams, in words.
    pub(crate) fn describe(&self) -> String {
        self.names.join(" ")
    }

    async fn store(&self, memory: &Memory) -> Result<(), UpstreamError> {
        let (memory, directory) = (memory.clone(), self.directory.clone());
        let stored = tokio::task::spawn_blocking(move || memory.store(&directory)).await;
        stored.map_err(|error| state(&self.directory, "write")(io::Error::other(error)))?
    }

    /// Keeps other processes out of staging until the result is dropped, and until the last program that
    /// was started with it has ended.
    fn hold(&self) -> Result<File, UpstreamError> {
        let path = self.directory.join("lock");
        // Opened anew each time: a program that is left over keeps the lock of the file that it was given.
        let lock = File::options().create(true).append(true).open(&path).map_err(state(&path, "open"))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(UpstreamError::Busy(self.directory.clone())),
            Err(TryLockError::Error(error)) => Err(state(&path, "lock")(error)),
        }
    }
}

/// Whose fault it is: another upstream may do better, or none will.
enum Failed {
    /// It answered, and what it has is of no use.
    Useless(String),
    /// It did not do what was asked of it.
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

/// Removes a file if it is there.
fn remove(path: &Path) -> Result<(), UpstreamError> {
    match fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(state(path, "remove")(error))
        }
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_hours(12);
    const MIN: Duration = Duration::from_mins(1);

    fn open(state_dir: &Path, url: &RsyncUrl) -> Upstream {
        let limits = Limits { answer: MIN, silence: MIN, whole: MIN };
        let origins = [Origin::Rsync(url.clone())];
        let plan =
            Plan { origins: &origins, excludes: &[], commit_key: None, egencache: None, poll: POLL, limits };
        Upstream::open(state_dir, &"gentoo".parse().unwrap(), &plan).unwrap()
    }

    #[tokio::test]
    async fn a_pull_puts_pauses_back_that_a_clock_noted_that_was_ahead_and_keeps_that() {
        let state_dir = tempfile::tempdir().unwrap();
        let directory = state_dir.path().join(".upstream/gentoo");
        // Port 9 (discard) of this host: nothing listens there.
        let url: RsyncUrl = "rsync://127.0.0.1:9/gentoo".parse().unwrap();
        let names = [url.to_string()];
        drop(open(state_dir.path(), &url));
        let ahead_ms = clock::now_ms() + 10 * 365 * 24 * 60 * 60 * 1000;
        let mut noted = Memory::default();
        for _ in 0..3 {
            noted.note_asked(&names[0], ahead_ms, POLL);
        }
        noted.note_failed(&names[0], "down");
        noted.store(&directory).unwrap();
        let on_disk = || Memory::load(&directory).unwrap();

        let begun = Instant::now();
        let upstream = open(state_dir.path(), &url);
        for minutes in [0, 9] {
            let pulled = upstream.pull_at(begun + minutes * MIN, None, false, &[]).await;
            assert!(matches!(pulled, Err(UpstreamError::AllFailed(_))), "nobody is asked: {pulled:?}");
            assert_eq!(on_disk(), noted, "the clock may be behind itself");
        }
        let pulled = upstream.pull_at(begun + 10 * MIN, None, false, &[]).await;
        assert!(matches!(pulled, Err(UpstreamError::AllFailed(_))), "it is not due yet: {pulled:?}");
        let put_back = on_disk();
        let pause = put_back.url_due_in(&names[0], clock::now_ms(), POLL);
        assert!(pause <= 20 * MIN, "as after three failures: {pause:?}");
        assert_eq!(put_back.reason(&names[0]), "down");
        // The next process goes on from there.
        drop(upstream);
        let upstream = open(state_dir.path(), &url);
        assert!(upstream.pull_at(Instant::now(), None, false, &[]).await.is_err());
        assert_eq!(on_disk(), put_back);
    }
}
