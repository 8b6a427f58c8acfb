//! A simulated Gentoo box: it syncs and fetches as Portage does, with the stock `rsync` and `wget` where
//! they are installed and its own clients where not, and it checks what it got against its own Manifests.
//!
//! A box knows two addresses, a `sync-uri` and a mirror, as a real one does. It never falls back to the
//! public sources: what the mirror can't give is a failure here.

mod compare;
mod get;
mod manifest;
mod programs;
mod pull;
mod rsync;
mod wget;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use compare::{Difference, differences};
pub use manifest::{Dist, read_manifests};
pub use programs::{Program, Programs};
pub use rsync::PORTAGE_OPTIONS;

/// The boxes of the farm that all this is for.
pub const FARM: [&str; 7] = ["ws1", "ws2", "ws3", "ws4", "ws5", "db1", "db2"];

/// What Portage's own fetch command resumes; shorter parts it starts again.
pub const RESUME_MIN_BYTES: u64 = 350 * 1024;

/// Why a box could not do its daily work.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// A stock program failed.
    #[error("{program} exited with {code}: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// Its exit code, or -1 when a signal ended it.
        code: i32,
        /// The end of its output.
        said: String,
    },
    /// The server has an older tree than the box.
    #[error("server out of date: it has {theirs}, the box has {ours}")]
    OutOfDate {
        /// Its timestamp.
        theirs: String,
        /// The box's.
        ours: String,
    },
    /// No Manifest of the box's tree names the file.
    #[error("no Manifest names {0}")]
    Unknown(String),
    /// What arrived isn't what the Manifest says.
    #[error("{name}: {what}")]
    Wrong {
        /// The distfile.
        name: String,
        /// What differs.
        what: String,
    },
    /// The mirror answered something else than the file.
    #[error("{url}: {what}")]
    Http {
        /// What was asked for.
        url: String,
        /// What came.
        what: String,
    },
    /// The box's own disk or network.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a box says while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// That many files of the tree have arrived.
    Synced {
        /// Since the sync began.
        files: u64,
    },
    /// One more distfile is here and right.
    Fetched {
        /// Its length.
        bytes: u64,
    },
}

/// Where a box says it.
pub type Listener = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a box is.
#[derive(Clone)]
pub struct BoxSpec {
    /// Its host name.
    pub name: String,
    /// Its root: the tree goes to `repo`, distfiles to `distfiles` below it.
    pub dir: PathBuf,
    /// As in `repos.conf`: `rsync://HOST[:PORT]/MODULE`.
    pub sync_uri: String,
    /// As in `GENTOO_MIRRORS`: `http://HOST:PORT`.
    pub mirror: String,
    /// What is installed on it.
    pub programs: Programs,
}

/// One simulated box.
pub struct GentooBox {
    spec: BoxSpec,
    listener: Listener,
}

/// What a sync did.
#[derive(Debug, Clone, Serialize)]
pub struct SyncReport {
    /// The program that did it.
    pub client: String,
    /// Files that were transferred.
    pub files: u64,
    /// The server's tree was the same as the box's, so that only the probe ran.
    pub unchanged: bool,
    /// How long it took.
    #[serde(rename = "elapsed_s", serialize_with = "as_seconds")]
    pub elapsed: Duration,
}

/// What a fetch of several distfiles did.
#[derive(Debug, Clone, Serialize)]
pub struct FetchReport {
    /// The program that did it.
    pub client: String,
    /// Distfiles that arrived and are right.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
    /// Those that didn't, each with why.
    pub failures: Vec<(String, String)>,
    /// How long it took.
    #[serde(rename = "elapsed_s", serialize_with = "as_seconds")]
    pub elapsed: Duration,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl GentooBox {
    /// A box with empty directories, unless they are there from an earlier life.
    ///
    /// # Errors
    /// The directories can't be made.
    pub fn new(spec: BoxSpec) -> io::Result<Self> {
        std::fs::create_dir_all(spec.dir.join("repo"))?;
        std::fs::create_dir_all(spec.dir.join("distfiles"))?;
        Ok(Self { spec, listener: Arc::new(|_| {}) })
    }

    /// The same box, which says what it does to `listener`.
    #[must_use]
    pub fn with_listener(self, listener: Listener) -> Self {
        Self { listener, ..self }
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where its tree is.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.spec.dir.join("repo")
    }

    /// Its DISTDIR.
    #[must_use]
    pub fn distdir(&self) -> PathBuf {
        self.spec.dir.join("distfiles")
    }

    /// `emerge --sync`: the probe for `metadata/timestamp.chk`, then the tree if it is newer.
    ///
    /// # Errors
    /// The server can't be reached, refuses, fails, or has an older tree.
    pub async fn sync(&self) -> Result<SyncReport, BoxError> {
        rsync::sync(&self.spec, &self.repository(), &self.listener).await
    }

    /// `emerge --fetchonly`: every distfile of `names` from the mirror, one after the other, checked
    /// against the Manifests of the box's tree.
    ///
    /// # Errors
    /// The box's own tree or disk can't be read. What goes wrong with a distfile is in the report.
    pub async fn fetch(&self, names: &[String]) -> Result<FetchReport, BoxError> {
        let began = Instant::now();
        let repository = self.repository();
        let manifests = blocking(move || read_manifests(&repository)).await?;
        let mut report = FetchReport {
            client: wget::client_name(&self.spec.programs),
            files: 0,
            bytes: 0,
            failures: Vec::new(),
            elapsed: Duration::ZERO,
        };
        let layout = wget::read_layout(&self.spec, &self.distdir()).await;
        for name in names {
            match self.fetch_one(&manifests, layout, name).await {
                Ok(bytes) => {
                    report.files += 1;
                    report.bytes += bytes;
                    (self.listener)(Progress::Fetched { bytes });
                }
                Err(error) => report.failures.push((name.clone(), error.to_string())),
            }
        }
        report.elapsed = began.elapsed();
        Ok(report)
    }

    async fn fetch_one(
        &self,
        manifests: &BTreeMap<String, Dist>,
        layout: wget::Layout,
        name: &str,
    ) -> Result<u64, BoxError> {
        let dist = manifests.get(name).ok_or_else(|| BoxError::Unknown(name.to_owned()))?.clone();
        let part = self.distdir().join(format!("{name}.__download__"));
        wget::fetch(&self.spec, layout, name, &part).await?;
        let path = self.distdir().join(name);
        let owned = name.to_owned();
        blocking(move || {
            manifest::check(&dist, &owned, &part)?;
            Ok(std::fs::rename(&part, &path)?)
        })
        .await?;
        Ok(manifests.get(name).map_or(0, |dist| dist.size_bytes))
    }

    /// What differs between the box's tree and `source`, as a person would list it. Blocks.
    ///
    /// # Errors
    /// Either tree can't be read.
    pub fn compare_tree(&self, source: &Path) -> io::Result<Vec<Difference>> {
        differences(source, &self.repository())
    }
}

/// File work, off the reactor.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
) -> Result<T, BoxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BoxError::Io(io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests;
