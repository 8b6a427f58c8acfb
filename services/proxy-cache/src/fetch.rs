//! From a miss to a verified blob.
//!
//! [`flight`] is the single flight that clients follow, [`task`] the life of one, [`download`] the
//! loop over candidates, [`writer`] what it fills, [`candidate`] their order, [`upstream`] the HTTP client with its checks.
//! Nothing here knows what a client asked for beyond the distfile.

pub(crate) mod address;
pub(crate) mod candidate;
mod doubts;
mod download;
pub(crate) mod fault;
pub(crate) mod flight;
pub(crate) mod refusals;
mod task;
pub(crate) mod upstream;
mod writer;

pub(crate) use task::follow;
