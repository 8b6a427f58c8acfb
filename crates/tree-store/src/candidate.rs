//! What a build gives.

use std::path::PathBuf;

use crate::generation::Generation;
use crate::index::Changes;
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
    pub(crate) writer: PackWriter,
    pub(crate) sightings: Sightings,
    pub(crate) source: PathBuf,
    pub(crate) files_read: u64,
    pub(crate) _sweep: Sweep,
}

impl Candidate {
    /// Its nodes and contents. Of its summary only files, bytes and changes are known yet.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
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
