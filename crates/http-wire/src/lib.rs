//! What the cache reads of a client's request, and how it lays out ranges: RFC 9110 as far as files need it.
//!
//! [`received`] makes heads of octets, [`head`] refuses what could be read in two ways, [`target`]
//! says what a path asks for, [`conditional`] and [`range`] how much of it, [`multipart`] in which octets several
//! ranges go out, [`via`] through which caches the request came.
//!
//! This crate must not know of connections, must not decide what is fresh (`cache-policy` does),
//! and must not know what is stored: no tokio, no files, no clock, no randomness.

pub mod conditional;
pub mod head;
pub mod multipart;
pub mod range;
pub mod received;
pub mod target;
pub mod via;
