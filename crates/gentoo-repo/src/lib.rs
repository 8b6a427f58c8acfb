//! What a Gentoo repository says about itself: parsers from octets to values, and the catalogue of distfiles
//! that follows from them.
//!
//! This crate is pure. It must not open files, know sockets, read a clock or use randomness; whoever walks
//! the tree hands over octets and gets values or an error that names the line. Everything here reads files that
//! somebody else wrote, so no input panics and every length is bounded.
//!
//! Start reading at [`Distfile`], which is what all of it is for, then [`catalogue`], which puts together what the
//! parsers ([`manifest`], [`md5_cache`], [`src_uri`], [`restrict`], [`mirrors`]) read.

pub mod catalogue;
pub mod cleartext;
mod dep_string;
pub mod digest;
mod distfile;
mod error;
mod hashers;
pub mod layout;
pub mod layout_conf;
pub mod manifest;
pub mod md5_cache;
pub mod mirrors;
mod package;
pub mod restrict;
pub mod src_uri;
pub mod timestamp;
mod tree_path;

pub use catalogue::{Catalogue, CatalogueBuilder, Fault, FaultKind};
pub use digest::{Digests, DigestsIter, HashAlgorithm};
pub use distfile::{Distfile, DistfileName, PackageKey, Restriction};
pub use error::Error;
pub use hashers::Hashers;
pub use package::package_of_pf;
pub use tree_path::TreePath;
