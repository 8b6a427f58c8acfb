//! The rsync daemon protocol, sender side, as a state machine without input or output.
//!
//! What it does: takes the octets that a client sent and the current time, and answers with
//! [`Command`]s: octets to write, a module to select, a list to build, files to send, a reason to close.
//! It speaks protocols 29 to 32 and never uses incremental recursion.
//!
//! What it must not do: touch sockets, files, clocks or randomness; know what a generation is (it sees
//! a [`TreeView`]); allocate by a length that the peer announced without a bound from [`limits`].
//!
//! Start reading at [`session`], which names the phases of a connection in order, then follow one phase:
//! [`prologue`] → [`options`] → [`setup`] → [`filter`] → [`flist`] → [`transfer`]. The section
//! numbers in the comments are those of the protocol notes that this crate was written from.

pub mod codec;
pub mod compress;
mod error;
pub mod filter;
pub mod flist;
pub mod limits;
pub mod login;
pub mod memory;
pub mod mux;
pub mod options;
pub mod prologue;
mod protocol;
pub mod session;
pub mod setup;
pub mod sums;
pub mod transfer;
mod tree;

pub use error::{ExitCode, Refusal, WireError};
pub use flist::{FileList, ListPlan};
pub use protocol::Protocol;
pub use session::{CloseReason, Command, Session, SessionConfig};
pub use transfer::Batch;
pub use tree::{Node, NodeId, NodeKind, TreeView};
