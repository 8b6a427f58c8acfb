//! Which blobs of one replica go, and why each of the others stays.
//!
//! A blob is looked at in three steps. A [`Protection`] overrules everything. Its *class* then says
//! whether it goes by itself (quarantined or unreferenced, past its grace) or only to make room
//! (superseded, then referenced). Room is made only above the high water, and only down to the low one:
//! within a class what is large and was not asked for in a long time goes first.
//!
//! A plan that deletes too much, or follows a catalogue that lost too much, is not carried out before the operator
//! agreed: see [`brake`] and [`catalogue`].

pub mod brake;
mod candidate;
pub mod catalogue;
mod plan;
mod reason;

pub use candidate::{BlobKey, Candidate, Limits, Standing, Usage};
pub use plan::{Eviction, Kept, Plan, Verdict, decide, plan_eviction};
pub use reason::{Protection, Reason};
