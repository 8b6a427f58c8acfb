//! What the farm decides about its cache, as pure functions: which blob goes, who may fetch, whom to ask
//! first and last and which of them fail, how fast, what is adopted, what is read again, what of unlisted
//! responses is kept, which stored times a clock that was ahead wrote, and whether one that jumped
//! ahead is believed.
//!
//! Start reading at [`eviction::plan_eviction`], then [`lease::LeaseSlot`], [`standing::Standings`],
//! [`import::plan_import`], [`scrub::plan_scrub`], [`source::judge`], [`score::Scores`], [`bandwidth::Bucket`],
//! [`reuse::decide_storage`], [`ahead::Watch`] and [`jump::Trust`].
//!
//! Three modules look at the places that files come from, each for another question: [`standing`] says who gave wrong
//! bytes and is asked last for minutes, [`score`] who is quicker and so asked first, both in a replica and forgotten with
//! it; [`source`] judges what maintenance wrote down of all replicas over hours, and tells a person.
//!
//! This crate must not know where its facts come from or who carries a decision out: no clock (`now` is
//! an argument), no randomness, no files, no tokio. A caller loads the facts, asks, stores the answer in
//! one transaction, and asks again when the facts have changed.
//!
//! Every answer is an enum with a reason, and each reason's `as_str` is what logs, metrics and the
//! operator's screen call it.

pub mod ahead;
pub mod bandwidth;
pub mod eviction;
pub mod import;
pub mod jump;
pub mod lease;
pub mod reuse;
pub mod score;
pub mod scrub;
pub mod source;
pub mod standing;
mod time;

pub use time::UnixMs;
