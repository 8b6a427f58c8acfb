//! blob-store: distfiles on one replica's disk.
//!
//! A *blob* is immutable and named by the BLAKE2B-512 of its contents; a *part* is a download in
//! progress; a *name* is a relative symbolic link to a blob. The directory is the index: everything
//! is found again by reading it, after any crash.
//!
//! ```text
//! cache_dir/rN/                      one replica's slot, locked while it runs
//!   lock  replica-id
//!   blobs/xx/<BLAKE2B in hex>        complete, verified, never written again
//!   distfiles/layout.conf            so that the directory is a Gentoo mirror
//!   distfiles/ab/NAME                -> ../../blobs/xx/<BLAKE2B>
//!   m/MODULE/distfiles/ab/NAME       a name that means another file in this module
//!   parts/KEY.part  parts/KEY.state  bytes so far, and what they are meant to become
//!   quarantine/                      what turned out wrong, for people; bounded
//!   tmp/                             emptied at each start
//!   responses/                       what passed through, unverified: see [`Responses`]
//! ```
//!
//! # Why a `kill -9`, or a power cut, never leaves a wrong file behind a name
//! 1. `KEY.state` is written before `KEY.part`. A part without a whole state, or a state without a
//!    part, is removed at the next start.
//! 2. A part grows only by appending right behind the bytes that were written before. Killed here, a
//!    resumed download hashes the whole prefix again before it goes on, so the final digest always
//!    covers every byte that is in the file.
//! 3. Length and digests are compared while the file is still a part: a wrong file never was a blob.
//! 4. The part is fsynced, then renamed to `blobs/xx/…`, then that directory is fsynced. Killed
//!    before the rename, it is a whole part, which finishes without a download; after it, it is a
//!    blob without a name, which the next request for any of its names finds by digest.
//! 5. The link is made in `tmp/` and renamed over the name, so the name leads to the old blob or to the
//!    new one. Its blob has been durable since step 4. Links are removed before the blob that they
//!    lead to; a link that leads nowhere all the same is removed at the next start.
//! 6. A damaged blob is renamed to `quarantine/`, or removed, before its links are, and both directories are
//!    fsynced, so that it is not back after a power cut. A wrong part may be: it has no state then.
//! 7. `replica-id` and `layout.conf` are written in `tmp/`, fsynced, renamed, and their directory is fsynced.
//!
//! This crate must not fetch, must not decide what to evict, and must not know of HTTP. Every
//! function that touches the disk blocks: call it off the reactor. Start reading at [`Store`].

mod accesses;
mod adopt;
mod digest;
mod disk;
mod error;
mod expected;
mod hashers;
mod index;
mod inner;
mod kept;
mod layout;
mod part;
mod quarantine;
mod reader;
mod reconcile;
mod responses;
mod slot;
mod store;
mod verifier;

pub use adopt::{Adopted, Source};
pub use digest::BlobDigest;
pub use disk::{FaultHook, FileOp};
pub use error::{BeginError, FinishError, StoreError};
pub use expected::{Expected, Unverifiable};
pub use index::BlobInfo;
pub use layout::Scope;
pub use part::{Committed, Part, PartReader, PartState, Progress};
pub use quarantine::Aside;
pub use reader::OpenBlob;
pub use reconcile::Fault;
pub use responses::{
    Draft, DraftReader, DraftState, Filled, KeepError, Response, ResponseKey, ResponseLimits, Responses,
};
pub use store::{Evicted, Options, Store, Verified};
pub use verifier::Verifier;
