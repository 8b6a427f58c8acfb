//! What a shared cache may keep of what passes through it, and when it may answer with that (RFC 9111).
//!
//! For everything that no tree lists: indexes of binary packages, `layout.conf` of other mirrors, snapshots.
//! The freshness arithmetic and `Vary` are those of the crate `http-cache-semantics`; around it stand what a
//! cache of files for a farm does not want to keep, answers when upstream fails (RFC 5861), and the form in
//! which a response outlives the process.
//!
//! Nothing here may decide by a heuristic: a response without a lifetime of its own is validated each time
//! that it is used. An index that looks fresh because it is old would hide packages from boxes.

mod codec;
mod directives;
mod storage;
mod use_of;

pub use codec::{DecodeError, HEAD_OCTETS_MAX};
pub use storage::{Framing, NotStored, StoredResponse, decide_storage, decide_update};
pub use use_of::{Reuse, Validation, decide_reuse, may_answer_stale};
