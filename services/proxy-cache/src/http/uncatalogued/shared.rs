//! One exchange with upstream, and those who wait for what comes of it.

use std::sync::Arc;

use blob_store::DraftReader;
use cache_policy::reuse::StoredResponse;
use http::StatusCode;
use tokio::sync::watch;

use super::keep::{ExchangeKey, Kept, KeptResponses};

/// What has come of an exchange.
#[derive(Debug, Clone, Default)]
pub(super) enum Outcome {
    /// Nothing yet.
    #[default]
    Pending,
    /// A body that grows, to be kept when it is whole.
    Growing(Arc<Growing>),
    /// What is kept is the answer.
    Kept(Arc<Kept>, Option<StatusCode>),
    /// Upstream gave nothing.
    Failed(StatusCode, String),
    /// An answer that is nobody else's.
    Own,
    /// Whoever led it went without a word.
    Again,
}

/// An answer whose body is under way.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) stored: StoredResponse,
    pub(super) length_bytes: u64,
    pub(super) reader: DraftReader,
}

#[derive(Debug)]
pub(super) struct Shared {
    outcome: watch::Sender<Outcome>,
    followers: watch::Sender<usize>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { outcome: watch::Sender::default(), followers: watch::Sender::new(0) }
    }
}

impl Shared {
    /// Ends when nobody follows any more.
    pub(super) async fn deserted(&self) {
        // We hold the sender, so this can't fail.
        drop(self.followers.subscribe().wait_for(|&count| count == 0).await);
    }

    /// Whether nobody follows.
    pub(super) fn is_deserted(&self) -> bool {
        *self.followers.borrow() == 0
    }
}

/// A client's place: the exchange goes on while somebody has one.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    outcome: watch::Receiver<Outcome>,
}

impl Follower {
    pub(super) fn join(shared: &Arc<Shared>) -> Self {
        shared.followers.send_modify(|count| *count += 1);
        Self { shared: Arc::clone(shared), outcome: shared.outcome.subscribe() }
    }

    /// What comes of it.
    pub(super) async fn outcome(&mut self) -> Outcome {
        let decided = self.outcome.wait_for(|outcome| !matches!(outcome, Outcome::Pending)).await;
        decided.map_or(Outcome::Again, |outcome| outcome.clone())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.followers.send_modify(|count| *count -= 1);
    }
}

/// The right to make the request. However it ends, the exchange is over then.
pub(super) struct Lead {
    kept: KeptResponses,
    key: ExchangeKey,
    shared: Arc<Shared>,
}

impl Lead {
    pub(super) fn new(kept: KeptResponses, key: ExchangeKey, shared: Arc<Shared>) -> Self {
        Self { kept, key, shared }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn follow(&self) -> Follower {
        Follower::join(&self.shared)
    }

    /// Nobody joins any more.
    pub(super) fn close(&self) {
        self.kept.leave(&self.key, &self.shared);
    }

    pub(super) fn tell(&self, outcome: Outcome) {
        self.shared.outcome.send_replace(outcome);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.close();
        // Who still waits looks again.
        self.shared.outcome.send_if_modified(|outcome| {
            let is_pending = matches!(outcome, Outcome::Pending);
            if is_pending {
                *outcome = Outcome::Again;
            }
            is_pending
        });
    }
}
