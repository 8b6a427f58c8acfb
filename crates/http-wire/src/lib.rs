//! What the cache reads of a client's request, and how it writes an answer's head and lays out ranges: RFC 9110 and 9112
//! as far as files need them.
//!
//! [`received`] makes heads of octets, [`head`] refuses what could be read in two ways, [`target`]
//! says what a path asks for, [`conditional`] and [`range`] how much of it, [`multipart`] in which octets several
//! ranges go out, [`framing`] the answer's head and its end, [`via`] through which caches the request came.
//!
//! This crate must not know of connections, must not decide what is fresh (`cache-policy` does),
//! and must not know what is stored: no tokio, no files, no clock, no randomness.

pub mod conditional;
pub mod framing;
pub mod head;
pub mod multipart;
pub mod range;
pub mod received;
pub mod target;
pub mod via;
