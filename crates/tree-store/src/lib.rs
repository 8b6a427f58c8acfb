//! Generations of a tree: built from a directory, verified, published at once, pinned, collected.
//!
//! A *generation* is one immutable state of a module: an index of all nodes in memory, and the contents of
//! its files in *packs* on disk. The next generation of a module reads only what changed and adds
//! a pack with the contents that are new.
//!
//! Start reading at [`Store`], which says how a directory survives a kill at any moment, then
//! [`Store::build`], [`verify()`] and [`Store::publish`]; readers only need [`Generation`].
//!
//! This crate owns the tree files and nothing else does. It must not open a socket, know a protocol or
//! decide when to build; everything in it may block and belongs off the reactor. It must never open a
//! file at a path that a client named: readers name nodes, and the index names the octets.

mod build;
mod candidate;
mod catalogue;
mod codec;
mod compare;
mod contents;
mod durable;
mod error;
mod exclude;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod generation;
mod index;
mod inodes;
mod lend;
mod lock;
mod memory;
mod name;
mod owners;
mod pack;
mod parallel;
pub mod report;
mod scrub;
mod sightings;
mod source;
mod store;
mod verify;

pub use build::BuildRequest;
pub use candidate::{Built, Candidate};
pub use durable::StepHook;
pub use error::TreeError;
pub use exclude::{ALWAYS, Excludes};
pub use generation::{Generation, Node, NodeId, NodeKind};
pub use index::{Changes, Summary};
pub use name::{ContentDigest, ModuleName};
pub use report::Refusal;
pub use store::{Collected, Store};
pub use verify::{Keyring, Verified, Verify, thirdpartymirrors, verify};
