//! What the rest of the crate and maintenance tell each other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gentoo_repo::DistfileName;
use rookery_proto::v1;
use tokio::sync::{mpsc, watch};

use crate::catalogue::KnownDistfile;

/// BLAKE2B-512 of a blob's contents: its name in every store.
pub type BlobHash = [u8; 64];

/// Who this replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Made once and kept in the replica's slot of the cache directory.
    pub replica_id: String,
    /// `http://host:port` at which other replicas reach it; empty when they can't.
    pub advertise: String,
    /// How much it may keep.
    pub capacity_bytes: u64,
}

/// How long things may take. The default is what production uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The longest that [`Farm::acquire`](super::Farm::acquire) keeps a client waiting.
    pub acquire: Duration,
    /// The longest that any other single call may take.
    pub call: Duration,
    /// The longest that the report of a whole inventory may take.
    pub inventory: Duration,
    /// How long an access waits for others to be reported with.
    pub access_flush: Duration,
    /// How often the whole inventory is reported, besides after every registration.
    pub inventory_interval: Duration,
    /// How often maintenance is told how far an import is.
    pub progress: Duration,
    /// First pause before a failed call or stream is tried again; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// How long a stop waits for a maintenance that does not take the last reports.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            acquire: Duration::from_secs(2),
            call: Duration::from_secs(10),
            inventory: Duration::from_mins(10),
            access_flush: Duration::from_secs(3),
            inventory_interval: Duration::from_hours(1),
            progress: Duration::from_millis(500),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(15),
            farewell: Duration::from_secs(2),
        }
    }
}

/// What the replica does when maintenance decides. Each call may come again for something that is
/// done already.
#[tonic::async_trait]
pub trait DecisionExecutor: Send + Sync + 'static {
    /// Removes a blob and the names that lead to it, unless it is in use or a client asked for it
    /// after `unless_accessed_after_ms` (since the Unix epoch).
    async fn evict(&self, blob: BlobHash, unless_accessed_after_ms: i64) -> Executed;

    /// Removes a damaged blob from quarantine, and no sound copy that came since.
    async fn evict_quarantined(&self, blob: BlobHash) -> Executed;

    /// Reads a blob and compares it with its digest; a damaged one is quarantined and fetched again.
    async fn verify(&self, blob: BlobHash) -> Executed;

    /// Fetches a distfile that nobody asked for yet.
    async fn fetch(&self, name: &DistfileName) -> Executed;

    /// Adopts the distfiles of a directory, or says what it would adopt; one report for each directory. How
    /// far it is goes to `meter`.
    async fn import(&self, order: &v1::ImportDirectory, meter: &ImportMeter) -> Vec<v1::ImportReport>;

    /// Sends every blob, in batches of some hundreds, then returns. On an error the report is given
    /// up and maintenance keeps what it knew.
    ///
    /// # Errors
    /// The store can't be listed in full.
    async fn inventory(&self, batches: mpsc::Sender<Vec<HeldBlob>>) -> anyhow::Result<()>;
}

/// How far an import is, for whoever wants to know.
pub type ImportMeter = watch::Sender<v1::ImportProgress>;

/// What became of a decision, with words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Which of them.
    pub outcome: Outcome,
    /// Why; may be empty.
    pub detail: String,
    /// Only of imports: what became of the files.
    pub imported: Option<v1::ImportCounts>,
}

impl Executed {
    /// An outcome and why.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), imported: None }
    }
}

impl From<Outcome> for Executed {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome, "")
    }
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Carried out, now or earlier.
    Done,
    /// In use, asked for since, or impossible now.
    Busy,
    /// Not here.
    Gone,
    /// Verified and found wrong; it is not here any more.
    Damaged,
}

impl Outcome {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Damaged => "damaged",
        }
    }
}

/// One blob of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBlob {
    /// Its name in the store.
    pub blake2b: BlobHash,
    /// Its length.
    pub size_bytes: u64,
    /// The distfile names that lead to it.
    pub names: Vec<String>,
    /// Last time a client asked for it, milliseconds since the Unix epoch; 0 for never.
    pub last_access_ms: i64,
    /// Its contents are wrong: it lies in quarantine and is not served.
    pub quarantined: bool,
}

/// One request of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The distfile name that was asked for.
    pub name: String,
    /// What was served; `None` when nothing was.
    pub blake2b: Option<BlobHash>,
    /// Who asked.
    pub client: IpAddr,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Body bytes that went out.
    pub bytes_served: u64,
    /// How it went.
    pub outcome: AccessOutcome,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessOutcome {
    /// Served from the store.
    Hit,
    /// Served while, or after, it was fetched.
    Miss,
    /// Not served, or not to the end.
    Failed,
}

impl AccessOutcome {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Failed => "failed",
        }
    }
}

/// A verified blob that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBlob {
    /// What was fetched.
    pub known: Arc<KnownDistfile>,
    /// Its name in the store.
    pub blake2b: BlobHash,
    /// The distfile names that lead to it now.
    pub names: Vec<String>,
    /// Last time a client asked for it, milliseconds since the Unix epoch; 0 for never.
    pub last_access_ms: i64,
    /// The URL that gave it (the last one, if several did); shown to the operator.
    pub source: String,
    /// What came from upstream for it, retries included.
    pub upstream_bytes: u64,
}
