//! What a build gives.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::generation::Generation;
use crate::index::Changes;
use crate::lend::Adopted;
use crate::memory::Memory;
use crate::pack::PackWriter;
use crate::sightings::Sightings;
use crate::store::Sweep;

/// What came of looking at a source.
#[derive(Debug)]
pub enum Built {
    /// It holds what the live generation holds.
    Unchanged(Generation),
    /// It differs: to be verified, then published or dropped.
    Candidate(Candidate),
}

/// A generation that nobody but its builder sees. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Candidate {
    pub(crate) generation: Generation,
    pub(crate) writer: Box<PackWriter>,
    /// Packs of other modules that it refers to, too.
    pub(crate) adopted: Vec<Adopted>,
    pub(crate) sightings: Sightings,
    pub(crate) source: PathBuf,
    pub(crate) files_read: u64,
    /// The generation before, and where it is said what is known of it.
    pub(crate) base: Option<(Generation, PathBuf)>,
    /// What verifying this one found out, as the file that it becomes: a tenth of what it takes in memory.
    pub(crate) memory: Mutex<Option<io::Result<Vec<u8>>>>,
    pub(crate) _sweep: Sweep,
}

impl Candidate {
    /// Its nodes and contents. Of its summary only files, bytes and changes are known yet.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// What is known of the generation before.
    pub(crate) fn recall(&self) -> Option<(&Generation, Memory)> {
        let (base, path) = self.base.as_ref()?;
        let frame = std::fs::read(path).ok()?;
        match Memory::decode(&frame, base.number()) {
            Ok(memory) if !memory.facts.is_stale() => Some((base, memory)),
            Ok(_) => None,
            Err(why) => {
                tracing::info!(path = %path.display(), why, "looking into all of the tree again");
                None
            }
        }
    }

    pub(crate) fn remember(&self, memory: Memory) {
        let frame = memory.encode(self.generation.number());
        drop(memory);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
    }

    /// How it differs from the live generation.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.generation.summary().changes
    }

    /// How many files had to be read; the others looked as they did before.
    #[must_use]
    pub fn files_read(&self) -> u64 {
        self.files_read
    }
}
