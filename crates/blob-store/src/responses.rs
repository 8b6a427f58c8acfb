//! What passed through and may be answered with again: responses by URI, never by distfile name.
//!
//! Nothing here was compared with a digest, so nothing here ever becomes a blob or gets a name.
//!
//! ```text
//! cache_dir/rN/responses/
//!   heads/URI-VARIANT    `body ID LENGTH`, then the head, whose meaning the caller knows
//!   bodies/ID            never written again
//!   tmp/                 emptied at each start
//! ```
//!
//! # Why a `kill -9`, or a power cut, never pairs a head with another body, or with a part of its own
//! 1. A body is written in `tmp/`, fsynced, renamed to `bodies/ID` and that directory fsynced. Killed before the
//!    next step, it is a body that no head names: removed at the next start.
//! 2. The head is written in `tmp/`, fsynced and renamed over the one before it; then that directory is
//!    fsynced. It names the body by an id that was never used before, so it is either the old pair or the new one.
//! 3. The old body is removed after that. Killed before, it is a body that no head names.
//!
//! A head whose body is missing or has another length is removed at the next start, whatever made it so.
//!
//! The room is bounded; whoever comes takes that of the longest unused ones. This module must not know what is
//! fresh. Everything but [`Responses::variants`] blocks.

mod draft;
mod index;
mod repair;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub use draft::{Draft, DraftReader, DraftState, Filled};
pub use index::{Response, ResponseKey};

use crate::disk::{Disk, FileOp};
use crate::error::StoreError;
use crate::inner::{Inner, lock};
use crate::store::Store;
use index::Index;

/// Octets of a head.
const HEAD_OCTETS_MAX: usize = 48 << 10;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Bodies and heads together.
    pub capacity_bytes: u64,
    /// Of one body.
    pub body_bytes_max: u64,
    /// Responses; their heads are in memory.
    pub responses_max: usize,
}

/// Why a response is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It does not fit, even alone, or the disk is full.
    #[error("no room")]
    NoRoom,
    /// The head is longer than what is kept of one.
    #[error("its head is too long")]
    LongHead,
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The responses of one replica. Clones share them.
#[derive(Clone)]
pub struct Responses {
    shared: Arc<Shared>,
}

struct Shared {
    /// Keeps the slot locked.
    store: Arc<Inner>,
    limits: ResponseLimits,
    paths: Paths,
    index: Mutex<Index>,
    /// Held over each change of heads and bodies.
    changing: Mutex<()>,
}

struct Paths {
    heads: PathBuf,
    bodies: PathBuf,
    tmp: PathBuf,
}

impl Responses {
    /// Clears what a crash left in the store's slot and reads the rest. The number is how many were removed
    /// because they were not whole. Blocks.
    ///
    /// # Errors
    /// The directories can't be made or read.
    pub fn open(store: &Store, limits: ResponseLimits) -> Result<(Self, usize), StoreError> {
        let inner = Arc::clone(store.inner());
        let root = inner.layout.root().join("responses");
        let paths = Paths { heads: root.join("heads"), bodies: root.join("bodies"), tmp: root.join("tmp") };
        for dir in [&root, &paths.heads, &paths.bodies, &paths.tmp] {
            inner.disk.create_dir(dir)?;
        }
        let (index, removed) = repair::run(&inner.disk, &paths)?;
        let shared =
            Shared { store: inner, limits, paths, index: Mutex::new(index), changing: Mutex::new(()) };
        let responses = Self { shared: Arc::new(shared) };
        // The limits may be lower than they were.
        responses.shared.reserve(0)?;
        Ok((responses, removed))
    }

    /// What is kept for a URI, the most recently used first. Never blocks.
    #[must_use]
    pub fn variants(&self, uri: &[u8; 16]) -> Vec<Response> {
        lock(&self.shared.index).variants(uri)
    }

    /// The body of a response, which also counts as a use of it. `None` if it went meanwhile, or somebody
    /// damaged it.
    ///
    /// # Errors
    /// The disk.
    pub fn body(&self, response: &Response) -> Result<Option<File>, StoreError> {
        let path = self.shared.paths.bodies.join(&response.body);
        let file = match self.shared.disk().open(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() || error.is_damage() => {
                self.forget(response)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().map_err(|source| StoreError::io(FileOp::Stat, &path, source))?;
        if metadata.len() != response.length_bytes {
            self.forget(response)?;
            return Ok(None);
        }
        lock(&self.shared.index).touch(response);
        Ok(Some(file))
    }

    /// Begins a body of `expected_bytes`, or of a length that nobody knows yet.
    ///
    /// # Errors
    /// No room, or the disk.
    pub fn begin(&self, expected_bytes: Option<u64>) -> Result<Draft, KeepError> {
        Draft::begin(Arc::clone(&self.shared), expected_bytes)
    }

    /// Gives a response another head; its body stays. False if it went meanwhile.
    ///
    /// # Errors
    /// The head is too long, or the disk.
    pub fn update(&self, response: &Response, head: &[u8]) -> Result<bool, KeepError> {
        let changing = lock(&self.shared.changing);
        if !lock(&self.shared.index).is_current(response) {
            return Ok(false);
        }
        self.shared.write_head(&response.key, head, &response.body, response.length_bytes)?;
        drop(changing);
        // It may be longer than the one before.
        self.shared.reserve(0)?;
        Ok(true)
    }

    /// Removes a response.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self, response: &Response) -> Result<(), StoreError> {
        let _changing = lock(&self.shared.changing);
        if lock(&self.shared.index).is_current(response) {
            self.shared.remove(&response.key)?;
        }
        Ok(())
    }

    /// Octets of all heads and bodies. Never blocks.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        lock(&self.shared.index).used_bytes
    }
}

impl std::fmt::Debug for Responses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responses").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Shared {
    fn disk(&self) -> &Disk {
        &self.store.disk
    }

    /// Removes the longest unused ones until `wanted_bytes` fit, and promises these; false if they can't fit.
    fn reserve(&self, wanted_bytes: u64) -> Result<bool, StoreError> {
        if wanted_bytes > self.limits.capacity_bytes || wanted_bytes > self.store.disk_free_bytes() {
            return Ok(false);
        }
        let _changing = lock(&self.changing);
        loop {
            let victim = {
                let mut index = lock(&self.index);
                let fits = index.taken_bytes().saturating_add(wanted_bytes) <= self.limits.capacity_bytes;
                let few = index.len() < self.limits.responses_max || wanted_bytes == 0;
                if fits && few {
                    index.reserved_bytes += wanted_bytes;
                    return Ok(true);
                }
                index.longest_unused()
            };
            let Some(victim) = victim else { return Ok(false) };
            self.remove(&victim)?;
        }
    }

    /// First the head, so that nothing names a body that is not there.
    fn remove(&self, key: &ResponseKey) -> Result<(), StoreError> {
        let Some(body) = lock(&self.index).get(key).map(|response| response.body.clone()) else {
            return Ok(());
        };
        self.disk().remove(&self.paths.heads.join(key.file_name()))?;
        lock(&self.index).remove(key);
        self.disk().remove(&self.paths.bodies.join(body))
    }

    /// Steps 2 and 3 of the module's argument, but for the old body.
    fn write_head(
        &self,
        key: &ResponseKey,
        head: &[u8],
        body: &str,
        length_bytes: u64,
    ) -> Result<(), KeepError> {
        if head.len() > HEAD_OCTETS_MAX {
            return Err(KeepError::LongHead);
        }
        let (new, path) = (self.paths.tmp.join(key.file_name()), self.paths.heads.join(key.file_name()));
        let mut octets = format!("body {body} {length_bytes}\n").into_bytes();
        octets.extend_from_slice(head);
        self.disk().replace(&new, &path, &octets)?;
        // From here on it is the one that a restart finds; the index must say so even if the sync fails.
        lock(&self.index).insert(*key, head.into(), body.to_owned(), length_bytes);
        self.disk().sync_dir(&self.paths.heads)?;
        Ok(())
    }
}
