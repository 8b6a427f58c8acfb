//! The right to fetch one distfile, and its renewals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rookery_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, info};

use super::Inner;
use super::link::{Client, Link};
use super::outbox::Report;
use super::types::CommittedBlob;
use super::wire;

/// Bounds of the pause between renewals, whatever maintenance says.
const RENEW_EVERY_MIN: Duration = Duration::from_millis(20);
const RENEW_EVERY_MAX: Duration = Duration::from_secs(30);

/// The right to fetch one distfile. It renews itself until it is committed, released or dropped;
/// dropping it releases it.
#[derive(Debug)]
pub struct LeaseHold {
    farm: Arc<Inner>,
    lease_id: String,
    fence: u64,
    progress: Arc<AtomicU64>,
    lost: CancellationToken,
    /// Ends the renewals.
    over: CancellationToken,
    is_settled: bool,
}

impl LeaseHold {
    pub(super) fn begin(farm: &Arc<Inner>, lease: v1::Lease) -> Self {
        farm.outbox.lease_began();
        farm.outbox.keep_lease(&lease.lease_id, lease.fence);
        let hold = Self {
            farm: Arc::clone(farm),
            lease_id: lease.lease_id,
            fence: lease.fence,
            progress: Arc::default(),
            lost: CancellationToken::new(),
            over: CancellationToken::new(),
            is_settled: false,
        };
        let renewals = Renewals {
            link: Arc::clone(&farm.link),
            lease_id: hold.lease_id.clone(),
            fence: hold.fence,
            progress: Arc::clone(&hold.progress),
            lost: hold.lost.clone(),
            expires_in: Duration::from_millis(lease.expires_in_ms),
        };
        let over = hold.over.clone();
        drop(farm.tasks.spawn("lease renewals", async move {
            over.run_until_cancelled(renewals.run()).await;
        }));
        hold
    }

    /// How far the download is; renewals carry it, and a lease without progress is lost to whoever asks
    /// next.
    pub fn progress(&self, bytes: u64) {
        self.progress.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Cancelled when the lease became somebody else's. The fetch may go on: its blob is welcome as one
    /// more copy.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// The blob is in place. Returns at once; the report is sent when maintenance is there.
    pub fn commit(mut self, blob: CommittedBlob) {
        self.is_settled = true;
        let lease = Some((self.lease_id.clone(), self.fence));
        let request = wire::commit(&self.farm.link.identity.replica_id, lease, blob);
        self.farm.outbox.push(Report::Commit(Box::new(request)));
    }

    /// Gives the lease back without a blob. Returns at once.
    pub fn release(mut self, reason: &str) {
        self.give_back(reason);
    }

    fn give_back(&mut self, reason: &str) {
        self.is_settled = true;
        self.farm.outbox.push(Report::Release(v1::ReleaseFetchRequest {
            replica_id: self.farm.link.identity.replica_id.clone(),
            lease_id: self.lease_id.clone(),
            fence: self.fence,
            reason: wire::text(reason),
        }));
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        self.over.cancel();
        if !self.is_settled {
            self.give_back("the fetch ended without a word");
        }
        self.farm.outbox.lease_ended();
    }
}

struct Renewals {
    link: Arc<Link>,
    lease_id: String,
    fence: u64,
    progress: Arc<AtomicU64>,
    lost: CancellationToken,
    expires_in: Duration,
}

impl Renewals {
    /// Renews at a third of the lease's time, so that two lost calls lose nothing. Maintenance being
    /// away does not end it: the lease may still be ours when it is back.
    async fn run(self) {
        let every = |time: Duration| (time / 3).clamp(RENEW_EVERY_MIN, RENEW_EVERY_MAX);
        // A lease that is granted again may be about to run out.
        let mut pause = every(self.expires_in);
        loop {
            tokio::time::sleep(pause).await;
            pause = every(self.link.lease_duration().unwrap_or(self.expires_in));
            let request = v1::RenewFetchRequest {
                replica_id: self.link.identity.replica_id.clone(),
                lease_id: self.lease_id.clone(),
                fence: self.fence,
                bytes_so_far: self.progress.load(Ordering::Relaxed),
            };
            match self.link.call(async |mut client: Client| client.renew_fetch(request.clone()).await).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::FailedPrecondition => {
                    info!(lease = self.lease_id, fence = self.fence, %status, "the lease is somebody else's now");
                    self.lost.cancel();
                    return;
                }
                Err(status) => debug!(lease = self.lease_id, %status, "the lease could not be renewed"),
            }
        }
    }
}
