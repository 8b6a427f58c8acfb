//! Whether a candidate may be published, found out from its own contents, and its catalogue with it.
//!
//! Start reading at [`verify`]. Whatever the mode, a tree needs a readable `metadata/timestamp.chk` that is
//! not older than the live one's: clients can't sync from a tree without, and refuse to from an older one.

mod catalogue;
mod compressed;
mod cover;
mod covered;
mod digests;
mod fits;
mod links;
mod openpgp;

use gentoo_repo::catalogue::facts::Facts;
use gentoo_repo::catalogue::{Catalogue, Fault};
use gentoo_repo::timestamp;

use crate::TreeError;
use crate::candidate::Candidate;
use crate::generation::{Generation, NodeId, NodeKind};
use crate::memory::Memory;
use crate::report::{Fault as TreeFault, FaultKind, Faults};
use fits::Fits;
use links::find_file;

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
/// [`TreeError::Refused`] with every fault, those that others may follow from first; or our own files can't be read.
pub fn verify(
    candidate: &Candidate,
    live: Option<&Generation>,
    mode: &Verify,
    masters_mirrors: &[Vec<u8>],
) -> Result<Verified, TreeError> {
    let (memory, generation) = (candidate.recall(), candidate.generation());
    if generation.nodes_count() <= 1 {
        return Err(TreeError::refused(FaultKind::Empty, b"the tree", "empty"));
    }
    let mut wrong = Faults::default();
    let timestamp_ms = check_timestamp(generation, live, &mut wrong)?;
    let (facts, earlier) = match memory {
        Some((base, memory)) => (memory.facts, Fits::of_unchanged(generation, base, &memory.fits)),
        None => (Facts::default(), Fits::default()),
    };
    let mut fits = Vec::new();
    if let Verify::Signed(keyring) = mode {
        if let Some(covered) = covered::check(generation, keyring, &earlier, &mut wrong)? {
            check_signed_time(covered.time_s, live, &mut wrong)?;
            fits = covered.fits;
        }
        std::mem::take(&mut wrong).refuse()?;
    }
    let (catalogue, faults, facts) = catalogue::collect(generation, masters_mirrors, facts)?;
    if matches!(mode, Verify::Consistent) {
        let breaking = faults.iter().filter(|fault| fault.kind.breaks_consistency());
        breaking
            .for_each(|fault| wrong.push(TreeFault::new(FaultKind::Metadata, &fault.path, &*fault.detail)));
    }
    wrong.refuse()?;
    candidate.remember(Memory { facts, fits });
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

/// In milliseconds since the Unix epoch; 0 if it is not to be had, which is a fault.
fn check_timestamp(
    candidate: &Generation,
    live: Option<&Generation>,
    wrong: &mut Faults,
) -> Result<i64, TreeError> {
    let mut refused = |why: String| wrong.push(TreeFault::new(FaultKind::Timestamp, TIMESTAMP, why));
    let Some(octets) = read_file(candidate, TIMESTAMP, 1024)? else {
        refused("missing, so that no client could sync".to_owned());
        return Ok(0);
    };
    let seconds = match timestamp::parse_chk(&octets) {
        Ok(seconds) => seconds,
        Err(error) => {
            refused(error.to_string());
            return Ok(0);
        }
    };
    let timestamp_ms = seconds.saturating_mul(1000);
    if let Some(live_ms) = live.map(|live| live.summary().timestamp_ms).filter(|&live| timestamp_ms < live) {
        let [older, live] = [seconds, live_ms / 1000].map(timestamp::format_chk);
        refused(format!("{older} is older than {live}, which is live"));
    }
    Ok(timestamp_ms)
}

/// The signature does not cover `timestamp.chk`: an old signed tree with a new one is told by the
/// TIMESTAMP line, which it covers.
fn check_signed_time(
    signed_s: Option<i64>,
    live: Option<&Generation>,
    wrong: &mut Faults,
) -> Result<(), TreeError> {
    let live_s = match live {
        Some(live) => {
            read_file(live, b"Manifest", MANIFEST_BYTES_MAX)?.and_then(|top| covered::time_of(&top))
        }
        None => None,
    };
    let mut refused = |why: String| wrong.push(TreeFault::new(FaultKind::Timestamp, "Manifest", why));
    match (signed_s, live_s) {
        (Some(signed), Some(live)) if signed < live => {
            let [signed, live] = [signed, live].map(timestamp::format_manifest);
            refused(format!("TIMESTAMP {signed} is older than {live}, which is live"));
        }
        (None, Some(_)) => refused("no TIMESTAMP line, but the live one has one".to_owned()),
        _ => {}
    }
    Ok(())
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
        let why = format!("more than {bytes_max} octets");
        return Err(TreeError::refused(FaultKind::Manifest, &generation.path(id), why));
    }
    generation.read(id, bytes_max).map_err(|error| {
        let path = String::from_utf8_lossy(&generation.path(id)).into_owned();
        TreeError::store(path, "read from the pack")(error)
    })
}
