//! What all Manifests of a tree together say (GLEP 74, "Manifest verification").
//!
//! The top-level Manifest lists Manifests further down (MANIFEST), those list more. Each is checked against the line
//! that names it before anything in it counts. Two lines for one path have to go together, as gemato has it: what one
//! lists and another ignores, or what is MISC here and something else there, would be refused by every box.

use std::collections::{BTreeMap, BTreeSet};

use gentoo_repo::cleartext;
use gentoo_repo::manifest::{self, Entry, File, FileTag};

use super::digests::{self, Expected};
use super::fits::{self, Fits};
use super::{MANIFEST_BYTES_MAX, compressed, find_file, read_node};
use crate::TreeError;
use crate::generation::Generation;
use crate::report::{Fault, FaultKind, Faults};

pub(super) const TOP: &str = "Manifest";
/// More Manifests than any real tree has.
const MANIFESTS_MAX: usize = 1 << 20;

/// What all Manifests together say.
#[derive(Debug, Default)]
pub(super) struct Cover {
    pub(super) files: BTreeMap<String, Listed>,
    pub(super) ignored: BTreeSet<String>,
    /// The signed time.
    pub(super) time_s: Option<i64>,
    /// The directories of Manifests that are not what they should be: what lies there may be listed or not.
    pub(super) unclear: BTreeSet<String>,
}

/// A path's lines.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) expected: Expected,
    is_misc: bool,
}

/// A Manifest that is being read.
struct Reading<'a> {
    path: &'a str,
    directory: &'a str,
    /// Nothing in it has changed since it was found to be right.
    is_known: bool,
}

impl Reading<'_> {
    fn below(&self, name: &str) -> String {
        if self.directory.is_empty() { name.to_owned() } else { format!("{}/{name}", self.directory) }
    }
}

impl Cover {
    /// Reads all Manifests, beginning with the octets of the top-level one.
    pub(super) fn read(
        generation: &Generation,
        top: &[u8],
        earlier: &Fits,
        faults: &mut Faults,
    ) -> Result<Self, TreeError> {
        let mut cover = Self::default();
        let reading = Reading { path: TOP, directory: "", is_known: false };
        let mut pending = cover.take(&reading, top, faults);
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        while let Some(path) = pending.pop() {
            count += 1;
            if count > MANIFESTS_MAX {
                let why = "more than 1 Mi Manifests";
                return Err(TreeError::refused(FaultKind::Manifest, path.as_bytes(), why));
            }
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            match cover.open(generation, &path, earlier, &mut buffer)? {
                Ok((octets, is_known)) => {
                    let reading = Reading { path: &path, directory, is_known };
                    pending.extend(cover.take(&reading, &octets, faults));
                }
                Err(fault) => {
                    faults.push(fault);
                    cover.unclear.insert(directory.to_owned());
                    // It was judged: once is enough.
                    cover.files.remove(&path);
                }
            }
        }
        Ok(cover)
    }

    /// A Manifest's own octets and whether they are known to be right, or what is wrong with the file.
    fn open(
        &self,
        generation: &Generation,
        path: &str,
        earlier: &Fits,
        buffer: &mut [u8],
    ) -> Result<Result<(Vec<u8>, bool), Fault>, TreeError> {
        let Some(id) = find_file(generation, path) else {
            return Ok(Err(Fault::new(FaultKind::Missing, path, MISSING)));
        };
        let expected = self.files.get(path).map(|listed| &listed.expected);
        let is_known = expected.is_some_and(|expected| earlier.get(id) == Some(fits::tag(expected)));
        if let Some(expected) = expected.filter(|_| !is_known)
            && let Some(fault) = digests::fault(generation, id, path, expected, buffer)
        {
            return Ok(Err(fault));
        }
        if generation.node(id).size > MANIFEST_BYTES_MAX {
            let why = format!("more than {MANIFEST_BYTES_MAX} octets");
            return Ok(Err(Fault::new(FaultKind::Manifest, path, why)));
        }
        let unpacked = compressed::unpack(path, read_node(generation, id, MANIFEST_BYTES_MAX)?);
        Ok(match unpacked {
            Ok(octets) => Ok((octets, is_known)),
            Err(why) => Err(Fault::new(FaultKind::Manifest, path, why)),
        })
    }

    /// Takes in one Manifest and gives the paths of the ones that it names for the first time.
    /// DIST lines, which are most of all, say nothing here: in a Manifest that is known they are not even read.
    fn take(&mut self, reading: &Reading<'_>, octets: &[u8], faults: &mut Faults) -> Vec<String> {
        let refused = |line: usize, kind, why: String| Fault::new(kind, reading.path, why).at(line);
        let mut manifests = Vec::new();
        let text = match cleartext::strip(octets) {
            Ok(text) => text,
            Err(error) => {
                faults.push(refused(0, FaultKind::Manifest, error.to_string()));
                self.unclear.insert(reading.directory.to_owned());
                return manifests;
            }
        };
        let lines =
            manifest::lines(&text).filter(|(_, line)| !reading.is_known || !line.starts_with(b"DIST "));
        for (line, entry) in lines.map(|(line, octets)| (line, manifest::parse_line(line, octets))) {
            match entry {
                Ok(Entry::Timestamp(seconds)) if reading.path == TOP => {
                    self.time_s.get_or_insert(seconds);
                }
                // A path that may be missing: if it is there, another line has to name it.
                Ok(Entry::Timestamp(_) | Entry::Optional(_) | Entry::Dist(_)) => {}
                Ok(Entry::Ignore(ignored)) => {
                    let named = reading.below(ignored.as_str());
                    if self.files.contains_key(&named) {
                        let why = format!("ignores {named}, which another line lists");
                        faults.push(refused(line, FaultKind::Contradiction, why));
                    }
                    self.ignored.insert(named);
                }
                Ok(Entry::File(file)) => match self.list(reading, file) {
                    Ok(manifest) => manifests.extend(manifest),
                    Err(why) => faults.push(refused(line, FaultKind::Contradiction, why)),
                },
                Err(error) => {
                    faults.push(refused(line, FaultKind::Manifest, error.to_string()));
                    self.unclear.insert(reading.directory.to_owned());
                }
            }
        }
        manifests
    }

    /// Takes in a line for a file; gives its path if it is a Manifest that no line named before.
    fn list(&mut self, reading: &Reading<'_>, file: File) -> Result<Option<String>, String> {
        let named = reading.below(&file.tree_path());
        let expected = Expected { size_bytes: file.size_bytes, digests: file.digests };
        let is_misc = file.tag == FileTag::Misc;
        if self.ignored.contains(&named) {
            return Err(format!("lists {named}, which another line ignores"));
        }
        if let Some(known) = self.files.get_mut(&named) {
            if known.is_misc != is_misc || !known.expected.absorb(&expected) {
                return Err(format!("contradicts another line for {named}"));
            }
            return Ok(None);
        }
        self.files.insert(named.clone(), Listed { expected, is_misc });
        Ok((file.tag == FileTag::Manifest).then_some(named))
    }
}

pub(super) const MISSING: &str = "missing, but in its Manifest";
