//! Whether every file is the one that the signed Manifest covers (GLEP 74, "Manifest verification").
//!
//! The top-level Manifest lists Manifests further down (MANIFEST), those list more; together they must
//! name every file but those below IGNORE lines and those with a name that starts with a dot.

use std::collections::{BTreeMap, BTreeSet};

use gentoo_repo::catalogue::facts::Tag;
use gentoo_repo::cleartext;
use gentoo_repo::manifest::{self, Entry, FileTag};

use super::compressed;
use super::digests::{self, Expected};
use super::fits::{self, Fits};
use super::openpgp::Keyring;
use super::{MANIFEST_BYTES_MAX, read_node};
use crate::TreeError;
use crate::generation::{Generation, NodeId, NodeKind};
use crate::parallel;

const TOP: &str = "Manifest";
/// More Manifests than any real tree has.
const MANIFESTS_MAX: usize = 1 << 20;

/// What all Manifests together say.
#[derive(Debug, Default)]
struct Cover {
    files: BTreeMap<String, Expected>,
    ignored: BTreeSet<String>,
    time_s: Option<i64>,
    manifests_count: usize,
}

/// What came of a tree that is what was signed.
#[derive(Debug)]
pub(super) struct Covered {
    /// The signed time.
    pub(super) time_s: Option<i64>,
    /// By position, what each content fits.
    pub(super) fits: Vec<Option<Tag>>,
}

/// Checks the signature, then every file but those that `earlier` knows to fit what is said of them.
pub(super) fn check(
    generation: &Generation,
    keyring: &Keyring,
    earlier: &Fits,
) -> Result<Covered, TreeError> {
    let Some(top) = find_file(generation, TOP) else {
        return Err(TreeError::refused(TOP.as_bytes(), "missing, so that nothing is signed"));
    };
    let octets = read_node(generation, top, MANIFEST_BYTES_MAX)?;
    keyring.verify(&octets)?;
    let cover = Cover::read(generation, &octets, earlier)?;
    cover.check_strays(generation)?;
    cover.check_files(generation, earlier)?;
    Ok(Covered { time_s: cover.time_s, fits: cover.fits(generation) })
}

/// The TIMESTAMP line of a top-level Manifest.
pub(super) fn time_of(octets: &[u8]) -> Option<i64> {
    let text = cleartext::strip(octets).ok()?;
    manifest::entries(&text).find_map(|(_, entry)| match entry {
        Ok(Entry::Timestamp(seconds)) => Some(seconds),
        _ => None,
    })
}

fn find_file(generation: &Generation, path: &str) -> Option<NodeId> {
    generation.lookup(path.as_bytes()).filter(|&id| generation.node(id).kind == NodeKind::File)
}

impl Cover {
    /// Reads all Manifests, each checked against the line that names it before anything in it counts.
    fn read(generation: &Generation, top: &[u8], earlier: &Fits) -> Result<Self, TreeError> {
        let mut cover = Self::default();
        let mut pending = cover.take(TOP, "", top, false)?;
        let mut buffer = vec![0; 256 << 10];
        while let Some(path) = pending.pop() {
            cover.manifests_count += 1;
            if cover.manifests_count > MANIFESTS_MAX {
                return Err(TreeError::refused(path.as_bytes(), "more than 1 Mi Manifests"));
            }
            let refused = |why: String| TreeError::refused(path.as_bytes(), why);
            let id =
                find_file(generation, &path).ok_or_else(|| refused("missing, but in its Manifest".into()))?;
            let expected = cover.files.get(&path);
            let is_known = expected.is_some_and(|expected| earlier.get(id) == Some(fits::tag(expected)));
            if let Some(expected) = expected.filter(|_| !is_known)
                && let Some(why) = digests::fault(generation, id, expected, &mut buffer)
            {
                return Err(refused(why));
            }
            let octets = compressed::unpack(&path, read_node(generation, id, MANIFEST_BYTES_MAX)?)?;
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            pending.extend(cover.take(&path, directory, &octets, is_known)?);
        }
        Ok(cover)
    }

    /// Takes in one Manifest and gives the paths of the ones that it names for the first time.
    /// DIST lines, which are most of all, say nothing here: in a Manifest that is known they are not even read.
    fn take(
        &mut self,
        path: &str,
        directory: &str,
        octets: &[u8],
        is_known: bool,
    ) -> Result<Vec<String>, TreeError> {
        let refused = |line: usize, why: String| {
            let path = if line == 0 { path.to_owned() } else { format!("{path}:{line}") };
            TreeError::Refused { path, why }
        };
        let below =
            |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let text = cleartext::strip(octets).map_err(|error| refused(0, error.to_string()))?;
        let mut manifests = Vec::new();
        let lines = manifest::lines(&text).filter(|(_, line)| !is_known || !line.starts_with(b"DIST "));
        for (line, entry) in lines.map(|(line, octets)| (line, manifest::parse_line(line, octets))) {
            match entry.map_err(|error| refused(line, error.to_string()))? {
                Entry::Timestamp(seconds) if path == TOP => self.time_s = Some(seconds),
                // A path that may be missing: if it is there, another line has to name it.
                Entry::Timestamp(_) | Entry::Optional(_) | Entry::Dist(_) => {}
                Entry::Ignore(ignored) => {
                    self.ignored.insert(below(ignored.as_str()));
                }
                Entry::File(file) => {
                    let named = below(&file.tree_path());
                    let expected = Expected { size_bytes: file.size_bytes, digests: file.digests };
                    let known = self.files.get_mut(&named);
                    let is_new = known.is_none();
                    if known.is_some_and(|known| !known.absorb(&expected)) {
                        return Err(refused(line, format!("contradicts another line for {named}")));
                    }
                    if is_new {
                        self.files.insert(named.clone(), expected);
                    }
                    if is_new && file.tag == FileTag::Manifest {
                        manifests.push(named);
                    }
                }
            }
        }
        Ok(manifests)
    }

    /// Refuses what no Manifest names.
    fn check_strays(&self, generation: &Generation) -> Result<(), TreeError> {
        let mut pending: Vec<(NodeId, String)> = vec![(generation.root(), String::new())];
        while let Some((directory, path)) = pending.pop() {
            for child in generation.children(directory) {
                let node = generation.node(child);
                if node.name.starts_with(b".") {
                    continue;
                }
                let stray = |why| TreeError::refused(&generation.path(child), why);
                let name = std::str::from_utf8(node.name).map_err(|_| stray("a name that is not UTF-8"))?;
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                if self.ignored.contains(&below) {
                    continue;
                }
                match node.kind {
                    NodeKind::Directory => pending.push((child, below)),
                    NodeKind::Symlink => return Err(stray("a symbolic link, which no Manifest can cover")),
                    NodeKind::File if below == TOP || self.files.contains_key(&below) => {}
                    NodeKind::File => return Err(stray("in no Manifest")),
                }
            }
        }
        Ok(())
    }

    /// Refuses what is missing or not what its Manifest says.
    fn check_files(&self, generation: &Generation, earlier: &Fits) -> Result<(), TreeError> {
        let files: Vec<_> = self.files.iter().filter(|(path, _)| !self.is_ignored(path)).collect();
        let find = |&(path, expected): &(&String, &Expected), buffer: &mut Vec<u8>| {
            let why = match find_file(generation, path) {
                Some(id) if earlier.get(id) == Some(fits::tag(expected)) => return None,
                Some(id) => digests::fault(generation, id, expected, buffer)?,
                None => "missing, but in its Manifest".to_owned(),
            };
            Some((path.clone(), why))
        };
        let Some(mut faults) = parallel::find_all(&files, find) else {
            return Err(TreeError::refused(TOP.as_bytes(), "could not be checked"));
        };
        // The same one every time, whatever the threads did.
        faults.sort_unstable();
        let count = faults.len();
        match faults.into_iter().next() {
            None => Ok(()),
            Some((path, why)) if count == 1 => Err(TreeError::Refused { path, why }),
            Some((path, why)) => {
                Err(TreeError::Refused { path, why: format!("{why} (and {} more files)", count - 1) })
            }
        }
    }

    /// What every file fits, now that all of them are right.
    fn fits(&self, generation: &Generation) -> Vec<Option<Tag>> {
        let mut fits = vec![None; generation.nodes_count()];
        for (path, expected) in self.files.iter().filter(|(path, _)| !self.is_ignored(path)) {
            if let Some(slot) =
                find_file(generation, path).and_then(|id| fits.get_mut(id.position() as usize))
            {
                *slot = Some(fits::tag(expected));
            }
        }
        fits
    }

    /// Whether a path is at or below an IGNORE line.
    fn is_ignored(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.ignored.contains(&path[..end]))
    }
}
