//! What the cache reads of a client's request, and how it lays out ranges: RFC 9110 as far as files need it.
//!
//! [`line_ends`] looks at octets before they are parsed, [`head`] refuses what could be read in two ways, [`target`]
//! says what a path asks for, [`conditional`] and [`range`] how much of it, [`multipart`] in which octets several
//! ranges go out, [`via`] through which caches the request came.
//!
//! This crate must not parse the framing of messages (hyper does), must not decide what is fresh (`cache-policy` does),
//! and must not know what is stored: no tokio, no files, no clock, no randomness.

pub mod conditional;
pub mod head;
pub mod line_ends;
pub mod multipart;
pub mod range;
pub mod target;
pub mod via;
