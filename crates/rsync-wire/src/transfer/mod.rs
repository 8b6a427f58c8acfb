//! Requests and replies (sections 8 and 11).

mod batch;
mod delta;
mod kept;
mod record;
mod request;

pub use batch::{Batch, Sender, SenderConfig};
pub use delta::BlockSums;
pub use kept::{BodyForm, KeptBody};
pub use record::{Answered, Record, Records};
pub use request::{ClientWord, ItemFlags, Request, RequestForm, RequestReader, SumHead};

/// What the server says next, in the order in which the client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Answers a request.
    Item(Request),
    /// Answers the end of a phase.
    PhaseDone,
    /// Answers the end of the last phase: what went wrong, the end of the loop, the statistics.
    LoopDone {
        /// Octets read from the client so far, for the statistics.
        read: u64,
        /// Octets written so far, for the statistics.
        written: u64,
    },
    /// Repeats the client's deletion statistics.
    DeletionStats([i32; 5]),
    /// Answers the goodbye.
    Goodbye,
}

impl Reply {
    /// Octets of block sums that it holds.
    pub(crate) fn sums_len(&self) -> usize {
        match self {
            Self::Item(request) => request.sums_len(),
            Self::PhaseDone | Self::LoopDone { .. } | Self::DeletionStats(_) | Self::Goodbye => 0,
        }
    }
}
