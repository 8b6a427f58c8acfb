//! Everything that a replica says to maintenance, and everything that it is told.
//!
//! [`Farm`] is the handle that the rest of the crate holds. Nothing here ever keeps a client waiting
//! for long: [`Farm::acquire`] gives up after a bounded time and at once while maintenance is known to
//! be away, and every report goes through a bounded queue that is sent when maintenance is there.
//!
//! This module must not touch a blob file: it carries decisions to [`DecisionExecutor`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gentoo_repo::DistfileName;
use service_kit::grpc::ClientChannel;
use service_kit::lifecycle::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Catalogue, KnownDistfile};

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
    /// The longest that [`Farm::acquire`] keeps a client waiting.
    pub acquire: Duration,
    /// How long an access waits for others to be reported with.
    pub access_flush: Duration,
    /// How often the whole inventory is reported.
    pub inventory_interval: Duration,
    /// First pause before a failed call or stream is tried again; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            acquire: Duration::from_secs(2),
            access_flush: Duration::from_secs(3),
            inventory_interval: Duration::from_hours(1),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(15),
        }
    }
}

/// What the replica does when maintenance decides. Each call may come again for something already
/// done.
#[tonic::async_trait]
pub trait DecisionExecutor: Send + Sync + 'static {
    /// Removes a blob and the names that lead to it, unless it is in use or a client asked for it
    /// after `unless_accessed_after_ms` (since the Unix epoch).
    async fn evict(&self, blob: BlobHash, unless_accessed_after_ms: i64) -> Executed;

    /// Reads a blob and compares it with its digest; a damaged one is quarantined.
    async fn verify(&self, blob: BlobHash) -> Executed;

    /// Fetches a distfile that nobody asked for yet.
    async fn fetch(&self, name: &DistfileName) -> Executed;

    /// Sends every blob in batches of some hundreds, then returns. On an error the report is given up
    /// and maintenance keeps what it knew.
    ///
    /// # Errors
    /// The store can't be listed in full.
    async fn inventory(&self, batches: mpsc::Sender<Vec<HeldBlob>>) -> anyhow::Result<()>;

    /// Bytes that the blobs take now.
    fn used_bytes(&self) -> u64;
}

/// What became of a decision, with words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Which of the three.
    pub outcome: Outcome,
    /// Why; may be empty.
    pub detail: String,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out, now or earlier.
    Done,
    /// In use, asked for since, or impossible now.
    Busy,
    /// Not here.
    Gone,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessOutcome {
    /// Served from the store.
    Hit,
    /// Served while, or after, it was fetched.
    Miss,
    /// Not served, or not to the end.
    Failed,
}

/// A verified blob that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBlob {
    /// What was fetched.
    pub known: KnownDistfile,
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

/// The answer to [`Farm::acquire`].
#[derive(Debug)]
pub enum Acquired {
    /// Fetch it: nobody else in the farm will.
    Granted(LeaseHold),
    /// Another replica is fetching it: stream from there, or ask again later.
    Held {
        /// Where that replica is reached, if it is.
        advertise: Option<String>,
        /// When to ask again.
        retry_in: Duration,
    },
    /// Other replicas have it.
    Present {
        /// Where they are reached; may be empty.
        advertise: Vec<String>,
    },
    /// Maintenance didn't answer in time: fetch it, and [`Farm::report_commit`] afterwards.
    Away,
}

/// The right to fetch one distfile. It renews itself until it is committed, released or dropped;
/// dropping it releases it.
#[derive(Debug)]
pub struct LeaseHold {
    lost: CancellationToken,
}

impl LeaseHold {
    /// How far the download is; renewals carry it, and a lease without progress is lost.
    pub fn progress(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Cancelled when the lease became somebody else's. The fetch may go on: its blob is welcome as
    /// one more copy.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// The blob is in place. Returns at once; the report is sent when maintenance is there.
    pub fn commit(self, blob: CommittedBlob) {
        drop(blob);
    }

    /// Gives the lease back without a blob. Returns at once.
    pub fn release(self, reason: &str) {
        let _ = reason;
    }
}

/// The replica's line to maintenance; clones share it.
#[derive(Debug, Clone)]
pub struct Farm {
    inner: Arc<()>,
}

impl Farm {
    /// Prepares the line. Nothing is sent before [`Self::start`] except what [`Self::acquire`] asks.
    #[must_use]
    pub fn new(
        channel: ClientChannel,
        identity: Identity,
        catalogue: Catalogue,
        tasks: Tasks,
        timing: Timing,
    ) -> Self {
        drop((channel, identity, catalogue, tasks, timing));
        Self { inner: Arc::new(()) }
    }

    /// A replica that has no maintenance: always [`Acquired::Away`], reports go nowhere.
    #[must_use]
    pub fn detached() -> Self {
        Self { inner: Arc::new(()) }
    }

    /// Registers, keeps the catalogue up to date, carries out decisions and sends reports, all in
    /// tasks of their own, until the process stops.
    pub fn start(&self, executor: Arc<dyn DecisionExecutor>) {
        drop(executor);
        drop(Arc::clone(&self.inner));
    }

    /// Asks for the farm-wide right to fetch. Answers within [`Timing::acquire`], and at once while
    /// maintenance is known to be away.
    #[allow(clippy::unused_async, reason = "becomes a call")]
    pub async fn acquire(&self, distfile: &KnownDistfile) -> Acquired {
        let _ = distfile;
        Acquired::Away
    }

    /// Reports a blob that was fetched without a lease, or imported. Returns at once.
    pub fn report_commit(&self, blob: CommittedBlob) {
        drop(blob);
    }

    /// Reports a request. Never blocks; when the queue is full the access is dropped and counted.
    pub fn record_access(&self, access: Access) {
        drop(access);
    }
}
