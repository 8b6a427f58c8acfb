//! Whether every file is the one that the signed Manifest covers (GLEP 74, "Manifest verification").
//!
//! The Manifests together must name every file but those below IGNORE lines and those with a name that starts with a
//! dot. A symbolic link to a file or directory of the tree counts as that, as gemato has it; one that leads anywhere else,
//! or round in circles, is refused.

use gentoo_repo::catalogue::facts::Tag;
use gentoo_repo::cleartext;
use gentoo_repo::manifest::{self, Entry};

use super::cover::{Cover, Listed, MISSING, TOP};
use super::digests;
use super::fits::{self, Fits};
use super::links::{Way, find};
use super::openpgp::Keyring;
use super::{MANIFEST_BYTES_MAX, find_file, read_node};
use crate::TreeError;
use crate::generation::{Generation, NodeKind};
use crate::parallel;
use crate::report::{Fault, FaultKind, Faults};

/// Files that are checked before what was found is looked at: so many faults are in memory at most.
const FILES_AT_ONCE: usize = 16 << 10;

/// Directories that are seen by way of links: some that lead to each other make any number of paths.
const LINKED_MAX: usize = 1 << 18;

/// What came of a tree.
#[derive(Debug)]
pub(super) struct Covered {
    /// The signed time.
    pub(super) time_s: Option<i64>,
    /// By position, what each content fits; worth nothing if there were faults.
    pub(super) fits: Vec<Option<Tag>>,
}

/// Checks the signature, then every file but those that `earlier` knows to fit what is said of them. Without a
/// signature nothing more is said: anybody could have written the rest. `None` then.
pub(super) fn check(
    generation: &Generation,
    keyring: &Keyring,
    earlier: &Fits,
    faults: &mut Faults,
) -> Result<Option<Covered>, TreeError> {
    let Some(top) = find_file(generation, TOP) else {
        faults.push(Fault::new(FaultKind::Missing, TOP, "missing, so that nothing is signed"));
        return Ok(None);
    };
    let octets = read_node(generation, top, MANIFEST_BYTES_MAX)?;
    if let Err(error) = keyring.verify(&octets) {
        let TreeError::Refused(refusal) = error else { return Err(error) };
        faults.extend(refusal);
        return Ok(None);
    }
    let cover = Cover::read(generation, &octets, earlier, faults)?;
    cover.find_strays(generation, faults)?;
    cover.check_files(generation, earlier, faults)?;
    Ok(Some(Covered { time_s: cover.time_s, fits: cover.fits(generation) }))
}

/// The TIMESTAMP line of a top-level Manifest.
pub(super) fn time_of(octets: &[u8]) -> Option<i64> {
    let text = cleartext::strip(octets).ok()?;
    manifest::entries(&text).find_map(|(_, entry)| match entry {
        Ok(Entry::Timestamp(seconds)) => Some(seconds),
        _ => None,
    })
}

impl Cover {
    /// Finds what no Manifest names. Below a Manifest that can't be read, nothing is looked for.
    fn find_strays(&self, generation: &Generation, faults: &mut Faults) -> Result<(), TreeError> {
        let mut pending = vec![(Way::from(generation.root()), String::new())];
        let mut by_links = 0;
        while let Some((way, path)) = pending.pop() {
            if self.unclear.contains(&path) {
                continue;
            }
            for child in generation.children(way.directory()) {
                let node = generation.node(child);
                if node.name.starts_with(b".") {
                    continue;
                }
                let Ok(name) = std::str::from_utf8(node.name) else {
                    let why = "a name that is not UTF-8";
                    faults.push(Fault::new(FaultKind::Name, generation.path(child), why));
                    continue;
                };
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                if self.ignored.contains(&below) {
                    continue;
                }
                let mut stray = |kind, why| faults.push(Fault::new(kind, &below, why));
                let is_link = node.kind == NodeKind::Symlink;
                let meant = if is_link { find(generation, below.as_bytes()) } else { Some(child) };
                let Some(meant) = meant else {
                    stray(FaultKind::Link, "a symbolic link to nothing in the tree");
                    continue;
                };
                if generation.node(meant).kind == NodeKind::Directory {
                    let Some(on) = way.on(meant, is_link) else {
                        stray(FaultKind::Link, "a symbolic link round in circles");
                        continue;
                    };
                    by_links += usize::from(on.is_by_link());
                    if by_links > LINKED_MAX {
                        let why =
                            format!("symbolic links to directories make more than {LINKED_MAX} of them");
                        return Err(TreeError::refused(FaultKind::Link, below.as_bytes(), why));
                    }
                    pending.push((on, below));
                } else if below != TOP && !self.files.contains_key(&below) {
                    stray(FaultKind::Stray, "in no Manifest");
                }
            }
        }
        Ok(())
    }

    /// Finds what is missing or not what its Manifest says.
    fn check_files(
        &self,
        generation: &Generation,
        earlier: &Fits,
        faults: &mut Faults,
    ) -> Result<(), TreeError> {
        let find = |&(path, listed): &(&String, &Listed), buffer: &mut Vec<u8>| {
            let Listed { expected, .. } = listed;
            match find_file(generation, path) {
                Some(id) if earlier.get(id) == Some(fits::tag(expected)) => None,
                Some(id) => digests::fault(generation, id, path, expected, buffer),
                None => Some(Fault::new(FaultKind::Missing, path, MISSING)),
            }
        };
        let files: Vec<_> = self.files.iter().collect();
        for some in files.chunks(FILES_AT_ONCE) {
            let Some(mut found) = parallel::find_all(some, find) else {
                return Err(TreeError::refused(
                    FaultKind::Unreadable,
                    TOP.as_bytes(),
                    "could not be checked",
                ));
            };
            // The same order every time, whatever the threads did.
            found.sort_unstable();
            for fault in found {
                faults.push(fault);
            }
        }
        Ok(())
    }

    /// What every file fits, if all of them are right.
    fn fits(&self, generation: &Generation) -> Vec<Option<Tag>> {
        let mut fits = vec![None; generation.nodes_count()];
        for (path, listed) in &self.files {
            if let Some(slot) =
                find_file(generation, path).and_then(|id| fits.get_mut(id.position() as usize))
            {
                *slot = Some(fits::tag(&listed.expected));
            }
        }
        fits
    }
}
