//! The gRPC face: `CacheIndex` for the replicas, `Admin` for the operator.
//!
//! Handlers check what came in (`input`), call the index or the core, and word the answer. They must not
//! decide anything and hold no state of their own, so repeating a call is always safe.

mod admin;
mod answer;
mod cache_index;
mod input;
mod watch_catalogue;
mod watch_decisions;

use std::pin::Pin;

use futures_util::Stream;
use tonic::Status;

pub(crate) use admin::AdminService;
pub(crate) use answer::run as run_message;
pub(crate) use cache_index::CacheIndexService;

use crate::eviction::EvictionError;
use crate::index::IndexError;

/// An answer that never ends.
type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl From<IndexError> for Status {
    fn from(error: IndexError) -> Self {
        tracing::error!(%error, "a call failed");
        // Nothing that the caller could have done better: it may come again.
        if matches!(error, IndexError::Busy { .. }) {
            Self::aborted(error.to_string())
        } else if matches!(error, IndexError::Full { .. }) {
            Self::resource_exhausted(error.to_string())
        } else {
            Self::unavailable(error.to_string())
        }
    }
}

impl From<EvictionError> for Status {
    fn from(error: EvictionError) -> Self {
        match error {
            EvictionError::Gap(_) => Self::failed_precondition(error.to_string()),
            EvictionError::Index(error) => error.into(),
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("maintenance is stopping")
}
