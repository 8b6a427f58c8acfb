//! An old generation once more, as the newest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use blake2::{Blake2b512, Digest as _};

use super::Store;
use crate::TreeError;
use crate::candidate::Candidate;
use crate::compare::Compared;
use crate::contents::{Contents, Packed};
use crate::generation::{Generation, Inner};
use crate::index::{FORMAT_FILE, Index, Summary};
use crate::name::ContentDigest;
use crate::pack::Pack;
use crate::report::FaultKind;
use crate::sightings::Sightings;

impl Store {
    /// A candidate that holds what the kept generation `number` holds, but `octets` in the file at `path`, changed at
    /// `mtime_s`. Reads no source; the next build of one reads every file again. `others` are as in
    /// [`Self::build_beside`]. Blocking.
    ///
    /// # Errors
    /// The generation is not kept, or damaged, or has no such file; or our own files can't be written.
    pub fn revive(
        &self,
        number: u64,
        path: &[u8],
        octets: &[u8],
        mtime_s: i64,
        others: &[Generation],
    ) -> Result<Candidate, TreeError> {
        let old = self.generation(number)?;
        let _changing = self.changing();
        let base = self.live();
        let id = old.lookup(path).filter(|&id| old.content(id).is_some());
        let id = id
            .ok_or_else(|| TreeError::refused(FaultKind::Missing, path, "no such file in that generation"))?;
        let (new_number, writer, sweep) = self.new_pack()?;
        let adopt = |pack: &Pack| self.adopt(pack);
        let mut contents = Contents::new(Some(&old), others, &adopt, writer);
        let mut nodes = old.index().nodes.clone();
        for (at, node) in (0..).zip(&mut nodes) {
            if at == id.position() {
                let digest = ContentDigest::new(Blake2b512::digest(octets).into());
                node.first = contents.store(digest, octets)?;
                (node.mtime_s, node.mtime_ns) = (mtime_s, 0);
            } else if node.format() == FORMAT_FILE {
                let missing = || TreeError::Damaged {
                    path: self.generation_path(number, "index"),
                    why: "a file without a content",
                };
                node.first = contents.take(node.first).ok_or_else(missing)?;
            }
        }
        let packed = contents.finish(|pack| self.pack_path(pack))?;
        let Packed { packs, pack_records, records, writer, adopted } = packed;
        let arena = old.index().arena.clone();
        let owners = old.index().owners.clone();
        let inodes = old.index().inodes.without(id.position());
        let mut index = Index { packs: pack_records, contents: records, owners, nodes, inodes, arena };
        let Compared { changes, .. } = self.compare(&mut index, base.as_ref());
        let replaced = old.content(id).map_or(0, |content| content.length);
        let before = old.summary();
        let summary = Summary {
            files: before.files,
            bytes: before.bytes.saturating_sub(replaced).saturating_add(octets.len() as u64),
            changes,
            ..Summary::default()
        };
        let inner =
            Inner { module: self.module.clone(), number: new_number, summary, index: Arc::new(index), packs };
        Ok(Candidate {
            generation: Generation::new(Arc::new(inner)),
            writer: Box::new(writer),
            adopted,
            sightings: Sightings::none(),
            source: PathBuf::new(),
            files_read: 0,
            base: None,
            memory: Mutex::default(),
            _sweep: sweep,
        })
    }
}
