//! Whether every file is the one that the signed Manifest covers (GLEP 74, "Manifest verification").
//!
//! The Manifests together must name every file but those below IGNORE lines and those with a name that starts with a
//! dot. A symbolic link to a file counts as that file; one that leads anywhere else is refused.

use gentoo_repo::catalogue::facts::Tag;
use gentoo_repo::cleartext;
use gentoo_repo::manifest::{self, Entry};

use super::cover::{Cover, Listed, MISSING, TOP};
use super::digests;
use super::fits::{self, Fits};
use super::openpgp::Keyring;
use super::{MANIFEST_BYTES_MAX, find_file, read_node};
use crate::TreeError;
use crate::generation::{Generation, NodeId, NodeKind};
use crate::parallel;
use crate::report::{Fault, FaultKind, Faults};

/// Files that are checked before what was found is looked at: so many faults are in memory at most.
const FILES_AT_ONCE: usize = 16 << 10;

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
    cover.find_strays(generation, faults);
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
    fn find_strays(&self, generation: &Generation, faults: &mut Faults) {
        let mut pending: Vec<(NodeId, String)> = vec![(generation.root(), String::new())];
        while let Some((directory, path)) = pending.pop() {
            if self.unclear.contains(&path) {
                continue;
            }
            for child in generation.children(directory) {
                let node = generation.node(child);
                if node.name.starts_with(b".") {
                    continue;
                }
                let mut stray = |kind, why| faults.push(Fault::new(kind, generation.path(child), why));
                let Ok(name) = std::str::from_utf8(node.name) else {
                    stray(FaultKind::Name, "a name that is not UTF-8");
                    continue;
                };
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                if self.ignored.contains(&below) {
                    continue;
                }
                let is_named = below == TOP || self.files.contains_key(&below);
                match node.kind {
                    NodeKind::Directory => pending.push((child, below)),
                    NodeKind::Symlink if find_file(generation, &below).is_none() => {
                        stray(FaultKind::Link, "a symbolic link to no file of the tree");
                    }
                    NodeKind::File | NodeKind::Symlink if is_named => {}
                    NodeKind::File | NodeKind::Symlink => stray(FaultKind::Stray, "in no Manifest"),
                }
            }
        }
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
