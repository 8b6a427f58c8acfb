//! Whether a candidate may be published, found out from its own contents, and its catalogue with it.
//!
//! Start reading at [`verify`]. Whatever the mode, a tree needs a readable `metadata/timestamp.chk` that is
//! not older than the live one's: clients can't sync from a tree without, and refuse to from an older one.

mod catalogue;
mod compressed;
mod covered;
mod digests;
mod fits;
mod openpgp;

use gentoo_repo::catalogue::facts::Facts;
use gentoo_repo::catalogue::{Catalogue, Fault};
use gentoo_repo::timestamp;

use crate::TreeError;
use crate::candidate::Candidate;
use crate::generation::{Generation, NodeId, NodeKind};
use crate::memory::Memory;
use fits::Fits;

pub use openpgp::Keyring;

/// How much a tree must prove.
#[derive(Debug, Clone)]
pub enum Verify {
    /// Only that it has a timestamp.
    None,
    /// That Manifests, metadata cache and `SRC_URI`s can be read and that every `SRC_URI` name has its
    /// DIST line.
    Consistent,
    /// That one of these keys signed it and that every file is the one that was signed (GLEP 74).
    Signed(Keyring),
}

impl Verify {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Consistent => "consistent",
            Self::Signed(_) => "signed",
        }
    }
}

/// A tree that may be published.
#[derive(Debug)]
pub struct Verified {
    /// Its distfiles.
    pub catalogue: Catalogue,
    /// What is wrong with its metadata and does not keep it from being published.
    pub faults: Vec<Fault>,
    /// `metadata/timestamp.chk`, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// Decides whether `candidate` may follow `live`. Blocking, and uses several threads.
///
/// `masters_mirrors` are the `profiles/thirdpartymirrors` of the repositories that it builds upon.
///
/// # Errors
/// [`TreeError::Refused`] with the path, and the line where there is one; or our own files can't be read.
pub fn verify(
    candidate: &Candidate,
    live: Option<&Generation>,
    mode: &Verify,
    masters_mirrors: &[Vec<u8>],
) -> Result<Verified, TreeError> {
    let (memory, generation) = (candidate.recall(), candidate.generation());
    let timestamp_ms = check_timestamp(generation, live)?;
    let (facts, earlier) = match memory {
        Some((base, memory)) => (memory.facts, Fits::of_unchanged(generation, base, &memory.fits)),
        None => (Facts::default(), Fits::default()),
    };
    let mut fits = Vec::new();
    if let Verify::Signed(keyring) = mode {
        let covered = covered::check(generation, keyring, &earlier)?;
        check_signed_time(covered.time_s, live)?;
        fits = covered.fits;
    }
    let (catalogue, faults, facts) = catalogue::collect(generation, masters_mirrors, facts)?;
    candidate.remember(Memory { facts, fits });
    if matches!(mode, Verify::Consistent)
        && let Some(fault) = faults.iter().find(|fault| fault.kind.breaks_consistency())
    {
        return Err(TreeError::Refused { path: fault.path.clone(), why: fault.detail.clone() });
    }
    Ok(Verified { catalogue, faults, timestamp_ms })
}

/// A generation's `profiles/thirdpartymirrors`, for repositories that build upon it. Blocking.
///
/// # Errors
/// Our own files can't be read.
pub fn thirdpartymirrors(generation: &Generation) -> Result<Option<Vec<u8>>, TreeError> {
    read_file(generation, catalogue::MIRRORS, catalogue::MIRRORS_BYTES_MAX)
}

const TIMESTAMP: &[u8] = b"metadata/timestamp.chk";

fn check_timestamp(candidate: &Generation, live: Option<&Generation>) -> Result<i64, TreeError> {
    let refused = |why: String| TreeError::refused(TIMESTAMP, why);
    if candidate.nodes_count() <= 1 {
        return Err(TreeError::Refused { path: "the tree".to_owned(), why: "empty".to_owned() });
    }
    let Some(octets) = read_file(candidate, TIMESTAMP, 1024)? else {
        return Err(refused("missing, so that no client could sync".to_owned()));
    };
    let seconds = timestamp::parse_chk(&octets).map_err(|error| refused(error.to_string()))?;
    let timestamp_ms = seconds.saturating_mul(1000);
    match live.map(|live| live.summary().timestamp_ms) {
        Some(live_ms) if timestamp_ms < live_ms => {
            let live = timestamp::format_chk(live_ms / 1000);
            Err(refused(format!("{} is older than {live}, which is live", timestamp::format_chk(seconds))))
        }
        _ => Ok(timestamp_ms),
    }
}

/// The signature does not cover `timestamp.chk`: an old signed tree with a new one is told by the
/// TIMESTAMP line, which it covers.
fn check_signed_time(signed_s: Option<i64>, live: Option<&Generation>) -> Result<(), TreeError> {
    let live_s = match live {
        Some(live) => {
            read_file(live, b"Manifest", MANIFEST_BYTES_MAX)?.and_then(|top| covered::time_of(&top))
        }
        None => None,
    };
    match (signed_s, live_s) {
        (Some(signed), Some(live)) if signed < live => {
            let (signed, live) = (timestamp::format_manifest(signed), timestamp::format_manifest(live));
            Err(TreeError::refused(
                b"Manifest",
                format!("TIMESTAMP {signed} is older than {live}, which is live"),
            ))
        }
        (None, Some(_)) => {
            Err(TreeError::refused(b"Manifest", "no TIMESTAMP line, but the live one has one"))
        }
        _ => Ok(()),
    }
}

/// More than any real Manifest has.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A file's content by its path, if there is such a file.
fn read_file(generation: &Generation, path: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, TreeError> {
    match generation.lookup(path).filter(|&id| generation.node(id).kind == NodeKind::File) {
        Some(id) => read_node(generation, id, bytes_max).map(Some),
        None => Ok(None),
    }
}

fn read_node(generation: &Generation, id: NodeId, bytes_max: u64) -> Result<Vec<u8>, TreeError> {
    if generation.node(id).size > bytes_max {
        return Err(TreeError::refused(&generation.path(id), format!("more than {bytes_max} octets")));
    }
    generation.read(id, bytes_max).map_err(|error| {
        let path = String::from_utf8_lossy(&generation.path(id)).into_owned();
        TreeError::store(path, "read from the pack")(error)
    })
}
