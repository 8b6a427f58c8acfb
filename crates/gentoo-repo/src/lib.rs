//! What a Gentoo repository says about itself: parsers from octets to values, and the catalogue of distfiles
//! that follows from them.
//!
//! This crate is pure. It must not open files, know sockets, read a clock or use randomness; whoever walks
//! the tree hands over octets and gets values or an error that names the line. Everything here reads files that
//! somebody else wrote, so no input panics and every length is bounded.
//!
//! Start reading at [`Distfile`], which is what all of it is for, then [`layout`].

pub mod digest;
mod distfile;
mod error;
pub mod layout;
pub mod timestamp;

pub use digest::{Digests, HashAlgorithm};
pub use distfile::{Distfile, DistfileName, Restriction};
pub use error::Error;
